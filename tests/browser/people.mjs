// A person at a browser: what she does, and what she sees.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE_MS = 20_000;
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
];
/** What the page may complain about: answers that are no failure, and a gateway that is away on purpose. */
const EXPECTED = /Failed to load resource|WebSocket connection to/;

export const PHONE = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true };

/** Headless, with a new empty profile. `flags`: more of them. */
export const launch = (flags = []) => chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags], timeout: 60_000 });

/** With this set, scripts and styles come from the tree instead of the binary: for trying changes without building it. */
const FROM_TREE = process.env.WEB_FROM_TREE !== undefined;
const TREE = new URL("../../src/web/", import.meta.url);
const TYPES = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

async function serveTree(context, url) {
  await context.route((address) => address.href.startsWith(url) && /^\/(?:assets\/[^/]+\/)?(app|sdk)\/[\w.]+\.(js|css|svg)$/.test(address.pathname), async (route) => {
    const path = new URL(route.request().url()).pathname.replace(/^\/assets\/[^/]+/, "");
    const body = await readFile(new URL(`.${path}`, TREE));
    await route.fulfill({ body, contentType: TYPES[path.split(".").at(-1)], headers: { "access-control-allow-origin": "*" } });
  });
}

/** So many times as slow as it is a page runs: `BROWSER_SLOWER=8` finds what a test sees only on a fast machine. */
const SLOWER = Number(process.env.BROWSER_SLOWER ?? 1);

let mobiles = 0;
export const newMobile = () => `13${String(process.pid % 100_000).padStart(5, "0")}${String((mobiles += 1)).padStart(4, "0")}`;

export class Person {
  /** Everything that the page should not have said. */
  complaints = [];

  static async arrive(browser, url, options = {}) {
    const person = new Person();
    person.context = await browser.newContext({ viewport: { width: 1180, height: 760 }, locale: "en-US", ...options });
    if (FROM_TREE) await serveTree(person.context, url);
    await person.context.grantPermissions(["clipboard-read", "clipboard-write", "microphone"]);
    person.url = url;
    person.page = await person.tab();
    return person;
  }

  /** A further tab of the same browser. */
  async tab(path = "/") {
    const page = await this.context.newPage();
    page.setDefaultTimeout(PATIENCE_MS * SLOWER);
    if (SLOWER > 1) await (await this.context.newCDPSession(page)).send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
    page.on("pageerror", (error) => this.complaints.push(error.stack ?? error.message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !EXPECTED.test(message.text())) this.complaints.push(message.text());
    });
    await page.goto(this.url + path);
    return page;
  }

  async register(name, password = "correct horse") {
    Object.assign(this, { name, password, mobile: newMobile() });
    const { page } = this;
    await page.click("#switch-form");
    await page.fill("[name=nickname]", name);
    await page.fill("[name=mobile]", this.mobile);
    await page.fill("[name=password]", password);
    await page.fill("[name=again]", password);
    await page.press("[name=again]", "Enter");
    await page.waitForSelector("#settings");
    await page.locator(".mine-name", { hasText: name }).waitFor();
  }

  async login(password = this.password) {
    await this.page.fill("[name=mobile]", this.mobile);
    await this.page.fill("[name=password]", password);
    await this.page.click("[type=submit]");
  }

  async choose(entry) {
    await this.page.click("#new");
    await this.page.locator("[role=menuitem]").nth(entry).click();
  }

  async befriend(mobile) {
    await this.choose(0);
    await this.page.fill("dialog [name=mobile]", mobile);
    await this.page.press("dialog [name=mobile]", "Enter");
    const name = await this.page.locator("dialog .card b").textContent();
    await this.page.click("[data-act=befriend]");
    // Another conversation may still be open.
    await this.titled(name);
  }

  /** `friends`: whom to pick for it. */
  async makeGroup(name, rule = "open", friends = []) {
    await this.choose(1);
    await this.page.fill("dialog [name=name]", name);
    await this.page.selectOption("dialog [name=rule]", rule);
    for (const friend of friends) await this.page.locator("dialog .picker label", { hasText: friend }).click();
    await this.page.press("dialog [name=name]", "Enter");
    await this.titled(name);
  }

  async joinGroup(nameOrNumber, name) {
    await this.choose(2);
    await this.page.fill("dialog [name=name]", nameOrNumber);
    await this.page.press("dialog [name=name]", "Enter");
    await this.page.click("[data-act=join]");
    await this.titled(name);
  }

  titled(name) {
    return this.page.locator("#chat-title b", { hasText: name }).waitFor();
  }

  /** The conversation's line in the list. */
  row(title) {
    return this.page.locator("#rows .row", { has: this.page.locator(".row-title", { hasText: title }) });
  }

  async open(title) {
    await this.row(title).click();
    await this.titled(title);
  }

  async say(text) {
    await this.page.fill("#input", text);
    await this.page.press("#input", "Enter");
  }

  /** The line with these words. */
  line(text) {
    return this.page.locator(".line", { hasText: text });
  }

  sees(text) {
    return this.line(text).last().waitFor();
  }

  /** Waits until one's own message has got so far. */
  reaches(text, state) {
    return this.page.locator(`.line[data-state="${state}"]`, { hasText: text }).waitFor();
  }

  /** Texts of all messages, in their order on the page. */
  texts() {
    return this.page.locator(".line .words").allTextContents();
  }

  async leaveDialog() {
    await this.page.keyboard.press("Escape");
    await this.page.locator("dialog[open]").waitFor({ state: "detached" });
  }

  /** Sends `count` numbered messages with the SDK alone, in a further session; ends when all are stored. */
  sendMany(kind, dstid, count) {
    return this.page.evaluate(async ([kind_, dstid_, count_]) => {
      const { ImgateClient } = await import("/sdk/imgate.js");
      const [[id, token]] = Object.entries(JSON.parse(localStorage.getItem("imgate.sessions")));
      const client = new ImgateClient({ url: `ws://${location.host}/chat`, token, userId: Number(id) });
      let stored = 0;
      const all = new Promise((resolve) => client.on("sent", () => (stored += 1) === count_ && resolve()));
      await client.connect();
      for (let n = 1; n <= count_; n += 1) client.send(kind_, dstid_, { media: 1, content: `number ${n}.` });
      await all;
      client.close();
    }, [kind, dstid, count]);
  }

  /** Calls the API as the user of this page. */
  api(method, path, body) {
    return this.page.evaluate(async ([method_, path_, body_]) => {
      const [[id, token]] = Object.entries(JSON.parse(localStorage.getItem("imgate.sessions")));
      const answer = await fetch(`/api/v1${path_}`, { method: method_, body: body_ && JSON.stringify(body_), headers: { Authorization: `Bearer ${token}`, "X-Imgate-User": id, "Content-Type": "application/json" } });
      return { status: answer.status, body: await answer.json().catch(() => null) };
    }, [method, path, body]);
  }

  noComplaints() {
    assert.deepEqual(this.complaints, [], `${this.name}'s page complained`);
  }
}
