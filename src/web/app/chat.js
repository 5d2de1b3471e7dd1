/** The right column: one conversation, its messages in order, and where one writes. */

import { DIRECT, GROUP } from "../sdk/imgate.js";
import { attached, content, foot, happenedText, marks, recallText, stateOf, words } from "./bubbles.js";
import { Composer } from "./composer.js";
import { showGroup, showUser } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { dayName, dayOf, t } from "./language.js";
import { avatar, copy, menu, roving } from "./parts.js";
import { Span } from "./span.js";

/** Messages of one author within this time stand together. */
const TOGETHER_MS = 5 * 60_000;
/** So near to an end counts as there. */
const NEAR = 80;
/** A finger that stays for so long wants the menu. */
const HELD_MS = 500;
/** So far it may move meanwhile: no finger is quite still. */
const STILL = 10;
/** A page of history that takes longer is said to be on its way. */
const SLOW_MS = 150;
/** Fewer than these do not fill a window. */
const SCREENFUL = 20;

export class ChatView {
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.conversation = null;
    this.element = h("section", { class: "chat", id: "chat", tabindex: -1, aria: { label: t("conversation") } });
    /** Key of a line to {element, stamp, state?, inside?, body?, preview?}. */
    this.lines = new Map();
    /** Read up to here when the conversation was opened: below it "new messages" is written. */
    this.mark = null;
    this.follow = true;
    /** Where the end was when it was last put into view. */
    this.end = 0;
    /** What of the conversation is in the page. */
    this.span = new Span();
    /** What the title says. */
    this.titled = "";
  }

  show(conversation) {
    if (conversation === this.conversation && conversation !== null) return;
    this.composer?.leave();
    this.resize?.disconnect();
    this.conversation = conversation;
    this.lines.clear();
    this.span = new Span();
    this.titled = "";
    if (!conversation) {
      fill(this.element, h("div", { class: "nobody" }, icon("chat"), h("p", {}, t("pickChat")), h("p", { class: "quiet" }, t("pickChatHint"))));
      this.composer = null;
      return;
    }
    this.mark = conversation.unread > 0 ? conversation.read : null;
    this.follow = true;
    this.end = 0;
    this.build();
    if (conversation.left === null) this.model.client.open(conversation.kind, conversation.dstid);
    // How many members there are changes without a word.
    if (conversation.kind === GROUP && this.model.loaded) this.model.loadGroups();
    this.render();
    this.earlier();
    this.composer.focus(false);
  }

  build() {
    const { conversation, model, page } = this;
    this.head = h("button", { type: "button", class: "chat-title", id: "chat-title", on: { click: () => this.about() } });
    this.list = h("div", { class: "lines", role: "log", aria: { label: t("message"), live: "polite", relevant: "additions" }, on: {
      keydown: (event) => this.among(event),
      focusin: ({ target }) => target.matches(".bubble-more") && this.reachable(target),
      click: ({ target }) => this.offer(target.closest(".bubble-more")),
    } });
    // Listeners of the list and not of each line: lines come and go by dozens.
    held(this.list, ".bubble", (bubble) => this.offer(bubble.parentElement.querySelector(":scope > .bubble-more")));
    this.scroller = h("div", { class: "scroller", tabindex: 0, on: { scroll: () => this.scrolled() } }, this.list);
    this.down = h("button", { type: "button", class: "jump", hidden: true, title: t("jumpDown"), aria: { label: t("jumpDown") }, on: { click: () => this.toEnd() } }, icon("down"), h("span", { class: "badge", hidden: true }));
    this.composer = new Composer(model, conversation, () => this.toEnd(), () => page.shut());
    const drop = h("div", { class: "drop", hidden: true }, t("dropHere"));
    fill(this.element,
      h("header", { class: "chat-head" }, iconButton("back", t("back"), () => page.shut(), { class: "only-phone" }), h("h2", {}, this.head),
        iconButton("info", conversation.kind === GROUP ? t("groupInfo") : t("profile"), () => this.about(), { id: "about" })),
      h("div", { class: "stage" }, this.scroller, this.down, drop),
      h("div", { class: "toasts-here" }),
      this.composer.element);
    this.element.ondragover = (event) => {
      if (!this.composer?.takesFiles || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      drop.hidden = false;
    };
    this.element.ondragleave = (event) => {
      if (!this.element.contains(event.relatedTarget)) drop.hidden = true;
    };
    this.element.ondrop = (event) => {
      drop.hidden = true;
      if (!this.composer?.takesFiles || !event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.composer.sendFiles(event.dataTransfer.files);
    };
    // The end stays in view when the window, the keyboard or the box one writes in changes.
    this.resize = new ResizeObserver(() => this.follows() && this.toEnd());
    this.resize.observe(this.scroller);
    // Pictures and films find their size late.
    this.resize.observe(this.list);
  }

  /** Up and down lead from message to message, of which only one is a stop of the Tab key. */
  among(event) {
    if (event.target.matches(".bubble-more")) roving(event, [...this.list.querySelectorAll(".bubble-more")]);
  }

  reachable(button) {
    if (this.stop && this.stop !== button) this.stop.tabIndex = -1;
    this.stop = button ?? null;
    if (button) button.tabIndex = 0;
  }

  about() {
    const { kind, dstid } = this.conversation;
    if (kind === GROUP) showGroup(this.model, this.page, dstid);
    else showUser(this.model, this.page, dstid);
  }

  changed(changes) {
    if (!this.conversation) return;
    if (changes.has("people")) {
      this.composer.refresh();
      this.render();
    } else if (changes.has(this.conversation.key) || changes.has("status")) this.render();
    // Also after a reset, or when somebody who was removed is back.
    this.earlier();
  }

  /** Shows what was before, or loads it, while the page is not full or its top is in view. */
  async earlier() {
    const { conversation, span } = this;
    if (!conversation || (this.lines.size >= SCREENFUL && this.scroller.scrollTop > NEAR * 3)) return;
    if (span.from > conversation.held.low) {
      span.up(conversation.held.low);
      this.render();
      return;
    }
    if (!conversation.more || conversation.loading || !this.model.client.online) return;
    // What comes at once is drawn once, with the change that the model tells.
    const slow = setTimeout(() => conversation === this.conversation && this.render(), SLOW_MS);
    await this.model.loadEarlier(conversation);
    clearTimeout(slow);
    if (conversation === this.conversation) span.up(conversation.held.low);
  }

  scrolled() {
    if (!this.conversation) return;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    this.follow = left < NEAR && this.span.atEnd;
    if (this.follow) {
      this.end = scrollTop;
      this.seen();
    }
    this.jump();
    if (left < NEAR * 3 && !this.span.atEnd) {
      this.span.down();
      this.render();
    } else if (scrollTop < NEAR * 3) this.earlier();
  }

  toEnd() {
    this.follow = true;
    if (!this.span.atEnd) {
      // It was another page whose end was in view.
      this.end = 0;
      this.span.toEnd();
      this.render();
      return;
    }
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.end = this.scroller.scrollTop;
    this.seen();
  }

  /** Whether the end is kept in view. Who scrolls has left it some time before that is told, which is with the next picture. */
  follows() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (scrollTop < this.end && scrollHeight - scrollTop - clientHeight >= NEAR) this.follow = false;
    return this.follow;
  }

  /** What stands at the end of a window that somebody looks at has been read. */
  seen() {
    const { conversation } = this;
    if (!conversation || !this.follow || document.visibilityState !== "visible" || !document.hasFocus()) return;
    this.model.markRead(conversation);
    this.jump();
  }

  jump() {
    const { unread } = this.conversation;
    this.down.hidden = this.follow;
    const badge = this.down.lastChild;
    badge.hidden = unread === 0;
    const text = unread > 99 ? "99+" : String(unread);
    if (badge.textContent !== text) badge.textContent = text;
  }

  // ---- drawing --------------------------------------------------------------------------------------------------

  title() {
    const { model, conversation } = this;
    const { kind, dstid } = conversation;
    const typing = [...conversation.typing.keys()];
    let below;
    // On a phone the list, which says more, is not in view.
    if (model.away) below = h("span", { class: "is-away" }, t("offline"));
    else if (typing.length > 0) below = h("span", { class: "is-typing" }, kind === GROUP ? t("typingWho", { who: model.nameOf(typing[0]) }) : t("typing"));
    else if (kind === GROUP) {
      const n = model.groups.get(dstid)?.members;
      below = n === 1 ? t("oneMember") : n > 1 ? t("members", { n }) : "";
    } else if (dstid !== model.id) {
      // That somebody is away is of interest among friends; of a stranger it says little, and of the system nothing.
      below = model.online.get(dstid) ? t("online") : model.online.has(dstid) && model.friends.has(dstid) ? t("offlineUser") : "";
    }
    const who = kind === GROUP ? model.groups.get(dstid) : model.user(dstid);
    const face = { id: dstid, name: model.titleOf(conversation), picture: who?.avatar ?? who?.icon, group: kind === GROUP, online: kind === DIRECT && model.online.get(dstid) === true };
    const stamp = JSON.stringify([face, below?.textContent ?? below]);
    if (stamp === this.titled) return;
    this.titled = stamp;
    fill(this.head, avatar(face), h("span", { class: "chat-name" }, h("b", { dir: "auto" }, model.titleOf(conversation)), h("span", { class: "quiet", id: "chat-state" }, below)));
  }

  /** Draws what of the conversation is in the page; lines that are the same stay as they are. */
  render() {
    const { conversation, model } = this;
    this.title();
    this.span.update(conversation.held, this.follows());
    // Who reads what was before is not read to what is loaded there.
    const live = this.follow ? "polite" : "off";
    if (this.list.getAttribute("aria-live") !== live) this.list.setAttribute("aria-live", live);
    const anchor = this.follow ? null : this.anchor();
    this.draw(this.plan());
    if (!this.stop?.isConnected) this.reachable(this.list.lastElementChild?.querySelector(".bubble-more") ?? [...this.list.querySelectorAll(".bubble-more")].at(-1));
    if (this.follow) this.toEnd();
    else if (anchor) this.scroller.scrollTop += (this.lines.get(anchor.key)?.element.offsetTop ?? anchor.top) - anchor.top;
    this.jump();
    if (model.status.state === "online" && conversation.messages.length > 0) this.seen();
  }

  /** The line that one reads: it stays where it is when something is put before it, or taken away there. */
  anchor() {
    const { scrollTop } = this.scroller;
    for (const element of this.list.children) {
      if (element.offsetTop + element.offsetHeight > scrollTop && element.classList.contains("line")) return { key: element.dataset.key, top: element.offsetTop };
    }
    return null;
  }

  /** Makes the lines of the page those that are wanted. */
  draw(wanted) {
    const keys = new Set(wanted.map(({ key }) => key));
    for (const [key, { element }] of this.lines) {
      if (keys.has(key)) continue;
      element.remove();
      this.lines.delete(key);
    }
    let next = this.list.firstChild;
    for (const { key, stamp, state, make, message } of wanted) {
      let line = this.lines.get(key);
      if (!line || line.stamp !== stamp) {
        const made = make(line);
        if (line) {
          if (line.element === next) next = next.nextSibling;
          line.element.remove();
        }
        line = { ...made, stamp, state };
        line.element.dataset.key = key;
        this.lines.set(key, line);
      } else if (line.state !== state) {
        // What plays, what is pointed at and what has the focus stays as it is.
        line.state = state;
        this.dress(line.element, message);
      }
      line.message = message;
      if (line.element === next) next = next.nextSibling;
      else this.list.insertBefore(line.element, next);
    }
  }

  /** The lines in order, each with what its looks depend on. */
  plan() {
    const { conversation, model, span } = this;
    const { low, high } = conversation.held;
    const lines = [];
    const top = span.from > low ? "" : conversation.loading ? t("loading") : conversation.more ? "" : conversation.gone ? t("earlierGone") : t("beginning");
    if (top) lines.push({ key: "top", stamp: top, make: () => ({ element: h("p", { class: "note" }, top) }) });
    // What stands above the page counts for the day, for the author and for the mark.
    const above = span.from > low ? conversation.at(span.from - 1) : null;
    let before = above && conversation.counts(above) ? { author: above.userid, ms: above.ts ?? 0 } : null;
    let day = above ? dayOf(above.ts ?? 0) : null;
    let marked = this.mark === null || this.markedAbove(above);
    const all = conversation.messages.slice(span.from - low, span.to - low);
    if (span.to === high) all.push(...conversation.pending);
    for (const message of all) {
      const pending = message.body !== undefined;
      const ms = message.ts ?? message.at ?? 0;
      const author = pending ? model.id : message.userid;
      const today = dayOf(ms);
      if (today !== day) {
        const name = dayName(ms);
        lines.push({ key: `d${today}-${message.seq ?? message.cid ?? `v${message.nth}`}`, stamp: name, make: () => ({ element: h("p", { class: "day" }, h("span", {}, name)) }) });
        before = null;
        day = today;
      }
      if (!marked && !pending && message.seq > this.mark && author !== model.id && conversation.counts(message)) {
        marked = true;
        lines.push({ key: "mark", stamp: "", make: () => ({ element: h("p", { class: "unread-mark" }, h("span", {}, t("newMessages"))) }) });
        before = null;
      }
      if (!pending && message.happened !== undefined) {
        const said = happenedText(model, message);
        if (said) lines.push({ key: `s${message.seq ?? `v${message.nth}`}`, stamp: `h${said}`, make: () => ({ element: h("p", { class: "note event", dir: "auto", data: { seq: message.seq ?? "" } }, said) }) });
        before = null;
        continue;
      }
      const key = message.cid !== undefined && author === model.id ? `m${message.cid}` : `s${message.seq ?? `v${message.nth}`}`;
      if (!pending && message.recall !== undefined && conversation.recalled({ ...message, seq: message.recall })) continue;
      if (!pending && conversation.recalled(message)) {
        const said = recallText(model, author);
        lines.push({ key, stamp: `r${said}`, make: () => ({ element: h("p", { class: "note", data: { seq: message.seq } }, said) }) });
        before = null;
        continue;
      }
      const first = !before || before.author !== author || ms - before.ms > TOGETHER_MS;
      before = { author, ms };
      const state = pending ? `${message.state}${Math.round((message.progress ?? 0) * 20)}${message.reason ?? ""}${model.client.online}` : author === model.id ? stateOf(conversation, message) : "";
      const name = conversation.kind === GROUP && author !== model.id && first ? model.nameOf(author) : "";
      const face = conversation.kind === GROUP && author !== model.id ? `${model.user(author).avatar}${model.nameOf(author)}` : "";
      lines.push({ key, stamp: `${first}|${name}|${face}|${pending}|${body(message) === message ? "" : message.body.url}`, state, message, make: (old) => this.line(message, author, first, name, old) });
    }
    return lines;
  }

  /** Whether the first message that is new stands above the page. */
  markedAbove(above) {
    if (!above || above.seq <= this.mark) return false;
    const { conversation, model } = this;
    for (let at = this.span.from - 1; at >= conversation.held.low; at -= 1) {
      const message = conversation.at(at);
      // What was not stored has no number to tell by.
      if (message.seq === undefined) continue;
      if (!(message.seq > this.mark)) return false;
      if (message.userid !== model.id) return true;
    }
    return false;
  }

  /** A message, with what stood in the bubble before if that is still the same. */
  line(message, author, first, name, old) {
    const { conversation, model, page } = this;
    const pending = message.body !== undefined;
    const own = author === model.id;
    const { preview } = message;
    const group = conversation.kind === GROUP && !own;
    // A picture that could not be shown was replaced: it is not the same any more.
    const same = old?.inside?.isConnected && (old.body === body(message) || (preview !== undefined && old.preview === preview));
    const inside = same ? old.inside : content(model, page, body(message), preview);
    const actions = iconButton("more", t("actions"), null, { class: "bubble-more", aria: { haspopup: "menu" } });
    actions.tabIndex = -1;
    const end = foot(model, conversation, message);
    const bubble = h("div", { class: "bubble" }, name && h("span", { class: `author ink-${author % 8}`, dir: "auto" }, name), inside, end);
    const element = h("div", { class: `line ${own ? "is-own" : ""} ${first ? "is-first" : ""}`, data: { seq: message.seq ?? "" } },
      group && (first ? h("button", { type: "button", class: "face", title: model.nameOf(author), aria: { label: model.nameOf(author) }, on: { click: () => showUser(model, page, author) } }, avatar({ id: author, name: model.user(author).nickname, picture: model.user(author).avatar })) : h("span", { class: "face" })),
      bubble, actions);
    marks(bubble, inside);
    element.dataset.state = pending ? message.state : own ? stateOf(conversation, message) : "";
    if (pending) this.dress(element, message);
    return { element, inside, body: body(message), preview: pending ? preview : undefined };
  }

  /** What changes about a message that stays the same: how far it has got. */
  dress(element, message) {
    const { conversation, model } = this;
    const pending = message.body !== undefined;
    element.dataset.state = pending ? message.state : message.userid === model.id ? stateOf(conversation, message) : "";
    const bubble = element.querySelector(".bubble");
    for (const passing of bubble.querySelectorAll(":scope > :is(.upload-bar, .failure)")) passing.remove();
    const inside = bubble.querySelector(":scope > :not(.author, .foot)");
    if (inside) marks(bubble, inside);
    // A failure has words and buttons of its own, which need a ground.
    if (message.state === "failed") bubble.classList.remove("is-bare");
    const end = foot(model, conversation, message);
    bubble.querySelector(":scope > .foot").replaceWith(end);
    if (pending && message.state === "uploading") end.before(this.progress(message));
    if (pending && message.state === "failed") end.after(this.failure(message));
  }

  failure(message) {
    const { conversation, model } = this;
    return h("div", { class: "failure", role: "alert" }, h("span", {}, `${t("failed")}${message.reason ? `: ${message.reason}` : ""}`),
      h("button", { type: "button", class: "link-button", on: { click: () => model.resend(conversation, message) } }, t("resend")),
      h("button", { type: "button", class: "link-button", on: { click: () => model.discard(conversation, message) } }, t("discard")));
  }

  progress(message) {
    const bar = h("progress", { class: "upload-bar", aria: { label: t("uploading", { n: "" }) } });
    bar.max = 1;
    bar.value = message.progress;
    return bar;
  }

  /** What can be done with the message of a line, at the button for it. */
  offer(anchor) {
    const message = anchor && this.lines.get(anchor.closest(".line").dataset.key)?.message;
    if (!message) return;
    const { conversation, model } = this;
    const pending = message.body !== undefined;
    const said = words(body(message));
    const file = attached(body(message));
    const open = () => file && h("a", { href: file.url.href, download: file.name, target: "_blank", rel: "noopener noreferrer" }).click();
    menu(anchor, [
      said !== "" && [t("copy"), "file", () => copy(said)],
      !pending && file && [t("download"), "down", open],
      !pending && model.mayRecall(message) && [t("recall"), "trash", () => model.recall(conversation, message), true],
      pending && model.mayDiscard(message) && [t("discard"), "trash", () => model.discard(conversation, message), true],
    ]);
  }
}

/** What was written, of a message and of one that still waits. */
const body = (message) => message.body ?? message;

/**
 * Calls `action` with one of those elements in `list` when a finger rests on it; a mouse has the button beside it.
 */
function held(list, selector, action) {
  let timer = null;
  let done = false;
  let from = null;
  const stop = () => clearTimeout(timer);
  const within = ({ target, pointerType }) => (pointerType === "touch" ? target.closest(selector) : null);
  list.addEventListener("pointerdown", (event) => {
    stop();
    done = false;
    from = event;
    const element = within(event);
    if (element) {
      timer = setTimeout(() => {
        done = true;
        action(element);
      }, HELD_MS);
    }
  });
  for (const event of ["pointerup", "pointercancel", "pointerout"]) list.addEventListener(event, stop);
  list.addEventListener("pointermove", ({ clientX, clientY }) => {
    if (from && Math.hypot(clientX - from.clientX, clientY - from.clientY) > STILL) stop();
  });
  // The finger that is lifted from a picture does not open it as well.
  list.addEventListener("click", (event) => {
    if (!done) return;
    done = false;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  list.addEventListener("contextmenu", (event) => within(event) && event.preventDefault());
}
