// What is recorded is given away when somebody says so, and not before.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

class FakeRecorder {
  static isTypeSupported = () => true;
  state = "inactive";
  start() {
    this.state = "recording";
  }
  stop() {
    this.state = "inactive";
    this.ondataavailable({ data: new Blob(["words"]) });
    this.onstop();
  }
}

async function begin() {
  const track = { stopped: false, stop: () => { track.stopped = true; } };
  globalThis.MediaRecorder = FakeRecorder;
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { mediaDevices: { getUserMedia: async () => ({ getTracks: () => [track] }) } } });
  const { Recorder } = await import("../../src/web/app/recorder.js");
  const recorder = new Recorder();
  const given = [];
  let over = 0;
  recorder.onEnd = (blob) => given.push(blob?.size ?? null);
  recorder.onOver = () => { over += 1; };
  assert.equal(await recorder.start(), true);
  return { recorder, given, track, isOver: () => over === 1 };
}

test("a recording that has become too long ends, and waits for a word", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => mock.timers.reset());
  const long = await begin();
  mock.timers.tick(299_000);
  assert.equal(long.track.stopped, false);
  mock.timers.tick(1_000);
  assert.ok(long.track.stopped && long.isOver());
  assert.deepEqual(long.given, []);
  long.recorder.stop();
  long.recorder.stop();
  long.recorder.discard();
  assert.deepEqual(long.given, [5], "once");
  const other = await begin();
  mock.timers.tick(300_000);
  other.recorder.discard();
  assert.deepEqual(other.given, [null]);
});

test("one that is sent or discarded while it goes on ends with that", async () => {
  const sent = await begin();
  sent.recorder.stop();
  assert.ok(sent.track.stopped);
  assert.deepEqual(sent.given, [5]);
  const gone = await begin();
  gone.recorder.discard();
  gone.recorder.stop();
  assert.ok(gone.track.stopped);
  assert.deepEqual(gone.given, [null]);
});
