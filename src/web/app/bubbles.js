/** How a message of each kind looks, and its one line in the list of conversations. */

import { GROUP } from "../sdk/imgate.js";
import { h, icon, isOurs, plain, safeUrl } from "./dom.js";
import { clockTime, size, t } from "./language.js";
import { avatar } from "./parts.js";
import { player } from "./player.js";

/** Kinds of `media` (docs/protocol.md). */
export const TEXT = 1;
export const ARTICLE = 2;
export const VOICE = 3;
export const PICTURE = 4;
export const RED_PACKET = 5;
export const EMOJI = 6;
export const LINK = 7;
export const VIDEO = 8;
export const CONTACT = 9;
/** Our own: a file, `{media: 100, type: "file", url, content: name, size}`. */
export const OWN = 100;

const text = (value) => (typeof value === "string" ? value : "");

/** A line that says what the message is. */
export function summary(body) {
  switch (body.media ?? TEXT) {
    case TEXT: return text(body.content);
    case ARTICLE: return `[${t("article")}] ${text(body.content)}`;
    case VOICE: return `[${t("voiceMessage")}]`;
    case PICTURE: return `[${t("picture")}]`;
    case RED_PACKET: return `[${t("redPacket")}] ${text(body.memo)}`;
    case EMOJI: return jumbo(body.content) ? body.content : `[${text(body.content) || t("emoji")}]`;
    case LINK: return `[${t("link")}] ${text(body.content) || text(body.url)}`;
    case VIDEO: return `[${t("video")}]`;
    case CONTACT: return `[${t("contact")}] ${text(body.memo)}`;
    default: return body.type === "file" ? `[${t("file")}] ${plain(text(body.content))}` : `[${t("message")}]`;
  }
}

/** What can be copied of it: words, or where it leads. A file that lies here has a name, not words. */
export function words(body) {
  const media = body.media ?? TEXT;
  if ([TEXT, EMOJI].includes(media)) return text(body.content);
  if (attached(body)) return "";
  return text(body.url) || text(body.content) || summary(body);
}

/** The file that it brings, if it lies here: `{url, name}`. */
export function attached(body) {
  const url = safeUrl(body.url);
  if (!url || !isOurs(url) || ![VOICE, PICTURE, VIDEO, OWN].includes(body.media)) return null;
  return { url, name: [PICTURE, OWN].includes(body.media) ? plain(text(body.content)) : "" };
}

/** Characters of a message in the list of conversations: more than the widest column shows. */
const PREVIEW_CHARS = 160;

/** The newest message in the list of conversations: its words, and the icon before them while it is on its way. */
export function preview(model, conversation, newest) {
  const pending = newest.body !== undefined;
  const author = pending ? model.id : newest.userid;
  if (!pending && (newest.recall !== undefined || conversation.recalled(newest))) return { sign: null, said: recallText(model, author) };
  if (!pending && newest.happened !== undefined) return { sign: null, said: happenedText(model, newest) };
  const said = summary(pending ? newest.body : newest).slice(0, PREVIEW_CHARS);
  if (author === model.id) return { sign: pending && newest.state !== "stored" ? (newest.state === "failed" ? "alert" : "clock") : null, said: conversation.kind === GROUP ? `${t("you")}: ${said}` : said };
  return { sign: null, said: conversation.kind === GROUP ? `${model.nameOf(author)}: ${said}` : said };
}

export const recallText = (model, author) => (author === model.id ? t("youRecalled") : t("recalledBy", { who: model.nameOf(author) }));

/** What the server says in a group about the group; nothing where that is not known here. */
export function happenedText(model, { userid, happened }) {
  const name = (id) => (id === model.id ? t("you") : model.nameOf(id));
  const [by, who] = [name(userid), Number.isSafeInteger(happened?.user) ? name(happened.user) : ""];
  const whom = happened?.user === model.id ? t("youAsObject") : who;
  switch (happened?.what) {
    case "joined": return userid === happened.user ? t("happenedJoined", { who }) : t("happenedAdded", { by, who: whom });
    case "left": return t("happenedLeft", { who });
    case "removed": return t("happenedRemoved", { by, who: whom });
    case "renamed": return t("happenedRenamed", { by, name: plain(text(happened.name)) });
    default: return "";
  }
}

/** What stands in the bubble. */
export function content(model, page, body, preview_) {
  switch (body.media ?? TEXT) {
    case TEXT: return h("div", { class: `words ${jumbo(body.content) ? "is-jumbo" : ""}`, dir: "auto" }, linked(text(body.content)));
    case ARTICLE: return article(body);
    case VOICE: return player(safeUrl(preview_ ?? body.url), body.amount);
    case PICTURE: return picture(body, preview_);
    case RED_PACKET: return h("div", { class: "packet" }, icon("gift"), h("div", {}, h("b", {}, text(body.memo) || t("redPacket")), Number.isFinite(body.amount) && h("p", {}, t("yuan", { n: (body.amount / 100).toFixed(2) }))));
    // Its name, in the systems before us, or the character itself.
    case EMOJI: return h("div", { class: `words ${jumbo(body.content) ? "is-jumbo" : ""}`, dir: "auto" }, jumbo(body.content) ? body.content : `[${text(body.content) || t("emoji")}]`);
    case LINK: return card(body.url, "link", text(body.content) || text(body.url), text(body.memo) || safeUrl(body.url)?.host);
    case VIDEO: return video(body, preview_);
    case CONTACT: return contact(model, page, body);
    default: return body.type === "file" ? card(body.url, "file", plain(text(body.content)) || t("file"), size(body.size), plain(text(body.content))) : h("div", { class: "words quiet", dir: "auto" }, text(body.content) || t("unknownMedia"));
  }
}

/** Three emoji are shorter, families with colours of skin and hair included. */
const JUMBO_CHARS = 120;

/** One to three emoji and nothing else. */
function jumbo(words) {
  return typeof words === "string" && words.length <= JUMBO_CHARS && /^(?:(?:\p{Extended_Pictographic}[\uFE0F\u{1F3FB}-\u{1F3FF}]*(?:\u200D\p{Extended_Pictographic}[\uFE0F\u{1F3FB}-\u{1F3FF}]*)*|\p{Regional_Indicator}{2})\s*){1,3}$/u.test(words);
}

/** Where an address ends: blanks, brackets and quotes, and the signs of Chinese sentences. */
const ENDS = new Set([..." \t\n\r\f\v\u00A0\u1680\u2028\u2029\u202F\u205F\u3000\uFEFF<>\"'\u3001\u3002\u300A\u300B\u201C\u201D\uFF01\uFF08\uFF09\uFF0C\uFF1A\uFF1B\uFF1F"]);
/** What is rather the sentence's than the address's at its end. */
const TRAILING = new Set([...".,!?;:)]"]);
/** An address that is longer is words, and so are those beyond this number in one message. */
const ADDRESS_CHARS = 2048;
const ADDRESSES = 100;

/** The addresses in a text, `{from, to}` each. Every character is looked at once or twice, whatever a stranger has written. */
export function addresses(words) {
  const found = [];
  let at = 0;
  while (found.length < ADDRESSES) {
    const from = words.indexOf("http", at);
    if (from < 0) break;
    const scheme = words.startsWith("://", from + 4) ? 7 : words.startsWith("s://", from + 4) ? 8 : 0;
    at = from + 4;
    if (scheme === 0) continue;
    let to = from + scheme;
    while (to < words.length && !ENDS.has(words[to]) && !(words[to] >= "\u2000" && words[to] <= "\u200A")) to += 1;
    at = to;
    while (to > from + scheme && TRAILING.has(words[to - 1])) to -= 1;
    if (to > from + scheme && to - from <= ADDRESS_CHARS) found.push({ from, to });
  }
  return found;
}

/** Text in which web addresses can be followed. */
function linked(words) {
  const parts = [];
  let end = 0;
  for (const { from, to } of addresses(words)) {
    const address = words.slice(from, to);
    const url = safeUrl(address);
    if (!url) continue;
    parts.push(words.slice(end, from), h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    end = to;
  }
  parts.push(words.slice(end));
  return parts;
}

/** Something to be opened elsewhere. */
function card(address, sign, title, below, download) {
  const url = safeUrl(address);
  const inside = [h("span", { class: "card-icon" }, icon(sign)), h("span", { class: "card-main" }, h("b", { dir: "auto" }, title), below && h("span", { class: "quiet" }, below))];
  if (!url) return h("div", { class: "file-card" }, inside);
  return h("a", { class: "file-card", href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", download: download !== undefined && isOurs(url) ? download : undefined }, inside);
}

function article(body) {
  const url = safeUrl(body.url);
  const image = safeUrl(body.pic);
  const inside = [image && isOurs(image) && broken(h("img", { src: image.href, alt: "", loading: "lazy" })), h("b", { dir: "auto" }, text(body.content)), text(body.memo) && h("p", { class: "quiet", dir: "auto" }, body.memo)];
  return url ? h("a", { class: "article", href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, inside) : h("div", { class: "article" }, inside);
}

/** What cannot be shown is a card, in a bubble like others. */
function instead(element, card_) {
  const bubble = element.parentElement;
  element.replaceWith(card_);
  if (bubble) marks(bubble, card_);
}

/** What a bubble has in it, for its looks: `:has()` would be looked up with every line that comes. */
export function marks(bubble, inside) {
  const has = (name) => inside.classList.contains(name);
  for (const [mark, name] of [["has-jumbo", "is-jumbo"], ["has-video", "video"], ["has-card", "file-card"], ["has-voice", "voice"]]) bubble.classList.toggle(mark, has(name));
  bubble.classList.toggle("is-bare", has("picture") || has("video") || has("is-jumbo"));
}

/** A picture that cannot be loaded leaves its place. */
function broken(image) {
  image.addEventListener("error", () => image.remove());
  return image;
}

/** The largest picture in a conversation, in CSS pixels. */
const PICTURE_WIDTH = 340;
const PICTURE_HEIGHT = 360;

/** The size at which a picture is shown, if its sender said one: its place is there before it is loaded. */
function place({ width, height }) {
  const good = (side) => Number.isInteger(side) && side > 0 && side < 100_000;
  if (!good(width) || !good(height)) return {};
  const scale = Math.min(1, PICTURE_WIDTH / width, PICTURE_HEIGHT / height);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

function picture(body, preview_) {
  const url = safeUrl(preview_ ?? body.url);
  const name = text(body.content) || t("picture");
  // What lies elsewhere is not loaded by itself: its server would learn who reads this, and when.
  if (!url || !isOurs(url)) return card(body.url, "picture", t("externalPicture"), safeUrl(body.url)?.host);
  const small = safeUrl(preview_ ?? body.pic);
  const image = h("img", { src: (small && isOurs(small) ? small : url).href, alt: name, ...place(body) });
  const button = h("button", { type: "button", class: "picture", title: t("openPicture"), aria: { label: `${t("openPicture")}: ${name}` }, on: { click: () => lightbox(safeUrl(body.url) ?? url, name) } }, image);
  image.addEventListener("error", () => instead(button, card(body.url, "picture", t("picture"), text(body.content))));
  return button;
}

function lightbox(url, name) {
  const element = h("dialog", { class: "lightbox", aria: { label: name }, on: { click: () => element.close(), close: () => element.remove() } }, h("img", { src: url.href, alt: name }));
  document.getElementById("overlay").append(element);
  element.showModal();
}

function video(body, preview_) {
  const url = safeUrl(preview_ ?? body.url);
  if (!url || !isOurs(url)) return card(body.url, "play", t("video"), safeUrl(body.url)?.host);
  const poster = safeUrl(body.pic);
  const film = h("video", { class: "video", src: url.href, controls: true, preload: "metadata", poster: poster && isOurs(poster) ? poster.href : undefined });
  film.addEventListener("error", () => instead(film, card(body.url, "play", t("video"), "")));
  return film;
}

function contact(model, page, body) {
  const id = Number(body.content);
  const name = plain(text(body.memo)) || (Number.isSafeInteger(id) && id > 0 ? model.nameOf(id) : t("contact"));
  const inside = [avatar({ id, name, picture: body.pic }), h("span", { class: "card-main" }, h("b", {}, name), h("span", { class: "quiet" }, t("cardOf")))];
  if (!Number.isSafeInteger(id) || id <= 0) return h("div", { class: "file-card" }, inside);
  return h("button", { type: "button", class: "file-card", on: { click: () => page.showUser(id) } }, inside);
}

/** The small line at the end of a bubble: when, and how far it has got. */
export function foot(model, conversation, message) {
  if (message.body !== undefined) {
    const words = { sending: model.client.online ? t("sending") : t("waitingToSend"), stored: t("stored"), failed: t("failed"), uploading: t("uploading", { n: Math.round((message.progress ?? 0) * 100) }) }[message.state];
    return h("span", { class: `foot is-${message.state}`, title: words }, clockTime(message.at), icon({ failed: "alert", stored: "check" }[message.state] ?? "clock", words));
  }
  if (message.userid !== model.id) return h("span", { class: "foot" }, clockTime(message.ts));
  const state = stateOf(conversation, message);
  return h("span", { class: `foot is-${state}`, title: t(state) }, clockTime(message.ts), icon(state === "stored" ? "check" : "checks", t(state)));
}

/** `stored`, `received` or `read`, of one's own message. */
export function stateOf({ peer }, { seq }) {
  if (seq === undefined) return "stored";
  if (peer.read >= seq) return "read";
  return peer.recv >= seq ? "received" : "stored";
}

