// What survives a reload: the outbox in its order, and cursors if they are wanted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIRECT, ImgateClient, LIMITS, MemoryStorage, WebStorage } from "../../src/web/sdk/imgate.js";

/** `localStorage`, which orders its keys as it likes: here backwards. */
class Area {
  items = new Map();
  get length() {
    return this.items.size;
  }
  key(at) {
    return [...this.items.keys()].sort().reverse()[at] ?? null;
  }
  getItem(key) {
    return this.items.get(key) ?? null;
  }
  setItem(key, value) {
    this.items.set(key, value);
  }
  removeItem(key) {
    this.items.delete(key);
  }
}

async function page(storage, options = {}) {
  const sent = [];
  let socket;
  class Socket {
    constructor() {
      socket = this;
    }
    send(text) {
      sent.push(JSON.parse(text));
    }
    close() {}
  }
  const clock = { now: () => 7, set: () => 0, clear: () => {} };
  const client = new ImgateClient({ url: "ws://server.test/chat", token: "t", userId: 1, storage, WebSocket: Socket, clock, random: () => 0.5, receipts: false, ...options });
  await client.connect();
  return { client, sent, open: () => socket.onopen(), hear: (frame) => socket.onmessage({ data: JSON.stringify(frame) }) };
}

for (const [name, make] of [["memory", () => new MemoryStorage()], ["web", () => new WebStorage(new Area(), "x.")]]) {
  test(`${name}: what was not acked goes out again after a reload, in its order and with its cid`, async () => {
    const storage = make();
    const before = await page(storage);
    const cids = ["first", "second", "third"].map((content) => before.client.send(10, 2, { media: 1, content }));
    cids.push(before.client.recall(10, 2, 1));
    const after = await page(storage);
    assert.deepEqual(after.client.pending().map(({ body }) => body.content), ["first", "second", "third"]);
    after.open();
    assert.deepEqual(after.sent.map(({ cid }) => cid), cids);
    assert.equal(after.sent[3].cmd, 8);
    cids.forEach((cid, at) => after.hear({ cmd: 1, cid, kind: 10, dstid: 2, id: at + 1, seq: at + 1, ts: 1 }));
    const last = await page(storage);
    last.open();
    assert.deepEqual(last.sent, []);
  });
}

test("cursors are kept if they are wanted, and begin where they ended", async () => {
  const storage = new MemoryStorage();
  const before = await page(storage, { keepCursors: true });
  before.open();
  before.hear({ id: 1, seq: 1, ts: 1, userid: 2, cmd: 10, dstid: 1, media: 1, content: "one" });
  const after = await page(storage, { keepCursors: true });
  after.open();
  assert.deepEqual(after.sent, [{ cmd: 4, kind: 10, dstid: 2, after: 1, limit: LIMITS.page }]);
  const other = await page(storage);
  other.open();
  assert.deepEqual(other.sent, []);
});

test("what the server would not take is refused before it is sent", async () => {
  const { client } = await page(new MemoryStorage());
  assert.throws(() => client.send(10, 2, { media: 1, content: "x".repeat(LIMITS.messageBytes) }), RangeError);
  for (let at = 0; at < LIMITS.outbox; at += 1) client.send(10, 2, { media: 1, content: "x" });
  assert.throws(() => client.send(10, 2, { media: 1, content: "one more" }), RangeError);
});

test("storage that throws, in every way, is as if there were none", async () => {
  const thrower = () => { throw new Error("forbidden"); };
  const area = { get length() { return thrower(); }, key: thrower, getItem: thrower, setItem: thrower, removeItem: thrower };
  for (const storage of [new WebStorage(area, "x."), new WebStorage(thrower, "x."), new WebStorage(null, "x.")]) {
    storage.put("a", 1);
    storage.remove("a");
    assert.deepEqual(storage.entries(""), []);
  }
});

for (const [name, make] of Object.entries({
  "throws": () => () => { throw new Error("full"); },
  "fails later": () => () => Promise.reject(new Error("full")),
  "never answers": () => () => new Promise(() => {}),
})) {
  test(`a message goes out although the storage ${name}`, async () => {
    const failing = make();
    const sent = [];
    const timers = [];
    class Socket {
      constructor() {
        setImmediate(() => this.onopen());
      }
      send(text) {
        sent.push(JSON.parse(text));
      }
      close() {}
    }
    const clock = { now: () => 0, set: (callback) => timers.push(callback), clear: () => {} };
    const client = new ImgateClient({
      url: "ws://server.test/chat", token: "secret", userId: 1, WebSocket: Socket, clock,
      storage: { entries: failing, put: failing, remove: failing },
    });
    const connecting = client.connect();
    // Patience with the storage ends.
    timers[0]();
    await connecting;
    client.send(DIRECT, 2, { media: 1, content: "hello" });
    client.on("sent", () => {});
    await new Promise((resolve) => { setImmediate(() => setImmediate(resolve)); });
    assert.deepEqual(sent.filter(({ cmd }) => cmd === DIRECT).map(({ content }) => content), ["hello"]);
    client.close();
  });
}

/** A page that keeps cursors, in which user 2 says what; what the storage has of where it is. */
async function keeper(storage = new MemoryStorage()) {
  const one = await page(storage, { keepCursors: true });
  one.open();
  const says = (seq) => one.hear({ id: seq, seq, ts: 1, userid: 2, cmd: 10, dstid: 1, media: 1, content: `${seq}` });
  const kept = () => storage.entries("cursor.").map(([, { last }]) => last);
  return { ...one, says, kept, storage };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a cursor moves when the application has stored the message, and those before it", async () => {
  const { client, says, kept } = await keeper();
  const stores = [];
  client.on("message", () => undefined);
  const stop = client.on("message", () => new Promise((resolve, reject) => stores.push({ resolve, reject })));
  for (const seq of [1, 2, 3]) says(seq);
  await settled();
  assert.deepEqual(kept(), []);
  stores[1].resolve();
  await settled();
  assert.deepEqual(kept(), [], "the first is not stored");
  stores[0].resolve();
  await settled();
  assert.deepEqual(kept(), [2]);
  stop();
  says(4);
  await settled();
  assert.deepEqual(kept(), [2], "nor does one pass it that is stored at once");
  stores[2].resolve();
  await settled();
  assert.deepEqual(kept(), [4]);
  says(5);
  assert.deepEqual(kept(), [5], "nothing is waited for");
});

for (const [how, fail] of [["throws", () => { throw new Error("full"); }], ["fails", () => Promise.reject(new Error("full"))]]) {
  test(`a cursor stays before a message for which a listener ${how}, and the next page is given it again`, async (t) => {
    const errors = [];
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => errors.push(error.message));
    t.after(() => {
      process.removeAllListeners("uncaughtException");
      for (const listener of listeners) process.on("uncaughtException", listener);
    });
    const { client, says, kept, storage } = await keeper();
    client.on("message", ({ message }) => (message.seq === 2 ? fail() : undefined));
    for (const seq of [1, 2, 3, 4]) says(seq);
    await settled();
    says(5);
    await settled();
    assert.deepEqual(kept(), [1]);
    assert.deepEqual(errors, ["full"], "it is told once");
    const after = await keeper(storage);
    assert.deepEqual(after.sent, [{ cmd: 4, kind: 10, dstid: 2, after: 1, limit: LIMITS.page }]);
  });
}

test("what is stored too late moves no cursor of a history that was forgotten", async () => {
  for (const forget of [
    ({ client }) => client.drop(10, 2),
    ({ hear }) => hear({ cmd: 5, convs: [{ kind: 10, dstid: 2, head: 9, ts: 1, recv: 0, read: 0, unread: 0, floor: 1 }], more: false, epoch: 2 }),
  ]) {
    const one = await keeper();
    one.hear({ cmd: 5, convs: [], more: false, epoch: 1 });
    one.hear({ cmd: 5, convs: [{ kind: 10, dstid: 2, head: 0, ts: 1, recv: 0, read: 0, unread: 0, floor: 1 }], more: false, epoch: 1 });
    one.client.open(10, 2);
    one.hear({ cmd: 4, kind: 10, dstid: 2, rows: [], more: false, floor: 1, head: 0, epoch: 1 });
    let store;
    one.client.on("message", () => new Promise((resolve) => { store = resolve; }));
    one.says(1);
    forget(one);
    store();
    await settled();
    assert.deepEqual(one.kept(), []);
  }
});

test("with cursors to keep nothing begins before the storage has said where", async () => {
  let answer;
  const timers = [];
  const sockets = [];
  const entries = (prefix) => (prefix === "cursor." ? new Promise((resolve) => { answer = resolve; }) : []);
  const client = new ImgateClient({
    url: "ws://server.test/chat", token: "secret", userId: 1, keepCursors: true, storage: { entries, put() {}, remove() {} },
    clock: { now: () => 0, set: (callback) => timers.push(callback), clear: () => {} },
    WebSocket: class {
      sent = [];
      constructor() {
        sockets.push(this);
      }
      send(text) {
        this.sent.push(JSON.parse(text));
      }
    },
  });
  const connecting = client.connect();
  await settled();
  for (const timer of timers.splice(0)) timer();
  await settled();
  assert.equal(sockets.length, 0);
  answer([["cursor.10.2", { kind: 10, dstid: 2, last: 7, epoch: 1 }]]);
  await connecting;
  sockets[0].onopen();
  assert.deepEqual(sockets[0].sent, [{ cmd: 4, kind: 10, dstid: 2, after: 7, limit: LIMITS.page }]);
});
