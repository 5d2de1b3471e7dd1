// Every word that the pages say is there in both languages.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

Object.defineProperty(globalThis, "localStorage", { configurable: true, value: { getItem: () => null } });
globalThis.document = { documentElement: {} };
Object.defineProperty(globalThis, "navigator", { configurable: true, value: { languages: ["en-US"], language: "en-US" } });
const folder = new URL("../../src/web/app/", import.meta.url);
const { clockTime, keys, shortTime } = await import(new URL("language.js", folder));
const { plain } = await import(new URL("dom.js", folder));
const time = await import(new URL("time.js", folder));

test("the languages have the same words", () => assert.deepEqual(keys("zh").sort(), keys("en").sort()));

test("every word that is said exists, and every word is said", () => {
  const scripts = readdirSync(folder).filter((name) => name.endsWith(".js") && name !== "language.js").map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n");
  const known = new Set(keys("en"));
  const said = [...scripts.matchAll(/\bt\("(\w+)"/g)].map(([, key]) => key);
  assert.ok(said.length > 100);
  assert.deepEqual(said.filter((key) => !known.has(key)), []);
  // Codes of the server are put together, and some words stand in tables.
  const unsaid = [...known].filter((key) => !key.startsWith("e_") && !new RegExp(`"${key}"`).test(scripts));
  assert.deepEqual(unsaid.filter((key) => !["today", "yesterday"].includes(key)), []);
});

test("no name turns the sentence around it", () => {
  assert.equal(plain("gpj\u202Eexe.\u0007\u2066x\n"), "gpjexe.x\n");
  assert.equal(plain("李明 👩‍👩‍👧 O’Neil"), "李明 👩‍👩‍👧 O’Neil");
});

test("midnight is 00, not 24", () => assert.equal(clockTime(new Date(2026, 0, 5, 0, 7)), "00:07"));

test("a day of another year has its year", () => assert.match(shortTime(new Date(2001, 4, 6)), /01/));

test("the server's clock is believed, unless there is no difference", () => {
  const at = (ms) => new Date(ms).toUTCString();
  time.heardDate(at(Date.now() + 3_600_000), 20);
  assert.ok(Math.abs(time.now() - Date.now() - 3_600_000) < 2_000);
  time.heardDate("not a date", 20);
  time.heardDate(null, 20);
  assert.ok(time.now() - Date.now() > 3_000_000);
  time.heardDate(at(Date.now()), 20);
  assert.ok(Math.abs(time.now() - Date.now()) < 5);
});
