// The web client over TLS of the gateway's own: https and wss with a certificate that the browser believes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { makeCertificate } from "./certificate.mjs";
import { Gateway } from "./gateway.mjs";
import { Person, launch } from "./people.mjs";

let pair;
let gateway;
let browser;

before(async () => {
  pair = await makeCertificate();
  gateway = new Gateway([...pair.settings, "--hsts", "30d"]);
  await gateway.start();
  browser = await launch([pair.flag]);
});
after(async () => {
  await browser?.close();
  await gateway?.remove();
  await pair?.remove();
});

/** Somebody who has opened the page and registered; `sockets`: the addresses of their WebSockets. */
async function arrive(t, name, url) {
  const person = await Person.arrive(browser, url);
  t.after(() => person.context.close());
  person.sockets = [];
  person.page.on("websocket", (socket) => person.sockets.push(socket.url()));
  await person.register(name);
  return person;
}

describe("over TLS", () => {
  test("two people register, talk and find their talk again, one of them without TLS", async (t) => {
    const ann = await arrive(t, "Ann Archer", gateway.tlsUrl);
    const bob = await arrive(t, "Bob Brook", gateway.url);
    await ann.befriend(bob.mobile);
    await ann.say("hello over TLS");
    await bob.open("Ann Archer");
    await bob.sees("hello over TLS");
    await bob.say("hello to TLS");
    await ann.sees("hello to TLS");
    assert.ok(ann.sockets.length > 0 && ann.sockets.every((url) => url.startsWith("wss://localhost:")), `${ann.sockets}`);
    await ann.page.reload();
    await ann.open("Bob Brook");
    await ann.sees("hello to TLS");
    ann.noComplaints();
    bob.noComplaints();
  });

  test("the login cookie is for TLS alone, and the browser is told to stay with it", async (t) => {
    const ann = await arrive(t, "Ann Archer", gateway.tlsUrl);
    const cookies = await ann.context.cookies();
    assert.ok(cookies.length > 0, "there is one");
    for (const cookie of cookies) {
      assert.ok(cookie.secure && cookie.httpOnly && cookie.name.startsWith("__Host-") && cookie.sameSite !== "None", JSON.stringify(cookie));
    }
    const answer = await ann.page.request.get(gateway.url).catch(() => null);
    assert.equal(answer?.headers()["strict-transport-security"], undefined, "nothing is said of it without TLS");
    const page = await ann.page.reload();
    assert.equal(page.headers()["strict-transport-security"], "max-age=2592000");
    await ann.page.waitForSelector("#settings");
    ann.noComplaints();
  });
});
