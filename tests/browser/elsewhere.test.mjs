// The SDK from elsewhere: a page of another origin, one that the gateway does not know, both with and without TLS, and a program of Node.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { after, before, describe, test } from "node:test";
import { DIRECT, ImgateClient } from "../../src/web/sdk/imgate.js";
import { makeCertificate } from "./certificate.mjs";
import { Gateway } from "./gateway.mjs";
import { Person, launch, newMobile } from "./people.mjs";

/** A site of somebody else: one page, which does what a page of one's own would do. */
const PAGE = (gateway) => `<!doctype html><meta charset="utf-8"><title>elsewhere</title><script type="module">
  import { DIRECT, ImgateClient } from "${gateway}/sdk/imgate.js";
  const call = (method, path, body, token) => fetch("${gateway}/api/v1" + path, {
    method, body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...(token ? { Authorization: "Bearer " + token } : {}) },
  }).then((answer) => answer.json());
  /** Says something to oneself; resolves to what comes back. */
  window.talk = (id, token) => new Promise((resolve) => {
    const client = new ImgateClient({ url: "${gateway.replace("http", "ws")}/chat", token, userId: id });
    client.on("message", ({ message }) => { client.close(); resolve(message.content); });
    client.connect();
    client.send(DIRECT, id, { media: 1, content: "from elsewhere" });
  });
  window.whole = async (mobile) => {
    const { user, token } = await call("POST", "/register", { mobile, password: "correct horse", nickname: "Elsa" });
    // What no form could send: the browser asks the gateway first.
    const changed = await call("PATCH", "/me", { memo: "from another origin" }, token);
    return { memo: changed.memo, said: await talk(user.id, token), cookies: document.cookie };
  };
  window.ready = true;
</script>`;

/** In a page: what the gateway gives for no more than what the browser sends along by itself. */
const borrow = async (gateway) => {
  const read = await fetch(`${gateway}/api/v1/me`, { credentials: "include" }).then((answer) => answer.status, (error) => error.name);
  const dialled = await new Promise((resolve) => {
    const socket = new WebSocket(`${gateway.replace("http", "ws")}/chat`, ["imgate.v2"]);
    socket.onmessage = () => { resolve("a session"); socket.close(); };
    socket.onclose = ({ code }) => resolve(code);
  });
  return { read, dialled };
};

let gateway;
let browser;
let pair;
const sites = [];

/** A site of another host than the gateway's, not only of another port. */
async function site(secure) {
  const page = (_, response) => response.setHeader("Content-Type", "text/html").end(PAGE(secure ? gateway.tlsUrl : gateway.url));
  const server = secure
    ? createSecureServer({ cert: await readFile(pair.certificate), key: await readFile(pair.key) }, page)
    : createServer(page);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  sites.push(server);
  return secure ? `https://127.0.0.1:${server.address().port}` : `http://localhost:${server.address().port}`;
}

async function account() {
  const answer = await fetch(`${gateway.url}/api/v1/register`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ mobile: newMobile(), password: "correct horse", nickname: "Nora" }),
  });
  assert.equal(answer.ok, true);
  return answer.json();
}

/** Origins that the gateway has in its settings, and ones that it has not: without and with TLS. */
let known;
let unknown;
before(async () => {
  pair = await makeCertificate();
  [known, unknown] = [[await site(false), await site(true)], [await site(false), await site(true)]];
  gateway = new Gateway([...pair.settings, ...known.flatMap((origin) => ["--cors-origins", origin])]);
  await gateway.start();
  browser = await launch([pair.flag]);
});
after(async () => {
  await browser?.close();
  for (const server of sites) server.close();
  await gateway?.remove();
  await pair?.remove();
});

async function open(t, address) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(address);
  await page.waitForFunction(() => window.ready === true);
  return page;
}

for (const [at, way] of ["without TLS", "over TLS"].entries()) describe(`a page of another origin ${way}`, () => {
  test("that is listed registers, changes something and talks, without a cookie", async (t) => {
    const page = await open(t, known[at]);
    assert.deepEqual(await page.evaluate((mobile) => window.whole(mobile), newMobile()), { memo: "from another origin", said: "from elsewhere", cookies: "" });
    assert.deepEqual(await page.context().cookies(), [], "nothing of the gateway's is kept for its visitor");
  });

  test("that is not listed loads the SDK and talks with a token, and reads nothing of the API", async (t) => {
    const page = await open(t, unknown[at]);
    const { user, token } = await account();
    assert.equal(await page.evaluate(([id, secret]) => window.talk(id, secret), [user.id, token]), "from elsewhere");
    const failed = await page.evaluate((mobile) => window.whole(mobile).then(() => "it was read", (error) => error.name), newMobile());
    assert.equal(failed, "TypeError");
  });

  test("borrows nobody's login", async (t) => {
    const home = at ? gateway.tlsUrl : gateway.url;
    const person = await Person.arrive(browser, home);
    t.after(() => person.context.close());
    await person.register("Ann Archer");
    assert.deepEqual(await person.page.evaluate(borrow, home), { read: 200, dialled: "a session" }, "the gateway's own page has one");
    for (const origin of [known[at], unknown[at]]) {
      const page = await person.context.newPage();
      await page.goto(origin);
      assert.deepEqual(await page.evaluate(borrow, home), { read: "TypeError", dialled: 4501 }, origin);
    }
  });
});

describe("in Node", () => {
  /** Sends to oneself what needs each form of a frame's length, and waits until all of it is back. */
  async function talk(WebSocket) {
    const { user, token } = await account();
    const client = new ImgateClient({ url: `${gateway.url.replace("http", "ws")}/chat`, token, userId: user.id, WebSocket });
    const texts = ["short", "l".repeat(300), "€".repeat(20_000)];
    const heard = [];
    const all = new Promise((resolve, reject) => {
      client.on("message", ({ message }) => heard.push(message.content) === texts.length && resolve());
      client.on("status", ({ state, code }) => state === "closed" && code !== 1000 && reject(new Error(`closed with ${code}`)));
    });
    await client.connect();
    for (const content of texts) client.send(DIRECT, user.id, { media: 1, content });
    await all;
    assert.deepEqual(heard, texts);
    // A page of history has all of them in one frame.
    const { rows } = await client.history(DIRECT, user.id);
    assert.deepEqual(rows.map(({ content }) => content), texts);
    client.close();
  }

  test("with a WebSocket of its own where the runtime has none", async (t) => {
    const theirs = globalThis.WebSocket;
    delete globalThis.WebSocket;
    t.after(() => { if (theirs) globalThis.WebSocket = theirs; });
    await talk(undefined);
  });

  test("with the runtime's WebSocket", { skip: globalThis.WebSocket === undefined && "this Node has none" }, () => talk(undefined));

  test("a gateway that is not there, and a bad token, are told as in a browser", async () => {
    const theirs = globalThis.WebSocket;
    delete globalThis.WebSocket;
    const told = (url) => new Promise((resolve) => {
      const client = new ImgateClient({ url, token: "nonsense", userId: 1 });
      client.on("status", ({ state, code }) => {
        if (state === "connecting" || state === "online") return;
        resolve([state, code]);
        // That is a state, too.
        if (state !== "closed") client.close();
      });
      client.connect();
    });
    const none = createServer();
    none.listen(0, "127.0.0.1");
    await once(none, "listening");
    const { port } = none.address();
    none.close();
    await once(none, "close");
    assert.deepEqual(await told(`ws://127.0.0.1:${port}/chat`), ["waiting", 1006]);
    assert.deepEqual(await told(`${gateway.url.replace("http", "ws")}/chat`), ["closed", 4501]);
    if (theirs) globalThis.WebSocket = theirs;
  });
});
