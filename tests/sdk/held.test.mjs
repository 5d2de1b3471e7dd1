// How much of what is pushed the web client keeps, of conversations that nobody looks at.
import assert from "node:assert/strict";
import { test } from "node:test";

const sockets = [];
Object.defineProperty(globalThis, "localStorage", { configurable: true, value: { length: 0, getItem: () => null, setItem: () => {}, removeItem: () => {} } });
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
  const [socket] = sockets;
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
