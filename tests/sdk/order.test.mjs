// The order of a conversation in the web client, where some of its messages were not stored and have no number.
import assert from "node:assert/strict";
import { test } from "node:test";

Object.defineProperty(globalThis, "localStorage", { configurable: true, value: { getItem: () => null } });
Object.defineProperty(globalThis, "navigator", { configurable: true, value: { languages: ["en-US"], language: "en-US" } });
globalThis.document = { documentElement: {}, getElementById: () => null, addEventListener: () => {} };
const { Conversation } = await import("../../src/web/app/model.js");

const ME = 1;
const stored = (seq, ts = seq * 10) => ({ seq, ts, userid: 2, content: `${seq}` });
const passing = (ts) => ({ ts, userid: 2, content: `at ${ts}` });
const said = ({ messages }) => messages.map(({ content }) => content);

/** A conversation whose last line the list has brought, and which these came into, one call of `put` each. */
function conversation(...puts) {
  const one = new Conversation(10, 2);
  for (const rows of puts) one.put(rows, ME);
  return one;
}

test("what was not stored and came first stands behind the history that is older", () => {
  const one = conversation([passing(25)], [stored(1), stored(2)]);
  assert.deepEqual(said(one), ["1", "2", "at 25"]);
  assert.equal(one.newest().content, "at 25");
});

test("it stands between what was said before it and after it, whichever comes first", () => {
  const rows = [stored(1), stored(2), stored(3), stored(4)];
  const inOrder = ["1", "at 15", "2", "at 25", "at 26", "3", "4"];
  assert.deepEqual(said(conversation([passing(15)], [passing(25)], [passing(26)], rows)), inOrder);
  assert.deepEqual(said(conversation(rows, [passing(26)], [passing(15)], [passing(25)])), inOrder);
  assert.deepEqual(said(conversation([passing(25)], rows.slice(2), [passing(26)], [passing(15)], rows.slice(0, 2))), inOrder);
  assert.deepEqual(said(conversation([rows[3]], [passing(15)], [rows[1]], [passing(26)], [rows[2]], [passing(25)], [rows[0]])), inOrder);
});

test("the number counts among those that have one, also where a clock was set back", () => {
  assert.deepEqual(said(conversation([stored(1, 50)], [passing(45)], [stored(2, 40)], [stored(3, 60)])), ["at 45", "1", "2", "3"]);
  assert.deepEqual(said(conversation([passing(45)], [stored(2, 40)], [stored(1, 50)])), ["1", "2", "at 45"]);
});

test("the newest is the one that was said last", () => {
  const one = conversation([passing(25)]);
  one.last = stored(2);
  assert.equal(one.newest().content, "at 25");
  one.last = stored(3);
  assert.equal(one.newest().content, "3");
  one.put([stored(1), stored(2), stored(3)], ME);
  assert.equal(one.newest().content, "3");
});

test("pages go on from the first that has a number, and what is read ends with the last", () => {
  const one = conversation([passing(5)], [stored(2)], [stored(3)], [passing(35)]);
  assert.equal(one.firstSeq, 2);
  assert.equal(one.lastSeq, 3);
  assert.equal(conversation([passing(5)]).firstSeq, undefined);
  assert.equal(conversation([passing(5)]).lastSeq, undefined);
});

test("what is in the page keeps its place when history comes in above it", () => {
  const one = conversation([passing(25)]);
  const place = one.held.low;
  one.put([stored(1), stored(2), stored(3)], ME);
  assert.equal(one.at(place).content, "at 25");
  assert.equal(one.at(one.held.low).content, "1");
  assert.equal(one.held.high - one.held.low, 4);
});

test("nothing stands twice", () => {
  const one = conversation([passing(25)], [stored(1), stored(2)], [stored(2)], [stored(1), stored(2), stored(3)]);
  assert.deepEqual(said(one), ["1", "2", "at 25", "3"]);
  const numbers = conversation([passing(1)], [passing(2)], [stored(1)]).messages.map(({ nth }) => nth).filter(Boolean);
  assert.equal(new Set(numbers).size, 2);
});

test("previews of what is shown no more are let go", (t) => {
  const revoked = [];
  t.mock.method(URL, "revokeObjectURL", (url) => revoked.push(url));
  const one = new Conversation(10, 2);
  one.put([stored(5), { ...stored(6), preview: "blob:six" }], ME);
  one.pending = [{ cid: "a", preview: "blob:a" }, { cid: "b", place: 4, preview: "blob:b" }, { cid: "c", preview: "blob:c" }];
  one.put([{ ...stored(7), userid: ME, cid: "a" }], ME);
  assert.deepEqual(revoked.splice(0), ["blob:a", "blob:b"]);
  assert.deepEqual(one.pending.map(({ cid }) => cid), ["c"]);
  one.clear();
  assert.deepEqual(revoked, ["blob:six"]);
});
