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
