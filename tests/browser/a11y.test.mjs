// Whether everybody can use it: axe-core in every state of the page, light and dark, wide and narrow.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { readFile } from "node:fs/promises";
import { PHONE } from "./people.mjs";
import { png } from "./pictures.mjs";
import { stage } from "./stage.mjs";

const { gateway, visit, arrive } = stage();

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/** The page's policy would not let a foreign script in, however good it means. */
const OPEN = { bypassCSP: true };

/** Findings beyond cosmetics, each with its rule and where it is. */
async function findings(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  return page.evaluate(async (tags) => {
    // What moves is looked at where it ends.
    for (const animation of document.getAnimations()) animation.finish?.();
    const { violations } = await window.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
    return violations.filter(({ impact }) => impact !== "minor").flatMap(({ id, impact, nodes }) => nodes.map(({ target, failureSummary }) => `${id} (${impact}): ${target.join(" ")}: ${failureSummary.split("\n").slice(1).join(" ").trim()}`));
  }, TAGS);
}

/** A collector: every state is looked at in light and in dark, and all findings are told at once. */
function looking() {
  const found = [];
  return {
    async at(person, state) {
      for (const colorScheme of ["light", "dark"]) {
        await person.page.emulateMedia({ colorScheme });
        for (const one of await findings(person.page)) found.push(`${state}, ${colorScheme}: ${one}`);
      }
      await person.page.emulateMedia({ colorScheme: "light" });
    },
    none() {
      assert.deepEqual([...new Set(found)], []);
    },
  };
}

/** Ann and Bob, friends, who have begun to talk. */
async function friends(t, options = {}) {
  const [ann, bob] = await Promise.all([arrive(t, "Ann Archer", { ...OPEN }), arrive(t, "Bob Brook", { ...OPEN, ...options })]);
  await ann.befriend(bob.mobile);
  await ann.say("hello");
  await bob.row("Ann Archer").waitFor();
  return [ann, bob];
}

/** One message of each kind, with the SDK. */
const kinds = (person, kind, dstid) => person.page.evaluate(async ([kind_, dstid_]) => {
  const { ImgateClient } = await import("/sdk/imgate.js");
  const [[id, token]] = Object.entries(JSON.parse(localStorage.getItem("imgate.sessions")));
  const client = new ImgateClient({ url: `ws://${location.host}/chat`, token, userId: Number(id) });
  const bodies = [
    { media: 1, content: "see https://example.org/" }, { media: 2, content: "An article", memo: "what it is about", url: "https://example.org/" }, { media: 3, url: "/nowhere.mp3", amount: 7 },
    { media: 4, url: "https://example.org/elsewhere.png" }, { media: 5, memo: "Good luck", amount: 888 }, { media: 6, content: "🎉" }, { media: 7, content: "A link", url: "https://example.org/" },
    { media: 9, content: "1", memo: "Carla" }, { media: 100, type: "file", content: "a.pdf", url: "/nowhere.pdf", size: 2048 }, { media: 4711 }, { media: 1, content: "שלום, מה שלומך?" },
  ];
  let stored = 0;
  const all = new Promise((resolve) => client.on("sent", () => (stored += 1) === bodies.length && resolve()));
  await client.connect();
  for (const body of bodies) client.send(kind_, dstid_, body);
  await all;
  client.close();
}, [kind, dstid]);

const idOf = (person) => person.page.evaluate(() => Number(Object.keys(JSON.parse(localStorage.getItem("imgate.sessions")))[0]));

describe("axe finds nothing", () => {
  test("before one is logged in", async (t) => {
    const look = looking();
    const ann = await visit(t, OPEN);
    await look.at(ann, "log in");
    await ann.page.click("#switch-form");
    await look.at(ann, "register");
    await ann.page.click("#switch-form");
    await ann.page.fill("[name=mobile]", "13800000000");
    await ann.page.fill("[name=password]", "not this one");
    await ann.page.press("[name=password]", "Enter");
    await ann.page.locator(".form-error:not([hidden])").waitFor();
    await look.at(ann, "a wrong password");
    look.none();
  });

  test("in lists, conversations and what lies over them", async (t) => {
    const look = looking();
    const [ann, bob] = await friends(t);
    await look.at(bob, "a list with something new");
    await kinds(ann, 10, await idOf(bob));
    await ann.page.setInputFiles("#files", { name: "lake.png", mimeType: "image/png", buffer: png(300, 200) });
    await bob.open("Ann Archer");
    await bob.page.locator(".picture img").waitFor();
    await look.at(bob, "a conversation, every kind");
    await ann.reaches("hello", "read");
    await look.at(ann, "one's own, every kind");
    await ann.page.fill("#input", "a draft");
    await ann.page.keyboard.press("Escape");
    await look.at(ann, "a draft in the list");
    await ann.page.click("#tab-friends");
    await ann.row("Bob Brook").waitFor();
    await look.at(ann, "friends");
    await ann.page.locator(".row-more").click();
    await ann.page.locator("dialog").waitFor();
    await look.at(ann, "a profile");
    await ann.leaveDialog();
    await ann.page.click("#tab-groups");
    await look.at(ann, "no groups");
    await ann.page.click("#new");
    await look.at(ann, "a menu");
    await ann.page.keyboard.press("Escape");
    for (const entry of [0, 1, 2]) {
      await ann.choose(entry);
      await ann.page.locator("dialog").waitFor();
      await look.at(ann, `dialog ${entry}`);
      await ann.leaveDialog();
    }
    await ann.page.click("#settings");
    await ann.page.locator("dialog").waitFor();
    for (const summary of await ann.page.locator("dialog summary").all()) await summary.click();
    await look.at(ann, "settings");
    await ann.leaveDialog();
    look.none();
  });

  test("in a group, with emoji, and when something fails", async (t) => {
    const look = looking();
    const [ann, bob] = await friends(t);
    await ann.makeGroup("Lake trip");
    const id = Number((await ann.page.evaluate(() => location.hash)).split("/").at(-1));
    await bob.joinGroup("Lake trip", "Lake trip");
    await kinds(ann, 11, id);
    await bob.say("thanks");
    await ann.sees("thanks");
    await bob.sees("see https");
    await look.at(bob, "a group");
    await ann.page.click("#emoji");
    await look.at(ann, "emoji");
    await ann.page.keyboard.press("Escape");
    await ann.page.click("#about");
    await ann.page.locator(".members li").nth(1).waitFor();
    await look.at(ann, "a group's dialog");
    await ann.leaveDialog();
    await ann.page.setInputFiles("#files", { name: "empty.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) });
    await ann.page.locator(".failure").waitFor();
    await ann.say("to be taken back");
    await ann.line("to be taken back").hover();
    await look.at(ann, "a failure");
    await ann.line("to be taken back").locator(".bubble-more").click();
    await look.at(ann, "a message's menu");
    await ann.page.locator("[role=menuitem]", { hasText: "Recall" }).click();
    await ann.page.locator(".note", { hasText: "recalled" }).waitFor();
    await look.at(ann, "a message that was taken back");
    await gateway.stop();
    await ann.page.locator(".banner:not([hidden])").waitFor();
    await ann.say("waits");
    await look.at(ann, "without a network");
    await gateway.start();
    await ann.page.locator(".banner").waitFor({ state: "hidden" });
    look.none();
  });

  test("on a phone", async (t) => {
    const look = looking();
    const [, bob] = await friends(t, PHONE);
    await look.at(bob, "the list on a phone");
    await bob.open("Ann Archer");
    await look.at(bob, "a conversation on a phone");
    look.none();
  });
});

describe("without a mouse, and in every direction", () => {
  test("the first stop of the Tab key leads past the list", async (t) => {
    const [ann] = await friends(t);
    await ann.page.keyboard.press("Escape");
    await ann.page.locator(".nobody").waitFor();
    await ann.page.reload();
    await ann.row("Bob Brook").waitFor();
    await ann.page.keyboard.press("Tab");
    const skip = ann.page.locator(".skip");
    assert.equal(await skip.evaluate((link) => link === document.activeElement), true);
    assert.equal(await skip.isVisible(), true);
    await ann.page.keyboard.press("Enter");
    assert.equal(await ann.page.evaluate(() => document.querySelector("#chat").contains(document.activeElement)), true);
    ann.noComplaints();
  });

  test("what is written from right to left stands so, wherever it is", async (t) => {
    const [ann, bob] = await friends(t);
    await ann.say("שלום, מה שלומך?");
    const row = bob.row("Ann Archer").locator(".row-text");
    await row.filter({ hasText: "שלום" }).waitFor();
    await bob.open("Ann Archer");
    await bob.sees("שלום");
    const direction = (element) => getComputedStyle(element).direction;
    assert.equal(await bob.line("שלום").locator(".words").evaluate(direction), "rtl");
    assert.equal(await bob.line("hello").locator(".words").evaluate(direction), "ltr");
    assert.equal(await row.locator("bdi, [dir=auto]").first().evaluate(direction), "rtl");
    await ann.page.fill("#input", "שלום");
    assert.equal(await ann.page.locator("#input").evaluate(direction), "rtl");
    ann.noComplaints();
    bob.noComplaints();
  });

  test("what is said for a moment covers nothing that can be pressed", async (t) => {
    const covered = (person) => person.page.evaluate(() => {
      const box = document.querySelector(".toast").getBoundingClientRect();
      const shown = (element) => element.getClientRects().length > 0 && (!document.querySelector("dialog[open]") || element.closest("dialog[open]"));
      const shownPart = (element) => {
        let { left, right, top, bottom } = element.getBoundingClientRect();
        for (let parent = element.parentElement; parent; parent = parent.parentElement) {
          if (getComputedStyle(parent).overflowY === "visible") continue;
          const clip = parent.getBoundingClientRect();
          [left, right, top, bottom] = [Math.max(left, clip.left), Math.min(right, clip.right), Math.max(top, clip.top), Math.min(bottom, clip.bottom)];
        }
        return { left, right, top, bottom };
      };
      return [...document.querySelectorAll("button, input, textarea, a:not(.skip), .bubble")].filter(shown).filter((element) => {
        const other = shownPart(element);
        return other.left < box.right && other.right > box.left && other.top < box.bottom && other.bottom > box.top;
      }).map((element) => element.outerHTML.slice(0, 80));
    });
    for (const options of [OPEN, { ...PHONE, hasTouch: false, isMobile: false }]) {
      const ann = await arrive(t, "Ann Archer", options);
      await ann.makeGroup("Tea");
      for (let n = 0; n < 20; n += 1) await ann.say(`number ${n}`);
      await ann.line("number 19").hover();
      await ann.line("number 19").locator(".bubble-more").click();
      await ann.page.locator("[role=menuitem]", { hasText: "Copy" }).click();
      await ann.page.locator(".toast").waitFor();
      assert.deepEqual(await covered(ann), []);
      await ann.page.locator(".toast").waitFor({ state: "detached" });
      // On a phone the list, and with it the settings, is behind the conversation.
      if (options !== OPEN) await ann.page.locator(".chat-head .only-phone").click();
      await ann.page.click("#settings");
      await ann.page.locator("summary", { hasText: "Profile" }).click();
      await ann.page.fill("dialog [name=nickname]", "Ann Arden");
      await ann.page.press("dialog [name=nickname]", "Enter");
      await ann.page.locator(".toast").waitFor();
      assert.deepEqual(await covered(ann), []);
      ann.noComplaints();
    }
  });
});
