// Every word that the pages say is there in both languages.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

Object.defineProperty(globalThis, "localStorage", { configurable: true, value: { getItem: () => null } });
globalThis.document = { documentElement: {} };
const folder = new URL("../../src/web/app/", import.meta.url);
const { keys } = await import(new URL("language.js", folder));

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
