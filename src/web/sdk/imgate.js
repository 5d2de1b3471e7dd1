/**
 * imgate.js: the client's part of the protocol `imgate.v2` (docs/protocol.md), as one ES module without dependencies.
 *
 *     import { ImgateClient, WebStorage, DIRECT } from "/sdk/imgate.js";
 *     const client = new ImgateClient({
 *       url: "wss://chat.example.org/chat", token, userId: 1, storage: new WebStorage(localStorage, "chat.1."),
 *     });
 *     client.on("message", ({ kind, dstid, message }) => show(kind, dstid, message));
 *     client.on("sent", ({ cid, seq }) => tick(cid, seq));
 *     await client.connect();
 *     client.send(DIRECT, 2, { media: 1, content: "hello" });
 *
 * What it promises: every message of a conversation is emitted exactly once and in the order of `seq`; what `send` took is stored
 * exactly once or reported as refused, through lost connections, and through reloads if the storage outlives them. What was written
 * after a message that the server wants to be sent again later waits for that message's fate: it does not overtake it.
 *
 * Events, each with one object:
 *   status         {state: "connecting" | "online" | "waiting" | "closed", code?, reason?, retryMs?}
 *   message        {kind, dstid, message, live}         in turn, once; `live` is false for what a sync brought
 *   sent           {cid, kind, dstid, id?, seq?, ts?}   one's own message is stored
 *   refused        {cid?, kind, dstid, code, msg}       finally; without `cid` it is the conversation that cannot be read; with `body` it
 *                                                     is what an earlier page had kept and cannot be sent
 *   conversations  {rows, more, first}                  a page of the list of conversations; `last` of a row is its newest message
 *   receipt        {kind, dstid, userid, recv, read}    how far somebody (also oneself, elsewhere) has received and read
 *   reset          {kind, dstid}                        forget the messages of this conversation: the server's history is another
 *   gap            {kind, dstid, from, to}              these numbers are gone for good on the server
 *   typing         {kind, dstid, userid}
 *   presence       {rows: [{userid, online}]}
 *   changed        {what: "friends" | "groups" | "profile", id}   something is worth reloading over HTTP
 *
 * It never touches the document, so it also runs in workers and in Node (20 and later; before 22 it brings its own WebSocket).
 */

/** `kind` of a direct conversation; its `dstid` is the other user. */
export const DIRECT = 10;
/** `kind` of a group conversation; its `dstid` is the group. */
export const GROUP = 11;

/** The subprotocol that is asked for. */
export const PROTOCOL = "imgate.v2";

/** Bounds and times; the server's are in docs/protocol.md. Times are milliseconds. */
export const LIMITS = Object.freeze({
  /** Commands unanswered at once. The server reads up to 64; half of it leaves room for resends. */
  window: 32,
  /** Bytes of one message, how deep it is nested, and bytes of its `cid`. */
  messageBytes: 65536,
  depth: 32,
  cidBytes: 64,
  /** Pushes kept for later while a hole before them is being filled, for each conversation. What does not fit is asked for. */
  held: 256,
  /** Messages that wait for their ack. */
  outbox: 1000,
  /** Rows asked for at once when catching up. */
  page: 200,
  /** The first and the last pause before the same command is sent again, and before a new connection. */
  backoffFirst: 1000,
  backoffLast: 60000,
  /** A gateway that stops gives every connection a moment of its own to come back: how exactly it is kept. */
  slotJitter: 1000,
  /** No ack for so long: the message is sent again with the same `cid`. Doubles up to `backoffLast`. */
  ackTimeout: 10000,
  /** A connection that lived for so long was a good one: the next delay begins small again. */
  goodConnection: 30000,
  /**
   * Silence before a heartbeat, and silence after it that means that the server is gone or frozen: together less than 20 s. Behind a
   * network that needs longer for one page, the second doubles with each connection that ended so in a row.
   */
  heartbeat: 12000,
  answer: 6000,
  answerLast: 48000,
  /** After `hurry`: a connection that says nothing for so long died with the network before. */
  hurried: 5000,
  /** A connection that is not open after so long is given up and tried again. */
  dial: 15000,
  /** A storage that has not answered by then is not waited for. */
  storage: 3000,
  /** Words about what was received are collected for so long. */
  receipts: 300,
  /** At most one word about typing in this time. */
  typing: 2000,
  /** Users whose presence can be watched. */
  watched: 200,
});

/** Close codes below 4000 after which coming back by itself is wrong (docs/protocol.md, "Close codes"). */
const NO_RETURN = new Set([1000, 1002, 1003, 1007, 1009]);
const MALFORMED = 1;
const UNKNOWN_COMMAND = 2;

/**
 * What is known of a message of the outbox that was not sent on this connection: how often it was tried, whether an answer is waited
 * for, its place in the queue (an object of its own, so that a place that was given up is told from a later one), whether the server
 * wants it to be sent again, and the timer of its next try.
 */
const UNSENT = Object.freeze({ tries: 0, waiting: false, place: null, again: false, timer: null });

/** Storage that is gone with the page. The interface: `entries(prefix)`, `put(key, value)`, `remove(key)`; each may return a promise. */
export class MemoryStorage {
  #items = new Map();
  entries(prefix) {
    return [...this.#items].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key, structuredClone(value)]);
  }
  put(key, value) {
    this.#items.set(key, structuredClone(value));
  }
  remove(key) {
    this.#items.delete(key);
  }
}

/**
 * Storage in `localStorage` or `sessionStorage`. Full or forbidden storage loses nothing but the survival of a reload. Where cookies
 * are blocked the very word throws: `new WebStorage(() => localStorage, prefix)` takes that, too.
 */
export class WebStorage {
  #area = null;
  #prefix;
  constructor(area, prefix) {
    this.#prefix = prefix;
    try {
      this.#area = (typeof area === "function" ? area() : area) ?? null;
    } catch {
      // Forbidden: as if it were empty, and always full.
    }
  }
  entries(prefix) {
    const found = [];
    const whole = this.#prefix + prefix;
    try {
      for (let at = 0; at < (this.#area?.length ?? 0); at += 1) {
        const key = this.#area.key(at);
        if (key?.startsWith(whole)) found.push([key.slice(this.#prefix.length), parsed(this.#area.getItem(key))]);
      }
    } catch {
      // What was read so far is what there is.
    }
    return found.filter(([, value]) => value !== undefined);
  }
  put(key, value) {
    try {
      this.#area?.setItem(this.#prefix + key, JSON.stringify(value));
    } catch {
      // Full: the message still goes out, it just does not survive a reload.
    }
  }
  remove(key) {
    try {
      this.#area?.removeItem(this.#prefix + key);
    } catch {
      // Forbidden meanwhile.
    }
  }
}

/** The value of a text of JSON; undefined if it is none: somebody else's, or cut off. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Storage in IndexedDB, for outboxes that do not fit elsewhere. */
export class IndexedDbStorage {
  #database;
  constructor(name) {
    this.#database = new Promise((resolve, reject) => {
      const opening = indexedDB.open(name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("items");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
  }
  async #ask(mode, question) {
    const items = (await this.#database).transaction("items", mode).objectStore("items");
    const request = question(items);
    return new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  }
  async entries(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const [keys, values] = await Promise.all([
      this.#ask("readonly", (items) => items.getAllKeys(range)),
      this.#ask("readonly", (items) => items.getAll(range)),
    ]);
    return keys.map((key, at) => [key, values[at]]);
  }
  put(key, value) {
    return this.#ask("readwrite", (items) => items.put(value, key));
  }
  remove(key) {
    return this.#ask("readwrite", (items) => items.delete(key));
  }
}

/** A new `cid`: 128 random bits. `crypto.randomUUID` is missing on plain http, so it is not used. */
export function newCid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a history request was refused with. */
export class Refusal extends Error {
  constructor(code, msg) {
    super(msg);
    this.name = "Refusal";
    this.code = code;
  }
}

const bytesOf = (text) => new TextEncoder().encode(text).length;

/** What is no whole Unicode text: halves of surrogate pairs, as a text has that was cut in the middle of an emoji. */
const HALVES = /\p{Surrogate}/u;

/** Whether the server can read a value: whole texts, and nested no deeper than that. */
function isReadable(value, levels = LIMITS.depth) {
  if (typeof value === "string") return !HALVES.test(value);
  if (value === null || typeof value !== "object") return true;
  return levels > 0 && Object.entries(value).every(([name, inner]) => !HALVES.test(name) && isReadable(inner, levels - 1));
}

/** Throws unless the server takes it for the name of a conversation: its refusal of another would not say of what. */
function checkPlace(kind, dstid) {
  if (kind !== DIRECT && kind !== GROUP) throw new TypeError("a kind is 10 or 11");
  if (!Number.isSafeInteger(dstid) || dstid < 1) throw new TypeError("a `dstid` is an integer from 1 on");
}

/** The integer between two bounds that is nearest below; the lower bound for what is no number. */
const within = (value, least, most) => Math.min(most, Math.max(least, Math.trunc(value) || 0));

/** Stands for what a listener that threw has returned. */
const FAILED = Symbol("failed");

/** An error of somebody else becomes known as one that nobody has caught. */
const report = (error) => queueMicrotask(() => {
  throw error;
});

/** Whether something names a conversation. */
function isPlace(item) {
  try {
    checkPlace(item.kind, item.dstid);
    return true;
  } catch {
    return false;
  }
}

/** The command of a message of the outbox. */
function commandOf({ kind, dstid, cid, body, recall }) {
  if (recall !== undefined) return { cmd: 8, kind, dstid, seq: recall, cid };
  const { cmd: _cmd, dstid: _dstid, cid: _cid, ...rest } = body;
  // Of several spellings of a name the server takes the last.
  return { ...rest, cmd: kind, dstid, cid };
}

/** Throws if the server's refusal of a message would not say of which: it would be sent for ever. */
function checkMessage(item) {
  const { kind, dstid, cid, body, recall } = item;
  checkPlace(kind, dstid);
  if (typeof cid !== "string" || cid === "" || bytesOf(cid) > LIMITS.cidBytes) throw new RangeError("a `cid` has 1 to 64 bytes");
  if (body === null || typeof body !== "object") throw new TypeError("a message is an object");
  if (recall !== undefined && (!Number.isSafeInteger(recall) || recall < 1)) throw new TypeError("a `seq` is an integer from 1 on");
  const command = commandOf(item);
  if (!isReadable(command)) throw new RangeError("the message is nested too deeply, or has half a character");
  if (bytesOf(JSON.stringify(command)) > LIMITS.messageBytes) throw new RangeError("the message is too long");
}

/** A module of Node; bundlers for browsers have nothing to do with it. */
const builtin = async (name) => globalThis.process?.getBuiltinModule?.(name) ?? import(/* webpackIgnore: true */ /* @vite-ignore */ name);

/** The largest frame of a server that is taken: far above a page. */
const FRAME_BYTES = 16 * 2 ** 20;

/** A WebSocket (RFC 6455) for Node before 22: as much of it as is used here, of the modules that Node has. */
async function nodeSocket() {
  const [http, https, { createHash }] = await Promise.all(["node:http", "node:https", "node:crypto"].map(builtin));
  return class NodeSocket {
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    #request;
    #socket = null;
    #bytes = Buffer.alloc(0);
    #parts = [];
    #ended = false;

    constructor(url, protocols) {
      const address = new URL(url);
      const secure = address.protocol === "wss:";
      address.protocol = secure ? "https:" : "http:";
      const key = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
      const headers = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": protocols.join(", ") };
      this.#request = (secure ? https : http).request(address, { headers, agent: false });
      this.#request.on("error", () => this.#end(1006));
      this.#request.on("response", (response) => {
        response.resume();
        this.#request.destroy();
        this.#end(1006);
      });
      this.#request.on("upgrade", (response, socket, head) => {
        const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
        this.#socket = socket;
        socket.on("error", () => {});
        if (response.headers["sec-websocket-accept"] !== accept || this.#ended) {
          socket.destroy();
          this.#end(1006);
          return;
        }
        socket.setNoDelay(true);
        socket.on("data", (bytes) => this.#take(bytes));
        socket.on("close", () => this.#end(1006));
        this.onopen?.({});
        if (head.length > 0) this.#take(head);
      });
      this.#request.end();
    }

    send(text) {
      this.#write(1, Buffer.from(text));
    }

    close(code = 1000) {
      if (!this.#socket) {
        this.#request.destroy();
        this.#end(1006);
        return;
      }
      this.#write(8, Buffer.from([code >> 8, code & 255]));
      this.#socket.end();
      setTimeout(() => this.#socket.destroy(), LIMITS.hurried).unref();
    }

    /** One masked frame. */
    #write(opcode, payload) {
      if (!this.#socket || this.#socket.writableEnded) return;
      const { length } = payload;
      const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
      head[0] = 0x80 | opcode;
      head[1] = 0x80 | (length < 126 ? length : length < 65536 ? 126 : 127);
      if (head.length === 4) head.writeUInt16BE(length, 2);
      if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
      const mask = crypto.getRandomValues(new Uint8Array(4));
      const masked = Buffer.alloc(length);
      for (let at = 0; at < length; at += 1) masked[at] = payload[at] ^ mask[at & 3];
      this.#socket.write(Buffer.concat([head, mask, masked]));
    }

    #take(bytes) {
      this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
      while (!this.#ended && this.#bytes.length >= 2) {
        const [first, second] = this.#bytes;
        const start = { 126: 4, 127: 10 }[second & 127] ?? 2;
        if (this.#bytes.length < start) return;
        const length = start === 2 ? second & 127 : start === 4 ? this.#bytes.readUInt16BE(2) : Number(this.#bytes.readBigUInt64BE(2));
        // A server never masks.
        if (length > FRAME_BYTES || second >= 128) {
          this.close(1002);
          this.#end(1002);
          return;
        }
        if (this.#bytes.length < start + length) return;
        const payload = this.#bytes.subarray(start, start + length);
        this.#bytes = this.#bytes.subarray(start + length);
        this.#frame(first & 15, first >= 128, payload);
      }
    }

    #frame(opcode, last, payload) {
      if (opcode === 8) {
        this.close(1000);
        this.#end(payload.length >= 2 ? payload.readUInt16BE(0) : 1005, payload.subarray(2).toString());
      } else if (opcode === 9) this.#write(10, payload);
      else if (opcode < 3) {
        this.#parts.push(payload);
        if (this.#parts.reduce((sum, { length }) => sum + length, 0) > FRAME_BYTES) this.#socket.destroy();
        if (!last) return;
        const data = Buffer.concat(this.#parts.splice(0)).toString();
        this.onmessage?.({ data });
      }
    }

    #end(code, reason = "") {
      if (this.#ended) return;
      this.#ended = true;
      this.onclose?.({ code, reason });
    }
  };
}

/** One conversation, as far as the protocol is concerned. */
class Conversation {
  constructor(kind, dstid) {
    this.kind = kind;
    this.dstid = dstid;
    /** The highest `seq` up to which everything was emitted; null until the conversation has been begun. */
    this.last = null;
    /** The highest `seq` that is known to exist. */
    this.goal = 0;
    /** Somebody wants its beginning, whether or not anything is known to exist. */
    this.wanted = false;
    this.epoch = null;
    /** Pushes that came before what lies between, by `seq`. */
    this.held = new Map();
    /** The one unanswered sync: {type: "first" | "after" | "history" | "dropped", …}. */
    this.asked = null;
    /** History requests that wait for their turn. */
    this.wishes = [];
    this.tries = 0;
    this.timer = null;
    /** The server said that it may not be read; nothing is asked until the next connection or `open`. */
    this.refused = false;
    /** A sync of it stands in the queue. */
    this.queued = false;
    this.recv = 0;
    this.recvSaid = 0;
    this.read = 0;
    this.readSaid = 0;
    /** Of both what the server is known to have: the list or a relay has said so. */
    this.recvKnown = 0;
    this.readKnown = 0;
    /** How often a word about it was refused for now, and the timer that says it again. */
    this.wordTries = 0;
    this.wordTimer = null;
    /** Of the newest cursor that is not kept yet; another object once the messages are forgotten. */
    this.keeping = { turn: null };
  }

  /**
   * The server has said how far the user is. `anew`: by the list of a new connection, which also tells what of that a crash has taken.
   */
  said(recv, read, anew = false) {
    if (anew) {
      this.recvKnown = this.readKnown = 0;
      this.unsay();
    }
    this.recvKnown = Math.max(this.recvKnown, recv);
    this.readKnown = Math.max(this.readKnown, read);
    this.recvSaid = Math.max(this.recvSaid, recv);
    this.readSaid = Math.max(this.readSaid, read);
    this.read = Math.max(this.read, read);
    this.wordTries = 0;
  }

  /** What was said may not have come: it counts as unsaid. */
  unsay() {
    this.recvSaid = this.recvKnown;
    this.readSaid = this.readKnown;
  }
}

export class ImgateClient {
  #options;
  #listeners = new Map();
  #socket = null;
  #online = false;
  /** Set by `connect`, unset by `close` and by what forbids coming back. */
  #wanted = false;
  #failures = 0;
  #onlineSince = 0;
  #reconnectTimer = null;
  #heartbeatTimer = null;
  /** A heartbeat is unanswered. */
  #asking = false;
  /** Connections in a row that ended because nothing answered. */
  #unheard = 0;
  #dialTimer = null;
  #unanswered = 0;
  #queue = [];
  /** Pages of the list of conversations that were asked for and are unanswered, oldest first: {after, tries}. */
  #lists = [];
  /** Those that were refused, or a list of whom to watch in their place: with the timer that asks again, unless the page comes. */
  #doubted = [];
  /** This connection has been told the list of conversations. */
  #hasList = false;
  /** Timers of what is asked again later; they end with the connection. */
  #pauses = new Set();
  #conversations = new Map();
  #outbox = new Map();
  /** Messages of it that the server wants to be sent again. */
  #again = 0;
  /** When the newest of the outbox was written. */
  #newest = 0;
  #receiptsTimer = null;
  #typingSaid = new Map();
  #watched = [];
  /** Those of them of whom the server has not said yet whether they are online. */
  #unknown = new Set();
  /** How often in a row the list of those was refused, and the timer that says it again. */
  #watchTries = 0;
  #watchTimer = null;
  #optional = true;

  /**
   * @param {object} options
   * @param {string | (() => string)} options.url       of the WebSocket, `ws(s)://…/chat`
   * @param {string | (() => string | null)} [options.token]  from registration or login; without one the login cookie is used. This and
   *                                                    `url` may be functions, also async ones, that are asked at each connect; what
   *                                                    they fail with is a connect that failed
   * @param {number} options.userId                     whose token it is
   * @param {object} [options.storage]                  see MemoryStorage, which is the default
   * @param {boolean} [options.keepCursors=false]       store also how far each conversation was read: for clients that store messages.
   *                                                    See below
   * @param {number} [options.firstPage=30]             rows with which a conversation begins, 1 to 200; 0: see below
   * @param {boolean} [options.receipts=true]           say what was received, in direct conversations
   * @param {string} [options.device="web"]             phone, pad, desktop or web
   * @param {string} [options.deviceId]                 a name for this very client: its next connection takes the place of its last
   *                                                    one, whose end the server may not have noticed; a new random one if not given
   * With `firstPage: 0` no conversation is asked for by itself: each begins at the `head` that the list of conversations names, or at the
   * first message that comes, and what was before is yours to ask for with `history`. For clients that show a list from the `last` of
   * its rows, and messages only of what is open. After a reconnect, conversations that were not opened are caught up as the list names
   * them: ask for its further pages while `more`.
   * With `keepCursors` the cursor of a conversation moves to a message when the promises that the listeners to `message` have returned
   * for it are fulfilled, and for those before it; behind one for which a listener throws, or its promise fails, it moves no more in
   * this client, so that the next one is given that message again: what can never be stored is to be fulfilled all the same. All
   * listeners to `message` count. `connect` waits for the storage, however long that takes.
   * For tests: `WebSocket` (the class), `clock` ({now, set(callback, ms), clear(timer)}), `random` (0 to 1).
   */
  constructor(options) {
    this.#options = {
      storage: new MemoryStorage(),
      keepCursors: false,
      firstPage: 30,
      receipts: true,
      device: "web",
      random: Math.random,
      clock: {
        now: () => Date.now(),
        set: (callback, ms) => setTimeout(callback, ms),
        clear: (timer) => clearTimeout(timer),
      },
      ...options,
      // Not kept in a storage: two tabs with one name would push each other out.
      deviceId: options.deviceId ?? newCid(),
    };
    this.#options.WebSocket ??= globalThis.WebSocket;
  }

  /** Whether commands go out now. */
  get online() {
    return this.#online;
  }

  /** Conversations begin where the list of conversations says. */
  get #listBegins() {
    return this.#options.firstPage === 0;
  }

  /** Whether the server knows typing and presence. True until it has said otherwise. */
  get hasPresence() {
    return this.#optional;
  }

  /** Listens to an event; returns what stops it. A listener that throws does not disturb the others. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event)?.delete(listener);
  }

  /** Tells all listeners. Gives back what they have returned; FAILED of one that threw. */
  #emit(event, detail) {
    const answers = [];
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        answers.push(listener(detail));
      } catch (error) {
        // The state of the protocol must not depend on who listens.
        report(error);
        answers.push(FAILED);
      }
    }
    return answers;
  }

  // ---- the connection -------------------------------------------------------------------------------------------

  /**
   * Loads what the storage kept and connects; stays connected until `close`, or until the server forbids it.
   * @throws if what was given for good (`url`, `token`) can never be connected with
   */
  async connect() {
    if (this.#wanted) return;
    this.#wanted = true;
    await this.#restoreInTime();
    this.#options.WebSocket ??= await nodeSocket();
    // A `connect` from before a `close` may have dialled meanwhile, and wait to try again.
    if (this.#wanted && !this.#socket && this.#reconnectTimer === null) this.#dial(true);
  }

  /** A storage that never answers must not keep anybody from talking, but without cursors messages would be passed over. */
  async #restoreInTime() {
    const { clock, keepCursors } = this.#options;
    const restoring = this.#restore();
    if (keepCursors) return restoring;
    let timer = null;
    const late = new Promise((resolve) => {
      timer = clock.set(resolve, LIMITS.storage);
    });
    await Promise.race([restoring, late]);
    clock.clear(timer);
    return undefined;
  }

  /** Takes what the storage kept. */
  async #restore() {
    const items = [];
    for (const [key, item] of await this.#entries("outbox.")) {
      try {
        checkMessage(item);
        if (!Number.isFinite(item.at)) throw new TypeError("it has no time");
        items.push(item);
      } catch (error) {
        this.#unusable(key, item, error);
      }
    }
    // Storages have no order of their own.
    for (const item of items.sort((a, b) => a.at - b.at)) {
      this.#newest = Math.max(this.#newest, item.at);
      if (this.#outbox.has(item.cid)) continue;
      const taken = { ...item, ...UNSENT };
      this.#outbox.set(item.cid, taken);
      this.#post(taken);
    }
    for (const [key, cursor] of this.#options.keepCursors ? await this.#entries("cursor.") : []) {
      if (!isPlace(cursor) || !Number.isSafeInteger(cursor.last)) {
        this.#remember("remove", key);
        continue;
      }
      const conversation = this.#conversation(cursor.kind, cursor.dstid);
      conversation.last ??= cursor.last;
      conversation.epoch ??= cursor.epoch;
    }
  }

  /** Kept, as by an earlier version, and nothing that can be sent: it goes, and who wrote it is told. */
  #unusable(key, item, { message }) {
    this.#remember("remove", key);
    if (!isPlace(item) || typeof item.cid !== "string") return;
    const { cid, kind, dstid, body } = item;
    this.#emit("refused", { cid, kind, dstid, code: MALFORMED, msg: message, body });
  }

  /** What the storage has with this prefix; nothing if it cannot be read. */
  async #entries(prefix) {
    try {
      return (await this.#options.storage.entries(prefix)).map(([key, value]) => [key, value]);
    } catch {
      return [];
    }
  }

  /** Writes to the storage or removes from it. What fails is lost with the page, and only then. */
  #remember(action, ...what) {
    try {
      Promise.resolve(this.#options.storage[action](...what)).catch(() => {});
    } catch {
      // Full or forbidden.
    }
  }

  /** Ends the connection and does not come back. What is in the outbox stays there. */
  close() {
    this.#wanted = false;
    this.#clear("#reconnectTimer");
    const socket = this.#socket;
    this.#lost();
    socket?.close(1000);
    this.#emit("status", { state: "closed", code: 1000, reason: "" });
  }

  /** Tries at once if a reconnect is waiting for its delay, and asks whether a connection still lives: for when the network is back. */
  hurry() {
    if (this.#wanted && this.#reconnectTimer !== null) {
      this.#clear("#reconnectTimer");
      this.#dial();
    } else if (this.#online && !this.#asking) {
      // Perhaps the connection died with the old network.
      this.#beat(LIMITS.hurried);
    }
  }

  /**
   * The network is gone, as the system says: the connection counts as lost at once, instead of after the silence that tells it. It is
   * tried again like any other, and at once with `hurry`.
   */
  networkLost() {
    if (this.#wanted && this.#socket !== null) this.#giveUp("no network");
  }

  #dial(first = false) {
    const { url, token } = this.#options;
    // There is one connection at a time.
    this.#clear("#reconnectTimer");
    this.#clear("#dialTimer");
    // Stands for the socket until address and token are there.
    const asking = { close() {} };
    this.#socket = asking;
    // A network that swallows everything would keep it waiting for minutes.
    this.#dialTimer = this.#options.clock.set(() => this.#giveUp("not open in time"), LIMITS.dial);
    this.#emit("status", { state: "connecting" });
    const open = ([address, text]) => this.#socket === asking && this.#open(address, text);
    // The next try may find them: a dial that fails is none that was the last.
    const failed = (error) => this.#socket === asking && this.#closed(1006, String(error?.message ?? error));
    try {
      const asked = [url, token].map((one) => (typeof one === "function" ? one() : one));
      if (asked.some((one) => typeof one?.then === "function")) Promise.all(asked).then(open).catch(failed);
      else open(asked);
    } catch (error) {
      if (!first || typeof url === "function" || typeof token === "function") {
        failed(error);
        return;
      }
      this.close();
      throw error;
    }
  }

  #open(url, token) {
    const { device, deviceId, WebSocket: Socket } = this.#options;
    const address = new URL(url);
    address.searchParams.set("device", device);
    address.searchParams.set("device_id", deviceId);
    const socket = new Socket(address.href, token ? [PROTOCOL, `token.${token}`] : [PROTOCOL]);
    this.#socket = socket;
    // Whatever a socket says that has been given up is not heard.
    socket.onopen = () => this.#socket === socket && this.#opened();
    socket.onmessage = ({ data }) => this.#socket === socket && this.#heard(data);
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#closed(code, reason);
    socket.onerror = () => {};
  }

  /** The connection counts as lost. A dead network answers no close: it is not waited for. */
  #giveUp(reason) {
    const socket = this.#socket;
    this.#closed(1006, reason);
    socket?.close();
  }

  #opened() {
    this.#clear("#dialTimer");
    this.#online = true;
    this.#onlineSince = this.#options.clock.now();
    this.#emit("status", { state: "online" });
    this.#listenForSilence();
    for (const conversation of this.#conversations.values()) {
      conversation.refused = false;
      if (conversation.last === null) this.#fill(conversation);
      else if (!this.#listBegins || conversation.wanted) this.#ask(conversation, "after");
    }
    // What was sent before the storage had answered is newer than what the storage kept.
    for (const item of this.#inOrder()) this.#post(item);
    for (const conversation of this.#conversations.values()) this.#sayRead(conversation);
    this.#sayReceived();
    if (this.#watched.length > 0) this.watch(this.#watched);
  }

  /** Forgets everything that belonged to the connection. */
  #lost() {
    const socket = this.#socket;
    this.#socket = null;
    this.#online = false;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#unanswered = 0;
    this.#again = 0;
    this.#lists = [];
    this.#doubted = [];
    this.#hasList = false;
    for (const timer of this.#pauses) this.#options.clock.clear(timer);
    this.#pauses.clear();
    this.#unknown.clear();
    this.#watchTries = 0;
    this.#watchTimer = null;
    this.#asking = false;
    this.#queue = [];
    this.#clear("#heartbeatTimer");
    this.#clear("#dialTimer");
    for (const conversation of this.#conversations.values()) {
      if (conversation.asked?.type === "history") conversation.wishes.unshift(conversation.asked);
      conversation.asked = null;
      conversation.queued = false;
      conversation.held.clear();
      // What was on its way may be lost: it is said again.
      conversation.unsay();
      Object.assign(conversation, { wordTries: 0, wordTimer: null });
      this.#stop(conversation);
    }
    for (const item of this.#outbox.values()) {
      this.#stop(item);
      Object.assign(item, UNSENT);
    }
  }

  #closed(code, reason = "") {
    const now = this.#options.clock.now();
    if (this.#online && now - this.#onlineSince >= LIMITS.goodConnection) this.#failures = 0;
    this.#lost();
    if (!this.#wanted) return;
    if (NO_RETURN.has(code) || (code >= 4500 && code <= 4999)) {
      this.#wanted = false;
      this.#emit("status", { state: "closed", code, reason });
      return;
    }
    let retryMs = this.#delay(code === 1011 ? Infinity : this.#failures);
    const asked = /retry_ms=(\d{1,6})/.exec(reason);
    if (code === 4000 && asked) retryMs = Math.max(retryMs, Number(asked[1]) + LIMITS.slotJitter * this.#options.random());
    this.#failures += 1;
    // First, so that a listener may `close`, or `hurry`.
    this.#reconnectTimer = this.#options.clock.set(() => {
      this.#reconnectTimer = null;
      this.#dial();
    }, retryMs);
    this.#emit("status", { state: "waiting", code, reason, retryMs });
  }

  /** Doubles from `backoffFirst` to `backoffLast`, and of that between a half and the whole. */
  #delay(tries) {
    const whole = Math.min(LIMITS.backoffLast, LIMITS.backoffFirst * 2 ** Math.min(tries, 16));
    return whole * (0.5 + this.#options.random() / 2);
  }

  #clear(name) {
    const { clock } = this.#options;
    if (name === "#reconnectTimer") {
      if (this.#reconnectTimer !== null) clock.clear(this.#reconnectTimer);
      this.#reconnectTimer = null;
    } else if (name === "#dialTimer") {
      if (this.#dialTimer !== null) clock.clear(this.#dialTimer);
      this.#dialTimer = null;
    } else {
      if (this.#heartbeatTimer !== null) clock.clear(this.#heartbeatTimer);
      this.#heartbeatTimer = null;
    }
  }

  #stop(thing) {
    if (thing.timer !== null) this.#options.clock.clear(thing.timer);
    thing.timer = null;
  }

  #listenForSilence() {
    this.#clear("#heartbeatTimer");
    this.#heartbeatTimer = this.#options.clock.set(() => {
      this.#beat(Math.min(LIMITS.answerLast, LIMITS.answer * 2 ** this.#unheard));
    }, LIMITS.heartbeat);
  }

  /** Asks for a sign of life. A connection that says nothing at all for so long is given up. */
  #beat(patience) {
    this.#asking = true;
    this.#write({ cmd: 0 });
    this.#clear("#heartbeatTimer");
    this.#heartbeatTimer = this.#options.clock.set(() => {
      this.#unheard = Math.min(this.#unheard + 1, 8);
      this.#giveUp("no answer");
    }, patience);
  }

  #write(frame) {
    if (this.#online) this.#socket.send(JSON.stringify(frame));
  }

  /** Runs what sends a command that is answered, as soon as few enough are unanswered. */
  #enqueue(command) {
    this.#queue.push(command);
    this.#pump();
  }

  #pump() {
    while (this.#online && this.#unanswered < LIMITS.window && this.#queue.length > 0) {
      if (this.#queue.shift()()) this.#unanswered += 1;
    }
  }

  #answered() {
    this.#unanswered = Math.max(0, this.#unanswered - 1);
    this.#pump();
  }

  #heard(data) {
    if (this.#asking) this.#unheard = 0;
    this.#asking = false;
    this.#listenForSilence();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame === null || typeof frame !== "object") return;
    switch (frame.cmd) {
      case 1: return this.#acked(frame);
      case 2: return this.#refused(frame);
      case 3: return this.#receipt(frame);
      case 4: return this.#page(frame);
      case 5: return this.#listed(frame);
      case 6: return this.#emit("typing", { kind: frame.kind, dstid: frame.dstid, userid: frame.userid });
      case 7:
        this.#watchTries = 0;
        for (const { userid } of frame.rows ?? []) this.#unknown.delete(userid);
        return this.#emit("presence", { rows: frame.rows ?? [] });
      case 9: return this.#emit("changed", { what: frame.what, id: frame.id });
      case DIRECT:
      case GROUP: return this.#pushed(frame);
      default: return undefined; // Rule: commands that one does not know are ignored.
    }
  }

  // ---- sending --------------------------------------------------------------------------------------------------

  /**
   * Sends a message, now or as soon as there is a connection. Returns its `cid`; the fate comes as `sent` or `refused`. What is sent is
   * what `body` says now. Under a `cid` that waits already nothing further is sent.
   * @throws {RangeError | TypeError} if the server could not read it (too long, nested too deeply, halves of characters, a `kind`,
   *   `dstid` or `cid` that is none), or too many wait
   */
  send(kind, dstid, body, cid = newCid()) {
    return this.#take({ cid, kind, dstid, body: JSON.parse(JSON.stringify({ ...body })) });
  }

  /**
   * Takes one's own message back, within the time that the server allows. It is a message itself: it comes as `message` with
   * `recall`, and its fate as `sent` or `refused`.
   */
  recall(kind, dstid, seq, cid = newCid()) {
    return this.#take({ cid, kind, dstid, body: { media: 1, recall: seq }, recall: seq });
  }

  #take(kept) {
    checkMessage(kept);
    if (this.#outbox.has(kept.cid)) return kept.cid;
    if (this.#outbox.size >= LIMITS.outbox) throw new RangeError("too many messages wait to be sent");
    // Two of one millisecond keep their order, also in a storage.
    this.#newest = Math.max(this.#options.clock.now(), this.#newest + 1);
    const item = { ...kept, at: this.#newest };
    this.#remember("put", `outbox.${item.cid}`, item);
    Object.assign(item, UNSENT);
    this.#outbox.set(item.cid, item);
    this.#post(item);
    return item.cid;
  }

  /** The messages that have neither ack nor refusal, oldest first: `{cid, kind, dstid, body, at}`. Recalls are not among them. */
  pending() {
    return this.#inOrder().filter(({ recall }) => recall === undefined).map(({ cid, kind, dstid, body, at }) => ({ cid, kind, dstid, body, at }));
  }

  /** The outbox, oldest first: restored messages stand behind newer ones in the map. */
  #inOrder() {
    return [...this.#outbox.values()].sort((a, b) => a.at - b.at);
  }

  /** An older message of the same conversation has to be sent again first. */
  #isHeld({ kind, dstid, at }) {
    if (this.#again === 0) return false;
    for (const older of this.#outbox.values()) {
      if (older.again && older.at < at && older.kind === kind && older.dstid === dstid) return true;
    }
    return false;
  }

  /** The fate of a message that was to be sent again is known: those behind it go out. */
  #release({ kind, dstid }) {
    const behind = this.#inOrder().filter((item) => item.kind === kind && item.dstid === dstid && !item.waiting && item.timer === null);
    // A newer one may stand in the queue already, before these.
    for (const item of behind) item.place = null;
    for (const item of behind) this.#post(item);
  }

  /** Whether a message is one that the server wants to be sent again. */
  #setAgain(item, again) {
    this.#again += Number(again) - Number(item.again);
    item.again = again;
  }

  #post(item) {
    if (!this.#online || item.place) return;
    const place = {};
    item.place = place;
    this.#enqueue(() => {
      if (item.place !== place) return false;
      item.place = null;
      if (this.#outbox.get(item.cid) !== item) return false;
      this.#stop(item);
      const first = !item.waiting;
      if (first && this.#isHeld(item)) return false;
      item.waiting = true;
      this.#write(commandOf(item));
      const patience = Math.min(LIMITS.backoffLast, LIMITS.ackTimeout * 2 ** Math.min(item.tries, 8));
      item.tries += 1;
      item.timer = this.#options.clock.set(() => this.#post(item), patience);
      // A resend is the same command again: it counts once.
      return first;
    });
  }

  /** The message needs no more attention. Returns it, if it was known. */
  #settle(cid) {
    const item = this.#outbox.get(cid);
    if (!item) return undefined;
    this.#stop(item);
    this.#outbox.delete(cid);
    this.#remember("remove", `outbox.${cid}`);
    if (item.again) {
      this.#setAgain(item, false);
      this.#release(item);
    }
    if (item.waiting) this.#answered();
    return item;
  }

  #acked({ cid, kind, dstid, id, seq, ts, dup }) {
    const item = cid === undefined ? undefined : this.#settle(cid);
    if (item) {
      this.#emit("sent", { cid, kind, dstid, id, seq, ts });
      const message = { ...item.body, id, seq, ts, userid: this.#options.userId, cmd: kind, dstid, cid };
      if (seq === undefined) this.#emit("message", { kind, dstid, message, live: true });
      else this.#arrived(this.#conversation(kind, dstid), message, !dup);
      return;
    }
    // Stored, but with what? Its place is known: ask for it.
    const conversation = this.#conversation(kind, dstid);
    if (seq > (conversation.last ?? 0)) {
      conversation.goal = Math.max(conversation.goal, seq);
      this.#fill(conversation);
    }
  }

  #refused({ cid, kind, dstid, code, msg, retry }) {
    const item = this.#outbox.get(cid);
    if (item) {
      if (!retry) {
        this.#settle(cid);
        this.#emit("refused", { cid, kind: item.kind, dstid: item.dstid, code, msg });
        return;
      }
      this.#stop(item);
      this.#setAgain(item, true);
      if (item.waiting) {
        item.waiting = false;
        this.#answered();
      }
      item.timer = this.#options.clock.set(() => {
        item.timer = null;
        this.#post(item);
      }, this.#delay(item.tries - 1));
      return;
    }
    if (cid !== undefined) return;
    if (kind === undefined) {
      if (code === UNKNOWN_COMMAND) this.#optional = false;
      else if (retry) this.#listAgain();
      return;
    }
    const conversation = this.#conversations.get(`${kind}:${dstid}`);
    const asked = conversation?.asked;
    if (!asked) {
      // Nothing else that is said about a conversation is refused without a name.
      if (conversation && retry) this.#sayLater(conversation);
      return;
    }
    conversation.asked = null;
    if (asked.type === "dropped") this.#fill(conversation);
    else if (retry) {
      if (asked.type === "history") conversation.wishes.unshift(asked);
      this.#later(conversation);
    } else if (asked.type === "history") {
      asked.reject(new Refusal(code, msg));
      this.#fill(conversation);
    } else {
      conversation.refused = true;
      this.#emit("refused", { kind, dstid, code, msg });
      for (const wish of conversation.wishes.splice(0)) wish.reject(new Refusal(code, msg));
    }
    this.#answered();
    this.#say(conversation);
  }

  /**
   * A list was refused for now, of conversations or of whom to watch: such a refusal names neither. Where both are unanswered, both
   * are asked again, unless their answer comes before.
   */
  #listAgain() {
    const list = this.#lists.pop();
    if (list) {
      list.timer = this.#pause(list.tries, () => {
        this.#doubted = this.#doubted.filter((one) => one !== list);
        this.#askList(list.after, list.tries + 1);
      });
      this.#doubted.push(list);
      this.#answered();
    }
    if (this.#unknown.size === 0 || this.#watchTimer !== null) return;
    this.#watchTimer = this.#pause(this.#watchTries, () => {
      this.#watchTimer = null;
      if (this.#unknown.size > 0) this.watch(this.#watched);
    });
    this.#watchTries += 1;
  }

  /** Does it after a pause, unless the connection ends before. Gives back its timer. */
  #pause(tries, action) {
    const timer = this.#options.clock.set(() => {
      this.#pauses.delete(timer);
      action();
    }, this.#delay(tries));
    this.#pauses.add(timer);
    return timer;
  }

  #endPause(timer) {
    this.#options.clock.clear(timer);
    this.#pauses.delete(timer);
  }

  // ---- receiving ------------------------------------------------------------------------------------------------

  #conversation(kind, dstid) {
    const key = `${kind}:${dstid}`;
    if (!this.#conversations.has(key)) this.#conversations.set(key, new Conversation(kind, dstid));
    return this.#conversations.get(key);
  }

  #pushed(message) {
    const direct = message.cmd === DIRECT;
    const dstid = direct && message.userid !== this.#options.userId ? message.userid : message.dstid;
    if (message.seq === undefined) {
      this.#emit("message", { kind: message.cmd, dstid, message, live: true });
      return;
    }
    this.#arrived(this.#conversation(message.cmd, dstid), message, true);
  }

  /** Rule 1 of docs/protocol.md, for a push and for one's own message whose ack came. */
  #arrived(conversation, message, live) {
    const { seq } = message;
    // The first message of all needs no question where to begin.
    if (conversation.last === null && (seq === 1 || this.#listBegins) && !conversation.asked) conversation.last = seq - 1;
    if (conversation.last !== null && seq <= conversation.last) return;
    conversation.goal = Math.max(conversation.goal, seq);
    // What is pushed may be read.
    conversation.refused = false;
    if (conversation.last !== null && seq === conversation.last + 1) this.#show(conversation, message, live);
    else if (conversation.held.size < LIMITS.held) conversation.held.set(seq, message);
    this.#drain(conversation);
    this.#fill(conversation);
  }

  #show(conversation, message, live) {
    const { kind, dstid } = conversation;
    const { userId } = this.#options;
    conversation.last = message.seq;
    conversation.goal = Math.max(conversation.goal, message.seq);
    if (message.userid === userId && message.cid !== undefined && this.#settle(message.cid)) {
      this.#emit("sent", { cid: message.cid, kind, dstid, id: message.id, seq: message.seq, ts: message.ts });
    }
    const answers = this.#emit("message", { kind, dstid, message, live });
    if (kind === DIRECT && message.userid !== userId) {
      conversation.recv = message.seq;
      this.#sayReceivedSoon();
    }
    this.#keep(conversation, answers);
  }

  /** Keeps where the conversation is, as soon as the application has what it was given up to there. */
  #keep(conversation, answers = []) {
    if (!this.#options.keepCursors) return;
    const { kind, dstid, last, epoch, keeping } = conversation;
    const key = `${kind}:${dstid}`;
    const keep = () => {
      // What was forgotten meanwhile is not there any more.
      if (this.#conversations.get(key) !== conversation || conversation.keeping !== keeping) return;
      this.#remember("put", `cursor.${kind}.${dstid}`, { kind, dstid, last, epoch });
    };
    const waits = answers.filter((answer) => answer === FAILED || typeof answer?.then === "function");
    if (waits.length === 0 && keeping.turn === null) {
      keep();
      return;
    }
    const stored = Promise.all(waits.map((answer) => (answer === FAILED ? Promise.reject(FAILED) : answer)));
    stored.catch((error) => error !== FAILED && report(error));
    const turn = Promise.all([keeping.turn, stored]).then(() => {
      keep();
      if (keeping.turn === turn) keeping.turn = null;
    });
    // Behind one that has failed all fail.
    turn.catch(() => {});
    keeping.turn = turn;
  }

  #drain(conversation) {
    if (conversation.last === null) return;
    while (conversation.held.has(conversation.last + 1)) {
      const message = conversation.held.get(conversation.last + 1);
      conversation.held.delete(message.seq);
      this.#show(conversation, message, true);
    }
    for (const seq of conversation.held.keys()) if (seq <= conversation.last) conversation.held.delete(seq);
  }

  /** Asks for what is missing, if something is and nothing is on its way. */
  #fill(conversation) {
    if (conversation.last === null) {
      if (conversation.wanted || conversation.goal > 0) this.#ask(conversation, "first");
    } else if (conversation.last < conversation.goal) {
      this.#ask(conversation, "after");
    }
    if (conversation.wishes.length > 0) this.#ask(conversation, "history");
  }

  #ask(conversation, type) {
    if (!this.#online || conversation.asked || conversation.queued || conversation.timer !== null) return;
    if (conversation.refused) return;
    conversation.queued = true;
    this.#enqueue(() => {
      conversation.queued = false;
      const { kind, dstid } = conversation;
      const dropped = this.#conversations.get(`${kind}:${dstid}`) !== conversation;
      const wish = type === "history" ? conversation.wishes.shift() : { type };
      if (!wish || conversation.asked || dropped) return false;
      const frame = { cmd: 4, kind, dstid };
      if (type === "after") Object.assign(frame, { after: conversation.last, limit: LIMITS.page });
      else if (type === "first") frame.limit = within(this.#options.firstPage, 1, LIMITS.page);
      else Object.assign(frame, wish.before === undefined ? {} : { before: wish.before }, { limit: wish.limit });
      conversation.asked = wish;
      this.#write(frame);
      return true;
    });
  }

  /** Asks again after a pause. */
  #later(conversation) {
    this.#stop(conversation);
    conversation.timer = this.#options.clock.set(() => {
      conversation.timer = null;
      if (conversation.last !== null && conversation.goal <= conversation.last) this.#ask(conversation, "after");
      this.#fill(conversation);
    }, this.#delay(conversation.tries));
    conversation.tries += 1;
  }

  #page(frame) {
    const conversation = this.#conversations.get(`${frame.kind}:${frame.dstid}`);
    const asked = conversation?.asked;
    if (!asked) return;
    conversation.asked = null;
    const before = conversation.last;
    if (asked.stale) {
      if (asked.type === "history") conversation.wishes.unshift({ ...asked, stale: false });
    } else if (this.#otherHistory(conversation, frame.epoch) || frame.reset) {
      if (asked.type === "history") conversation.wishes.unshift(asked);
      this.#forget(conversation, frame.epoch);
      if (asked.type === "first") this.#begin(conversation, frame);
      else conversation.wanted = true;
    } else {
      conversation.epoch = frame.epoch;
      if (asked.type === "history") asked.resolve({ rows: frame.rows, more: frame.more, floor: frame.floor, head: frame.head });
      else if (asked.type === "first") this.#begin(conversation, frame);
      else this.#continue(conversation, frame);
    }
    this.#drain(conversation);
    const stuck = asked.type === "after" && before !== null && conversation.last === before && conversation.last < conversation.goal;
    if (stuck) this.#later(conversation);
    else {
      conversation.tries = 0;
      this.#fill(conversation);
    }
    this.#answered();
    this.#say(conversation);
  }

  #begin(conversation, { rows, head }) {
    if (conversation.last === null) conversation.last = (rows[0]?.seq ?? head + 1) - 1;
    for (const row of rows) if (row.seq > conversation.last) this.#show(conversation, row, false);
    conversation.goal = Math.max(conversation.goal, head);
    this.#keep(conversation);
  }

  /** Begins it where its row of the list says, if it has not begun. Its newest message has been received with that. */
  #beginAt(conversation, { kind, head, last }, epoch) {
    conversation.epoch ??= epoch ?? null;
    if (conversation.last !== null || conversation.asked) return;
    conversation.last = head;
    this.#keep(conversation);
    if (kind === DIRECT && last && last.userid !== this.#options.userId) {
      conversation.recv = Math.max(conversation.recv, head);
      this.#sayReceivedSoon();
    }
  }

  #continue(conversation, { rows, floor, head }) {
    const { kind, dstid } = conversation;
    if (floor > conversation.last + 1) {
      this.#emit("gap", { kind, dstid, from: conversation.last + 1, to: floor - 1 });
      conversation.last = floor - 1;
    }
    for (const row of rows) if (row.seq > conversation.last) this.#show(conversation, row, false);
    conversation.goal = Math.max(conversation.goal, head);
  }

  #otherHistory(conversation, epoch) {
    return epoch !== undefined && conversation.epoch !== null && conversation.epoch !== epoch;
  }

  #forget(conversation, epoch) {
    const { kind, dstid } = conversation;
    conversation.last = null;
    conversation.goal = 0;
    conversation.epoch = epoch ?? null;
    conversation.keeping = { turn: null };
    conversation.held.clear();
    // An answer that is still on its way speaks of what was forgotten.
    if (conversation.asked) conversation.asked.stale = true;
    conversation.recv = conversation.recvKnown = conversation.read = conversation.readKnown = 0;
    conversation.unsay();
    this.#remember("remove", `cursor.${kind}.${dstid}`);
    this.#emit("reset", { kind, dstid });
  }

  #listed({ convs = [], more, epoch }) {
    const news = !this.#hasList;
    this.#hasList = true;
    // Only the first one of a connection comes unasked.
    const first = news && this.#lists.length === 0;
    if (this.#lists.length > 0) {
      this.#lists.shift();
      this.#answered();
    } else if (!first && this.#doubted.length > 0) {
      // It was not this one that was refused.
      this.#endPause(this.#doubted.shift().timer);
    }
    for (const row of convs) {
      const conversation = this.#conversation(row.kind, row.dstid);
      if (this.#otherHistory(conversation, epoch)) this.#forget(conversation, epoch);
    }
    this.#emit("conversations", { rows: convs, more, first });
    for (const row of convs) {
      const conversation = this.#conversation(row.kind, row.dstid);
      if (this.#listBegins) this.#beginAt(conversation, row, epoch);
      conversation.goal = Math.max(conversation.goal, row.head);
      conversation.recv = Math.max(conversation.recv, row.recv);
      conversation.said(row.recv, row.read, news);
      this.#fill(conversation);
    }
    if (!news || !this.#listBegins) return;
    for (const conversation of this.#conversations.values()) this.#sayRead(conversation);
    this.#sayReceivedSoon();
  }

  #receipt({ userid, kind, dstid, recv = 0, read = 0 }) {
    if (userid === this.#options.userId) this.#conversation(kind, dstid).said(recv, read);
    this.#emit("receipt", { userid, kind, dstid, recv, read });
  }

  // ---- asking and saying ----------------------------------------------------------------------------------------

  /** Begins a conversation that the server did not name: its newest page comes as `message` events. */
  open(kind, dstid) {
    checkPlace(kind, dstid);
    const conversation = this.#conversation(kind, dstid);
    conversation.refused = false;
    conversation.wanted = true;
    if (conversation.last === null) this.#fill(conversation);
  }

  /** Forgets a conversation that is no longer the user's, as after leaving a group. */
  drop(kind, dstid) {
    const conversation = this.#conversations.get(`${kind}:${dstid}`);
    if (!conversation) return;
    const { asked, wishes, wordTimer } = conversation;
    this.#stop(conversation);
    // A word about it would be refused, and that would pass for the answer to what is asked next.
    if (wordTimer !== null) this.#endPause(wordTimer);
    this.#conversations.delete(`${kind}:${dstid}`);
    // The answer that is on its way is no answer to what is asked next.
    if (asked) this.#conversation(kind, dstid).asked = { type: "dropped", stale: true };
    for (const wish of asked?.type === "history" ? [asked, ...wishes] : wishes) wish.reject(new Refusal(0, "the conversation was dropped"));
    this.#remember("remove", `cursor.${kind}.${dstid}`);
  }

  /**
   * A page of what was before, ascending: `{rows, more, floor, head}`, of 1 to 200 rows. It emits nothing and moves nothing.
   * @returns {Promise<object>} fails with a Refusal if the user may not read it
   */
  async history(kind, dstid, { before, limit = 50 } = {}) {
    checkPlace(kind, dstid);
    if (before !== undefined && before !== null && !(typeof before === "number" && !Number.isNaN(before))) throw new TypeError("`before` is a number");
    const wish = {
      type: "history",
      before: before === undefined || before === null ? undefined : within(before, 0, Number.MAX_SAFE_INTEGER),
      limit: within(limit, 1, LIMITS.page),
    };
    const conversation = this.#conversation(kind, dstid);
    conversation.refused = false;
    return new Promise((resolve, reject) => {
      conversation.wishes.push({ ...wish, resolve, reject });
      this.#fill(conversation);
    });
  }

  /** Asks for the page of conversations after the given row (or for the first); it comes as `conversations`. */
  conversations(after) {
    if (after) {
      checkPlace(after.kind, after.dstid);
      if (!Number.isSafeInteger(after.ts) || after.ts < 0) throw new TypeError("a `ts` is an integer from 0 on");
    }
    this.#askList(after, 0);
  }

  #askList(after, tries) {
    this.#enqueue(() => {
      this.#lists.push({ after, tries });
      this.#write(after ? { cmd: 5, before: after.ts, kind: after.kind, dstid: after.dstid } : { cmd: 5 });
      return true;
    });
  }

  /** The user has read up to `seq`. May be said as often as one likes. */
  read(kind, dstid, seq) {
    checkPlace(kind, dstid);
    if (!Number.isSafeInteger(seq)) throw new TypeError("a `seq` is an integer");
    const conversation = this.#conversation(kind, dstid);
    conversation.read = Math.max(conversation.read, seq);
    this.#sayRead(conversation);
  }

  /**
   * Whether a word about it may be said now: the refusal of one looks like that of what is asked of its conversation, whose page would
   * then not be known for what it is.
   */
  #maySay({ kind, asked, queued, timer }) {
    // What the list names may be asked for with the list.
    const mayBeAsked = kind === GROUP && this.#listBegins && !this.#hasList;
    return this.#online && !asked && !queued && timer === null && !mayBeAsked;
  }

  /** Whether it may be said how far it was received or read: what the list knows need not be said, and one that was refused has a pause. */
  #mayMark(conversation) {
    const mayBeKnown = this.#listBegins && !this.#hasList;
    return !mayBeKnown && conversation.wordTimer === null && this.#maySay(conversation);
  }

  /** A word about it was refused for now. */
  #sayLater(conversation) {
    conversation.unsay();
    if (conversation.wordTimer !== null) return;
    conversation.wordTimer = this.#pause(conversation.wordTries, () => {
      conversation.wordTimer = null;
      this.#sayRead(conversation);
      this.#sayReceivedOf(conversation);
    });
    conversation.wordTries += 1;
  }

  /** Says what was read now, and what was received in a moment. */
  #say(conversation) {
    this.#sayRead(conversation);
    if (conversation.kind === DIRECT && conversation.recv > conversation.recvSaid) this.#sayReceivedSoon();
  }

  #sayRead(conversation) {
    if (conversation.read <= conversation.readSaid || !this.#mayMark(conversation)) return;
    conversation.readSaid = conversation.read;
    conversation.recvSaid = Math.max(conversation.recvSaid, conversation.read);
    this.#write({ cmd: 3, kind: conversation.kind, dstid: conversation.dstid, read: conversation.read });
  }

  #sayReceivedSoon() {
    if (!this.#options.receipts || this.#receiptsTimer !== null) return;
    this.#receiptsTimer = this.#options.clock.set(() => {
      this.#receiptsTimer = null;
      this.#sayReceived();
    }, LIMITS.receipts);
  }

  #sayReceived() {
    if (!this.#online) return;
    for (const conversation of this.#conversations.values()) this.#sayReceivedOf(conversation);
  }

  #sayReceivedOf(conversation) {
    if (!this.#options.receipts || conversation.kind !== DIRECT) return;
    if (conversation.recv <= conversation.recvSaid || !this.#mayMark(conversation)) return;
    conversation.recvSaid = conversation.recv;
    this.#write({ cmd: 3, kind: DIRECT, dstid: conversation.dstid, recv: conversation.recv });
  }

  /** The user is writing. Said at most every two seconds and conversation, and only while online. */
  typing(kind, dstid) {
    const now = this.#options.clock.now();
    const key = `${kind}:${dstid}`;
    const conversation = this.#conversations.get(key);
    if (conversation && !this.#maySay(conversation)) return;
    // A clock that was set back must not silence it.
    if (!this.#online || !this.#optional || Math.abs(now - (this.#typingSaid.get(key) ?? -Infinity)) < LIMITS.typing) return;
    this.#typingSaid.set(key, now);
    this.#write({ cmd: 6, kind, dstid });
  }

  /** Wants to know who of these users is online, now and when it changes. Replaces the list before. */
  watch(users) {
    this.#watched = [...new Set(users)].filter((id) => Number.isSafeInteger(id) && id > 0).slice(0, LIMITS.watched);
    this.#unknown = new Set(this.#watched);
    if (this.#optional) this.#write({ cmd: 7, users: this.#watched });
  }
}
