/** The left column: who one is, the state of the connection, conversations, friends and groups. */

import { DIRECT, GROUP } from "../sdk/imgate.js";
import { preview } from "./bubbles.js";
import { showAddFriend, showCreateGroup, showJoinGroup, showSettings, showUser, showGroup } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { shortTime, t } from "./language.js";
import { avatar, menu, roving } from "./parts.js";

/** Characters of a draft in its row. */
const DRAFT_CHARS = 160;
/** Rows that are drawn at first, and so many more whenever the last of them comes into view. */
const ROWS_STEP = 60;
/** So near to the end of the rows, in pixels, more are drawn. */
const NEAR = 600;

const TABS = [["chats", "chat"], ["friends", "user"], ["groups", "users"]];

export class Sidebar {
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.tab = "chats";
    this.banner = h("div", { class: "banner", role: "status", hidden: true });
    this.search = h("input", { type: "search", placeholder: t("search"), aria: { label: t("search") }, autocomplete: "off", on: {
      input: () => {
        this.most = ROWS_STEP;
        this.rows.scrollTop = 0;
        this.#list();
      },
      keydown: (event) => {
        if (event.key === "Escape" && this.search.value) {
          event.preventDefault();
          this.search.value = "";
          this.#list();
        }
        if (event.key === "ArrowDown") {
          event.preventDefault();
          this.rows.querySelector("button")?.focus();
        }
      },
    } });
    /** Key of a row to its {element, stamp}: a row that changes stays the same one, so that a click on it is never lost. */
    this.shown = new Map();
    /** Which words stand instead of rows, if there are none. */
    this.empty = null;
    /** The row at which the Tab key stops. */
    this.stop = null;
    this.held = false;
    this.rows = h("div", { class: "rows", id: "rows", role: "tabpanel", on: {
      keydown: (event) => roving(event, [...this.rows.querySelectorAll(".row")]),
      focusin: ({ target }) => target.matches(".row") && this.#reachable(target),
      pointerdown: () => this.#hold(),
      scroll: () => this.#scrolled(),
    } });
    this.most = ROWS_STEP;
    this.mine = h("button", { type: "button", class: "mine", id: "settings", title: t("settings"), aria: { label: t("settings") }, on: { click: () => showSettings(model, page) } });
    const add = iconButton("plus", t("new"), () => menu(add, [
      [t("addFriend"), "user", () => showAddFriend(model, page)],
      [t("createGroup"), "users", () => showCreateGroup(model, page)],
      [t("joinGroup"), "search", () => showJoinGroup(model, page)],
    ]), { id: "new", aria: { haspopup: "menu" } });
    this.tabs = TABS.map(([name, sign]) => h("button", {
      type: "button", role: "tab", id: `tab-${name}`, aria: { controls: "rows" }, on: { click: () => this.choose(name) },
    }, icon(sign), h("span", {}, t(name)), h("span", { class: "badge", hidden: true })));
    this.element = h("aside", { class: "sidebar", aria: { label: t("chats") } },
      h("header", { class: "sidebar-head" }, this.mine, add),
      this.banner,
      h("div", { class: "search" }, icon("search"), this.search),
      this.rows,
      h("div", { class: "tabs", role: "tablist", on: { keydown: (event) => {
        if (event.key === "ArrowRight" || event.key === "ArrowLeft") roving(event, this.tabs, 3);
      } } }, this.tabs));
    this.#mine();
    this.#status();
    this.choose("chats");
  }

  /** Draws more rows before the last one is reached. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.rows;
    if (this.shown.size < this.most || scrollHeight - scrollTop - clientHeight > NEAR) return;
    this.most += ROWS_STEP;
    this.#list();
  }

  choose(name) {
    this.tab = name;
    this.most = ROWS_STEP;
    this.rows.scrollTop = 0;
    TABS.forEach(([one], at) => {
      this.tabs[at].setAttribute("aria-selected", String(one === name));
      this.tabs[at].tabIndex = one === name ? 0 : -1;
    });
    this.search.value = "";
    this.#list();
    // Others change these lists, too.
    if (this.model.loaded && name === "friends") this.model.loadFriends();
    if (this.model.loaded && name === "groups") this.model.loadGroups();
  }

  changed(changes) {
    if (changes.has("people")) this.#mine();
    if (changes.has("status")) this.#status();
    if (changes.has("list") || changes.has("people")) this.#list();
  }

  #mine() {
    const { me } = this.model;
    fill(this.mine, avatar({ id: me.id, name: me.nickname, picture: me.avatar }), h("span", { class: "mine-name" }, me.nickname || me.mobile || "…"));
  }

  #status() {
    const { state, code, reason } = this.model.status;
    clearTimeout(this.patience);
    const say = (text, action, label) => {
      fill(this.banner, h("span", {}, text), action && h("button", { type: "button", class: "link-button", on: { click: action } }, label));
      this.banner.hidden = false;
    };
    if (state === "online") this.banner.hidden = true;
    else if (state === "waiting") say(t("offline"), () => this.model.client.hurry(), t("tryNow"));
    else if (state === "connecting") {
      // A connection that comes at once needs no words.
      this.patience = setTimeout(() => this.model.status.state === "connecting" && say(t("connecting")), 700);
    } else if (state === "closed") {
      const text = code === 4502 ? t("replaced") : t("closedByServer", { reason: reason || code });
      say(text, () => this.model.client.connect(), t("useHere"));
    }
  }

  /** No row moves while one is pressed: the click would go to another, or to none. */
  #hold() {
    if (this.held) return;
    this.held = true;
    const both = new AbortController();
    const release = () => {
      both.abort();
      // After the click, which comes with the release.
      setTimeout(() => {
        this.held = false;
        this.#list();
      });
    };
    for (const event of ["pointerup", "pointercancel"]) window.addEventListener(event, release, { signal: both.signal });
  }

  #list() {
    if (this.held) return;
    const words = this.search.value.trim().toLowerCase();
    const fits = (name) => words === "" || (name() ?? "").toLowerCase().includes(words);
    const rows = { chats: () => this.#chats(fits), friends: () => this.#friends(fits), groups: () => this.#groups(fits) }[this.tab]();
    this.#show(rows, words !== "");
    this.rows.setAttribute("aria-labelledby", `tab-${this.tab}`);
    const unread = this.model.unreadInAll();
    const badge = this.tabs[0].querySelector(".badge");
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? "99+" : String(unread);
  }

  /** Puts the rows in their order, moving as few as possible, and draws those that say something else than before. */
  #show(rows, searching) {
    const before = this.shown;
    this.shown = new Map(rows.map((row) => [row.key, before.get(row.key) ?? { element: this.#blank(row), stamp: "" }]));
    if (rows.length === 0) {
      const stamp = `${this.tab}${searching}`;
      if (this.empty !== stamp) fill(this.rows, this.#nothing(searching));
      this.empty = stamp;
      return;
    }
    if (this.empty !== null) this.rows.replaceChildren();
    this.empty = null;
    for (const [key, { element }] of before) if (!this.shown.has(key)) element.remove();
    let next = this.rows.firstChild;
    for (const row of rows) {
      const place = this.shown.get(row.key);
      const stamp = JSON.stringify(row);
      if (place.stamp !== stamp) {
        place.stamp = stamp;
        this.#dress(place.element, row);
      }
      if (place.element === next) next = next.nextSibling;
      else this.rows.insertBefore(place.element, next);
    }
    if (!this.stop?.isConnected) this.#reachable(this.rows.querySelector(".row.is-current") ?? this.rows.querySelector(".row"));
  }

  /** Of all rows one is a stop of the Tab key; arrows lead to the others. */
  #reachable(row) {
    if (this.stop && this.stop !== row) this.stop.tabIndex = -1;
    this.stop = row;
    if (row) row.tabIndex = 0;
  }

  #nothing(searching) {
    const words = searching ? [t("nothingFound")] : { chats: [t("noChats"), t("noChatsHint")], friends: [t("noFriends")], groups: [t("noGroups")] }[this.tab];
    const { model, page } = this;
    const actions = searching ? [] : {
      chats: [[t("addFriend"), showAddFriend], [t("createGroup"), showCreateGroup]],
      friends: [[t("addFriend"), showAddFriend]],
      groups: [[t("createGroup"), showCreateGroup], [t("joinGroup"), showJoinGroup]],
    }[this.tab];
    return h("div", { class: "nothing" }, words.map((line, at) => h("p", { class: at > 0 ? "quiet" : "" }, line)),
      actions.map(([label, show]) => h("button", { type: "button", class: "button", on: { click: () => show(model, page) } }, label)));
  }

  #chats(fits) {
    const { model } = this;
    const found = [];
    for (const conversation of model.list()) {
      if (!fits(() => model.titleOf(conversation))) continue;
      found.push(conversation);
      if (found.length === this.most) break;
    }
    return found.map((conversation) => {
      const { kind, dstid, key } = conversation;
      const newest = conversation.newest();
      const draft = key === model.open ? "" : model.draft(conversation).slice(0, DRAFT_CHARS);
      const typing = [...conversation.typing.keys()][0];
      const when = newest?.ts ?? newest?.at ?? conversation.ts;
      const line = typing !== undefined ? { sort: "typing", said: kind === GROUP ? t("typingWho", { who: model.nameOf(typing) }) : t("typing") }
        : draft !== "" ? { sort: "draft", said: draft }
          : newest ? preview(model, conversation, newest) : { said: t("noMessages") };
      return { key: `c${key}`, kind, dstid, title: model.titleOf(conversation), line, current: key === model.open, face: this.#face(kind, dstid), time: when ? shortTime(when) : "", unread: conversation.unread };
    });
  }

  #face(kind, dstid) {
    const { model } = this;
    if (kind === GROUP) {
      const group = model.groups.get(dstid);
      return { id: dstid, name: group?.name, picture: group?.icon, group: true };
    }
    const user = model.user(dstid);
    return { id: dstid, name: user.nickname, picture: user.avatar, online: model.online.get(dstid) === true };
  }

  #friends(fits) {
    const { model } = this;
    // Who is blocked must be found again.
    const blocked = [...(model.blocks ?? [])].filter((id) => !model.friends.has(id)).map((id) => model.user(id));
    const friends = [...model.friends.values(), ...blocked].filter(({ nickname }) => fits(() => nickname));
    friends.sort((a, b) => Number(model.online.get(b.id) === true) - Number(model.online.get(a.id) === true) || (a.nickname ?? "").localeCompare(b.nickname ?? ""));
    return friends.slice(0, this.most).map((user) => ({
      key: `f${user.id}`, kind: DIRECT, dstid: user.id, more: true, title: model.nameOf(user.id), face: this.#face(DIRECT, user.id), current: model.open === `${DIRECT}:${user.id}`,
      line: { said: model.blocks?.has(user.id) || user.blocked ? t("blocked") : user.memo || (model.online.get(user.id) ? t("online") : "") },
    }));
  }

  #groups(fits) {
    const { model } = this;
    const groups = [...model.groups.values()].filter(({ name }) => fits(() => name)).sort((a, b) => a.name.localeCompare(b.name));
    return groups.slice(0, this.most).map((group) => ({
      key: `g${group.id}`, kind: GROUP, dstid: group.id, more: true, title: group.name, face: this.#face(GROUP, group.id), current: model.open === `${GROUP}:${group.id}`,
      line: { said: group.members === 1 ? t("oneMember") : group.members > 0 ? t("members", { n: group.members }) : group.memo },
    }));
  }

  #blank({ key, kind, dstid, more, title }) {
    const { model, page } = this;
    const button = h("button", { type: "button", class: "row", data: { row: key }, tabindex: -1, on: { click: () => page.open(kind, dstid) } }, h("span", {}), h("span", { class: "row-main" }));
    const about = () => (kind === GROUP ? showGroup : showUser)(model, page, dstid);
    return h("div", { class: more ? "row-with-more" : "row-alone", data: { key } }, button, more && iconButton("info", `${t("more")}: ${title}`, about, { class: "row-more" }));
  }

  /** What a row says now. The face is made anew only if it is another: a picture would flicker. */
  #dress(element, { title, line, time, unread, face, current }) {
    const [button] = element.children;
    button.classList.toggle("is-current", current);
    if (current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const stamp = JSON.stringify(face);
    if (element.dataset.face !== stamp) {
      element.dataset.face = stamp;
      button.firstChild.replaceWith(avatar(face));
    }
    const said = line.sort === "typing" ? h("span", { class: "row-text is-typing" }, line.said)
      : h("span", { class: "row-text" }, line.sort === "draft" && h("b", { class: "is-draft" }, `${t("draft")} `), line.sign && icon(line.sign), line.said);
    fill(button.lastChild,
      h("span", { class: "row-line" }, h("span", { class: "row-title" }, title), time !== undefined && h("span", { class: "row-time" }, time)),
      h("span", { class: "row-line" }, said, unread > 0 && h("span", { class: "badge", aria: { label: t("unread", { n: unread }) } }, unread > 99 ? "99+" : unread)));
  }
}
