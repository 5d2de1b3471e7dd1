/**
 * Types of imgate.js, the client's part of the protocol `imgate.v2` (docs/protocol.md). They need no library of a browser or of Node.
 */

/** `kind` of a direct conversation; its `dstid` is the other user. */
export declare const DIRECT: 10;
/** `kind` of a group conversation; its `dstid` is the group. */
export declare const GROUP: 11;
/** The subprotocol that is asked for. */
export declare const PROTOCOL: "imgate.v2";

export type Kind = typeof DIRECT | typeof GROUP;

/** Bounds and times; times are milliseconds. */
export declare const LIMITS: Readonly<{
  window: number;
  messageBytes: number;
  depth: number;
  cidBytes: number;
  held: number;
  outbox: number;
  page: number;
  backoffFirst: number;
  backoffLast: number;
  slotJitter: number;
  ackTimeout: number;
  goodConnection: number;
  heartbeat: number;
  answer: number;
  answerLast: number;
  hurried: number;
  dial: number;
  storage: number;
  receipts: number;
  typing: number;
  watched: number;
}>;

/** What one writes: `media` says how it is shown, everything else is relayed untouched. */
export interface Body {
  media?: number;
  content?: string;
  pic?: string;
  url?: string;
  memo?: string;
  amount?: number;
  [field: string]: unknown;
}

/** A message as the server sends it. Without `id` and `seq` on a server that stores nothing. */
export interface Message extends Body {
  id?: number;
  /** Its place in its conversation: the only order. */
  seq?: number;
  /** Unix milliseconds. */
  ts?: number;
  /** The author. */
  userid: number;
  cmd: Kind;
  dstid: number;
  cid?: string;
  /** It takes back the message with this `seq`. */
  recall?: number;
  /** It was taken back. */
  recalled?: boolean;
  /** The server's word about the group, by `userid`: nobody's words, and not unread. */
  happened?: { what: "joined" | "left" | "removed"; user: number } | { what: "renamed"; name: string };
}

/** A conversation in the list. */
export interface ConversationRow {
  kind: Kind;
  dstid: number;
  head: number;
  ts: number;
  recv: number;
  read: number;
  unread: number;
  floor: number;
  /** Its newest message. */
  last?: Message;
  /** `last` is only the beginning of a longer message. */
  cut?: boolean;
}

export interface HistoryPage {
  rows: Message[];
  more: boolean;
  floor: number;
  head: number;
}

export interface Status {
  state: "connecting" | "online" | "waiting" | "closed";
  code?: number;
  reason?: string;
  retryMs?: number;
}

/** What `on` listens to, with what it is told. */
export interface Events {
  status: Status;
  message: { kind: Kind; dstid: number; message: Message; live: boolean };
  sent: { cid: string; kind: Kind; dstid: number; id?: number; seq?: number; ts?: number };
  /** With `body`: what an earlier page had kept and cannot be sent. */
  refused: { cid?: string; kind: Kind; dstid: number; code: number; msg: string; body?: Body };
  conversations: { rows: ConversationRow[]; more: boolean; first: boolean };
  receipt: { kind: Kind; dstid: number; userid: number; recv: number; read: number };
  reset: { kind: Kind; dstid: number };
  gap: { kind: Kind; dstid: number; from: number; to: number };
  typing: { kind: Kind; dstid: number; userid: number };
  presence: { rows: { userid: number; online: boolean }[] };
  changed: { what: "friends" | "groups" | "profile"; id: number };
}

type Maybe<T> = T | Promise<T>;

/** Where the outbox outlives the page. What fails is lost with the page, and only then. */
export interface ClientStorage {
  entries(prefix: string): Maybe<[string, any][]>;
  put(key: string, value: unknown): Maybe<unknown>;
  remove(key: string): Maybe<unknown>;
}

/** Storage that is gone with the page. */
export declare class MemoryStorage implements ClientStorage {
  entries(prefix: string): [string, any][];
  put(key: string, value: unknown): void;
  remove(key: string): void;
}

/** What `localStorage` and `sessionStorage` are. */
export interface Area {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Storage in `localStorage` or `sessionStorage`; with `() => localStorage` also where the word alone throws. */
export declare class WebStorage implements ClientStorage {
  constructor(area: Area | (() => Area), prefix: string);
  entries(prefix: string): [string, any][];
  put(key: string, value: unknown): void;
  remove(key: string): void;
}

/** Storage in IndexedDB. */
export declare class IndexedDbStorage implements ClientStorage {
  constructor(name: string);
  entries(prefix: string): Promise<[string, any][]>;
  put(key: string, value: unknown): Promise<unknown>;
  remove(key: string): Promise<unknown>;
}

/** A new `cid`. */
export declare function newCid(): string;

/** What a history request was refused with. */
export declare class Refusal extends Error {
  constructor(code: number, msg: string);
  code: number;
}

/** What is used of a WebSocket. */
export interface Socket {
  onopen: any;
  onmessage: any;
  onclose: any;
  onerror: any;
  send(text: string): void;
  close(code?: number): void;
}

export interface Options {
  /** Of the WebSocket, `ws(s)://…/chat`. A function is asked at each connect; what it fails with is a connect that failed. */
  url: string | (() => Maybe<string>);
  /** From registration or login, or a function as `url`; without one the login cookie is used. */
  token?: string | (() => Maybe<string | null>);
  /** Whose token it is. */
  userId: number;
  /** MemoryStorage if there is none. */
  storage?: ClientStorage;
  /**
   * Store also how far each conversation was read: for clients that store messages. A listener to `message` returns a promise that is
   * fulfilled when the message is stored, or can never be; all listeners to `message` count.
   */
  keepCursors?: boolean;
  /** Rows with which a conversation begins, 1 to 200 (30); 0: where the list of conversations says. */
  firstPage?: number;
  /** Say what was received, in direct conversations (true). */
  receipts?: boolean;
  /** "web" if nothing else is said. */
  device?: "phone" | "pad" | "desktop" | "web";
  /** A name for this very client, whose next connection takes the place of its last one; a new random one if not given. */
  deviceId?: string;
  /** Another class than the runtime's own. */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
  /** For tests. */
  clock?: { now(): number; set(callback: () => void, ms: number): any; clear(timer: any): void };
  /** For tests: 0 to 1. */
  random?: () => number;
}

export declare class ImgateClient {
  constructor(options: Options);
  /** Whether commands go out now. */
  get online(): boolean;
  /** Whether the server knows typing and presence. True until it has said otherwise. */
  get hasPresence(): boolean;
  /** Listens to an event; returns what stops it. */
  on<Name extends keyof Events>(event: Name, listener: (detail: Events[Name]) => void): () => void;
  /** Loads what the storage kept and connects; stays connected until `close`, or until the server forbids it. */
  connect(): Promise<void>;
  /** Ends the connection and does not come back. What is in the outbox stays there. */
  close(): void;
  /** Tries at once if a reconnect is waiting, and asks whether a connection still lives. */
  hurry(): void;
  /** The network is gone: the connection counts as lost at once, and is tried again like any other. */
  networkLost(): void;
  /**
   * Sends a message as `body` is now, at once or as soon as there is a connection. Returns its `cid`. Throws a RangeError or a
   * TypeError if the server could not read it.
   */
  send(kind: Kind, dstid: number, body: Body, cid?: string): string;
  /** Takes one's own message back. Returns the `cid` of the recall. */
  recall(kind: Kind, dstid: number, seq: number, cid?: string): string;
  /** The messages that have neither ack nor refusal, oldest first. */
  pending(): { cid: string; kind: Kind; dstid: number; body: Body; at: number }[];
  /** Begins a conversation that the server did not name. */
  open(kind: Kind, dstid: number): void;
  /** Forgets a conversation that is no longer the user's. */
  drop(kind: Kind, dstid: number): void;
  /** A page of what was before, of 1 to 200 rows. Fails with a Refusal if the user may not read it. */
  history(kind: Kind, dstid: number, from?: { before?: number; limit?: number }): Promise<HistoryPage>;
  /** Asks for the page of conversations after the given row, or for the first. */
  conversations(after?: Pick<ConversationRow, "ts" | "kind" | "dstid">): void;
  /** The user has read up to `seq`. */
  read(kind: Kind, dstid: number, seq: number): void;
  /** The user is writing. */
  typing(kind: Kind, dstid: number): void;
  /** Wants to know who of these users is online, now and when it changes. */
  watch(users: Iterable<number>): void;
}
