// The web client where messages may be compressed: a browser asks for it by itself, and no script notices.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway } from "./gateway.mjs";
import { Person, launch } from "./people.mjs";

let gateway;
let browser;

before(async () => {
  gateway = new Gateway(["--compression", "on"]);
  await gateway.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway?.remove();
});

/** The value of a sample. */
async function metric(name) {
  const page = await (await fetch(`${gateway.adminUrl}/metrics`)).text();
  const line = page.split("\n").find((line) => line.startsWith(`${name} `));
  assert.ok(line, `${name} in ${page}`);
  return Number(line.split(" ").at(-1));
}

async function arrive(t, name) {
  const person = await Person.arrive(browser, gateway.url);
  t.after(() => person.context.close());
  await person.register(name);
  return person;
}

describe("compression", () => {
  test("two people tell each other long stories, each way compressed", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    const bob = await arrive(t, "Bob Brook");
    await ann.befriend(bob.mobile);
    const story = (from) => Array.from({ length: 60 }, (_, n) => `${from} says again what was said ${n} times`).join(", ");
    await ann.say(story("Ann"));
    await bob.open("Ann Archer");
    await bob.sees("Ann says again what was said 59 times");
    await bob.say(story("Bob"));
    await ann.sees("Bob says again what was said 59 times");
    assert.ok((await metric('imgate_compressed_messages_total{outcome="shorter"}')) >= 2);
    assert.ok((await metric("imgate_inflated_messages_total")) >= 2);
    assert.equal(await metric('imgate_inflate_refused_total{reason="damaged"}'), 0);
    const [plain, compressed] = await Promise.all(["plain", "compressed"].map((form) => metric(`imgate_compressed_bytes_total{form="${form}"}`)));
    assert.ok(compressed < plain / 2, `${plain} -> ${compressed}`);
    // A page of history comes as one long answer.
    await ann.page.reload();
    await ann.open("Bob Brook");
    await ann.sees("Bob says again what was said 59 times");
  });
});
