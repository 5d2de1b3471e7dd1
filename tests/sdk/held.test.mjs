// What the web client keeps of what it was told: in its memory, and over a reload.
import assert from "node:assert/strict";
import { test } from "node:test";

const sockets = [];
const stored = new Map();
Object.defineProperty(globalThis, "localStorage", { configurable: true, value: {
  get length() {
    return stored.size;
  },
  key: (at) => [...stored.keys()][at] ?? null,
  getItem: (key) => stored.get(key) ?? null,
  setItem: (key, value) => stored.set(key, value),
  removeItem: (key) => stored.delete(key),
} });
Object.defineProperty(globalThis, "navigator", { configurable: true, value: { languages: ["en-US"], language: "en-US" } });
globalThis.document = { documentElement: {}, getElementById: () => null, addEventListener: () => {} };
globalThis.location = { protocol: "http:", host: "server.test" };
globalThis.requestAnimationFrame = () => 0;
globalThis.cancelAnimationFrame = () => {};
globalThis.fetch = () => Promise.reject(new TypeError("no network"));
globalThis.WebSocket = class {
  sent = [];
  constructor() {
    sockets.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {}
};
const { Model } = await import("../../src/web/app/model.js");

const MANY = 5_000;

test("of a conversation that is closed the newest are kept, and pages go on from there", async (t) => {
  const model = new Model({ id: 1, token: "secret" });
  t.after(() => model.stop());
  await model.client.connect();
  const socket = sockets.at(-1);
  socket.onopen();
  const push = (userid, seq) => socket.onmessage({ data: JSON.stringify({ id: seq, seq, ts: seq, userid, cmd: 10, dstid: 1, media: 1, content: `${seq}` }) });
  const [closed, open] = [2, 3].map((id) => model.conversation(10, id));
  model.open = open.key;
  let most = 0;
  for (let seq = 1; seq <= MANY; seq += 1) {
    push(2, seq);
    push(3, seq);
    most = Math.max(most, closed.messages.length);
  }
  assert.ok(most <= 400, `${most}`);
  assert.equal(open.messages.length, MANY, "what somebody reads stays");
  const numbers = closed.messages.map(({ seq }) => seq);
  assert.deepEqual(numbers, Array.from(numbers, (_, at) => MANY - numbers.length + 1 + at));
  assert.equal(closed.at(closed.held.high - 1).seq, MANY);
  assert.equal(closed.at(closed.held.low).seq, numbers[0]);
  assert.equal(closed.unread, MANY);
  assert.equal(closed.more, true);
  const loading = model.loadEarlier(closed);
  const { before } = socket.sent.filter(({ cmd, dstid }) => cmd === 4 && dstid === 2).at(-1);
  assert.equal(before, numbers[0]);
  const rows = Array.from({ length: 40 }, (_, at) => ({ id: at, seq: before - 40 + at, ts: 1, userid: 2, cmd: 10, dstid: 1, media: 1 }));
  socket.onmessage({ data: JSON.stringify({ cmd: 4, kind: 10, dstid: 2, rows, more: true, floor: 1, head: MANY, epoch: 1 }) });
  assert.equal(await loading, true);
  assert.deepEqual(closed.messages.map(({ seq }) => seq), Array.from({ length: numbers.length + 40 }, (_, at) => before - 40 + at));
  assert.equal(closed.at(closed.held.low).seq, before - 40);
});

test("how far the other one has read is not believed of a history that the server has lost", async (t) => {
  for (const id of [2, 3, 4]) stored.set(`imgate.1.peer.${id}`, JSON.stringify({ id, recv: 50, read: 40 }));
  const model = new Model({ id: 1, token: "secret" });
  t.after(() => model.stop());
  model.start().catch(() => {});
  while (model.client.online === false) {
    if (sockets.at(-1)?.onopen && model.status.state === "connecting") sockets.at(-1).onopen();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const socket = sockets.at(-1);
  const list = (epoch, heads) => {
    const convs = Object.entries(heads).map(([id, head]) => ({ kind: 10, dstid: Number(id), head, ts: 1, recv: 0, read: 0, unread: 0, floor: 1 }));
    socket.onmessage({ data: JSON.stringify({ cmd: 5, convs, more: false, epoch }) });
  };
  list(1, { 2: 50, 3: 7, 4: 60 });
  const marks = () => [2, 3, 4].map((id) => model.conversation(10, id).peer.read);
  const kept = () => [2, 3, 4].map((id) => stored.has(`imgate.1.peer.${id}`));
  assert.deepEqual(marks(), [40, 0, 40]);
  assert.deepEqual(kept(), [true, false, true]);
  list(2, { 4: 60 });
  assert.deepEqual(marks(), [40, 0, 0]);
  assert.deepEqual(kept(), [true, false, false]);
});
