/** Small pieces that several views are made of: avatars, dialogs, menus, toasts. */

import { h, icon, iconButton, isOurs, safeUrl } from "./dom.js";
import { t } from "./language.js";

/** Eight colours of `app.css`. */
const COLOURS = 8;

/** The picture of a user or group, or its first letters, which are no text to be read, on a colour that is always the same. */
export function avatar({ id, name, picture, group = false, online = false, size = "" }) {
  const letters = initials(name) || "#";
  const element = h("span", { class: `avatar ${size} colour-${Math.abs(id ?? 0) % COLOURS} ${group ? "is-group" : ""} ${online ? "is-online" : ""}`, aria: { hidden: "true" } }, h("span", { class: "letters", data: { letters } }));
  const url = safeUrl(picture);
  if (url && isOurs(url)) {
    const image = h("img", { src: url.href, alt: "", loading: "lazy" });
    image.addEventListener("error", () => image.remove());
    element.append(image);
  }
  return element;
}

function initials(name) {
  const words = (name ?? "").trim().split(/\s+/).filter(Boolean);
  if (words.length === 0) return "";
  const first = [...words[0]];
  // A Chinese name is known by its end.
  if (/\p{Script=Han}/u.test(words[0])) return first.slice(-2).join("");
  return (first[0] + (words.length > 1 ? [...words.at(-1)][0] : "")).toUpperCase();
}

const toasts = document.getElementById("toasts");

/** What lies on top: while a dialog is open, everything outside it is dimmed, silent and cannot have the focus. */
const top = () => [...document.querySelectorAll(".dialog[open]")].at(-1) ?? document.body;

/** Where a word for a moment has room of its own: in the dialog, else below the list or, on a phone, above where one writes. */
function room() {
  const above = top();
  if (above !== document.body) return above;
  return [...document.querySelectorAll(".toasts-here")].find((place) => place.parentElement.getClientRects().length > 0) ?? above;
}

export function toast(text, bad = false) {
  const element = h("div", { class: `toast ${bad ? "is-bad" : ""}` }, text);
  const place = room();
  if (toasts.parentNode !== place) place.append(toasts);
  toasts.append(element);
  setTimeout(() => element.remove(), bad ? 6000 : 3000);
}

/** Runs what may fail, and says so. Gives back undefined then. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message, true);
    return undefined;
  }
}

let dialogNumber = 0;

/**
 * A dialog over the page; `body` gets a function that closes it. Esc, the cross and a click beside it close it, too.
 * The focus stays inside and goes back to where it was.
 */
export function dialog(title, body, { wide = false } = {}) {
  const before = document.activeElement;
  const id = `dialog-${(dialogNumber += 1)}`;
  const element = h("dialog", { class: `dialog ${wide ? "is-wide" : ""}`, aria: { labelledby: id } });
  const close = () => element.open && element.close();
  element.addEventListener("close", () => {
    const inside = element.contains(document.activeElement) || document.activeElement === document.body;
    element.remove();
    if (element.contains(toasts)) room().append(toasts);
    // Unless what was chosen here has led somewhere else.
    if (inside && before?.isConnected) before.focus();
  });
  element.addEventListener("mousedown", (event) => event.target === element && close());
  element.append(
    h("header", { class: "dialog-head" }, h("h2", { id }, title), iconButton("close", t("close"), close)),
    h("div", { class: "dialog-body" }, body(close)),
  );
  document.getElementById("overlay").append(element);
  element.showModal();
  element.querySelector("[data-first], input:not([hidden]), textarea")?.focus();
  return close;
}

/** Asks before something that cannot be undone. */
export function confirmed(text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const close = dialog(t("sureTitle"), (shut) => [
      h("p", {}, text),
      h("div", { class: "row-end" },
        h("button", { type: "button", class: "button", on: { click: shut } }, t("cancel")),
        h("button", { type: "button", class: "button is-bad", data: { first: "1" }, on: { click: () => { answer = true; shut(); } } }, action)),
    ]);
    document.querySelector("#overlay > dialog:last-of-type").addEventListener("close", () => resolve(answer));
    return close;
  });
}

/** A form that is sent with Enter, shows what went wrong and cannot be sent twice at once. */
export function form(label, fields, send, extra = []) {
  const wrong = h("p", { class: "form-error", role: "alert", hidden: true });
  const button = h("button", { type: "submit", class: "button is-main" }, label);
  const element = h("form", { class: "form", on: { submit: async (event) => {
    event.preventDefault();
    wrong.hidden = true;
    button.disabled = true;
    try {
      await send(Object.fromEntries(new FormData(element)));
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
    button.disabled = false;
  } } }, fields, wrong, h("div", { class: "row-end" }, extra, button));
  return element;
}

/** A labelled input. */
export function field(label, properties) {
  const many = properties.rows !== undefined;
  const id = `field-${properties.id ?? properties.name}`;
  const { name, ...others } = properties;
  const input = h(many ? "textarea" : "input", { ...others, id });
  input.name = name;
  return h("label", { class: "field", for: id }, h("span", {}, label), input);
}

/** A menu at a button. Each entry is `[label, icon, action, isBad?]`; arrows move, Esc closes. */
export function menu(anchor, entries) {
  if (!entries.some(Boolean)) return;
  const place = anchor.getBoundingClientRect();
  const close = (focus) => {
    element.remove();
    document.removeEventListener("pointerdown", outside, true);
    document.removeEventListener("keydown", escape, true);
    anchor.setAttribute("aria-expanded", "false");
    if (focus) anchor.focus();
  };
  const outside = (event) => !element.contains(event.target) && close(false);
  // Wherever the focus is: a finger that opened it may have taken the focus away again.
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault();
    close(true);
  };
  const items = entries.filter(Boolean).map(([label, sign, action, bad]) =>
    h("button", { type: "button", role: "menuitem", class: bad ? "is-bad" : "", on: { click: () => { close(true); action(); } } }, icon(sign), label));
  const element = h("div", { class: "menu", role: "menu", on: { keydown: (event) => {
    if (event.key === "Tab") close(false);
    roving(event, items);
  } } }, items);
  // In the landmark of its button, or in its dialog, outside of which nothing can have the focus.
  (anchor.closest("dialog, nav, section") ?? document.body).append(element);
  anchor.setAttribute("aria-expanded", "true");
  const { width, height } = element.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.right - width, innerWidth - width - 8));
  const below = place.bottom + 4 + height < innerHeight;
  element.style.setProperty("left", `${left}px`);
  element.style.setProperty("top", `${below ? place.bottom + 4 : Math.max(8, place.top - height - 4)}px`);
  document.addEventListener("pointerdown", outside, true);
  document.addEventListener("keydown", escape, true);
  items[0]?.focus();
}

/** Arrow keys, Home and End among the given elements. */
export function roving(event, items, columns = 1) {
  const at = items.indexOf(document.activeElement);
  const moves = { ArrowDown: columns, ArrowUp: -columns, ...(columns > 1 ? { ArrowRight: 1, ArrowLeft: -1 } : {}) };
  let to = null;
  if (event.key in moves) to = at < 0 ? 0 : at + moves[event.key];
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = items.length - 1;
  if (to === null || items.length === 0) return;
  event.preventDefault();
  items[Math.max(0, Math.min(items.length - 1, to))].focus();
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http has no clipboard of its own: the old way.
    const before = document.activeElement;
    const area = h("textarea", { class: "off-screen", value: text });
    top().append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    before?.focus();
  }
  toast(t("copied"));
}
