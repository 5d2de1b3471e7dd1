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
  model.look(open);
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
  model.look(open);
  assert.equal(open.messages.length, MANY, "the same again is not another");
  model.look(null);
  assert.deepEqual([open.messages.length, open.messages.at(-1).seq, open.more], [200, MANY, true]);
  assert.equal(open.at(open.held.low).seq, MANY - 199);
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

/** What the server has over HTTP, by path; for everything else there is no network. */
function serve(t, lists) {
  const before = globalThis.fetch;
  t.after(() => {
    globalThis.fetch = before;
  });
  globalThis.fetch = (path) => {
    const rows = lists[path.split("/").at(-1)];
    return rows ? Promise.resolve(Response.json({ rows, more: false })) : before();
  };
}

const said = (seq) => ({ id: seq, seq, ts: seq, userid: 2, cmd: 11, dstid: 7, media: 1, content: `${seq}` });
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const seqs = ({ messages }) => messages.map(({ seq }) => seq);

/** A page that is online, of a member of group 7 whose messages are up to 50; and what the server says to it. */
async function member(t, lists) {
  stored.clear();
  serve(t, lists);
  const model = new Model({ id: 1, token: "secret" });
  t.after(() => model.stop());
  await model.client.connect();
  const socket = sockets.at(-1);
  socket.onopen();
  const says = (frame) => socket.onmessage({ data: JSON.stringify(frame) });
  const page = (from, to, more) => says({ cmd: 4, kind: 11, dstid: 7, rows: numbers(from, to).map(said), more, floor: 1, head: 60, epoch: 1 });
  const refuse = (code, retry) => says({ cmd: 2, kind: 11, dstid: 7, code, msg: "no", retry });
  const asked = () => socket.sent.filter(({ cmd }) => cmd === 4);
  says({ cmd: 5, convs: [{ kind: 11, dstid: 7, head: 50, ts: 50, recv: 0, read: 40, unread: 10, floor: 1, last: said(50) }], more: false, epoch: 1 });
  await model.loadGroups();
  return { model, socket, says, page, refuse, asked, group: model.conversation(11, 7) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const TOLD = { kind: 11, dstid: 7, cmd: 4, limit: 40 };

test("in a group that the user is no longer in nothing is said of what was read: its refusal would pass for that of a page", async (t) => {
  const lists = { groups: [{ id: 7, name: "Attic" }] };
  const { model, socket, page, asked, group } = await member(t, lists);
  lists.groups = [];
  await model.loadGroups();
  model.look(group);
  const loading = model.loadEarlier(group);
  page(43, 60, true);
  assert.equal(await loading, true);
  model.markRead(group);
  model.loadEarlier(group);
  assert.equal(asked().length, 2);
  assert.deepEqual(socket.sent.filter(({ cmd }) => cmd === 3), []);
  assert.deepEqual([group.read, group.unread], [60, 0]);
});

test("what was said before a removal comes with the newest page, also where the messages before it are in view", async (t) => {
  for (const [first, then] of [[21, numbers(11, 60)], [55, numbers(55, 60)]]) {
    const lists = { groups: [{ id: 7, name: "Attic" }] };
    const { model, says, page, refuse, asked, group } = await member(t, lists);
    model.look(group);
    const loading = model.loadEarlier(group);
    page(11, 50, true);
    await loading;
    says(said(60));
    refuse(20, true);
    // The sync waits for its turn; that the user is no member any more is known first.
    const before = asked().length;
    lists.groups = [];
    await model.loadGroups();
    assert.deepEqual(asked().slice(before), [TOLD]);
    assert.deepEqual(seqs(group), numbers(11, 50), "what one reads stays until it is there");
    page(first, 60, true);
    await settled();
    assert.deepEqual(seqs(group), then);
    assert.deepEqual([group.more, group.refused, group.left], [true, false, "Attic"]);
  }
});

test("of a group that was dissolved what is in view stays", async (t) => {
  const lists = { groups: [{ id: 7, name: "Attic" }] };
  const { model, page, refuse, asked, group } = await member(t, lists);
  model.look(group);
  const loading = model.loadEarlier(group);
  page(11, 50, true);
  await loading;
  lists.groups = [];
  await model.loadGroups();
  assert.equal(asked().length, 2);
  refuse(10, false);
  await settled();
  assert.deepEqual(seqs(group), numbers(11, 50));
});

test("a page that is under way when a removal becomes known is asked for again", async (t) => {
  for (const open of [true, false]) {
    const lists = { groups: [{ id: 7, name: "Attic" }] };
    const { model, page, asked, group } = await member(t, lists);
    model.look(open ? group : null);
    const first = model.loadEarlier(group);
    lists.groups = [];
    await model.loadGroups();
    assert.equal(await first, true);
    assert.equal(group.refused, false);
    const again = model.loadEarlier(group);
    assert.equal(asked().length, 1, "the answer to what was asked first is on its way");
    page(1, 2, false);
    assert.deepEqual(asked(), [TOLD, TOLD]);
    page(21, 60, true);
    assert.equal(await again, true);
    assert.deepEqual(seqs(group), numbers(21, 60));
  }
});

test("half an emoji at the end of a text keeps nothing from going out", async (t) => {
  const { model, socket } = await member(t, { groups: [{ id: 7, name: "Attic" }] });
  const group = model.conversation(11, 7);
  model.send(group, { media: 1, content: "cut \ud83d" });
  assert.deepEqual(socket.sent.filter(({ cmd }) => cmd === 11).map(({ content }) => content), ["cut \ufffd"]);
  assert.deepEqual(group.pending.map(({ state }) => state), ["sending"]);
});

test("what an earlier version kept of it is there to be sent again, or let go", async (t) => {
  stored.clear();
  stored.set("imgate.1.outbox.cut", JSON.stringify({ cid: "cut", kind: 10, dstid: 2, body: { media: 1, content: "cut \ud83d" }, at: 1 }));
  const model = new Model({ id: 1, token: "secret" });
  t.after(() => model.stop());
  await model.client.connect();
  const socket = sockets.at(-1);
  socket.onopen();
  const conversation = model.conversation(10, 2);
  const [line] = conversation.pending;
  assert.deepEqual([line.state, model.mayDiscard(line), stored.size], ["failed", true, 0]);
  model.resend(conversation, line);
  assert.deepEqual(socket.sent.filter(({ cmd }) => cmd === 10).map(({ content }) => content), ["cut \ufffd"]);
  assert.equal(conversation.pending.length, 1);
});

/** A row of the list, of group 7. */
const row = (head, read, unread) => ({ cmd: 5, convs: [{ kind: 11, dstid: 7, head, ts: head, recv: 0, read, unread, floor: 1 }], more: false, epoch: 1 });

test("a list that was read before the newest push does not take it for read", async (t) => {
  const { says, group } = await member(t, { groups: [{ id: 7, name: "Attic" }] });
  says(row(50, 50, 0));
  says(said(51));
  says({ ...said(52), userid: 1 });
  says({ ...said(53), recall: 45, userid: 3 });
  assert.equal(group.unread, 1);
  says(row(50, 50, 0));
  assert.equal(group.unread, 1, "neither one's own nor a recall is unread");
  says(row(50, 48, 2));
  assert.equal(group.unread, 1, "nor what was read here");
  says(row(53, 50, 1));
  assert.equal(group.unread, 1);
  says({ ...said(54), recall: 51 });
  assert.equal(group.unread, 0);
});

test("what was read without a network is not unread for a list that has not heard of it", async (t) => {
  const { model, says, page, group } = await member(t, { groups: [{ id: 7, name: "Attic" }] });
  const loading = model.loadEarlier(group);
  page(11, 50, true);
  await loading;
  model.markRead(group);
  assert.deepEqual([group.read, group.unread], [50, 0]);
  says(row(51, 45, 6));
  assert.equal(group.unread, 1);
  says(row(51, 45, 0));
  assert.equal(group.unread, 0, "that only one's own came since is known to the list");
});

test("where all that may be unread is held it is counted, whatever the list has heard of what was read", async (t) => {
  const { model, says, page, group } = await member(t, { groups: [{ id: 7, name: "Attic" }] });
  const loading = model.loadEarlier(group);
  page(11, 50, true);
  await loading;
  model.markRead(group);
  says(said(51));
  says({ ...said(52), userid: 1 });
  says({ ...said(53), recall: 45 });
  assert.equal(group.unread, 1);
  says(row(53, 45, 6));
  assert.equal(group.unread, 1, "neither one's own nor a recall is unread");
});

test("what the list has counted and is still to come is unread when somebody looks at what is there", async (t) => {
  const { model, says, page, asked, group } = await member(t, { groups: [{ id: 7, name: "Attic" }] });
  const loading = model.loadEarlier(group);
  page(11, 50, true);
  await loading;
  says(row(60, 40, 20));
  assert.equal(asked().at(-1).after, 50);
  let changes = 0;
  model.changed = () => { changes += 1; };
  model.markRead(group);
  model.markRead(group);
  assert.deepEqual([group.read, group.unread, changes], [50, 10, 1], "said once");
  page(51, 60, false);
  assert.equal(group.unread, 10);
  model.markRead(group);
  assert.deepEqual([group.read, group.unread], [60, 0]);
});

/** A page that has all its lists; how often groups were asked for since. */
async function settledPage(t) {
  const lists = { groups: [{ id: 7, name: "Attic" }], friends: [], blocks: [] };
  const stage = await member(t, lists);
  await stage.model.loadFriends();
  let asks = 0;
  const before = globalThis.fetch;
  globalThis.fetch = (path) => {
    asks += Number(path.endsWith("/groups"));
    return before(path);
  };
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const pass = async (ms) => {
    t.mock.timers.tick(ms);
    await settled();
    const seen = asks;
    asks = 0;
    return seen;
  };
  return { ...stage, lists, pass };
}

test("whoever writes in a group that is known has no member load it again", async (t) => {
  const { model, says, pass, group } = await settledPage(t);
  for (let at = 1; at <= 20; at += 1) says({ ...said(50 + at), userid: 100 + at });
  says({ ...said(71), userid: 200, happened: { what: "joined", user: 200 } });
  assert.equal(await pass(60_000), 0);
  // How many there are is said of the group that somebody looks at.
  model.look(group);
  says({ ...said(72), userid: 201, happened: { what: "joined", user: 201 } });
  says({ ...said(73), userid: 202, happened: { what: "joined", user: 202 } });
  assert.equal(await pass(3_000), 1);
  // Of a group that is not known all is to be learned, and soon.
  for (let at = 1; at <= 20; at += 1) says({ ...said(at), dstid: 8, userid: 100 + at });
  assert.equal(await pass(300), 1);
});

test("what is new of a group is loaded some time later, and not again at once", async (t) => {
  const { says, pass } = await settledPage(t);
  const random = Math.random;
  t.after(() => {
    Math.random = random;
  });
  Math.random = () => 0.5;
  says({ cmd: 9, what: "groups", id: 7 });
  assert.equal(await pass(1_400), 0);
  assert.equal(await pass(200), 1);
  for (let at = 0; at < 20; at += 1) says({ cmd: 9, what: "groups", id: 7 });
  assert.equal(await pass(9_000), 0);
  // What is not known does not wait for it.
  says({ cmd: 9, what: "groups", id: 8 });
  assert.equal(await pass(300), 1);
  assert.equal(await pass(60_000), 0, "with that the others are loaded, too");
});
