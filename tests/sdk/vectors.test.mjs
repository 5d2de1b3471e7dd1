// The SDK against the recorded conversations in tests/vectors; tests/vectors/README.md tells what their steps mean.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { ImgateClient } from "../../src/web/sdk/imgate.js";

const folder = new URL("../vectors/", import.meta.url);
const INPUTS = ["open", "server", "server_text", "app", "after_ms", "close", "connects_within_ms", "never_connects"];
const EVENTS = ["message", "sent", "refused", "receipt", "reset", "gap"];
const TEN_MINUTES = 600_000;

/** A clock that stands still between the steps. */
class Clock {
  time = 1_000_000;
  timers = new Map();
  next = 1;
  now() {
    return this.time;
  }
  set(callback, ms) {
    this.timers.set(this.next, { at: this.time + ms, callback });
    this.next += 1;
    return this.next - 1;
  }
  clear(timer) {
    this.timers.delete(timer);
  }
  /** Runs what is due within `ms`; ends early when `until` holds. */
  advance(ms, until = () => false) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due || until()) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].callback();
    }
    if (!until()) this.time = end;
  }
}

async function play(vector) {
  const clock = new Clock();
  const outputs = [];
  const sockets = [];
  class Socket {
    constructor(url, protocols) {
      assert.deepEqual(protocols, ["imgate.v2", "token.secret"]);
      assert.match(url, /^ws:\/\/server\.test\/chat\?device=web&device_id=[0-9a-f]{32}$/);
      sockets.push(this);
    }
    send(text) {
      outputs.push({ client: JSON.parse(text) });
    }
    close() {}
  }
  const client = new ImgateClient({
    url: "ws://server.test/chat", token: "secret", userId: vector.user, firstPage: vector.first_page, receipts: vector.receipts,
    WebSocket: Socket, clock, random: () => 0.5,
  });
  for (const event of EVENTS) {
    client.on(event, (detail) => outputs.push({ emit: event, ...detail, ...(event === "message" ? pick(detail.message) : {}) }));
  }
  await client.connect();
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const inputs = {
    open: () => sockets.at(-1).onopen(),
    server: (step) => sockets.at(-1).onmessage({ data: JSON.stringify(step.server) }),
    server_text: (step) => sockets.at(-1).onmessage({ data: step.server_text }),
    after_ms: (step) => clock.advance(step.after_ms),
    close: (step) => sockets.at(-1).onclose({ code: step.close, reason: step.reason }),
    connects_within_ms: ({ connects_within_ms: [from, to] }) => {
      const count = sockets.length;
      clock.advance(from - 1, () => sockets.length > count);
      assert.equal(sockets.length, count, `it came back before ${from} ms`);
      clock.advance(to - from + 1, () => sockets.length > count);
      assert.equal(sockets.length, count + 1, `it did not come back within ${to} ms`);
    },
    never_connects: () => {
      const count = sockets.length;
      clock.advance(TEN_MINUTES);
      assert.equal(sockets.length, count, "it came back");
    },
    app: (step) => {
      if (step.app === "send") client.send(step.kind, step.dstid, step.body, step.cid);
      else if (step.app === "read") client.read(step.kind, step.dstid, step.seq);
      else if (step.app === "recall") client.recall(step.kind, step.dstid, step.seq, step.cid);
      else if (step.app === "history") {
        client.history(step.kind, step.dstid, { before: step.before, limit: step.limit })
          .then(({ rows, more }) => outputs.push({ emit: "history", seqs: rows.map((row) => row.seq), more }));
      } else throw new Error(`no such application: ${step.app}`);
    },
  };

  for (let at = 0; at < vector.steps.length;) {
    const step = vector.steps[at];
    const input = INPUTS.find((name) => name in step);
    assert.ok(input, `step ${at} is no input: ${JSON.stringify(step)}`);
    inputs[input](step);
    await settled();
    const expected = [];
    for (at += 1; at < vector.steps.length && ("client" in vector.steps[at] || "emit" in vector.steps[at]); at += 1) expected.push(vector.steps[at]);
    const seen = outputs.splice(0);
    for (const sort of ["client", "emit"]) {
      const [want, have] = [expected, seen].map((list) => list.filter((output) => sort in output));
      const like = have.map((output, n) => (sort === "emit" && want[n] ? narrow(output, want[n]) : output));
      assert.deepEqual(like, want, `after ${JSON.stringify(step)}`);
    }
  }
}

const pick = ({ seq, content, recall }) => ({ seq, content, recall });
const narrow = (output, wanted) => Object.fromEntries(Object.keys(wanted).map((key) => [key, output[key]]));

const names = readdirSync(folder).filter((name) => name.endsWith(".json")).sort();
test("there are vectors", () => assert.ok(names.length >= 30));
for (const name of names) {
  const vector = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  test(`${name}: ${vector.about}`, () => play(vector));
}

test("a wrong transcript is noticed", async () => {
  const steps = [{ open: true }, { app: "send", kind: 10, dstid: 2, cid: "a", body: { media: 1 } }, { client: { cmd: 10, dstid: 2, cid: "b", media: 1 } }];
  await assert.rejects(play({ user: 1, first_page: 2, receipts: false, steps }));
  await assert.rejects(play({ user: 1, first_page: 2, receipts: false, steps: [{ open: true }, { close: 4501, reason: "" }, { connects_within_ms: [1, 60000] }] }));
});
