/** What one user knows: people, groups, conversations and their messages. Views listen to it and never talk to the server themselves. */

import { DIRECT, GROUP, ImgateClient, Refusal, newCid } from "../sdk/imgate.js";
import { Api, ApiError } from "./api.js";
import { OWN } from "./bubbles.js";
import { beforeNextPicture } from "./frame.js";
import { local, storage } from "./kept.js";
import { t } from "./language.js";
import { toast } from "./parts.js";
import { now } from "./time.js";

/** Rows of one page of history. */
const PAGE = 40;
/** Messages of a conversation that is not open: with more than the first number the earliest go, down to the second. */
const HELD_MOST = 400;
const HELD_THEN = 200;
/** What could not be loaded is asked for again after the first of these, then after twice as long each time, up to the second. */
const AGAIN_MS = 1000;
const AGAIN_MOST_MS = 60_000;
/** "typing…" is believed for so long. */
const TYPING_MS = 4000;
/** Groups are loaded so long after one was named that is not known. */
const GROUPS_MS = 300;
/**
 * What is new of a group is told to all its members in one moment: each loads its groups some time within the first of these, and
 * after that not again before the second is over.
 */
const GROUPS_SPREAD_MS = 3000;
const GROUPS_REST_MS = 10_000;
/** Two minutes, less the time that a click takes. */
const RECALL_MS = 115_000;

export const keyOf = (kind, dstid) => `${kind}:${dstid}`;

/** Exported for its test. */
export class Conversation {
  #unnumbered = 0;

  constructor(kind, dstid) {
    this.kind = kind;
    this.dstid = dstid;
    this.key = keyOf(kind, dstid);
    /**
     * Ascending by `seq`, without a hole. Those that were not stored have no `seq` but `nth`, a number of their own here, and stand
     * among them in the order of time.
     */
    this.messages = [];
    /** So many of them were put before the first that was there. */
    this.before = 0;
    /** Changes when the messages are forgotten. */
    this.era = 0;
    /** The newest, as the list of conversations brought it: of a long text perhaps only the beginning. */
    this.last = null;
    /** One's own that are not stored yet: {cid, body, state, at, progress?, file?, preview?, reason?}. */
    this.pending = [];
    this.head = 0;
    this.ts = 0;
    this.read = 0;
    this.unread = 0;
    /** What the other user of a direct conversation has said. */
    this.peer = { recv: 0, read: 0 };
    /** There is something before the first message. */
    this.more = true;
    this.gone = false;
    this.loading = false;
    /** By whom, and until when. */
    this.typing = new Map();
    /** `seq` of recalled messages to the `userid` who said so. */
    this.recalls = new Map();
    this.refused = false;
    /** The name of a group that the user is no longer in, whose messages up to then may be read; null: not left. */
    this.left = null;
    /** Who has written in a group that is not known. */
    this.authors = new Set();
    /** When it was opened here: what has no messages yet stays in the list. */
    this.opened = 0;
    /** The end of the newest upload: files are sent one after the other, in the order in which they were chosen. */
    this.uploads = Promise.resolve();
  }

  /** The newest that is worth a line in a list. */
  newest() {
    if (this.pending.length > 0) return this.pending.at(-1);
    const held = this.messages.at(-1);
    if (!held || !this.last) return held ?? this.last;
    const later = held.seq === undefined ? timeOf(held) >= timeOf(this.last) : held.seq >= (this.last.seq ?? 0);
    return later ? held : this.last;
  }

  /** `seq` of the first message that is held and stored. */
  get firstSeq() {
    return this.messages.find(({ seq }) => seq !== undefined)?.seq;
  }

  /** `seq` of the last message that is held and stored. */
  get lastSeq() {
    for (let at = this.messages.length - 1; at >= 0; at -= 1) if (this.messages[at].seq !== undefined) return this.messages[at].seq;
    return undefined;
  }

  /** Where its messages lie, for `Span`. */
  get held() {
    return { low: -this.before, high: this.messages.length - this.before, era: this.era };
  }

  /** The message at a place. */
  at(place) {
    return this.messages[place + this.before];
  }

  /** Forgets the messages that are held. */
  clear() {
    revoke(this.messages);
    this.messages = [];
    this.before = 0;
    this.era += 1;
  }

  /** Lets the earliest messages go; they can be loaded again. */
  cut(left) {
    const gone = this.messages.splice(0, Math.max(0, this.messages.length - left));
    if (gone.length === 0) return;
    revoke(gone);
    this.before -= gone.length;
    Object.assign(this, { more: true, gone: false });
  }

  /** Puts rows at their places, ascending; what is there already stays. `me` is the user, whose lines do not wait any more. */
  put(rows, me) {
    const own = new Set(rows.filter(({ userid, cid }) => userid === me && cid !== undefined).map(({ cid }) => cid));
    this.#settle(({ cid }) => own.has(cid));
    const first = this.firstSeq;
    // A page of what was before goes in at once, unless something without a number stands there.
    const page = first !== undefined && this.messages[0].seq === first ? rows.filter(({ seq }) => seq < first) : [];
    this.messages.unshift(...page);
    this.before += page.length;
    const placed = new Set(page);
    for (const row of rows) {
      if (Number.isInteger(row.recall)) this.recalls.set(row.recall, row.userid);
      if (placed.has(row)) continue;
      if (row.seq === undefined) row.nth = this.#unnumbered += 1;
      const at = insert(this.messages, row);
      // What comes in above the first that has a number leaves the places of those below it as they are.
      const above = row.seq !== undefined && (first === undefined || row.seq < first);
      if (above && at >= 0 && at < this.messages.length - 1) this.before += 1;
    }
    this.passed();
  }

  /** What is stored before the first message that is held comes with a page of history, and waits no longer. */
  passed() {
    const first = this.firstSeq;
    if (first !== undefined) this.#settle(({ place }) => place !== undefined && place < first);
  }

  /** Lets lines go that wait no longer. */
  #settle(over) {
    revoke(this.pending.filter(over));
    this.pending = this.pending.filter((line) => !over(line));
  }

  /** Whether a message of somebody else has words that can be unread: neither what takes another one back, nor what happened. */
  counts(message) {
    return message.recall === undefined && message.happened === undefined && !this.recalled(message);
  }

  /** How many messages behind a number are held that others than `me` wrote, and that can be unread. */
  unreadBehind(seq, me) {
    return this.messages.filter((one) => one.seq > seq && one.userid !== me && this.counts(one)).length;
  }

  /** Whether the message was taken back by who had written it. */
  recalled(message) {
    return message.recalled === true || this.recalls.get(message.seq) === message.userid;
  }
}

export class Model {
  #listeners = new Set();
  #scheduled = false;
  #storage;
  #drafts = new Map();
  #groupsTimer = null;
  /** When that timer is due, and when groups may be loaded again because of a hint. */
  #groupsDue = 0;
  #groupsRest = 0;
  #changes = new Set();
  #unknownUsers = new Set();
  #askedUsers = new Set();
  #watchedKey = "";
  #loading = null;
  #again = null;
  #tries = 0;
  #stopped = false;
  /** What of the lists has been loaded once. */
  #have = { friends: false, groups: false };
  #wasOnline = false;
  #expected = new Set();

  /** @param {{id: number, token: string}} session */
  constructor(session) {
    this.session = session;
    this.id = session.id;
    this.api = new Api(session, () => this.changed("expired"));
    /** The token with which the connection was made. */
    this.dialled = session.token;
    this.me = { id: session.id, nickname: "", mobile: "" };
    this.users = new Map();
    this.friends = new Map();
    this.groups = new Map();
    this.online = new Map();
    this.conversations = new Map();
    this.config = null;
    this.status = { state: "connecting" };
    /** There is no connection, and not only because the first is being made. */
    this.away = false;
    this.loaded = false;
    this.open = null;
    this.#storage = storage(`imgate.${this.id}.`);
    this.client = new ImgateClient({
      url: () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/chat`,
      token: () => (this.dialled = this.session.token),
      userId: this.id,
      // The list brings the newest messages; pages are loaded of what is opened.
      firstPage: 0,
      storage: this.#storage,
    });
    this.#listen();
  }

  /** Tells listeners, once a picture, of all that has changed since the last one; `what` holds "list", "people", "status", "expired", and keys of conversations. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(...what) {
    for (const one of what) this.#changes.add(one);
    if (this.#scheduled) return;
    this.#scheduled = true;
    beforeNextPicture(() => {
      this.#scheduled = false;
      const changes = this.#changes;
      this.#changes = new Set();
      for (const listener of this.#listeners) listener(changes);
    });
  }

  async start() {
    for (const [, kept] of this.#storage.entries("peer.")) {
      this.conversation(DIRECT, kept.id).peer = { recv: kept.recv, read: kept.read };
    }
    for (const [, { id, name, ts, head, last }] of this.#storage.entries("left.")) {
      Object.assign(this.conversation(GROUP, id), { left: name, ts, head, read: head, last });
    }
    // Also where nothing was said yet: who has written half a sentence looks for it in the list.
    for (const [kind, dstid] of draftsOf(this.id)) this.draft(this.conversation(kind, dstid));
    await this.client.connect();
    for (const { cid, kind, dstid, body, at } of this.client.pending()) {
      this.conversation(kind, dstid).pending.push({ cid, body, at, state: "sending" });
    }
    this.changed("list");
    await this.refresh();
  }

  /**
   * Loads what is not told over the WebSocket: at the start, after every time without a connection, and after a pause when something
   * of it could not be loaded. Fails if nothing could.
   */
  refresh() {
    if (this.#loading) return this.#loading;
    clearTimeout(this.#again);
    this.#again = null;
    this.#loading = this.#load().finally(() => { this.#loading = null; });
    return this.#loading;
  }

  async #load() {
    const loading = this.api.me();
    const [me, config] = await Promise.all([loading.catch((error) => this.#failed(error)), this.config ?? this.api.config().catch((error) => this.#failed(error))]);
    this.config ??= config;
    if (!me) return loading;
    this.me = me;
    this.users.set(me.id, me);
    await Promise.all([this.loadFriends(), this.loadGroups()]);
    if (this.#again === null) this.#tries = 0;
    this.changed("list", "people");
    return undefined;
  }

  /** Something could not be loaded: unless asking again is useless, all of it is loaded again after a pause. Gives back null. */
  #failed(error) {
    const useless = error instanceof ApiError && error.code !== "network" && error.status !== 429 && error.status < 500;
    if (useless || this.#stopped || this.#again !== null) return null;
    const pause = Math.min(AGAIN_MOST_MS, AGAIN_MS * 2 ** this.#tries) * (0.5 + Math.random() / 2);
    this.#tries = Math.min(this.#tries + 1, 16);
    // Whoever was told when to come back comes a little later, and not all at once.
    const asked = error.retryMs > 0 ? error.retryMs + Math.random() * AGAIN_MS : 0;
    this.#again = setTimeout(() => {
      this.#again = null;
      this.refresh().catch(() => {});
    }, Math.max(pause, asked));
    return null;
  }

  /** A list came: only when all have, it is known what is missing in one. */
  #has(list) {
    this.#have[list] = true;
    this.loaded ||= this.#have.friends && this.#have.groups;
  }

  stop() {
    this.#stopped = true;
    this.client.close();
    clearTimeout(this.#groupsTimer);
    clearTimeout(this.#again);
    this.#listeners.clear();
  }

  /** Both may be asked for at any time; an answer never overtakes a later one. */
  loadFriends = oneByOne(() => this.#loadFriends());
  loadGroups = oneByOne(() => this.#loadGroups());

  async #loadFriends() {
    const [friends, blocks] = await Promise.all([this.api.friends(), this.api.blocks()].map((list) => list.catch((error) => this.#failed(error))));
    // Of what could not be loaded the last that is known counts.
    if (friends) this.friends = new Map(friends.map((user) => [user.id, user]));
    if (blocks) this.blocks = new Set(blocks.map((user) => user.id));
    for (const user of [...(friends ?? []), ...(blocks ?? [])]) this.users.set(user.id, user);
    if (friends) this.#has("friends");
    this.#watch();
    this.changed("list", "people");
  }

  async #loadGroups() {
    const groups = await this.api.groups().catch((error) => this.#failed(error));
    if (!groups) return;
    const before = this.groups;
    this.groups = new Map(groups.map((group) => [group.id, group]));
    for (const id of this.groups.keys()) {
      const conversation = this.conversations.get(keyOf(GROUP, id));
      // Somebody who was removed is back: what was refused then may be asked for again.
      if (this.loaded && conversation && !before.has(id)) {
        Object.assign(conversation, { refused: false, more: true });
        this.client.open(GROUP, id);
        this.changed(conversation.key);
      }
      if (conversation && conversation.left !== null) {
        // What is held ends where the user was removed, and what was said since is elsewhere than behind it.
        conversation.clear();
        Object.assign(conversation, { left: null, more: true, gone: false });
        this.#storage.remove(`left.${id}`);
      }
    }
    for (const conversation of [...this.conversations.values()]) {
      if (conversation.kind !== GROUP || this.groups.has(conversation.dstid) || conversation.left !== null) continue;
      if (conversation.newest()) this.#leftBehind(conversation, before.get(conversation.dstid)?.name ?? "");
      else if (conversation.key !== this.open) this.forget(conversation);
    }
    this.#has("groups");
    this.changed("list", "people");
  }

  /** The user is no longer in the group: the server's list has it no more, but what was said until then may be read. */
  #leftBehind(conversation, name) {
    const { dstid, ts, head } = conversation;
    const last = conversation.messages.at(-1) ?? conversation.last;
    this.client.drop(GROUP, dstid);
    // What was refused meanwhile was perhaps a word about it, and not what was before.
    Object.assign(conversation, { left: name, unread: 0, last, more: true, gone: false, refused: false });
    // What was said meanwhile and before that nobody has asked for, or not heard yet: it comes with the newest page, as soon as
    // the conversation is looked at.
    if (conversation.key !== this.open) conversation.clear();
    else if (conversation.lastSeq !== undefined) this.#catchUp(conversation);
    this.#storage.put(`left.${dstid}`, { id: dstid, name, ts, head, last });
    this.changed(conversation.key);
  }

  /** What is held stays until the newest page is there: of a dissolved group none comes. */
  async #catchUp(conversation) {
    const page = await this.client.history(conversation.kind, conversation.dstid, { limit: PAGE }).catch(() => null);
    if (!page || page.rows.length === 0 || conversation.left === null) return;
    if (page.rows[0].seq > (conversation.lastSeq ?? -Infinity) + 1) {
      // What is held would have a hole behind it.
      conversation.clear();
      conversation.more = page.more;
      conversation.gone = !page.more && page.floor > 1;
    }
    conversation.put(page.rows, this.id);
    this.changed("list", conversation.key);
  }

  /** Takes a conversation out of the list. */
  forget(conversation) {
    if (conversation.left !== null) this.#storage.remove(`left.${conversation.dstid}`);
    this.client.drop(conversation.kind, conversation.dstid);
    this.conversations.delete(conversation.key);
    this.changed("list");
  }

  /** Whether one may write here at all: those who left a group, or were removed, may not. */
  mayWrite({ kind, dstid }) {
    return kind !== GROUP || !this.loaded || this.groups.has(dstid);
  }

  /** Makes a friend of them; both sides are told, and who did it needs no word about it. */
  async befriend(id) {
    this.#expected.add(id);
    await this.api.befriend(id);
    await this.loadFriends();
  }

  async #friendsChanged() {
    const before = this.#have.friends ? this.friends : null;
    await this.loadFriends();
    if (!before) return;
    for (const id of this.friends.keys()) {
      if (!before.has(id) && !this.#expected.delete(id)) toast(t("friendAdded", { who: this.nameOf(id) }));
    }
  }

  /** The user, as far as known; what is missing is asked for and told as "people". */
  user(id) {
    const known = this.users.get(id);
    if (known) return known;
    if (id > 0 && !this.#askedUsers.has(id)) {
      this.#askedUsers.add(id);
      if (this.#unknownUsers.size === 0) setTimeout(() => this.#lookUp(), 20);
      this.#unknownUsers.add(id);
    }
    return { id, nickname: "", avatar: "" };
  }

  async #lookUp() {
    const ids = [...this.#unknownUsers].slice(0, 200);
    for (const id of ids) this.#unknownUsers.delete(id);
    if (this.#unknownUsers.size > 0) setTimeout(() => this.#lookUp(), 20);
    try {
      for (const user of await this.api.users(ids)) this.users.set(user.id, user);
      this.changed("list", "people");
    } catch {
      // They keep their numbers as names; the next page load asks again.
      for (const id of ids) this.#askedUsers.delete(id);
    }
  }

  nameOf(id) {
    return this.user(id).nickname || t("user", { id });
  }

  titleOf(conversation) {
    if (conversation.kind === GROUP) return this.groups.get(conversation.dstid)?.name || conversation.left || t("group", { id: conversation.dstid });
    return conversation.dstid === this.id ? t("yourself") : this.nameOf(conversation.dstid);
  }

  conversation(kind, dstid) {
    const key = keyOf(kind, dstid);
    if (!this.conversations.has(key)) this.conversations.set(key, new Conversation(kind, dstid));
    return this.conversations.get(key);
  }

  /** Those with messages or drafts, the newest first. */
  list() {
    return [...this.conversations.values()]
      .filter((one) => one.head > 0 || one.messages.length > 0 || one.pending.length > 0 || this.draft(one) !== "" || one.opened > 0)
      .sort((a, b) => this.#when(b) - this.#when(a) || b.dstid - a.dstid);
  }

  #when(conversation) {
    const newest = conversation.newest();
    return Math.max(conversation.ts, newest?.ts ?? newest?.at ?? conversation.opened);
  }

  unreadInAll() {
    let sum = 0;
    for (const { unread } of this.conversations.values()) sum += unread;
    return sum;
  }

  // ---- what the server says -------------------------------------------------------------------------------------

  #listen() {
    const { client } = this;
    client.on("status", (status) => {
      this.status = status;
      this.away = status.state === "waiting" || status.state === "closed" || (this.away && status.state === "connecting");
      if (status.state !== "online") this.online.clear();
      // What changed meanwhile, among friends and groups, nobody has told.
      else if (this.#wasOnline || !this.loaded) this.refresh().catch(() => {});
      this.#wasOnline ||= status.state === "online";
      this.changed("status", "people");
    });
    client.on("conversations", ({ rows, more }) => {
      for (const row of rows) {
        const conversation = this.conversation(row.kind, row.dstid);
        conversation.head = Math.max(conversation.head, row.head);
        conversation.ts = Math.max(conversation.ts, row.ts);
        if ((row.last?.seq ?? 0) >= (conversation.last?.seq ?? 0)) conversation.last = row.last ?? null;
        conversation.read = Math.max(conversation.read, row.read);
        conversation.unread = this.#unreadOf(conversation, row);
        conversation.refused = false;
        // Nobody has received what there is not: the mark is of a history that the server has lost.
        if (conversation.peer.recv > conversation.head) this.#forgetPeer(conversation);
      }
      if (more && rows.length > 0) client.conversations(rows.at(-1));
      this.#watch();
      this.changed("list", ...rows.map(({ kind, dstid }) => keyOf(kind, dstid)));
    });
    client.on("message", ({ kind, dstid, message }) => this.#arrived(this.conversation(kind, dstid), message));
    client.on("sent", ({ cid, kind, dstid, seq }) => {
      const conversation = this.conversation(kind, dstid);
      const at = conversation.pending.findIndex((one) => one.cid === cid);
      // It stays until its message is in its place, which is now unless there is a hole before it.
      if (at >= 0) Object.assign(conversation.pending[at], { state: "stored", place: seq });
      conversation.passed();
      this.changed("list", conversation.key);
    });
    client.on("refused", ({ cid, kind, dstid, code, msg, body }) => {
      const conversation = this.conversation(kind, dstid);
      // Of an earlier page: whoever wrote it may copy it, or let it go.
      if (typeof body?.content === "string") conversation.pending.push({ cid, body, at: now(), state: "failed" });
      const pending = conversation.pending.find((one) => one.cid === cid);
      if (pending) Object.assign(pending, { state: "failed", reason: refusalText(code, msg) });
      else if (cid === undefined) conversation.refused = true;
      // A recall has no line of its own to say it in.
      else toast(refusalText(code, msg), true);
      this.changed("list", conversation.key);
    });
    client.on("receipt", ({ userid, kind, dstid, recv, read }) => this.#receipt(this.conversation(kind, dstid), userid, recv, read));
    client.on("reset", ({ kind, dstid }) => {
      const conversation = this.conversation(kind, dstid);
      Object.assign(conversation, { last: null, head: 0, read: 0, unread: 0, more: true, gone: false });
      this.#forgetPeer(conversation);
      conversation.clear();
      conversation.recalls.clear();
      this.changed("list", conversation.key);
    });
    client.on("gap", ({ kind, dstid }) => {
      const conversation = this.conversation(kind, dstid);
      // What is held would have a hole behind it.
      Object.assign(conversation, { more: false, gone: true });
      conversation.clear();
      this.changed(conversation.key);
    });
    client.on("typing", ({ kind, dstid, userid }) => this.#types(this.conversation(kind, dstid), userid));
    client.on("presence", ({ rows }) => {
      for (const { userid, online } of rows) this.online.set(userid, online);
      this.changed("people");
    });
    client.on("changed", ({ what, id }) => {
      if (what === "friends") this.#friendsChanged();
      else if (what === "groups") this.#loadGroupsSoon(id);
      else if (what === "profile") {
        this.users.delete(id);
        this.#askedUsers.delete(id);
        this.user(id);
      }
    });
  }

  #arrived(conversation, message) {
    const own = message.userid === this.id;
    if (message.cid !== undefined && own) {
      const at = conversation.pending.findIndex((one) => one.cid === message.cid);
      if (at >= 0) {
        // The picture that was just uploaded is already here.
        if (message.recall === undefined) message.preview = conversation.pending[at].preview;
        conversation.pending.splice(at, 1);
      }
    }
    const known = conversation.head > 0 || conversation.messages.length > 0;
    conversation.put([message], this.id);
    conversation.typing.delete(message.userid);
    conversation.ts = Math.max(conversation.ts, message.ts ?? 0);
    const { seq } = message;
    if (seq === undefined || seq > conversation.head) {
      // What the list has counted is not counted again.
      conversation.head = seq ?? conversation.head;
      // One's own reads nothing: a file may go out, or another device write, while what was said before is unread.
      if (message.recall !== undefined) {
        if (!own) this.#takenBack(conversation, message.recall);
      } else if (!own && conversation.counts(message)) conversation.unread += 1;
    }
    if (conversation.kind === GROUP && this.loaded) {
      if (this.groups.has(conversation.dstid)) {
        // The title says how many there are.
        if (message.happened !== undefined && conversation.key === this.open) this.#loadGroupsSoon(conversation.dstid);
      } else if (!own && !conversation.authors.has(message.userid)) {
        conversation.authors.add(message.userid);
        this.#loadGroupsSoon(conversation.dstid);
      }
    }
    if (conversation.kind === DIRECT && !known && !this.friends.has(conversation.dstid)) {
      // Perhaps a new friend's first word.
      if (this.loaded) this.loadFriends();
      this.#watch();
    }
    this.#trim(conversation);
    this.changed("list", conversation.key);
  }

  /** Of what is not open the earliest messages go, if there are many. */
  #trim(conversation) {
    if (conversation.key !== this.open && conversation.messages.length > HELD_MOST) conversation.cut(HELD_THEN);
  }

  /** What was unread and is taken back is not unread any more; a recall never was. */
  #takenBack(conversation, seq) {
    const was = conversation.messages.find((one) => one.seq === seq);
    if (seq > conversation.read && was?.recall === undefined) conversation.unread = Math.max(0, conversation.unread - 1);
  }

  /** Something of a group is new. */
  #loadGroupsSoon(id) {
    const at = performance.now();
    const due = this.groups.has(id) ? Math.max(at + Math.random() * GROUPS_SPREAD_MS, this.#groupsRest) : at + GROUPS_MS;
    if (this.#groupsTimer !== null && this.#groupsDue <= due) return;
    clearTimeout(this.#groupsTimer);
    this.#groupsDue = due;
    this.#groupsTimer = setTimeout(() => {
      this.#groupsTimer = null;
      this.#groupsRest = performance.now() + GROUPS_REST_MS;
      this.loadGroups();
    }, due - at);
  }

  #receipt(conversation, userid, recv, read) {
    if (userid === this.id) {
      this.#readUpTo(conversation, read);
    } else if (conversation.kind === DIRECT) {
      const { peer } = conversation;
      peer.recv = Math.max(peer.recv, recv, read);
      peer.read = Math.max(peer.read, read);
      // The server does not say it again after a reload.
      this.#storage.put(`peer.${userid}`, { id: userid, ...peer });
    }
    this.changed("list", conversation.key);
  }

  #forgetPeer(conversation) {
    conversation.peer = { recv: 0, read: 0 };
    if (conversation.kind === DIRECT) this.#storage.remove(`peer.${conversation.dstid}`);
  }

  #readUpTo(conversation, read) {
    if (read <= conversation.read) return;
    conversation.read = read;
    const held = conversation.firstSeq ?? Infinity;
    if (read >= conversation.head) conversation.unread = 0;
    else if (held <= read + 1) conversation.unread = conversation.unreadBehind(read, this.id);
    else conversation.unread = Math.min(conversation.unread, conversation.head - read);
  }

  /** By a row of the list, which knows neither what came while it was read nor what was read without a network. */
  #unreadOf(conversation, row) {
    const { read, firstSeq, lastSeq } = conversation;
    // Whatever may be unread is held.
    if (firstSeq <= read + 1 && lastSeq >= row.head) return conversation.unreadBehind(read, this.id);
    const listed = row.read >= read ? row.unread : Math.min(row.unread, row.head - read);
    return (read < row.head ? listed : 0) + conversation.unreadBehind(Math.max(row.head, read), this.id);
  }

  #types(conversation, userid) {
    // Who is blocked is relayed all the same.
    if (userid === this.id || this.blocks?.has(userid)) return;
    const until = Date.now() + TYPING_MS;
    conversation.typing.set(userid, until);
    setTimeout(() => {
      if (conversation.typing.get(userid) === until) {
        conversation.typing.delete(userid);
        this.changed("list", conversation.key);
      }
    }, TYPING_MS);
    this.changed("list", conversation.key);
  }

  /** Presence of friends and of those whom one talks with. */
  #watch() {
    const ids = new Set(this.friends.keys());
    for (const { kind, dstid } of this.list()) if (kind === DIRECT && dstid !== this.id) ids.add(dstid);
    const users = [...ids].slice(0, 200);
    const key = users.join();
    if (key === this.#watchedKey || users.length === 0) return;
    this.#watchedKey = key;
    this.client.watch(users);
  }

  // ---- what the user does ---------------------------------------------------------------------------------------

  /** Which conversation is open from now on, if any. */
  look(conversation) {
    const left = this.conversations.get(this.open);
    this.open = conversation?.key ?? null;
    if (left) this.#trim(left);
  }

  /** Sends a message that needs nothing first. */
  send(conversation, body) {
    const cid = newCid();
    const said = { ...body, ...(typeof body.content === "string" ? { content: wellFormed(body.content) } : {}) };
    conversation.pending.push({ cid, body: said, at: now(), state: "sending" });
    try {
      this.client.send(conversation.kind, conversation.dstid, said, cid);
    } catch (error) {
      Object.assign(conversation.pending.at(-1), { state: "failed", reason: error.message });
    }
    this.changed("list", conversation.key);
  }

  /**
   * Uploads and then sends. `bodyOf` makes the message of what the server says about the file; `draft` is shown meanwhile.
   */
  sendFile(conversation, blob, name, draft, bodyOf) {
    const pending = {
      cid: newCid(), at: now(), state: "uploading", progress: 0, body: draft, abort: new AbortController(),
      preview: draft.media === OWN ? undefined : URL.createObjectURL(blob),
      again: () => this.sendFile(conversation, blob, name, draft, bodyOf),
    };
    conversation.pending.push(pending);
    this.changed("list", conversation.key);
    conversation.uploads = conversation.uploads.then(() => this.#upload(conversation, pending, blob, name, bodyOf));
    return conversation.uploads;
  }

  async #upload(conversation, pending, blob, name, bodyOf) {
    if (!conversation.pending.includes(pending)) return;
    try {
      const file = await this.api.upload(blob, name, (part) => {
        pending.progress = part;
        this.changed(conversation.key);
      }, pending.abort.signal);
      if (!conversation.pending.includes(pending)) return;
      pending.body = bodyOf(file);
      pending.state = "sending";
      this.client.send(conversation.kind, conversation.dstid, pending.body, pending.cid);
    } catch (error) {
      Object.assign(pending, { state: "failed", reason: error.message });
    }
    this.changed("list", conversation.key);
  }

  /** Whether a file would be lost if the page went now. */
  get uploading() {
    return [...this.conversations.values()].some(({ pending }) => pending.some(({ state }) => state === "uploading"));
  }

  /** Whether it is still here alone: what the SDK has goes out. */
  mayDiscard({ state }) {
    return state === "uploading" || state === "failed";
  }

  resend(conversation, pending) {
    if (pending.state !== "failed") return;
    this.discard(conversation, pending);
    if (pending.again) pending.again();
    else this.send(conversation, pending.body);
  }

  discard(conversation, pending) {
    // It may have gone out while a menu was open.
    if (!this.mayDiscard(pending)) return;
    conversation.pending = conversation.pending.filter((one) => one !== pending);
    pending.abort?.abort();
    revoke([pending]);
    this.changed("list", conversation.key);
  }

  /** Loads what was before the first message. Resolves to whether there is more. */
  async loadEarlier(conversation) {
    if (conversation.loading || !conversation.more) return conversation.more;
    conversation.loading = true;
    try {
      const first = conversation.firstSeq;
      const page = await this.client.history(conversation.kind, conversation.dstid, { before: first, limit: PAGE });
      // A reset or a push may have come between.
      if (conversation.firstSeq === first || first === undefined) {
        conversation.put(page.rows, this.id);
        conversation.more = page.more && page.rows.length > 0;
        conversation.gone = !conversation.more && page.floor > 1 && page.head > 0;
      }
    } catch (error) {
      // What was dropped (0) nobody has refused.
      if (!(error instanceof Refusal) || error.code !== 0) conversation.more = false;
      if (error instanceof Refusal && error.code !== 0) conversation.refused = true;
    }
    conversation.loading = false;
    this.changed(conversation.key);
    return conversation.more;
  }

  markRead(conversation) {
    const last = conversation.lastSeq;
    if (last === undefined) {
      // What is there has yet to be loaded, unless nothing is.
      if (conversation.head === 0 || !conversation.more) conversation.unread = 0;
      return;
    }
    // What the list has counted and is still on its way is counted no second time when it comes. Of a group that was left nothing comes.
    const unread = conversation.left === null ? Math.min(conversation.unread, Math.max(0, conversation.head - last)) : 0;
    if (last <= conversation.read && unread === conversation.unread) return;
    conversation.read = Math.max(conversation.read, last);
    conversation.unread = unread;
    // Who has left a group has no mark there. The refusal of one would pass for that of the page that is asked for behind it.
    if (conversation.left === null) this.client.read(conversation.kind, conversation.dstid, last);
    this.changed("list");
  }

  mayRecall(message) {
    return message.userid === this.id && message.seq !== undefined && now() - message.ts < (this.config?.recall_ms ?? 0) - (120_000 - RECALL_MS);
  }

  recall(conversation, message) {
    this.client.recall(conversation.kind, conversation.dstid, message.seq);
  }

  /** What was begun there; `fresh` if another tab may have gone on with it. */
  draft({ key }, fresh = false) {
    if (fresh || !this.#drafts.has(key)) this.#drafts.set(key, local.getItem(`imgate.${this.id}.draft.${key}`) ?? "");
    return this.#drafts.get(key);
  }

  keepDraft({ key }, text) {
    const name = `imgate.${this.id}.draft.${key}`;
    const kept = text.trim() === "" ? "" : text.slice(0, 20_000);
    this.#drafts.set(key, kept);
    if (kept === "") local.removeItem(name);
    else local.setItem(name, kept);
  }
}

/** Pictures that were sent from here and are shown no more need not stay in memory. */
function revoke(lines) {
  for (const { preview } of lines) if (preview) URL.revokeObjectURL(preview);
}

/** The conversations in which the user has a draft. */
function draftsOf(id) {
  const start = `imgate.${id}.draft.`;
  const keys = local.keys(start).map((key) => /^(10|11):(\d{1,16})$/.exec(key.slice(start.length)));
  return keys.filter(Boolean).map(([, kind, dstid]) => [Number(kind), Number(dstid)]);
}

/** Runs one at a time; who asks meanwhile waits for one more run, which all who ask meanwhile share. */
function oneByOne(work) {
  let running = null;
  let again = false;
  const run = async () => {
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = null;
    }
  };
  return () => {
    if (running) again = true;
    else running = run();
    return running;
  };
}

/** Half an emoji, as a browser leaves it at the end of what is too long, is none that a server takes. */
const wellFormed = (text) => text.replace(/\p{Surrogate}/gu, "\ufffd");

function refusalText(code, msg) {
  if (code === 10) return t("e_not_member");
  if (code === 13) return t("e_blocked");
  if (code === 15) return t("e_too_late");
  if (code === 12) return t("e_unknown_user");
  return msg;
}

/** When it was said; what does not say so is the newest. */
function timeOf({ ts }) {
  return ts ?? Infinity;
}

/**
 * Puts a message at its place, and gives back which it is; what is there already stays (-1). With a number it stands by that. One
 * without was not stored: it stands by its time, as it does for what comes later.
 */
function insert(messages, message) {
  let at = messages.length;
  if (message.seq === undefined) {
    while (at > 0 && timeOf(messages[at - 1]) > timeOf(message)) at -= 1;
  } else {
    for (let look = at - 1; look >= 0; look -= 1) {
      const { seq } = messages[look];
      if (seq === message.seq) return -1;
      if (seq < message.seq) break;
      if (seq > message.seq) at = look;
    }
    while (at > 0 && messages[at - 1].seq === undefined && timeOf(messages[at - 1]) > timeOf(message)) at -= 1;
  }
  messages.splice(at, 0, message);
  return at;
}
