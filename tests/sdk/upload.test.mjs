// Uploads of the web client on a network that goes away without a word.
import assert from "node:assert/strict";
import { test } from "node:test";

Object.defineProperty(globalThis, "localStorage", { configurable: true, value: { getItem: () => null } });
Object.defineProperty(globalThis, "navigator", { configurable: true, value: { languages: ["en-US"], language: "en-US" } });
globalThis.document = { documentElement: {}, getElementById: () => null, addEventListener: () => {} };
globalThis.fetch = async () => new Response("{}", { status: 404 });
const { Api } = await import("../../src/web/app/api.js");

const MINUTE = 60_000;

/** An upload that has begun; `ends` says how it ended, once it has. */
async function begin(t) {
  let request;
  globalThis.XMLHttpRequest = class {
    upload = {};
    aborted = false;
    constructor() {
      request = this;
    }
    open() {}
    setRequestHeader() {}
    send() {}
    abort() {
      this.aborted = true;
      this.onabort();
      this.onloadend();
    }
  };
  const parts = [];
  const ends = [];
  new Api().upload(new Blob(["abcd"]), "a.txt", (part) => parts.push(part)).then((file) => ends.push(file.url), ({ code }) => ends.push(code));
  while (!request) await new Promise((resolve) => setImmediate(resolve));
  const pass = async (ms) => {
    t.mock.timers.tick(ms);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { request, parts, ends, pass };
}

test("an upload of which nothing goes out any more fails, and a slow one does not", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { request, parts, ends, pass } = await begin(t);
  for (const loaded of [1, 2, 3]) {
    await pass(MINUTE - 1);
    request.upload.onprogress({ loaded, total: 4 });
  }
  assert.deepEqual([parts, ends, request.aborted], [[0.25, 0.5, 0.75], [], false]);
  await pass(MINUTE);
  assert.deepEqual([ends, request.aborted], [["network"], true]);
});

test("one that has ended is not given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { request, ends, pass } = await begin(t);
  Object.assign(request, { status: 201, response: { url: "/files/a" } });
  request.onload();
  request.onloadend();
  await pass(2 * MINUTE);
  assert.deepEqual([ends, request.aborted], [["/files/a"], false]);
});

test("one that the system has taken whole may still be going out, and has minutes for its answer", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const told of ["onprogress", "onload"]) {
    const { request, ends, pass } = await begin(t);
    request.upload[told]({ loaded: 4, total: 4 });
    await pass(1.5 * MINUTE);
    Object.assign(request, { status: 201, response: { url: "/files/a" } });
    request.onload();
    request.onloadend();
    await pass(0);
    assert.deepEqual([ends, request.aborted], [["/files/a"], false]);
  }
  const { request, ends, pass } = await begin(t);
  request.upload.onprogress({ loaded: 4, total: 4 });
  await pass(5 * MINUTE);
  assert.deepEqual([ends, request.aborted], [["network"], true]);
});
