// The web client in browsers and beside people that mean it no good: storage that fails, odd clipboards, a server that freezes, and
// what a stranger may write.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stage } from "./stage.mjs";

const { gateway, visit, arrive } = stage();

const done = (...people) => people.forEach((person) => person.noComplaints());

/** Every word about storage throws, as with blocked cookies. */
const forbidden = () => {
  for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, { get: () => { throw new DOMException("The document is sandboxed", "SecurityError"); } });
  }
};
/** It is there, and takes nothing. */
const full = () => {
  Storage.prototype.setItem = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
};
/** It is there and every question throws. */
const broken = () => {
  for (const name of ["getItem", "setItem", "removeItem", "key"]) Storage.prototype[name] = () => { throw new DOMException("gone", "InvalidStateError"); };
  Object.defineProperty(Storage.prototype, "length", { get: () => { throw new DOMException("gone", "InvalidStateError"); } });
};

describe("storage", () => {
  for (const [name, script] of Object.entries({ forbidden, full, broken })) {
    test(`that is ${name} costs nothing but the survival of a reload`, async (t) => {
      const bob = await arrive(t, "Bob Brook");
      const ann = await visit(t);
      await ann.page.addInitScript(script);
      await ann.page.goto(gateway.url);
      await ann.page.reload();
      await ann.register("Ann Archer");
      await ann.befriend(bob.mobile);
      await ann.say("can you hear me?");
      await bob.open("Ann Archer");
      await bob.say("loud and clear");
      await ann.sees("loud and clear");
      await ann.reaches("can you hear me?", "read");
      // Drafts, the language and the appearance are kept as long as the page.
      await ann.page.fill("#input", "half a thought");
      await ann.page.keyboard.press("Escape");
      await ann.row("Bob Brook").locator(".row-text", { hasText: "half a thought" }).waitFor();
      await ann.open("Bob Brook");
      assert.equal(await ann.page.inputValue("#input"), "half a thought");
      await ann.page.click("#emoji");
      await ann.page.locator(".emoji").first().click();
      await ann.page.click("#settings");
      await ann.page.selectOption("#field-theme", "dark");
      assert.equal(await ann.page.evaluate(() => document.documentElement.dataset.theme), "dark");
      await ann.page.selectOption("#field-language", "zh");
      await ann.page.locator("#tab-chats", { hasText: "聊天" }).waitFor();
      done(ann, bob);
    });
  }
});

describe("a clipboard", () => {
  /** Pastes what a program has put there; answers whether the page took it in its own hands. */
  const paste = (page, text, files) => page.locator("#input").evaluate((input, [words, names]) => {
    const data = new DataTransfer();
    if (words) data.setData("text/plain", words);
    for (const name of names) data.items.add(new File([new Uint8Array([1, 2, 3])], name, { type: "application/octet-stream" }));
    const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
    input.dispatchEvent(event);
    return event.defaultPrevented;
  }, [text, files]);

  test("with words and a picture of them pastes the words; a picture or a file alone is sent", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    await ann.makeGroup("Table");
    assert.equal(await paste(ann.page, "A1\tB1\nA2\tB2", ["image.png"]), false, "cells of a table");
    assert.equal(await paste(ann.page, "hello", []), false);
    assert.equal(await ann.page.locator(".line").count(), 0, "nothing was sent");
    assert.equal(await paste(ann.page, "", ["screenshot.bin"]), true);
    await ann.page.locator(".file-card", { hasText: "screenshot.bin" }).waitFor();
    assert.equal(await paste(ann.page, "plan.bin", ["plan.bin"]), true, "a file manager copies the name as well");
    await ann.page.locator(".file-card", { hasText: "plan.bin" }).waitFor();
    done(ann);
  });
});

describe("a server", () => {
  test("that freezes is noticed within 20 s, and found again", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    t.after(() => gateway.thaw());
    gateway.freeze();
    await ann.page.locator(".banner:not([hidden])").waitFor({ timeout: 20_000 });
    gateway.thaw();
    await ann.page.locator(".banner").waitFor({ state: "hidden" });
    done(ann);
  });
});

describe("a stranger's message", () => {
  test("costs the page no more than its length", async (t) => {
    const ann = await visit(t);
    const took = await ann.page.evaluate(async () => {
      const { addresses, summary, content } = await import("/app/bubbles.js");
      const size = 1_000_000;
      const texts = {
        dots: `http://${".".repeat(size)}x`, brackets: `https://a${")".repeat(size)}/x`, many: "http://a.b ".repeat(size / 11), long: `http://${"a".repeat(size)}`,
        starts: "http://".repeat(size / 7), emoji: `😀${" ".repeat(size)}x`, joined: `😀${"\u200D😀".repeat(size / 3)}x`, flags: `${"🇩🇪".repeat(size / 4)}x`,
      };
      const found = {};
      for (const [name, text] of Object.entries(texts)) {
        const begun = performance.now();
        addresses(text);
        summary({ media: 1, content: text });
        content({}, {}, { media: 1, content: text });
        content({}, {}, { media: 6, content: text });
        found[name] = Math.round(performance.now() - begun);
      }
      return found;
    });
    t.diagnostic(`a megabyte each, in ms: ${JSON.stringify(took)}`);
    // What grows with the square of its length takes minutes.
    for (const [name, ms] of Object.entries(took)) assert.ok(ms < 10_000, `${name}: ${ms} ms`);
  });

  test("has addresses where a reader sees them: at most 2 KB long, and a hundred of them", async (t) => {
    const ann = await visit(t);
    const found = (text) => ann.page.evaluate(async (words) => {
      const { addresses } = await import("/app/bubbles.js");
      return addresses(words).map(({ from, to }) => words.slice(from, to));
    }, text);
    assert.deepEqual(await found("see https://example.org/a?b=c. And (http://b.example/x), 看https://c.example/路。好"), ["https://example.org/a?b=c", "http://b.example/x", "https://c.example/路"]);
    assert.deepEqual(await found("http https http:// https://. xhttp://d.example HTTP://E.example"), ["http://d.example"]);
    const long = `https://f.example/${"x".repeat(2030)}`;
    assert.deepEqual(await found(`${long} ${long}y https://g.example/`), [long, "https://g.example/"]);
    assert.equal((await found("http://a.b ".repeat(500))).length, 100);
  });
});
