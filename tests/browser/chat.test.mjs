// The web client end to end: a real gateway, a real Chromium, two people.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway } from "./gateway.mjs";
import { PHONE, Person, launch } from "./people.mjs";
import { png } from "./pictures.mjs";

/** Against a server that runs already; tests that stop it are skipped then. */
const elsewhere = process.env.IMGATE_URL;
const gateway = elsewhere ? { url: elsewhere, start: async () => {}, stop: async () => {}, remove: async () => {} } : new Gateway();
let browser;
/** What this server has: later versions have more. */
let features;

before(async () => {
  await gateway.start();
  browser = await launch();
  features = await knownFeatures();
});
after(async () => {
  await browser?.close();
  await gateway.remove();
});

async function knownFeatures() {
  const probe = await arrive("Probe");
  const { body } = await probe.api("GET", "/config");
  const live = await probe.page.evaluate(async () => {
    const [token] = Object.values(JSON.parse(localStorage.getItem("imgate.sessions")));
    const socket = new WebSocket(`ws://${location.host}/chat`, ["imgate.v2", `token.${token}`]);
    return new Promise((resolve) => {
      socket.onopen = () => socket.send('{"cmd":7,"users":[1]}');
      socket.onmessage = ({ data }) => {
        const { cmd } = JSON.parse(data);
        if (cmd === 2 || cmd === 7) resolve(cmd === 7);
      };
    });
  });
  await probe.context.close();
  return { uploads: body?.max_upload > 0, recall: body?.recall_ms > 0, live };
}

async function arrive(name, options) {
  const person = await Person.arrive(browser, gateway.url, options);
  await person.register(name);
  return person;
}

/** Ann and Bob, friends, each in a browser of their own. */
async function friends(t, options = {}) {
  const [ann, bob] = await Promise.all([arrive("Ann Archer"), arrive("Bob Brook", options)]);
  t.after(() => Promise.all([ann, bob].map(({ context }) => context.close())));
  await ann.befriend(bob.mobile);
  return [ann, bob];
}

/** Ann, and Bob who reads the end of a conversation of 60 messages, which is longer than his window. */
async function longTalk(t) {
  const [ann, bob] = await friends(t);
  const dstid = Number((await ann.page.evaluate(() => location.hash)).split("/").at(-1));
  await ann.sendMany(10, dstid, 60);
  await bob.open("Ann Archer");
  await bob.sees("number 60.");
  await bob.page.waitForFunction(() => document.querySelectorAll(".line").length >= 40);
  return [ann, bob];
}

async function meet(ann, bob) {
  await ann.say("hello");
  await bob.open("Ann Archer");
  await bob.sees("hello");
}

const done = (...people) => people.forEach((person) => person.noComplaints());

describe("accounts", () => {
  test("register, a wrong password, log in, log out", async (t) => {
    const ann = await arrive("Ann Archer");
    t.after(() => ann.context.close());
    await ann.page.click("#settings");
    await ann.page.click("#logout");
    await ann.page.waitForSelector(".welcome");
    await ann.login("not this one");
    await ann.page.locator(".form-error", { hasText: "wrong" }).waitFor();
    await ann.login();
    await ann.page.waitForSelector("#settings");
    await ann.page.reload();
    await ann.page.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    done(ann);
  });

  test("the same mobile number twice, and two passwords that differ", async (t) => {
    const ann = await arrive("Ann Archer");
    const twin = await Person.arrive(browser, gateway.url);
    t.after(() => Promise.all([ann.context.close(), twin.context.close()]));
    const { page } = twin;
    await page.click("#switch-form");
    for (const [name, value] of [["nickname", "Twin"], ["mobile", ann.mobile], ["password", "one password"], ["again", "two passwords"]]) await page.fill(`[name=${name}]`, value);
    await page.click("[type=submit]");
    await page.locator(".form-error", { hasText: "differ" }).waitFor();
    await page.fill("[name=again]", "one password");
    await page.click("[type=submit]");
    await page.locator(".form-error", { hasText: "registered already" }).waitFor();
    done(ann, twin);
  });

  test("all that is wrong with a new account is said at once", async (t) => {
    const nobody = await Person.arrive(browser, gateway.url);
    t.after(() => nobody.context.close());
    const { page } = nobody;
    await page.click("#switch-form");
    for (const [name, value] of [["mobile", "12"], ["password", "short"], ["again", "shorter"]]) await page.fill(`[name=${name}]`, value);
    await page.click("[type=submit]");
    await page.locator(".form-error", { hasText: "differ" }).waitFor();
    const said = (await page.locator(".form-error").innerText()).split("\n");
    assert.equal(said.length, 4, said.join());
    for (const [at, word] of ["name that others see", "5 to 15 digits", "at least 8", "differ"].entries()) assert.match(said[at], new RegExp(word));
    assert.equal(await page.evaluate(() => localStorage.getItem("imgate.sessions")), null);
    done(nobody);
  });

  test("a changed name and password", async (t) => {
    const ann = await arrive("Ann Archer");
    t.after(() => ann.context.close());
    const { page } = ann;
    await page.click("#settings");
    await page.locator("summary", { hasText: "Profile" }).click();
    await page.fill("dialog [name=nickname]", "Anna");
    await page.press("dialog [name=nickname]", "Enter");
    await page.locator(".mine-name", { hasText: "Anna" }).waitFor();
    await page.click("#settings");
    await page.locator("summary", { hasText: "Change password" }).click();
    await page.fill("dialog [name=old]", ann.password);
    await page.fill("dialog [name=fresh]", "another one");
    await page.press("dialog [name=fresh]", "Enter");
    await page.locator("dialog[open]").waitFor({ state: "detached" });
    await page.reload();
    await page.locator(".mine-name", { hasText: "Anna" }).waitFor();
    done(ann);
  });

  test("two users in two tabs of one browser", async (t) => {
    const ann = await arrive("Ann Archer");
    t.after(() => ann.context.close());
    const second = await ann.tab();
    await second.waitForSelector("#settings");
    await second.click("#settings");
    await second.click("#logout");
    // One login of one browser: it has ended in both tabs.
    await ann.page.waitForSelector("[name=mobile]");
    const other = Object.assign(Object.create(ann), { page: second });
    await other.register("Other One");
    await ann.login();
    await ann.page.locator(".mine-name", { hasText: "Ann Archer" }).waitFor();
    assert.equal(await second.locator(".mine-name").textContent(), "Other One");
    await second.reload();
    await second.locator(".mine-name", { hasText: "Other One" }).waitFor();
    done(ann);
  });
});

describe("a direct conversation", () => {
  test("friends on both sides, messages both ways, unread counts, received and read", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.say("first words");
    await ann.say("second words");
    const row = bob.row("Ann Archer");
    await row.locator(".badge", { hasText: "2" }).waitFor();
    await row.locator(".row-text", { hasText: "second words" }).waitFor();
    await bob.page.waitForFunction(() => document.title === "(2) imgate");
    await ann.reaches("second words", "received");
    await bob.open("Ann Archer");
    await bob.sees("second words");
    await row.locator(".badge").waitFor({ state: "detached" });
    await ann.reaches("first words", "read");
    await ann.reaches("second words", "read");
    await bob.say("an answer");
    await ann.sees("an answer");
    assert.deepEqual(await ann.texts(), ["first words", "second words", "an answer"]);
    assert.deepEqual(await bob.texts(), ["first words", "second words", "an answer"]);
    await bob.page.click("#tab-friends");
    await bob.row("Ann Archer").waitFor();
    done(ann, bob);
  });

  test("no string becomes HTML, and no address runs", async (t) => {
    const [ann, bob] = await friends(t);
    const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>bold</b> & &amp;';
    await ann.say(evil);
    await bob.open("Ann Archer");
    await bob.sees("<b>bold</b>");
    assert.deepEqual(await bob.texts(), [evil]);
    assert.equal(await bob.page.locator(".line img, .line script, .line b").count(), 0);
    await ann.say("javascript:alert(1) https://example.org/a?b=c.");
    await bob.sees("example.org");
    const links = await bob.page.locator(".line a").evaluateAll((all) => all.map((link) => [link.href, link.rel]));
    assert.deepEqual(links, [["https://example.org/a?b=c", "noopener noreferrer nofollow"]]);
    done(ann, bob);
  });

  test("every kind of media has a look", async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    const bodies = [
      { media: 2, content: "An article", memo: "what it is about", url: "https://example.org/", pic: "javascript:alert(1)" },
      { media: 3, url: "/nowhere.mp3", amount: 7 }, { media: 4, url: "https://example.org/elsewhere.png" }, { media: 5, content: "", memo: "Good luck", amount: 888 },
      { media: 6, content: "🎉" }, { media: 6, content: "smile" }, { media: 4, url: "/nowhere.png" }, { media: 7, content: "A link", url: "javascript:alert(1)" }, { media: 8, url: "/nowhere.mp4" },
      { media: 9, content: "1", memo: "Carla" }, { media: 100, content: "of one's own" }, { media: 100, type: "file", content: "a.pdf", url: "/nowhere.pdf", size: 2048 }, { media: 4711 },
    ];
    await ann.page.evaluate(async (all) => {
      const { ImgateClient } = await import("/sdk/imgate.js");
      const [[id, token]] = Object.entries(JSON.parse(localStorage.getItem("imgate.sessions")));
      const client = new ImgateClient({ url: `ws://${location.host}/chat`, token, userId: Number(id) });
      await client.connect();
      const dstid = Number(location.hash.split("/").at(-1));
      const stored = new Promise((resolve) => {
        let count = 0;
        client.on("sent", () => (count += 1) === all.length && resolve());
      });
      for (const body of all) client.send(10, dstid, body);
      await stored;
      client.close();
    }, bodies);
    await bob.page.locator(".line", { hasText: "not known here" }).waitFor();
    for (const part of [".article", ".voice", ".packet", ".is-jumbo", ".file-card"]) await bob.page.locator(`.line ${part}`).first().waitFor();
    await bob.page.locator(".packet", { hasText: "¥8.88" }).waitFor();
    await bob.page.locator(".file-card", { hasText: "2.0 KB" }).waitFor();
    await bob.page.locator(".words:not(.is-jumbo)", { hasText: "[smile]" }).waitFor();
    // What cannot be loaded is a card in a bubble, not a hole.
    for (const sign of ["picture", "play"]) await bob.page.locator(`.bubble:not(.is-bare) .file-card[href*="nowhere"] .icon-${sign}`).waitFor();
    assert.equal(await bob.page.locator('.line [href^="javascript"], .line [src^="javascript"], .line img[src^="https://example"]').count(), 0);
    done(ann, bob);
  });

  test("history comes by scrolling up, in order and without a jump", async (t) => {
    const [ann, bob] = await friends(t);
    const dstid = Number((await ann.page.evaluate(() => location.hash)).split("/").at(-1));
    await ann.sendMany(10, dstid, 150);
    await ann.sees("number 150.");
    await bob.row("Ann Archer").locator(".row-text", { hasText: "number 150." }).waitFor();
    await bob.page.reload();
    await bob.open("Ann Archer");
    await bob.sees("number 150.");
    assert.ok((await bob.page.locator(".line").count()) < 150);
    // The top of what is there comes into view until there is nothing before it. What is far below leaves the page meanwhile.
    const seen = new Map();
    // Lines and the note above them in one go: what is drawn between two looks would be missed by both.
    const look = async () => {
      const [lines, whole] = await bob.page.evaluate(() => [
        [...document.querySelectorAll(".line")].map((line) => [Number(line.dataset.seq), line.querySelector(".words").textContent]),
        document.querySelector(".note")?.textContent.includes("beginning") === true,
      ]);
      assert.deepEqual(lines.map(([seq]) => seq), lines.map((_, at) => lines[0][0] + at), "in order, without a hole");
      for (const [seq, text] of lines) seen.set(seq, text);
      return { first: lines[0][0], whole };
    };
    for (let { first, whole } = await look(); !whole; { first, whole } = await look()) {
      // Another line is the first one, or the first one's note says that nothing is before it; a note that more is on its way does not count.
      await bob.page.evaluate(async (seq) => {
        const scroller = document.querySelector(".scroller");
        scroller.scrollTop = 0;
        const waits = () => Number(document.querySelector(".line").dataset.seq) === seq && !document.querySelector(".note")?.textContent.includes("beginning");
        while (waits()) await new Promise((resolve) => { requestAnimationFrame(resolve); });
      }, first);
    }
    assert.deepEqual([...seen].sort(([a], [b]) => a - b).map(([, text]) => text), Array.from({ length: 150 }, (_, n) => `number ${n + 1}.`));
    done(ann, bob);
  });

  test("what one reads stays where it is; a button leads to the newest", async (t) => {
    const [ann, bob] = await longTalk(t);
    await bob.page.locator(".scroller").evaluate((element) => { element.scrollTop = element.scrollHeight / 3; });
    await bob.page.locator(".jump").waitFor();
    await ann.say("something new");
    await bob.page.locator(".jump .badge", { hasText: "1" }).waitFor();
    assert.ok(await bob.page.locator(".scroller").evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight > 100), "it jumped");
    await bob.page.click(".jump");
    await bob.page.locator(".jump").waitFor({ state: "hidden" });
    await ann.reaches("something new", "read");
    done(ann, bob);
  });

  test("a message that is drawn before scrolling was told leads nobody back to the end", async (t) => {
    const [ann, bob] = await longTalk(t);
    // Whatever is drawn from here on is drawn in the same task as bob scrolls in, so that the page cannot have been told of it.
    await bob.page.evaluate(() => {
      const scroller = document.querySelector(".scroller");
      window.places = [];
      window.requestAnimationFrame = (draw) => {
        queueMicrotask(() => {
          scroller.scrollTop = scroller.scrollHeight / 3;
          const before = scroller.scrollTop;
          draw(performance.now());
          window.places.push([before, scroller.scrollTop]);
        });
        return 0;
      };
    });
    await ann.say("something new");
    await bob.page.waitForFunction(() => [...document.querySelectorAll(".line")].some((line) => line.textContent.includes("something new")), null, { polling: 20 });
    const places = await bob.page.evaluate(() => window.places);
    assert.ok(places.length > 0, "nothing was drawn");
    for (const [before_, after_] of places) assert.ok(Math.abs(before_ - after_) < 3, `${before_} became ${after_}`);
    done(ann, bob);
  });

  test("a draft survives a reload, and is told in the list", async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await bob.page.fill("#input", "half a thou");
    await bob.page.keyboard.press("Escape");
    await bob.row("Ann Archer").locator(".row-text", { hasText: "Draft: half a thou" }).waitFor();
    await bob.page.reload();
    await bob.open("Ann Archer");
    assert.equal(await bob.page.inputValue("#input"), "half a thou");
    await bob.page.press("#input", "Enter");
    await ann.sees("half a thou");
    await bob.page.reload();
    await bob.titled("Ann Archer");
    assert.equal(await bob.page.inputValue("#input"), "");
    done(ann, bob);
  });

  test("several tabs show the same; reading in one is reading", async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    const second = await bob.tab();
    const there = Object.assign(Object.create(bob), { page: second });
    await there.open("Ann Archer");
    await there.say("from the second tab");
    await bob.sees("from the second tab");
    await bob.page.bringToFront();
    await second.keyboard.press("Escape");
    await ann.say("to both tabs");
    await bob.sees("to both tabs");
    await there.row("Ann Archer").locator(".row-text", { hasText: "to both tabs" }).waitFor();
    await ann.reaches("to both tabs", "read");
    await there.row("Ann Archer").locator(".badge").waitFor({ state: "detached" });
    assert.deepEqual(await bob.texts(), ["hello", "from the second tab", "to both tabs"]);
    done(ann, bob);
  });

  test("the gateway goes and comes back: what was written waits, and everything arrives once and in order", { skip: elsewhere && "it stops the server" }, async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.reaches("hello", "read");
    await gateway.stop();
    await ann.page.locator(".banner:not([hidden])").waitFor();
    await ann.say("while it was away 1");
    await ann.say("while it was away 2");
    await ann.reaches("while it was away 2", "sending");
    // A reload forgets nothing of what waits.
    await gateway.start();
    await ann.page.reload();
    await bob.sees("while it was away 2");
    await ann.reaches("while it was away 2", "read");
    assert.deepEqual(await bob.texts(), ["hello", "while it was away 1", "while it was away 2"]);
    assert.deepEqual(await ann.texts(), ["hello", "while it was away 1", "while it was away 2"]);
    await ann.page.locator(".banner").waitFor({ state: "hidden" });
    done(ann, bob);
  });

  test("what is stored while the newest page is on its way stands in its place", { skip: elsewhere && "it stops the server" }, async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.reaches("hello", "read");
    await gateway.stop();
    await ann.page.locator(".banner:not([hidden])").waitFor();
    await ann.say("one");
    await ann.say("two");
    await ann.reaches("two", "sending");
    // From the reload on, each page of messages comes behind the acks of both.
    await ann.page.routeWebSocket(/\/chat/, (page) => {
      const server = page.connectToServer();
      let acks = 0;
      const late = [];
      server.onMessage((text) => {
        acks += Number(/^\{"cmd":1,/.test(text));
        if (acks < 2 && /^\{"cmd":4,/.test(text)) late.push(text);
        else page.send(text);
        if (acks === 2) for (const held of late.splice(0)) page.send(held);
      });
    });
    await gateway.start();
    await ann.page.reload();
    await bob.sees("two");
    await ann.reaches("two", "read");
    assert.deepEqual(await bob.texts(), ["hello", "one", "two"]);
    await ann.sees("hello");
    assert.deepEqual(await ann.texts(), ["hello", "one", "two"]);
    done(ann, bob);
  });

  test("who was not there catches up", async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await bob.page.close();
    await ann.say("you were away");
    await ann.reaches("you were away", "stored");
    bob.page = await bob.tab();
    await bob.row("Ann Archer").locator(".badge", { hasText: "1" }).waitFor();
    await bob.open("Ann Archer");
    await bob.page.locator(".unread-mark").waitFor();
    await bob.sees("you were away");
    // What was said before is loaded when the conversation is open.
    await bob.sees("hello");
    assert.deepEqual(await bob.texts(), ["hello", "you were away"]);
    done(ann, bob);
  });

  test("blocked, unblocked, no longer friends", async (t) => {
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await bob.page.click("#about");
    await bob.page.locator("dialog button", { hasText: "Block" }).click();
    await bob.page.locator("dialog:last-of-type .button.is-bad", { hasText: "Block" }).click();
    await bob.page.locator("dialog button", { hasText: "Unblock" }).waitFor();
    await ann.say("can you hear me?");
    await ann.reaches("can you hear me?", "failed");
    await ann.page.locator(".failure", { hasText: "You cannot write to this user" }).waitFor();
    await bob.page.locator("dialog button", { hasText: "Unblock" }).click();
    // Not "Unblock", in which "block" stands, too: the gateway has to have done it.
    await bob.page.locator("dialog button", { hasText: /^\s*Block\s*$/ }).waitFor();
    await ann.page.locator(".failure button", { hasText: "Send again" }).click();
    await bob.sees("can you hear me?");
    await bob.page.locator("dialog button", { hasText: "Remove friend" }).click();
    await bob.page.locator("dialog:last-of-type .row-end .button.is-bad").click();
    await bob.page.click("#tab-friends");
    await bob.page.locator(".nothing").waitFor();
    done(ann, bob);
  });
});

describe("groups", () => {
  test("create, join by name and by number, talk, rename, remove, leave, dissolve", async (t) => {
    const [ann, bob] = await friends(t);
    const carla = await arrive("Carla Cole");
    t.after(() => carla.context.close());
    const name = `Lake trip ${process.pid}`;
    await ann.makeGroup(name);
    await bob.joinGroup(name.toUpperCase(), name);
    const number = (await bob.page.evaluate(() => location.hash)).split("/").at(-1);
    await carla.joinGroup(number, name);
    await ann.say("welcome, both");
    await bob.sees("welcome, both");
    await carla.say("thanks");
    await ann.page.locator(".line .author", { hasText: "Carla Cole" }).waitFor();
    await ann.page.locator("#chat-state", { hasText: "3 members" }).waitFor();
    await bob.row(name).locator(".row-text", { hasText: "Carla Cole: thanks" }).waitFor();

    await ann.page.click("#about");
    await ann.page.locator(".members .tag", { hasText: "owner" }).waitFor();
    await ann.page.locator(".members li").nth(2).waitFor();
    await ann.page.locator("summary", { hasText: "Rename" }).click();
    await ann.page.fill("dialog [name=name]", `Sea trip ${process.pid}`);
    await ann.page.press("dialog [name=name]", "Enter");
    await ann.titled("Sea trip");
    await bob.titled("Sea trip");

    await ann.page.click("#about");
    await ann.page.locator(".members li", { hasText: "Carla Cole" }).locator(".row-more").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Remove" }).click();
    await ann.page.locator("dialog:last-of-type .row-end .button.is-bad").click();
    await ann.page.locator(".members li", { hasText: "Carla Cole" }).waitFor({ state: "detached" });
    // The dialog opens again, with those who are left.
    await ann.page.locator(".members li").nth(1).waitFor();
    await ann.leaveDialog();
    await carla.page.locator(".composer .note", { hasText: "not a member" }).waitFor();

    await bob.page.click("#about");
    await bob.page.locator("dialog .stack .button.is-bad").click();
    await bob.page.locator("dialog:last-of-type .row-end .button.is-bad").click();
    await bob.page.locator(".nobody").waitFor();
    // What was said until then can be read, also after a reload, and goes when its reader says so.
    await bob.page.reload();
    await bob.row("Sea trip").click();
    await bob.sees("welcome, both");
    await bob.page.locator(".composer .note", { hasText: "not a member" }).waitFor();
    await bob.page.locator(".composer .note .link-button").click();
    await bob.page.locator(".nobody").waitFor();
    await bob.row("Sea trip").waitFor({ state: "detached" });
    await bob.page.reload();
    await bob.page.locator("#rows").waitFor();
    assert.equal(await bob.row("Sea trip").count(), 0);

    await ann.page.click("#about");
    await ann.page.locator("dialog .stack .button.is-bad").click();
    await ann.page.locator("dialog:last-of-type .row-end .button.is-bad").click();
    // The same for who dissolved it.
    await ann.row("Sea trip").click();
    await ann.page.locator(".composer .note .link-button").click();
    await ann.row("Sea trip").waitFor({ state: "detached" });
    done(ann, bob, carla);
  });
});

describe("files", () => {
  test("a picture with its thumbnail, and a file", async (t) => {
    if (!features.uploads) return t.skip("this server stores no files");
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.page.setInputFiles("#files", { name: "lake.png", mimeType: "image/png", buffer: png(900, 600) });
    await ann.page.locator('.line[data-state="read"] .picture').waitFor();
    const image = bob.page.locator(".line .picture img");
    await image.waitFor();
    await bob.page.waitForFunction(() => document.querySelector(".line .picture img").naturalWidth > 0);
    const [wide, high] = await image.evaluate((element) => [element.clientWidth, element.clientHeight]);
    assert.ok(Math.abs(wide / high - 1.5) < 0.02, `${wide} x ${high}`);
    await image.click();
    await bob.page.waitForFunction(() => document.querySelector(".lightbox img")?.naturalWidth === 900);
    await bob.page.keyboard.press("Escape");
    await bob.page.locator(".lightbox").waitFor({ state: "detached" });
    await ann.page.setInputFiles("#files", { name: "plan <b>.txt", mimeType: "text/plain", buffer: Buffer.from("a plan") });
    const card = bob.page.locator(".file-card", { hasText: "plan <b>.txt" });
    await card.waitFor();
    const [downloading] = await Promise.all([bob.page.waitForEvent("download"), card.click()]);
    assert.equal(downloading.suggestedFilename().startsWith("plan"), true);
    done(ann, bob);
  });

  test("a voice message", async (t) => {
    if (!features.uploads) return t.skip("this server stores no files");
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.page.click("#voice");
    await ann.page.waitForFunction(() => document.querySelector(".recording-time")?.textContent > "0:00");
    await ann.page.click("#voice-send");
    await bob.page.locator(".line .voice").waitFor();
    await bob.page.click(".line .voice-play");
    await bob.page.waitForFunction(() => document.querySelector(".line .voice-bar").value > 0);
    await ann.page.click("#voice");
    await ann.page.click("#voice-discard");
    await ann.page.waitForSelector("#input");
    assert.equal(await ann.page.locator(".voice").count(), 1);
    done(ann, bob);
  });
});

describe("while one is there", () => {
  test("presence and typing", async (t) => {
    if (!features.live) return t.skip("this server knows neither presence nor typing");
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.page.locator("#chat-state", { hasText: "online" }).waitFor();
    await bob.page.locator("#input").pressSequentially("well");
    await ann.page.locator("#chat-state", { hasText: "typing" }).waitFor();
    await ann.page.locator("#chat-state", { hasText: "online" }).waitFor();
    await bob.context.close();
    await ann.page.locator("#chat-state", { hasText: "offline" }).waitFor();
    done(ann);
  });

  test("of a stranger it is told that they are there, and not that they are away", async (t) => {
    if (!features.live) return t.skip("this server knows no presence");
    const [ann, bob] = [await arrive("Ann Archer"), await arrive("Bob Brook")];
    t.after(() => Promise.all([ann, bob].map(({ context }) => context.close())));
    const id = await ann.page.evaluate(() => Number(Object.keys(JSON.parse(localStorage.getItem("imgate.sessions")))[0]));
    await bob.sendMany(10, id, 1);
    await ann.open("Bob Brook");
    await ann.page.locator("#chat-state", { hasText: "online" }).waitFor();
    await bob.context.close();
    await ann.page.waitForFunction(() => document.querySelector("#chat-state").textContent === "");
    done(ann);
  });

  test("one's own message is recalled", async (t) => {
    if (!features.recall) return t.skip("this server recalls nothing");
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.say("a wrong word");
    await bob.sees("a wrong word");
    await ann.line("a wrong word").hover();
    await ann.line("a wrong word").locator(".bubble-more").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).click();
    await ann.page.locator(".note", { hasText: "You recalled a message" }).waitFor();
    await bob.page.locator(".note", { hasText: "Ann Archer recalled a message" }).waitFor();
    await bob.page.reload();
    await bob.page.locator(".note", { hasText: "Ann Archer recalled a message" }).waitFor();
    assert.deepEqual(await bob.texts(), ["hello"]);
    done(ann, bob);
  });

  test("what is taken back before it was read is not unread", async (t) => {
    if (!features.recall) return t.skip("this server recalls nothing");
    const [ann, bob] = await friends(t);
    await ann.say("to be kept");
    await ann.say("to be taken back");
    const row = bob.row("Ann Archer");
    await row.locator(".badge", { hasText: "2" }).waitFor();
    await ann.line("to be taken back").hover();
    await ann.line("to be taken back").locator(".bubble-more").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).click();
    await row.locator(".badge", { hasText: "1" }).waitFor();
    await bob.page.waitForFunction(() => document.title === "(1) imgate");
    // The list counts as the page does.
    await bob.page.reload();
    await row.locator(".badge", { hasText: "1" }).waitFor();
    await bob.open("Ann Archer");
    await row.locator(".badge").waitFor({ state: "detached" });
    done(ann, bob);
  });
});

describe("what is unread", () => {
  test("does not count what was taken back, nor that it was, before and after a reload", async (t) => {
    if (!features.recall) return t.skip("this server recalls nothing");
    const [ann, bob] = await friends(t);
    for (const words of ["one", "two", "a wrong word"]) await ann.say(words);
    const badge = bob.row("Ann Archer").locator(".badge");
    await badge.filter({ hasText: "3" }).waitFor();
    await ann.line("a wrong word").hover();
    await ann.line("a wrong word").locator(".bubble-more").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).click();
    await badge.filter({ hasText: "2" }).waitFor();
    await bob.row("Ann Archer").locator(".row-text", { hasText: "Ann Archer recalled a message" }).waitFor();
    await bob.page.reload();
    await badge.filter({ hasText: "2" }).waitFor();
    done(ann, bob);
  });
});

describe("one's own", () => {
  test("file that goes out elsewhere reads nothing of what was said meanwhile", async (t) => {
    if (!features.uploads) return t.skip("this server stores no files");
    const [ann, bob] = await friends(t);
    await meet(ann, bob);
    await ann.reaches("hello", "read");
    let release;
    const held = new Promise((resolve) => { release = resolve; });
    await bob.page.route(/\/api\/v1\/files\?/, async (route) => {
      await held;
      await route.continue();
    });
    await bob.page.setInputFiles("#files", { name: "plan.txt", mimeType: "text/plain", buffer: Buffer.from("a plan") });
    await bob.page.locator('.line[data-state="uploading"]').waitFor();
    await bob.page.keyboard.press("Escape");
    await bob.page.locator(".nobody").waitFor();
    await ann.say("wait!");
    const badge = bob.row("Ann Archer").locator(".badge");
    await badge.filter({ hasText: "1" }).waitFor();
    release();
    await ann.page.locator(".file-card", { hasText: "plan.txt" }).waitFor();
    // Behind the ack of the file.
    await ann.say("thanks");
    await bob.page.waitForFunction(() => document.title === "(2) imgate");
    await badge.filter({ hasText: "2" }).waitFor();
    await bob.open("Ann Archer");
    await bob.page.locator(".unread-mark").waitFor();
    await ann.reaches("wait!", "read");
    await badge.waitFor({ state: "detached" });
    done(ann, bob);
  });
});

describe("the page", () => {
  test("keys: Enter sends, Shift+Enter breaks, Escape leaves, arrows choose", async (t) => {
    const [ann, bob] = await friends(t);
    const { page } = ann;
    await page.focus("#input");
    await page.keyboard.type("one");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("two");
    await page.keyboard.press("Enter");
    await bob.open("Ann Archer");
    await bob.sees("two");
    assert.deepEqual(await bob.texts(), ["one\ntwo"]);
    await ann.makeGroup(`Keys ${process.pid}`);
    await ann.say("a group");
    await ann.reaches("a group", "stored");
    await page.keyboard.press("Alt+ArrowDown");
    await ann.titled("Bob Brook");
    await page.keyboard.press("Escape");
    await page.locator(".nobody").waitFor();
    await page.focus("[type=search]");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await ann.titled("Bob Brook");
    await page.click("#emoji");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    await page.locator(".emoji-panel").waitFor({ state: "detached" });
    await page.keyboard.press("Enter");
    await bob.sees("😃");
    await page.click("#new");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.locator("dialog h2", { hasText: "Create a group" }).waitFor();
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement?.id === "new");
    done(ann, bob);
  });

  test("Chinese and English: the browser's first, then as chosen, and remembered", async (t) => {
    const bo = await arrive("李明", { locale: "zh-CN" });
    t.after(() => bo.context.close());
    const { page } = bo;
    await page.locator("#tab-chats", { hasText: "聊天" }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
    await page.click("#settings");
    await page.selectOption("#field-language", "en");
    await page.locator("#tab-chats", { hasText: "Chats" }).waitFor();
    await page.reload();
    await page.locator("#tab-chats", { hasText: "Chats" }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
    done(bo);
  });

  test("dark and light: the system's, then as chosen, and remembered", async (t) => {
    const ann = await arrive("Ann Archer", { colorScheme: "dark" });
    t.after(() => ann.context.close());
    const dark = () => ann.page.evaluate(() => {
      const [red] = getComputedStyle(document.querySelector(".sidebar")).backgroundColor.match(/\d+/g).map(Number);
      return red < 128;
    });
    assert.equal(await dark(), true);
    await ann.page.click("#settings");
    await ann.page.selectOption("#field-theme", "light");
    assert.equal(await dark(), false);
    await ann.page.reload();
    await ann.page.waitForSelector(".sidebar");
    assert.equal(await dark(), false);
    done(ann);
  });

  test("on a phone there is one column at a time", async (t) => {
    const [ann, bob] = await friends(t, PHONE);
    await ann.say("to your phone");
    await bob.row("Ann Archer").waitFor();
    assert.equal(await bob.page.locator(".chat").isVisible(), false);
    await bob.open("Ann Archer");
    assert.equal(await bob.page.locator(".sidebar").isVisible(), false);
    const width = await bob.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.equal(width[0], width[1], "nothing is wider than the phone");
    await bob.say("from my phone");
    await ann.sees("from my phone");
    await bob.page.goBack();
    await bob.page.locator(".sidebar").waitFor();
    await bob.open("Ann Archer");
    await bob.page.click(".only-phone");
    await bob.page.locator(".sidebar").waitFor();
    done(ann, bob);
  });

  test("nothing of anybody else's can run: the policy, and that it holds", async (t) => {
    const ann = await arrive("Ann Archer");
    t.after(() => ann.context.close());
    const answer = await ann.page.request.get(`${gateway.url}/`);
    const policy = answer.headers()["content-security-policy"];
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.match(policy, /connect-src 'self';/);
    assert.doesNotMatch(policy, /unsafe/);
    const led = await ann.page.evaluate(() => new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", ({ violatedDirective }) => resolve(violatedDirective), { once: true });
      try {
        new WebSocket("ws://127.0.0.2:9/");
      } catch {
        // Some browsers throw as well.
      }
    }));
    assert.equal(led, "connect-src");
    const ran = await ann.page.evaluate(() => {
      const script = document.createElement("script");
      try {
        script.textContent = "window.ran = true";
      } catch {
        // Trusted types stop it even earlier.
      }
      document.head.append(script);
      return window.ran === true;
    });
    assert.equal(ran, false);
    const wrote = await ann.page.evaluate(() => {
      try {
        document.createElement("div")["inner" + "HTML"] = "<b>x</b>";
        return true;
      } catch {
        return false;
      }
    });
    assert.equal(wrote, false);
  });
});
