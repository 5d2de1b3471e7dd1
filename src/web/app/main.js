/** Begins: who is logged in here, which view, and what the address says is open. */

import { DIRECT, GROUP } from "../sdk/imgate.js";
import { Api } from "./api.js";
import { ChatView } from "./chat.js";
import { showInvite, showUser } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { local } from "./kept.js";
import { rememberIn, t } from "./language.js";
import { Model, keyOf } from "./model.js";
import { attempt, toast } from "./parts.js";
import * as sessions from "./sessions.js";
import { Sidebar } from "./sidebar.js";
import { applyTheme } from "./theme.js";
import { now } from "./time.js";
import { showWelcome } from "./welcome.js";

/** So long a new token may take from the server, through another tab, to here. */
const RENEWED_MS = 1000;

const root = document.getElementById("app");

/** The page of a user who is logged in. */
class Page {
  constructor(session) {
    this.model = new Model(session);
    this.stops = [];
    this.expiring = null;
    this.left = false;
    /** Whether the list of conversations is the entry of the browser's history before this one. */
    this.below = false;
    this.draw();
    this.model.onChange((changes) => this.changed(changes));
    const listen = (target, event, listener) => {
      target.addEventListener(event, listener);
      this.stops.push(() => target.removeEventListener(event, listener));
    };
    listen(window, "hashchange", () => this.follow());
    listen(window, "offline", () => this.model.client.networkLost());
    listen(window, "online", () => this.model.client.hurry());
    listen(window, "focus", () => this.chat.seen());
    listen(window, "beforeunload", (event) => this.model.uploading && event.preventDefault());
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") {
        this.model.client.hurry();
        this.chat.seen();
        // It may be another day.
        this.model.changed("people");
      }
    });
    listen(document, "keydown", (event) => this.key(event));
    this.model.start().catch((error) => {
      if (error.status !== 401) attempt(() => Promise.reject(error));
    });
  }

  /** Everything anew: at the start, and when the language was changed. */
  draw() {
    // What is being recorded there loses its buttons.
    this.chat?.show(null);
    this.sidebar = new Sidebar(this.model, this);
    this.chat = new ChatView(this.model, this);
    const skip = h("a", { class: "skip", href: "#chat", on: { click: (event) => {
      event.preventDefault();
      if (this.chat.composer) this.chat.composer.focus();
      else this.chat.element.focus();
    } } }, t("skip"));
    fill(root, h("main", { class: "page" }, skip, this.sidebar.element, this.chat.element));
    this.follow();
  }

  changed(changes) {
    const { status } = this.model;
    if (changes.has("expired")) return this.expired();
    if (changes.has("status") && status.state === "closed") {
      if (status.code === 4501) return this.expired();
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
    const [, secret] = /^#\/join\/([\w-]{8,64})$/.exec(location.hash) ?? [];
    if (secret) {
      history.replaceState(null, "", "#/");
      this.model.refresh().then(() => showInvite(this.model, this, secret)).catch(() => {});
    }
    const [, kind, dstid] = /^#\/c\/(10|11)\/(\d{1,16})$/.exec(location.hash)?.map(Number) ?? [];
    const conversation = kind === DIRECT || kind === GROUP ? this.model.conversation(kind, dstid) : null;
    this.model.look(conversation);
    if (conversation) conversation.opened ||= now();
    else this.below = false;
    root.classList.toggle("has-chat", conversation !== null);
    this.chat.show(conversation);
    this.sidebar.changed(new Set(["list"]));
  }

  /** From the list into a conversation is a step that "back" takes back; from one to another is none. */
  open(kind, dstid) {
    const address = `#/c/${kind}/${dstid}`;
    if (this.model.open) location.replace(address);
    else {
      this.below = true;
      location.hash = address;
    }
    // It may be open already.
    if (this.model.open === keyOf(kind, dstid)) this.chat.composer?.focus(false);
  }

  showUser(id) {
    showUser(this.model, this, id);
  }

  shut() {
    if (this.below) history.back();
    else location.replace("#/");
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

  /** The server does not know the token any more. Perhaps a tab that is changing the password has a newer one in a moment. */
  expired() {
    if (this.expiring) return;
    const { session, client } = this.model;
    const refused = this.model.dialled;
    this.expiring = setTimeout(() => {
      this.expiring = null;
      const token = sessions.newest(session);
      if (!token || token === refused) {
        this.leave(t("e_not_logged_in"));
        return;
      }
      session.token = token;
      client.close();
      client.connect();
      this.model.refresh().catch(() => {});
    }, RENEWED_MS);
  }

  leave(notice = "") {
    if (this.left) {
      // The token may have ended before the answer that says why.
      if (notice) welcome(notice);
      return;
    }
    this.left = true;
    this.chat.show(null);
    this.model.stop();
    clearTimeout(this.expiring);
    for (const stop of this.stops) stop();
    sessions.drop(this.model.session);
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    root.classList.remove("has-chat");
    history.replaceState(null, "", "#/");
    welcome(notice);
  }

  async logout(everywhere) {
    const error = await new Api(this.model.session).logout(everywhere).then(() => null, (failure) => failure);
    if (!error || this.left || error.code === "not_logged_in") this.leave();
    // Whoever ends all logins wants them to have ended.
    else if (everywhere) toast(error.message, true);
    else this.leave(t("notLoggedOut"));
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

rememberIn(local);
applyTheme();
const session = sessions.current();
if (session) enter(session);
else welcome("");
