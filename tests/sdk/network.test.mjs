// The SDK where networks and clocks misbehave: what recorded conversations cannot say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIRECT, GROUP, ImgateClient, LIMITS, MemoryStorage } from "../../src/web/sdk/imgate.js";

class Clock {
  time = 1_000_000;
  timers = new Map();
  now = () => this.time;
  set = (callback, ms) => {
    const timer = {};
    this.timers.set(timer, { at: this.time + ms, callback });
    return timer;
  };
  clear = (timer) => this.timers.delete(timer);
  advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].callback();
    }
    this.time = end;
  }
}

async function begin(storage = new MemoryStorage(), before = () => {}, options = {}) {
  const clock = new Clock();
  const sockets = [];
  class Socket {
    sent = [];
    closed = false;
    constructor(url) {
      this.url = new URL(url);
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.closed = true;
    }
    says(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }
  }
  const client = new ImgateClient({ url: "ws://server.test/chat", token: "secret", userId: 1, storage, WebSocket: Socket, clock, random: () => 0.5, ...options });
  const states = [];
  client.on("status", ({ state }) => states.push(state));
  const connecting = client.connect();
  before(client);
  await connecting;
  return { client, clock, sockets, states };
}

const typed = ({ sent }) => sent.filter(({ cmd }) => cmd === 6).length;

test("a connection that does not open in time is given up and tried again", async () => {
  const { clock, sockets, states } = await begin();
  clock.advance(LIMITS.dial - 1);
  assert.equal(sockets.length, 1);
  clock.advance(1);
  assert.ok(sockets[0].closed);
  assert.equal(states.at(-1), "waiting");
  clock.advance(LIMITS.backoffFirst);
  assert.equal(sockets.length, 2);
  sockets[1].onopen();
  clock.advance(LIMITS.dial);
  assert.equal(sockets.length, 2, "one that opened is not given up");
  assert.equal(states.at(-1), "online");
});

test("after `hurry` a dead connection is noticed within seconds, a living one stays", async () => {
  const { client, clock, sockets } = await begin();
  sockets[0].onopen();
  client.hurry();
  client.hurry();
  assert.equal(sockets[0].sent.filter(({ cmd }) => cmd === 0).length, 1, "asked once");
  sockets[0].says({ cmd: 0 });
  clock.advance(LIMITS.hurried);
  assert.equal(sockets.length, 1);
  client.hurry();
  clock.advance(LIMITS.hurried + LIMITS.backoffFirst);
  assert.ok(sockets[0].closed);
  assert.equal(sockets.length, 2);
});

test("a network that the system says is gone is not waited for", async () => {
  const { client, clock, sockets, states } = await begin();
  sockets[0].onopen();
  client.networkLost();
  assert.ok(sockets[0].closed);
  assert.equal(states.at(-1), "waiting");
  client.networkLost();
  client.hurry();
  assert.equal(sockets.length, 2, "tried again at once when it is back");
  client.networkLost();
  assert.ok(sockets[1].closed, "nor is one that is being opened");
  clock.advance(2 * LIMITS.backoffFirst);
  assert.equal(sockets.length, 3, "and by itself: a system may be wrong about a gateway on the same machine");
  client.close();
  client.networkLost();
  clock.advance(LIMITS.backoffLast);
  assert.equal(sockets.length, 3, "but not what was closed");
  assert.equal(states.at(-1), "closed");
});

test("a clock that is set back does not silence typing", async () => {
  const { client, clock, sockets } = await begin();
  sockets[0].onopen();
  client.typing(DIRECT, 2);
  client.typing(DIRECT, 2);
  assert.equal(typed(sockets[0]), 1);
  clock.time -= 3_600_000;
  client.typing(DIRECT, 2);
  assert.equal(typed(sockets[0]), 2);
});

test("what a storage kept goes out before what was sent while it was read", async () => {
  const storage = new MemoryStorage();
  storage.put("outbox.old", { cid: "old", kind: DIRECT, dstid: 2, body: { media: 1, content: "first" }, at: 500 });
  const { sockets } = await begin(storage, (client) => client.send(DIRECT, 2, { media: 1, content: "second" }));
  sockets[0].onopen();
  assert.deepEqual(sockets[0].sent.filter(({ cmd }) => cmd === DIRECT).map(({ content }) => content), ["first", "second"]);
});

test("a client's next connection takes the place of its last one, and of no other's", async () => {
  const { client, clock, sockets } = await begin();
  sockets[0].onopen();
  client.networkLost();
  clock.advance(LIMITS.backoffFirst);
  const [first, second] = sockets.map(({ url }) => url.searchParams.get("device_id"));
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.equal(second, first);
  const other = await begin();
  assert.notEqual(other.sockets[0].url.searchParams.get("device_id"), first);
  const named = new ImgateClient({ url: "ws://server.test/chat", userId: 1, deviceId: "kitchen", WebSocket: sockets[0].constructor, clock });
  await named.connect();
  assert.equal(sockets.at(-1).url.searchParams.get("device_id"), "kitchen");
});

/** What is refused with `busy`, and with which numbers it says of what. */
const busy = (of = {}) => ({ cmd: 2, ...of, code: 20, msg: "busy, try again", retry: true });
const asked = ({ sent }, cmd) => sent.filter((frame) => frame.cmd === cmd);

test("a page of the list of conversations that is refused for now is asked again", async () => {
  const { client, clock, sockets: [socket] } = await begin();
  const lists = [];
  client.on("conversations", ({ rows, more, first }) => lists.push([rows.length, more, first]));
  socket.onopen();
  const row = { kind: DIRECT, dstid: 2, head: 1, ts: 7, recv: 1, read: 1, unread: 0, floor: 1 };
  socket.says({ cmd: 5, convs: [row], more: true, epoch: 1 });
  socket.says({ cmd: 4, kind: DIRECT, dstid: 2, rows: [], more: false, floor: 1, head: 1, epoch: 1 });
  client.conversations(row);
  const frame = { cmd: 5, before: 7, kind: DIRECT, dstid: 2 };
  assert.deepEqual(asked(socket, 5), [frame]);
  // With jitter in the middle of its range.
  for (const pause of [750, 1500]) {
    socket.says(busy());
    clock.advance(pause * LIMITS.backoffFirst / 1000 - 1);
    const before = asked(socket, 5).length;
    clock.advance(1);
    assert.equal(asked(socket, 5).length, before + 1);
  }
  assert.deepEqual(asked(socket, 5), [frame, frame, frame]);
  socket.says({ cmd: 5, convs: [], more: false, epoch: 1 });
  assert.deepEqual(lists, [[1, true, true], [0, false, false]]);
  // Each has given its place among the unanswered back.
  for (let at = 0; at <= LIMITS.window; at += 1) {
    client.conversations();
    socket.says(busy());
  }
  clock.advance(LIMITS.backoffFirst);
  assert.equal(asked(socket, 5).length, 3 + LIMITS.window + 1 + LIMITS.window);
});

test("nothing is asked again on a connection that has ended", async () => {
  const { client, clock, sockets } = await begin();
  sockets[0].onopen();
  client.conversations();
  client.watch([2]);
  sockets[0].says(busy());
  sockets[0].says(busy());
  client.networkLost();
  client.hurry();
  sockets[1].onopen();
  clock.advance(LIMITS.backoffFirst);
  assert.equal(asked(sockets[1], 5).length, 0);
  assert.equal(asked(sockets[1], 7).length, 1);
});

test("whom one watches is said again if it was refused for now", async () => {
  const { client, clock, sockets: [socket] } = await begin();
  socket.onopen();
  client.watch([2, 3]);
  socket.says(busy());
  clock.advance(LIMITS.backoffFirst);
  assert.deepEqual(asked(socket, 7), [{ cmd: 7, users: [2, 3] }, { cmd: 7, users: [2, 3] }]);
  socket.says({ cmd: 7, rows: [{ userid: 2, online: true }] });
  clock.advance(LIMITS.backoffLast);
  assert.equal(asked(socket, 7).length, 2);
});

test("a refusal that may be that of a list of conversations or of whom to watch is taken for neither alone", async () => {
  const row = { kind: DIRECT, dstid: 2, head: 1, ts: 7, recv: 1, read: 1, unread: 0, floor: 1 };
  const listed = (more) => ({ cmd: 5, convs: [row], more, epoch: 1 });
  const watch = { cmd: 7, users: [2, 3] };
  const told = { cmd: 7, rows: [{ userid: 2, online: true }, { userid: 3, online: false }] };
  const both = async () => {
    const { client, clock, sockets: [socket] } = await begin();
    const firsts = [];
    client.on("conversations", ({ first }) => firsts.push(first));
    socket.onopen();
    socket.says(listed(true));
    client.conversations(row);
    client.watch([2, 3]);
    socket.says(busy());
    return { client, clock, socket, firsts };
  };
  // It was whom to watch: the page comes, late or in time.
  for (const late of [false, true]) {
    const { clock, socket, firsts } = await both();
    if (late) clock.advance(LIMITS.backoffFirst);
    socket.says(listed(false));
    clock.advance(LIMITS.backoffFirst);
    assert.equal(asked(socket, 5).length, late ? 2 : 1);
    assert.deepEqual(asked(socket, 7), [watch, watch]);
    if (late) socket.says(listed(false));
    assert.deepEqual(firsts, late ? [true, false, false] : [true, false]);
  }
  // It was the page: who is online is told.
  const { clock, socket, firsts } = await both();
  socket.says({ cmd: 7, rows: told.rows.slice(0, 1) });
  socket.says({ cmd: 7, rows: told.rows.slice(1) });
  clock.advance(LIMITS.backoffFirst);
  assert.equal(asked(socket, 5).length, 2);
  assert.deepEqual(asked(socket, 7), [watch]);
  socket.says(listed(false));
  assert.deepEqual(firsts, [true, false]);
});

test("lists of whom to watch that are refused are said again once for all of them", async () => {
  const { client, clock, sockets: [socket] } = await begin();
  socket.onopen();
  for (const users of [[2], [2, 3], [2, 3, 4]]) {
    client.watch(users);
    socket.says(busy());
  }
  clock.advance(LIMITS.backoffLast);
  assert.deepEqual(asked(socket, 7).slice(3), [{ cmd: 7, users: [2, 3, 4] }]);
});

/** A message of user 2 in group 7. */
const said = (seq) => ({ id: seq, seq, ts: seq, userid: 2, cmd: GROUP, dstid: 7, media: 1, content: `${seq}` });
const page = (...seqs) => ({ cmd: 4, kind: GROUP, dstid: 7, rows: seqs.map(said), more: false, floor: 1, head: seqs.at(-1), epoch: 1 });
const notMember = { cmd: 2, kind: GROUP, dstid: 7, code: 10, msg: "not a member of this group", retry: false };

/** A client of which the messages of group 7 are up to 3, shown and read; what it shows. */
async function reader() {
  const stage = await begin();
  const shown = [];
  stage.client.on("message", ({ message }) => shown.push(message.seq));
  stage.sockets[0].onopen();
  stage.sockets[0].says({ cmd: 5, convs: [{ kind: GROUP, dstid: 7, head: 3, ts: 3, recv: 0, read: 0, unread: 3, floor: 1 }], more: false, epoch: 1 });
  stage.sockets[0].says(page(1, 2, 3));
  stage.client.read(GROUP, 7, 3);
  return { ...stage, shown };
}

test("the refusal of a read mark does not pass for that of a sync", async () => {
  const { client, sockets, shown } = await reader();
  client.networkLost();
  client.hurry();
  const [, socket] = sockets;
  socket.onopen();
  const about = () => socket.sent.filter(({ cmd }) => cmd === 3 || cmd === 4);
  const sync = { cmd: 4, kind: GROUP, dstid: 7, after: 3, limit: LIMITS.page };
  assert.deepEqual(about(), [sync], "the mark waits");
  client.typing(GROUP, 7);
  assert.equal(typed(socket), 0, "and so does typing, which is refused like it");
  // Removed from the group meanwhile: up to there it may be read, and no more may be said.
  socket.says(page(4, 5));
  assert.deepEqual(about(), [sync, { cmd: 3, kind: GROUP, dstid: 7, read: 3 }]);
  socket.says(notMember);
  assert.deepEqual(shown, [1, 2, 3, 4, 5]);
});

test("with a list to begin with a mark waits for it, and is said although it names nothing", async () => {
  const { client, sockets } = await reader();
  client.close();
  const stage = await begin(undefined, () => {}, { firstPage: 0 });
  const [socket] = stage.sockets;
  socket.onopen();
  stage.client.read(GROUP, 7, 3);
  assert.equal(asked(socket, 3).length, 0);
  socket.says({ cmd: 5, convs: [], more: false, epoch: 1 });
  assert.deepEqual(asked(socket, 3), [{ cmd: 3, kind: GROUP, dstid: 7, read: 3 }]);
  assert.equal(sockets.length, 1);
});

test("what could not be read is asked for again when something is pushed", async () => {
  const { client, sockets: [socket], shown } = await reader();
  const refusals = [];
  client.on("refused", ({ code }) => refusals.push(code));
  socket.says(said(5));
  socket.says(notMember);
  assert.deepEqual(refusals, [10]);
  socket.says(said(6));
  assert.equal(asked(socket, 4).length, 3);
  socket.says(page(4, 5, 6));
  assert.deepEqual(shown, [1, 2, 3, 4, 5, 6]);
});

test("a mark waits also while a page that was refused for now is to be asked again", async () => {
  const { client, clock, sockets: [socket] } = await reader();
  const about = () => socket.sent.filter(({ cmd }) => cmd === 3 || cmd === 4).slice(2);
  socket.says(said(5));
  socket.says(busy({ kind: GROUP, dstid: 7 }));
  client.read(GROUP, 7, 4);
  const sync = { cmd: 4, kind: GROUP, dstid: 7, after: 3, limit: LIMITS.page };
  assert.deepEqual(about(), [sync]);
  clock.advance(LIMITS.backoffFirst);
  assert.deepEqual(about(), [sync, sync]);
  socket.says(page(4, 5));
  assert.deepEqual(about(), [sync, sync, { cmd: 3, kind: GROUP, dstid: 7, read: 4 }]);
});

test("the answer to what was asked before a `drop` is none to what is asked after it", async () => {
  const { client, sockets: [socket] } = await reader();
  for (const late of [page(4, 5), notMember, busy({ kind: GROUP, dstid: 7 })]) {
    const before = asked(socket, 4).length;
    const dropped = assert.rejects(client.history(GROUP, 7), { code: 0 });
    client.drop(GROUP, 7);
    await dropped;
    const history = client.history(GROUP, 7);
    assert.equal(asked(socket, 4).length, before + 1);
    socket.says(late);
    assert.equal(asked(socket, 4).length, before + 2);
    socket.says(page(1, 2));
    assert.deepEqual((await history).rows.map(({ seq }) => seq), [1, 2]);
  }
  // Nor is one asked that waited for its turn when it was dropped.
  for (let at = 0; at < LIMITS.window; at += 1) client.conversations();
  const before = asked(socket, 4).length;
  client.history(GROUP, 7).catch(() => {});
  client.open(GROUP, 8);
  client.drop(GROUP, 7);
  client.drop(GROUP, 8);
  for (let at = 0; at < LIMITS.window; at += 1) socket.says({ cmd: 5, convs: [], more: false, epoch: 1 });
  assert.equal(asked(socket, 4).length, before);
});

/** Lists around lists. */
const nested = (levels) => (levels === 0 ? "x" : [nested(levels - 1)]);

/** What the gateway refuses without a word about which message or conversation it means. */
const UNREADABLE = {
  "half a character": (client) => client.send(DIRECT, 2, { media: 1, content: "\ud83d" }),
  "half a character in a name": (client) => client.send(DIRECT, 2, { media: 1, a: [{ "\udc00": 1 }] }),
  "too deep": (client) => client.send(DIRECT, 2, { media: 1, memo: nested(LIMITS.depth) }),
  "too long": (client) => client.send(DIRECT, 2, { content: "x".repeat(LIMITS.messageBytes) }),
  "an empty cid": (client) => client.send(DIRECT, 2, {}, ""),
  "a long cid": (client) => client.send(DIRECT, 2, {}, "\u00e9".repeat(LIMITS.cidBytes / 2 + 1)),
  "a cid of half a character": (client) => client.send(DIRECT, 2, {}, "\udfff"),
  "a cid that is no text": (client) => client.send(DIRECT, 2, {}, 7),
  "no such kind": (client) => client.send(12, 2, {}),
  "a dstid as text": (client) => client.send(DIRECT, "2", {}),
  "no dstid": (client) => client.send(DIRECT, 0, {}),
  "a broken dstid": (client) => client.send(GROUP, 1.5, {}),
  "a recall of nothing": (client) => client.recall(DIRECT, 2, 0),
  "a recall without a name": (client) => client.recall(DIRECT, 2, 1, ""),
  "an open of nothing": (client) => client.open(DIRECT, "2"),
  "a mark of nothing": (client) => client.read(DIRECT, -1, 1),
  "half a mark": (client) => client.read(DIRECT, 2, 1.5),
  "a list behind nothing": (client) => client.conversations({ ts: 1.5, kind: DIRECT, dstid: 2 }),
};

test("what the server could not name in a refusal is refused before it is sent", async () => {
  const { client, sockets: [socket] } = await begin();
  socket.onopen();
  for (const [what, ask] of Object.entries(UNREADABLE)) assert.throws(() => ask(client), (error) => error instanceof RangeError || error instanceof TypeError, what);
  for (const [kind, dstid, from] of [[DIRECT, "2", {}], [7, 2, {}], [DIRECT, 2, { before: NaN }], [DIRECT, 2, { before: "1" }]]) {
    await assert.rejects(client.history(kind, dstid, from), TypeError);
  }
  assert.deepEqual(socket.sent, []);
  assert.deepEqual(client.pending(), []);
  // What is one level less deep goes out, and so do all that follow.
  client.send(DIRECT, 2, { media: 1, memo: nested(LIMITS.depth - 1) });
  for (let at = 1; at < LIMITS.window; at += 1) client.send(DIRECT, 2, { media: 1, content: "\ud83d\ude00" });
  assert.equal(asked(socket, DIRECT).length, LIMITS.window);
});

test("a history is asked for as the server takes it", async () => {
  for (const [from, frame] of [
    [{ limit: 0 }, { limit: 1 }], [{ limit: 1.5 }, { limit: 1 }], [{ limit: 1000 }, { limit: LIMITS.page }], [{ limit: NaN }, { limit: 1 }],
    [{ before: -1 }, { before: 0, limit: 50 }], [{ before: 7.5 }, { before: 7, limit: 50 }], [{ before: null }, { limit: 50 }],
    [{ before: Infinity, limit: Infinity }, { before: Number.MAX_SAFE_INTEGER, limit: LIMITS.page }],
  ]) {
    const { client, sockets: [socket] } = await begin();
    socket.onopen();
    const history = client.history(GROUP, 7, from);
    assert.deepEqual(asked(socket, 4), [{ cmd: 4, kind: GROUP, dstid: 7, ...frame }]);
    socket.says(page(1, 2));
    assert.equal((await history).rows.length, 2);
  }
});

test("what an earlier version kept and no server reads is told once, and goes", async () => {
  const storage = new MemoryStorage();
  const body = { media: 1, content: "cut \ud83d" };
  storage.put("outbox.cut", { cid: "cut", kind: DIRECT, dstid: 2, body, at: 1 });
  storage.put("outbox.odd", { cid: "odd", kind: DIRECT, dstid: "2", body: { media: 1 }, at: 2 });
  storage.put("outbox.none", null);
  storage.put("outbox.good", { cid: "good", kind: DIRECT, dstid: 2, body: { media: 1 }, at: 3 });
  storage.put("cursor.10.2", { kind: DIRECT, dstid: 2, last: "7" });
  storage.put("mine", 1);
  const refusals = [];
  const { sockets } = await begin(storage, (client) => client.on("refused", (refusal) => refusals.push(refusal)), { keepCursors: true });
  sockets[0].onopen();
  assert.deepEqual(asked(sockets[0], DIRECT).map(({ cid }) => cid), ["good"]);
  assert.deepEqual(refusals.map(({ cid, code, body: kept }) => [cid, code, kept]), [["cut", 1, body]]);
  assert.deepEqual(storage.entries("").map(([key]) => key), ["outbox.good", "mine"]);
});

test("what goes out is what was said, whatever becomes of the object and however it spells names", async () => {
  const { client, clock, sockets } = await begin();
  const body = { media: 1, content: "first", more: { list: [1] }, CID: "mine", Dstid: 9, cmd: 7 };
  client.send(DIRECT, 2, body, "a");
  body.content = "second";
  body.more.list.push(2);
  client.send(DIRECT, 2, body, "b");
  client.send(DIRECT, 2, { content: "not once more" }, "a");
  body.content = "third";
  sockets[0].onopen();
  const seen = asked(sockets[0], DIRECT).map(({ cid, content, more }) => [cid, content, more.list]);
  assert.deepEqual(seen, [["a", "first", [1]], ["b", "second", [1, 2]]]);
  for (const frame of asked(sockets[0], DIRECT)) assert.deepEqual(Object.keys(frame).slice(-3), ["cmd", "dstid", "cid"], "the last one of a name counts");
  const shown = [];
  client.on("message", ({ message }) => shown.push(message.content));
  sockets[0].says({ cmd: 1, cid: "a", kind: DIRECT, dstid: 2, id: 1, seq: 1, ts: 1 });
  assert.deepEqual(shown, ["first"]);
  clock.advance(LIMITS.ackTimeout);
  assert.deepEqual(asked(sockets[0], DIRECT).map(({ content }) => content), ["first", "second", "second"]);
});

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a dial that fails is not the last one", async () => {
  let fails = false;
  let asks = 0;
  for (const what of ["token", "url"]) {
    const right = what === "token" ? "secret" : "ws://server.test/chat";
    for (const bad of [() => { throw new Error("no session"); }, () => Promise.reject(new Error("no session"))]) {
      asks = 0;
      fails = false;
      const { client, clock, sockets, states } = await begin(undefined, () => {}, { [what]: () => {
        asks += 1;
        return fails ? bad() : right;
      } });
      sockets[0].onopen();
      fails = true;
      client.networkLost();
      const reasons = [];
      client.on("status", ({ state, reason }) => state === "waiting" && reasons.push(reason));
      // Each is later than the one before.
      for (const pause of [750, 1500, 3000]) {
        const before = asks;
        clock.advance(pause - 1);
        await settled();
        assert.equal(asks, before);
        clock.advance(1);
        await settled();
        assert.equal(asks, before + 1);
        assert.equal(states.at(-1), "waiting");
      }
      assert.deepEqual(reasons, ["no session", "no session", "no session"]);
      fails = false;
      client.hurry();
      sockets.at(-1).onopen();
      assert.deepEqual([sockets.length, states.at(-1)], [2, "online"]);
      client.close();
    }
  }
});

test("tokens and addresses may be given later", async () => {
  const answers = [];
  const later = () => new Promise((resolve) => answers.push(resolve));
  const { client, clock, sockets, states } = await begin(undefined, () => {}, { token: later, url: async () => "ws://other.test/chat" });
  assert.deepEqual([sockets.length, states.at(-1)], [0, "connecting"]);
  client.hurry();
  answers[0]("secret");
  await settled();
  assert.deepEqual([sockets.length, sockets[0].url.host], [1, "other.test"]);
  sockets[0].onopen();
  client.networkLost();
  client.hurry();
  // One that never comes is a dial that hangs.
  clock.advance(LIMITS.dial);
  assert.equal(states.at(-1), "waiting");
  answers[1]("late");
  await settled();
  assert.equal(sockets.length, 1);
  clock.advance(2 * LIMITS.backoffFirst);
  assert.equal(answers.length, 3);
  client.close();
  answers[2]("too late");
  await settled();
  assert.deepEqual([sockets.length, states.at(-1)], [1, "closed"]);
});

test("an address that can never be dialled is no matter of the network", async () => {
  const client = new ImgateClient({ url: "nowhere", userId: 1, WebSocket: class {} });
  const states = [];
  client.on("status", ({ state }) => states.push(state));
  for (let time = 0; time < 2; time += 1) await assert.rejects(client.connect(), TypeError);
  assert.deepEqual(states, ["connecting", "closed", "connecting", "closed"]);
});

/** With 300 conversations, in each of which a message was received, and that was said. */
async function receiver() {
  const users = Array.from({ length: 300 }, (_, at) => at + 2);
  const stage = await begin(undefined, () => {}, { firstPage: 0 });
  const list = (recv) => ({ cmd: 5, convs: users.map((dstid) => ({ kind: DIRECT, dstid, head: 5, ts: 7, recv, read: 0, unread: 1, floor: 1 })), more: false, epoch: 1 });
  const [socket] = stage.sockets;
  socket.onopen();
  socket.says({ cmd: 5, convs: [], more: false, epoch: 1 });
  for (const userid of users) socket.says({ id: 5, seq: 5, ts: 7, userid, cmd: DIRECT, dstid: 1, media: 1 });
  stage.clock.advance(LIMITS.receipts);
  assert.deepEqual(asked(socket, 3), users.map((dstid) => ({ cmd: 3, kind: DIRECT, dstid, recv: 5 })));
  /** What is said on a new connection to a server whose list knows that much. */
  const again = (said) => {
    stage.client.networkLost();
    stage.client.hurry();
    const next = stage.sockets.at(-1);
    next.onopen();
    stage.clock.advance(LIMITS.receipts);
    assert.deepEqual(asked(next, 3), [], "the list is waited for");
    next.says(said);
    stage.clock.advance(LIMITS.receipts);
    return asked(next, 3);
  };
  return { ...stage, socket, users, list, again };
}

test("what the list has heard, or was relayed, is not said again after a reconnect", async () => {
  const { list, again } = await receiver();
  assert.deepEqual(again(list(5)), []);
  assert.equal(again(list(0)).length, 300, "after a crash of the server it may know less");
  const other = await receiver();
  for (const dstid of other.users.slice(2)) other.socket.says({ cmd: 3, userid: 1, kind: DIRECT, dstid, recv: 5, read: 0 });
  assert.deepEqual(other.again({ ...list(0), convs: [], more: true }), [2, 3].map((dstid) => ({ cmd: 3, kind: DIRECT, dstid, recv: 5 })), "what neither knows is");
});

test("a word that was refused for now is said again", async () => {
  const { client, clock, sockets: [socket] } = await begin(undefined, () => {}, { firstPage: 0 });
  const row = { kind: DIRECT, dstid: 2, head: 4, ts: 7, recv: 0, read: 0, unread: 4, floor: 1 };
  const refusals = [];
  client.on("refused", (refusal) => refusals.push(refusal));
  socket.onopen();
  socket.says({ cmd: 5, convs: [row], more: false, epoch: 1 });
  client.read(DIRECT, 2, 4);
  const mark = { cmd: 3, kind: DIRECT, dstid: 2, read: 4 };
  const marks = [mark];
  for (const pause of [750, 1500]) {
    assert.deepEqual(asked(socket, 3), marks);
    socket.says(busy({ kind: DIRECT, dstid: 2 }));
    clock.advance(pause - 1);
    assert.deepEqual(asked(socket, 3), marks);
    clock.advance(1);
    marks.push(mark);
  }
  assert.deepEqual(asked(socket, 3), marks);
  socket.says({ cmd: 3, userid: 1, kind: DIRECT, dstid: 2, recv: 4, read: 4 });
  socket.says(busy({ kind: DIRECT, dstid: 2 }));
  clock.advance(LIMITS.heartbeat - 1);
  assert.deepEqual(asked(socket, 3), marks, "it has come meanwhile");
  assert.deepEqual(refusals, []);
});

test("words that were refused for now have their pause, whatever is said about other conversations", async () => {
  const { client, clock, socket, users } = await receiver();
  const said = () => asked(socket, 3).slice(users.length);
  const refused = users.slice(0, 44);
  for (const dstid of refused) socket.says(busy({ kind: DIRECT, dstid }));
  socket.says({ id: 5, seq: 5, ts: 7, userid: 500, cmd: DIRECT, dstid: 1, media: 1 });
  clock.advance(LIMITS.receipts);
  const elsewhere = { cmd: 3, kind: DIRECT, dstid: 500, recv: 5 };
  assert.deepEqual(said(), [elsewhere]);
  client.read(DIRECT, 2, 5);
  assert.deepEqual(said(), [elsewhere]);
  clock.advance(1000);
  const received = refused.slice(1).map((dstid) => ({ cmd: 3, kind: DIRECT, dstid, recv: 5 }));
  assert.deepEqual(said(), [elsewhere, { cmd: 3, kind: DIRECT, dstid: 2, read: 5 }, ...received]);
});

test("without a list, as where nothing is stored, typing is said in direct conversations", async () => {
  const { client, sockets: [socket] } = await begin(undefined, () => {}, { firstPage: 0 });
  socket.onopen();
  client.open(DIRECT, 2);
  socket.says({ cmd: 4, kind: DIRECT, dstid: 2, rows: [], more: false, floor: 1, head: 0 });
  client.typing(DIRECT, 2);
  assert.deepEqual(asked(socket, 6), [{ cmd: 6, kind: DIRECT, dstid: 2 }]);
});

test("a mark that was refused for now is not said after a `drop`", async () => {
  const { client, clock, sockets: [socket] } = await reader();
  const marks = asked(socket, 3);
  socket.says(busy({ kind: GROUP, dstid: 7 }));
  client.drop(GROUP, 7);
  clock.advance(LIMITS.heartbeat - 1);
  assert.deepEqual(asked(socket, 3), marks);
});

test("`close` and `connect` while the storage is read lead to one connection", async () => {
  const answers = [];
  const storage = { entries: () => new Promise((resolve) => answers.push(() => resolve([]))), put() {}, remove() {} };
  const sockets = [];
  const clock = new Clock();
  class Socket {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
  }
  const client = new ImgateClient({ url: "ws://server.test/chat", token: async () => "secret", userId: 1, storage, WebSocket: Socket, clock, random: () => 0.5 });
  const first = client.connect();
  client.close();
  const second = client.connect();
  answers[0]();
  await first;
  await settled();
  assert.equal(sockets.length, 1);
  client.networkLost();
  answers[1]();
  await second;
  await settled();
  assert.equal(sockets.length, 1, "a reconnect waits already");
  client.hurry();
  await settled();
  sockets[1].onopen();
  clock.advance(LIMITS.heartbeat - 1);
  await settled();
  client.send(DIRECT, 2, { media: 1, content: "hello" });
  assert.deepEqual([sockets.length, asked(sockets[1], DIRECT).length], [2, 1]);
});

test("a client that is closed when it hears that it waits does not come back", async () => {
  const { client, clock, sockets, states } = await begin();
  sockets[0].onopen();
  client.on("status", ({ state }) => state === "waiting" && client.close());
  client.networkLost();
  clock.advance(2 * LIMITS.backoffLast);
  assert.deepEqual([sockets.length, states.at(-1)], [1, "closed"]);
});
