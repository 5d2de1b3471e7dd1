// The web client where things go wrong, or many things happen at once: each of these was a bug once.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PHONE } from "./people.mjs";
import { png } from "./pictures.mjs";
import { stage } from "./stage.mjs";

const { gateway, visit, arrive } = stage();

/** Ann and Bob, friends, who have begun to talk. */
async function friends(t, options) {
  const [ann, bob] = await Promise.all([arrive(t, "Ann Archer"), arrive(t, "Bob Brook", options)]);
  await ann.befriend(bob.mobile);
  await ann.say("hello");
  await bob.open("Ann Archer");
  await bob.sees("hello");
  return [ann, bob];
}

const idOf = (person) => person.page.evaluate(() => Number(Object.keys(JSON.parse(localStorage.getItem("imgate.sessions")))[0]));
const picture = (width, height, name = "p.png") => ({ name, mimeType: "image/png", buffer: png(width, height) });
const done = (...people) => people.forEach((person) => person.noComplaints());

/** What waits until it is opened. */
function held() {
  let open;
  const opened = new Promise((resolve) => { open = resolve; });
  return { opened, open };
}

/** Chooses from the menu of a line. */
async function offered(person, line, entry) {
  await line.hover();
  await line.locator(".bubble-more").click();
  await person.page.locator("[role=menuitem]", { hasText: entry }).click();
}

describe("hands and keys", () => {
  test("after adding a friend one can write at once, and who was added is told", async (t) => {
    const [ann, bob] = await Promise.all([arrive(t, "Ann Archer"), arrive(t, "Bob Brook")]);
    // It stands for a moment, so it is looked for before.
    const told = bob.page.locator(".toast", { hasText: "Ann Archer is now your friend" }).waitFor();
    await Promise.all([told, ann.befriend(bob.mobile)]);
    await ann.page.waitForFunction(() => document.activeElement?.id === "input");
    await ann.page.keyboard.type("hi");
    await ann.page.keyboard.press("Enter");
    await bob.row("Ann Archer").locator(".badge", { hasText: "1" }).waitFor();
    assert.equal(await ann.page.locator(".toast").count(), 0, "who did it sees it");
    done(ann, bob);
  });

  test("no row moves while it is pressed, and a new conversation stays in the list", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.makeGroup("Tea");
    const box = await ann.row("Bob Brook").boundingBox();
    await ann.page.mouse.move(box.x + 60, box.y + 20);
    await ann.page.mouse.down();
    await bob.say("moves the row");
    // It is here, but the list waits.
    await ann.page.waitForFunction(() => document.title.startsWith("(1)"));
    assert.deepEqual(await ann.page.locator("#rows .row-title").allTextContents(), ["Tea", "Bob Brook"]);
    await ann.page.mouse.up();
    await ann.titled("Bob Brook");
    await ann.page.locator("#rows > :first-child", { hasText: "Bob Brook" }).waitFor();
    await ann.row("Tea").locator(".row-text", { hasText: "No messages yet" }).waitFor();
    done(ann, bob);
  });

  test("Tab stops once in the list and once among the messages; arrows go on", async (t) => {
    const [ann, bob] = await friends(t);
    await bob.page.keyboard.press("Escape");
    for (const words of ["one", "two", "three"]) await ann.say(words);
    await ann.makeGroup("Choir");
    await ann.open("Bob Brook");
    await ann.reaches("three", "received");
    assert.equal(await ann.page.locator('#rows .row:not([tabindex="-1"])').count(), 1);
    assert.equal(await ann.page.locator('.bubble-more:not([tabindex="-1"])').count(), 1);
    await ann.page.focus('.bubble-more[tabindex="0"]');
    await ann.page.keyboard.press("ArrowUp");
    assert.equal(await ann.page.evaluate(() => document.activeElement.closest(".line").innerText.includes("two")), true);
    // It keeps the focus although something happens to its message.
    await bob.open("Ann Archer");
    await ann.reaches("two", "read");
    await ann.page.keyboard.press("Enter");
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).waitFor();
    done(ann, bob);
  });

  test("\"back\" leads to the list, and a finger that rests opens the menu only", async (t) => {
    const [ann, bob] = await friends(t, PHONE);
    await bob.page.goBack();
    await bob.row("Ann Archer").waitFor();
    await bob.open("Ann Archer");
    await bob.page.click(".only-phone");
    await bob.row("Ann Archer").waitFor();
    const before_ = await bob.page.evaluate(() => history.length);
    await bob.open("Ann Archer");
    assert.equal(await bob.page.evaluate(() => history.length), before_);
    await ann.page.setInputFiles("#files", picture(300, 200));
    await bob.page.waitForFunction(() => document.querySelector(".picture img")?.naturalWidth > 0);
    const box = await bob.page.locator(".picture").boundingBox();
    const touch = await bob.context.newCDPSession(bob.page);
    await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [{ x: box.x + 50, y: box.y + 50 }] });
    await bob.page.locator(".menu").waitFor();
    await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
    assert.deepEqual(await bob.page.locator("[role=menuitem]").allTextContents(), ["Download"]);
    assert.equal(await bob.page.locator(".lightbox").count(), 0);
    await bob.page.keyboard.press("Escape");
    // A finger that trembles rests as well.
    const moves = (by) => bob.page.locator(".picture").evaluate((element, far) => {
      const place = { bubbles: true, pointerType: "touch", clientX: 60, clientY: 60 };
      element.dispatchEvent(new PointerEvent("pointerdown", place));
      element.dispatchEvent(new PointerEvent("pointermove", { ...place, clientX: 60 + far }));
    }, by);
    await moves(6);
    await bob.page.locator(".menu").waitFor();
    await bob.page.keyboard.press("Escape");
    await bob.page.locator(".picture").tap();
    await bob.page.locator(".lightbox").waitFor();
    done(ann, bob);
  });

  test("what is said while a dialog is open is said on top of it; without a clipboard of its own the page copies, too", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    const { page } = ann;
    await ann.makeGroup(`Tea ${process.pid}`);
    const number = (await page.evaluate(() => location.hash)).split("/").at(-1);
    // As over plain http.
    await page.evaluate(() => {
      navigator.clipboard.writeText = () => Promise.reject(new Error("not here"));
    });
    await page.click("#about");
    const button = page.locator("dialog .link-button", { hasText: "Copy number" });
    await button.click();
    await page.locator("dialog[open] .toast", { hasText: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), number);
    assert.equal(await button.evaluate((element) => element === document.activeElement), true, "the focus is back");
    await ann.leaveDialog();
    await page.locator(":not(dialog) > #toasts").waitFor({ state: "attached" });
    done(ann);
  });
});

describe("files", () => {
  test("several at once arrive in their order; what is refused says why", async (t) => {
    const [ann, bob] = await friends(t);
    const sides = [600, 20, 300, 10];
    await ann.page.setInputFiles("#files", sides.map((side, at) => picture(side, side, `${at}.png`)));
    await bob.page.waitForFunction((count) => document.querySelectorAll(".picture").length === count, sides.length);
    assert.deepEqual(await bob.page.locator(".picture img").evaluateAll((all) => all.map(({ alt }) => alt)), ["0.png", "1.png", "2.png", "3.png"]);
    await ann.page.setInputFiles("#files", { name: "empty.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) });
    await ann.page.locator(".failure", { hasText: "The file is empty." }).waitFor();
    const cut = picture(40, 40);
    await ann.page.setInputFiles("#files", { ...cut, buffer: Buffer.concat([cut.buffer.subarray(0, 60), Buffer.alloc(40, 7)]) });
    const failure = ann.page.locator(".failure", { hasText: "This picture cannot be read." });
    // Nothing lies over its buttons.
    await failure.locator("button").nth(1).click();
    await failure.waitFor({ state: "detached" });
    done(ann, bob);
  });

  test("what is discarded before its content is sent is not sent", async (t) => {
    const [ann, bob] = await friends(t);
    const gate = held();
    let sent = 0;
    await ann.page.route("**/api/v1/files/claim", async (route) => {
      await gate.opened;
      await route.continue().catch(() => {});
    });
    ann.page.on("request", (request) => { sent += Number(/\/api\/v1\/files\?name=first/.test(request.url())); });
    const asked = ann.page.waitForRequest("**/api/v1/files/claim");
    await ann.page.setInputFiles("#files", picture(30, 30, "first.png"));
    await asked;
    await offered(ann, ann.page.locator('.line[data-state="uploading"]'), "Discard");
    gate.open();
    // Files go one after the other.
    await ann.page.setInputFiles("#files", picture(31, 31, "second.png"));
    await bob.page.waitForFunction(() => document.querySelectorAll(".picture").length === 1);
    assert.equal(sent, 0);
    assert.equal(await bob.page.locator(".picture img").getAttribute("alt"), "second.png");
    done(ann, bob);
  });

  test("what has gone out while the menu was open is not discarded", async (t) => {
    const [ann, bob] = await friends(t);
    const gate = held();
    await ann.page.route(/\/api\/v1\/files\?/, async (route) => {
      const response = await route.fetch();
      await gate.opened;
      await route.fulfill({ response });
    });
    await ann.page.setInputFiles("#files", picture(32, 32));
    const line = ann.page.locator(".line", { has: ann.page.locator(".picture") });
    await line.hover();
    await line.locator(".bubble-more").click();
    const discard = ann.page.locator("[role=menuitem]", { hasText: "Discard" });
    await discard.waitFor();
    // Stored, but it cannot go further.
    await ann.context.setOffline(true);
    await ann.page.locator(".banner", { hasText: "Offline" }).waitFor();
    gate.open();
    await ann.page.locator('.line[data-state="sending"] .picture').waitFor();
    await discard.click();
    // It is on its way: it stays, also after the next time that the page is drawn.
    await ann.page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
    assert.equal(await ann.page.locator('.line[data-state="sending"] .picture').count(), 1);
    await ann.context.setOffline(false);
    await bob.page.locator(".picture").waitFor();
    await ann.page.locator('.line[data-state="read"] .picture').waitFor();
    done(ann, bob);
  });

  test("a recording ends with the page it was made on, and is sent by nobody", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.page.evaluate(() => {
      window.tracks = [];
      const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await get(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
      };
    });
    const record = async () => {
      await ann.page.click("#voice");
      await ann.page.waitForFunction(() => document.querySelector(".recording-time")?.textContent > "0:00");
    };
    const ended = (count) => ann.page.waitForFunction((n) => window.tracks.length === n && window.tracks.every(({ readyState }) => readyState === "ended"), count);
    await record();
    await ann.page.click("#settings");
    await ann.page.selectOption("#field-language", "zh");
    await ended(1);
    await ann.page.locator("dialog[open]").waitFor({ state: "detached" });
    await record();
    await ann.page.click("#settings");
    await ann.page.click("#logout");
    await ann.page.waitForSelector(".welcome");
    await ended(2);
    assert.equal(await bob.page.locator(".voice").count(), 0);
    done(ann, bob);
  });

  test("a voice message stays the same while it gets further", async (t) => {
    const [ann, bob] = await friends(t);
    await bob.page.keyboard.press("Escape");
    await ann.page.click("#voice");
    await ann.page.waitForFunction(() => document.querySelector(".recording-time")?.textContent > "0:00");
    await ann.page.click("#voice-send");
    await ann.page.locator('.line[data-state="received"] .voice').waitFor();
    await ann.page.locator(".voice").evaluate((element) => { element.kept = true; });
    await bob.open("Ann Archer");
    await ann.page.locator('.line[data-state="read"] .voice').waitFor();
    assert.equal(await ann.page.locator(".voice").evaluate((element) => element.kept), true);
    done(ann, bob);
  });
});

describe("groups", () => {
  test("who is removed cannot write any more; who comes back misses nothing", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.makeGroup("Garden");
    await bob.joinGroup("Garden", "Garden");
    await ann.say("welcome");
    await bob.sees("welcome");
    await ann.page.click("#about");
    await ann.page.locator(".members li", { hasText: "Bob Brook" }).locator(".row-more").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Remove" }).click();
    await ann.page.locator("dialog:last-of-type .row-end .button.is-bad").click();
    await bob.page.locator(".composer .note", { hasText: "not a member" }).waitFor();
    // The dialog opens again, with whoever is left.
    await ann.page.locator(".members li:only-child").waitFor();
    assert.ok(await bob.page.locator("#input").isHidden());
    await ann.leaveDialog();
    for (const words of ["one", "two"]) await ann.say(words);
    await ann.reaches("two", "stored");
    await bob.joinGroup("Garden", "Garden");
    await ann.say("back again");
    await bob.sees("back again");
    await bob.say("thanks");
    await ann.sees("thanks");
    done(ann, bob);
  });

  test("who was removed while offline can read what was said before that", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.makeGroup("Attic");
    await bob.joinGroup("Attic", "Attic");
    const number = Number((await bob.page.evaluate(() => location.hash)).split("/").at(-1));
    // In a page that has never opened it.
    await bob.open("Ann Archer");
    await bob.page.reload();
    await bob.sees("hello");
    await ann.say("welcome");
    await bob.row("Attic").locator(".row-text", { hasText: "welcome" }).waitFor();
    await bob.context.setOffline(true);
    await bob.page.locator("#chat-state .is-away").waitFor();
    await ann.say("one");
    await ann.reaches("one", "stored");
    assert.equal((await ann.api("DELETE", `/groups/${number}/members/${await idOf(bob)}`)).status, 200);
    await bob.context.setOffline(false);
    await bob.page.evaluate(() => dispatchEvent(new Event("online")));
    // Groups are loaded: the list has it no more.
    await bob.page.waitForFunction((id) => localStorage.getItem(Object.keys(localStorage).find((key) => key.endsWith(`.left.${id}`)) ?? "") !== null, number);
    await bob.open("Attic");
    await bob.sees("one");
    assert.deepEqual((await bob.texts()).slice(-2), ["welcome", "one"]);
    done(ann, bob);
  });

  test("who was let in again while offline misses nothing either", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.makeGroup("Kitchen");
    await bob.joinGroup("Kitchen", "Kitchen");
    await ann.say("welcome");
    await bob.sees("welcome");
    const number = Number((await bob.page.evaluate(() => location.hash)).split("/").at(-1));
    const member = `/groups/${number}/members/${await idOf(bob)}`;
    assert.equal((await ann.api("DELETE", member)).status, 200);
    await bob.page.locator(".composer .note", { hasText: "not a member" }).waitFor();
    await bob.context.setOffline(true);
    await bob.page.locator("#chat-state .is-away").waitFor();
    assert.ok((await ann.api("PUT", member)).status < 300);
    for (const words of ["one", "two", "three"]) await ann.say(words);
    await ann.reaches("three", "stored");
    await bob.context.setOffline(false);
    await bob.page.evaluate(() => dispatchEvent(new Event("online")));
    await bob.page.locator(".composer .note").waitFor({ state: "hidden" });
    await ann.say("back again");
    await bob.sees("back again");
    await bob.sees("one");
    assert.deepEqual((await bob.texts()).slice(-4), ["one", "two", "three", "back again"]);
    done(ann, bob);
  });
});

describe("connections", () => {
  test("without a connection one is told so, also on a phone; what changed meanwhile is known afterwards", async (t) => {
    const [ann, bob] = await friends(t, PHONE);
    await ann.makeGroup("Walks");
    await bob.page.click(".only-phone");
    await bob.joinGroup("Walks", "Walks");
    await gateway.stop();
    await bob.page.locator("#chat-state .is-away").waitFor();
    // Longer than the gateway: he must not be back before something has changed.
    await bob.context.setOffline(true);
    await gateway.start();
    const { body } = await ann.api("GET", "/groups");
    assert.equal((await ann.api("DELETE", `/groups/${body.rows[0].id}/members/${await idOf(bob)}`)).status, 200);
    await bob.context.setOffline(false);
    await bob.page.evaluate(() => dispatchEvent(new Event("online")));
    await bob.page.locator(".composer .note", { hasText: "not a member" }).waitFor();
    await bob.page.locator("#chat-state .is-away").waitFor({ state: "detached" });
    done(ann, bob);
  });

  test("when the system says that the network is gone, one is told at once; what was written goes out when it is back", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.context.setOffline(true);
    // Silence alone would tell it after some fifteen seconds.
    await ann.page.locator(".banner", { hasText: "Offline" }).waitFor({ timeout: 5_000 });
    await ann.page.locator("#chat-state .is-away").waitFor({ timeout: 5_000 });
    await ann.say("from the tunnel");
    await ann.reaches("from the tunnel", "sending");
    await ann.context.setOffline(false);
    await bob.sees("from the tunnel");
    await ann.reaches("from the tunnel", "read");
    await ann.page.locator(".banner").waitFor({ state: "hidden" });
    done(ann, bob);
  });

  test("a gateway that is killed while both write: everything arrives once and in order", async (t) => {
    const [ann, bob] = await friends(t);
    const numbers = Array.from({ length: 40 }, (_, at) => at);
    const write = (person, dstid, letter) => person.page.evaluate(async ([to, sign, all]) => {
      const { ImgateClient } = await import("/sdk/imgate.js");
      const [[id, token]] = Object.entries(JSON.parse(localStorage.getItem("imgate.sessions")));
      const client = new ImgateClient({ url: `ws://${location.host}/chat`, token, userId: Number(id) });
      const left = new Set(all.map((n) => client.send(10, to, { media: 1, content: `${sign}${n}.` })));
      await client.connect();
      await new Promise((resolve) => client.on("sent", ({ cid }) => left.delete(cid) && left.size === 0 && resolve()));
      client.close();
    }, [dstid, letter, numbers]);
    const written = Promise.all([write(ann, await idOf(bob), "a"), write(bob, await idOf(ann), "b")]);
    await ann.page.locator(".line .words", { hasText: /^[ab]\d+\.$/ }).first().waitFor();
    await gateway.stop("SIGKILL");
    await gateway.start();
    await written;
    for (const person of [ann, bob]) {
      await person.page.waitForFunction(() => document.querySelectorAll(".line .words").length >= 81);
      const texts = (await person.texts()).filter((text) => text !== "hello");
      for (const letter of ["a", "b"]) assert.deepEqual(texts.filter((text) => text.startsWith(letter)), numbers.map((n) => `${letter}${n}.`));
      assert.equal(texts.length, 80);
    }
    done(ann, bob);
  });

  test("two tabs that write at once show the same, each message once", async (t) => {
    const [ann, bob] = await friends(t);
    const other = await ann.tab(`/#/c/10/${await idOf(bob)}`);
    await other.waitForSelector("#input");
    const write = async (page, letter) => {
      for (let n = 0; n < 8; n += 1) {
        await page.fill("#input", `${letter}${n}`);
        await page.press("#input", "Enter");
      }
    };
    await Promise.all([write(ann.page, "a"), write(other, "b")]);
    const pages = [ann.page, other, bob.page];
    const seen = [];
    for (const page of pages) {
      await page.waitForFunction(() => document.querySelectorAll(".line .words").length === 17);
      seen.push(await page.locator(".line .words").allTextContents());
    }
    assert.deepEqual(seen[0], seen[1]);
    assert.deepEqual(seen[0], seen[2]);
    assert.equal(new Set(seen[0]).size, 17);
    done(ann, bob);
  });

  test("a password that is changed in one tab ends no other; ending all sessions ends them", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    const other = await ann.tab();
    await other.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    const { page } = ann;
    await page.click("#settings");
    await page.locator("summary", { hasText: "Change password" }).click();
    await page.fill("[name=old]", "not this one");
    await page.fill("[name=fresh]", "new and better");
    await page.press("[name=fresh]", "Enter");
    await page.locator(".form-error", { hasText: "The current password is wrong." }).waitFor();
    await page.fill("[name=old]", ann.password);
    const ended = other.waitForEvent("websocket");
    await page.press("[name=fresh]", "Enter");
    await page.locator("dialog").waitFor({ state: "detached" });
    await ended;
    await other.locator(".banner").waitFor({ state: "hidden" });
    await page.locator(".banner").waitFor({ state: "hidden" });
    await page.reload();
    await page.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    await other.click("#settings");
    await other.getByRole("button", { name: "Log out on all devices" }).click();
    await other.waitForSelector(".welcome-card");
    await page.locator(".notice", { hasText: "Please log in again." }).waitFor();
    done(ann);
  });

  test("all devices are logged out, or one is told that they are not", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    const { page } = ann;
    await page.route("**/api/v1/logout", (route) => route.abort());
    await page.click("#settings");
    await page.getByRole("button", { name: "Log out on all devices" }).click();
    await page.locator(".toast", { hasText: "No connection" }).waitFor();
    await page.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    assert.equal((await ann.api("GET", "/me")).status, 200);
    // Here one is out in any case.
    await page.click("#settings");
    await page.click("#logout");
    await page.locator(".notice", { hasText: "logged out here only" }).waitFor();
    done(ann);
  });

  test("what could not be loaded is loaded again", async (t) => {
    const [ann, bob] = await friends(t);
    for (const part of ["config", "me", "friends", "blocks", "groups"]) {
      let tries = 0;
      const url = `**/api/v1/${part}`;
      // The page asks again by itself when it is online, unless it is asking: the refusal comes after that.
      const online = bob.page.waitForEvent("websocket").then((socket) => socket.waitForEvent("framereceived"));
      await bob.page.route(url, async (route) => {
        tries += 1;
        if (tries === 1) {
          await online;
          await route.fulfill({ status: 503, headers: { "Retry-After": "1" }, json: { error: { code: "busy" } } });
        } else await route.continue();
      });
      await bob.page.reload();
      await bob.page.locator("#attach").waitFor();
      await bob.page.locator(".mine-name", { hasText: "Bob Brook" }).waitFor();
      while (tries < 2) await bob.page.waitForResponse(url);
      await bob.page.unroute(url);
    }
    await bob.page.click("#tab-friends");
    await bob.row("Ann Archer").waitFor();
    done(ann, bob);
  });

  test("a token that is not valid any more leads to the login, with a word why; what was not sent yet is still there", async (t) => {
    const [ann, bob] = [await arrive(t, "Ann Archer"), await arrive(t, "Bob Brook")];
    await ann.befriend(bob.mobile);
    await ann.page.fill("#input", "half a thought");
    const other = await ann.context.newPage();
    await other.goto(gateway.url);
    await other.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    // As if it had expired meanwhile.
    await other.evaluate(() => {
      const sessions = JSON.parse(localStorage.getItem("imgate.sessions"));
      for (const id of Object.keys(sessions)) sessions[id] = `${sessions[id].slice(0, -4)}AAAA`;
      localStorage.setItem("imgate.sessions", JSON.stringify(sessions));
    });
    await other.close();
    await ann.page.reload();
    await ann.page.locator(".notice", { hasText: "Please log in again." }).waitFor();
    assert.equal(await ann.page.locator("[name=mobile]").evaluate((input) => input === document.activeElement), true);
    await ann.login();
    await ann.open("Bob Brook");
    assert.equal(await ann.page.inputValue("#input"), "half a thought");
    await ann.page.press("#input", "Enter");
    await bob.row("Ann Archer").locator(".row-text", { hasText: "half a thought" }).waitFor();
    done(ann, bob);
  });

  test("a clock that is wrong by days changes neither days nor what may be recalled", async (t) => {
    const bob = await arrive(t, "Bob Brook");
    const ann = await visit(t);
    await ann.page.clock.install({ time: Date.now() - 3 * 86_400_000 });
    await ann.page.goto(gateway.url);
    await ann.register("Ann Archer");
    await ann.befriend(bob.mobile);
    await ann.say("what time is it?");
    await ann.line("what time is it?").and(ann.page.locator('[data-state="received"]')).waitFor();
    assert.deepEqual(await ann.page.locator(".day").allTextContents(), ["Today"]);
    await ann.line("what time is it?").hover();
    await ann.page.click(".bubble-more");
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).click();
    await ann.page.locator(".note", { hasText: "You recalled a message" }).waitFor();
    done(ann, bob);
  });
});
