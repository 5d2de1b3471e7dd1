// The SDK where networks and clocks misbehave: what recorded conversations cannot say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIRECT, ImgateClient, LIMITS, MemoryStorage } from "../../src/web/sdk/imgate.js";

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

async function begin(storage = new MemoryStorage(), before = () => {}) {
  const clock = new Clock();
  const sockets = [];
  class Socket {
    sent = [];
    closed = false;
    constructor() {
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
  const client = new ImgateClient({ url: "ws://server.test/chat", token: "secret", userId: 1, storage, WebSocket: Socket, clock, random: () => 0.5 });
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
