// The types of the SDK, by the compiler: a program that uses all of it, and the declarations alone without a browser's library.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as sdk from "../../src/web/sdk/imgate.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const compile = (project) => new Promise((resolve) => {
  execFile(process.execPath, [here("node_modules/typescript/bin/tsc"), "--project", here(project)], (error, said) => resolve(error ? said || String(error) : ""));
});

test("a program that uses the SDK compiles", async () => {
  assert.equal(await compile("types/tsconfig.json"), "");
});

test("the declarations need no library of a browser", async () => {
  assert.equal(await compile("types/bare.json"), "");
});

test("everything that the module exports is declared, and nothing else", async () => {
  const text = await readFile(here("../../src/web/sdk/imgate.d.ts"), "utf8");
  const declared = [...text.matchAll(/^export declare (?:const|class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(sdk).sort());
  const limits = [...text.split("Readonly<{")[1].split("}>")[0].matchAll(/^ {2}(\w+):/gm)].map(([, name]) => name);
  assert.deepEqual(limits.sort(), Object.keys(sdk.LIMITS).sort());
  const methods = [...text.split("class ImgateClient")[1].matchAll(/^ {2}(?:get )?(\w+)[(<]/gm)].map(([, name]) => name);
  const real = Object.getOwnPropertyNames(sdk.ImgateClient.prototype);
  assert.deepEqual([...new Set(methods)].sort(), real.sort());
});
