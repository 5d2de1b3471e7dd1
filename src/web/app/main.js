/** Begins: who is logged in here, which view, and what the address says is open. */

import { DIRECT, GROUP } from "../sdk/imgate.js";
import { Api } from "./api.js";
import { ChatView } from "./chat.js";
import { showUser } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { t } from "./language.js";
import { Model, keyOf } from "./model.js";
import { attempt } from "./parts.js";
import * as sessions from "./sessions.js";
import { Sidebar } from "./sidebar.js";
import { applyTheme } from "./theme.js";
import { showWelcome } from "./welcome.js";

const root = document.getElementById("app");

/** The page of a user who is logged in. */
class Page {
  constructor(session) {
    this.model = new Model(session);
    this.stops = [];
    this.draw();
    this.model.onChange((changes) => this.changed(changes));
    const listen = (target, event, listener) => {
      target.addEventListener(event, listener);
      this.stops.push(() => target.removeEventListener(event, listener));
    };
    listen(window, "hashchange", () => this.follow());
    listen(window, "online", () => this.model.client.hurry());
    listen(window, "focus", () => this.chat.seen());
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") {
        this.model.client.hurry();
        this.chat.seen();
      }
    });
    listen(document, "keydown", (event) => this.key(event));
    this.model.start().catch((error) => {
      if (error.status === 401) this.leave(t("e_not_logged_in"));
      else attempt(() => Promise.reject(error));
    });
  }

  /** Everything anew: at the start, and when the language was changed. */
  draw() {
    this.sidebar = new Sidebar(this.model, this);
    this.chat = new ChatView(this.model, this);
    fill(root, h("div", { class: "page" }, this.sidebar.element, this.chat.element));
    this.follow();
  }

  changed(changes) {
    const { status } = this.model;
    if (changes.has("status") && status.state === "closed") {
      if (status.code === 4501) return this.leave(t("e_not_logged_in"));
      if (status.code === 4503) return this.leave(t("banned"));
    }
    this.sidebar.changed(changes);
    this.chat.changed(changes);
    const unread = this.model.unreadInAll();
    document.title = unread > 0 ? `(${unread > 99 ? "99+" : unread}) imgate` : "imgate";
    return undefined;
  }

  /** Opens what the address names: `#/c/10/2`. */
  follow() {
    const [, kind, dstid] = /^#\/c\/(10|11)\/(\d{1,16})$/.exec(location.hash)?.map(Number) ?? [];
    const conversation = kind === DIRECT || kind === GROUP ? this.model.conversation(kind, dstid) : null;
    this.model.open = conversation ? keyOf(kind, dstid) : null;
    root.classList.toggle("has-chat", conversation !== null);
    this.chat.show(conversation);
    this.sidebar.changed(new Set(["list"]));
  }

  open(kind, dstid) {
    location.hash = `#/c/${kind}/${dstid}`;
  }

  showUser(id) {
    showUser(this.model, this, id);
  }

  shut() {
    location.hash = "#/";
  }

  key(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && this.model.open) this.shut();
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      const list = this.model.list();
      const at = list.findIndex(({ key }) => key === this.model.open);
      const next = list[Math.max(0, Math.min(list.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)))];
      if (next) this.open(next.kind, next.dstid);
    }
  }

  /** Uses a new token, as after a change of the password. */
  renew(token) {
    this.model.session.token = token;
    sessions.keep(this.model.session);
  }

  leave(notice = "") {
    this.model.stop();
    for (const stop of this.stops) stop();
    sessions.drop(this.model.session);
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    root.classList.remove("has-chat");
    history.replaceState(null, "", "#/");
    welcome(notice);
  }

  async logout(everywhere) {
    await new Api(this.model.session).logout(everywhere).catch(() => {});
    this.leave();
  }
}

function enter(session) {
  sessions.keep(session);
  if (location.hash === "#/register") history.replaceState(null, "", "#/");
  new Page(session);
}

function welcome(notice) {
  showWelcome(root, enter, notice);
}

applyTheme();
const session = sessions.current();
if (session) enter(session);
else welcome("");
