// The web client with a real life in it: hundreds of conversations, thousands of messages. What depends on the machine is reported;
// what does not is counted: questions to the server, rows in the page, rows that are drawn anew.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway } from "./gateway.mjs";
import { Person, launch } from "./people.mjs";

const CONVERSATIONS = 500;
const MESSAGES = 5000;
/** How often a line is sent to see what sending costs. */
const SENDS = 9;
/** As `SPAN_MOST` of span.js and `ROWS_STEP` of sidebar.js. */
const LINES_MOST = 120;
const ROWS_STEP = 60;

const gateway = new Gateway();
let browser;
let users;
before(async () => {
  users = await gateway.seed(CONVERSATIONS + 2);
  await gateway.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway.remove();
});

/** A page of one of the seeded users, with what it costs and what it asks. */
async function enter(t, [id, token], hash = "") {
  const person = await Person.arrive(browser, gateway.url);
  t.after(() => person.context.close());
  const { page } = person;
  await page.evaluate(([id_, token_]) => localStorage.setItem("imgate.sessions", JSON.stringify({ [id_]: token_ })), [id, token]);
  await page.evaluate((id_) => sessionStorage.setItem("imgate.user", id_), id);
  person.frames = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => person.frames.push(JSON.parse(payload))));
  const devtools = await person.context.newCDPSession(page);
  // What the thread has worked, not how long it waited for a processor.
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  person.cpuMs = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value * 1000;
  };
  await page.addInitScript(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => Math.round(duration)))).observe({ type: "longtask", buffered: true });
  });
  person.longTasks = () => page.evaluate(() => window.longTasks.splice(0));
  await page.goto(`${gateway.url}/${hash}`);
  if (hash) await page.reload();
  return person;
}

/** Sends with the SDK from a page: `[kind, dstid, text]` each, as the given user. */
const post = (person, [id, token], messages) => person.page.evaluate(async ([id_, token_, messages_]) => {
  const { ImgateClient } = await import("/sdk/imgate.js");
  const client = new ImgateClient({ url: `ws://${location.host}/chat`, token: token_, userId: Number(id_), firstPage: 0 });
  let stored = 0;
  const all = new Promise((resolve, reject) => {
    client.on("sent", () => (stored += 1) === messages_.length && resolve());
    client.on("refused", ({ msg }) => reject(new Error(msg)));
  });
  await client.connect();
  for (let at = 0; at < messages_.length; at += 500) {
    for (const [kind, dstid, content] of messages_.slice(at, at + 500)) client.send(kind, dstid, { media: 1, content });
    while (stored < Math.min(at + 500, messages_.length)) await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
  await all;
  client.close();
}, [id, token, messages]);

/** Counts the elements with this class that are put into the page or drawn anew while `work` runs. */
async function drawn(page, place, sort, work) {
  await page.evaluate(([place_, sort_]) => {
    window.drawn = new Set();
    window.watcher = new MutationObserver((records) => {
      for (const { target, addedNodes } of records) {
        const inside = target.closest?.(sort_);
        if (inside) window.drawn.add(inside);
        for (const node of addedNodes) if (node.matches?.(sort_)) window.drawn.add(node);
      }
    });
    window.watcher.observe(document.querySelector(place_), { childList: true, subtree: true });
  }, [place, sort]);
  await work();
  return page.evaluate(() => {
    window.watcher.disconnect();
    return window.drawn.size;
  });
}

describe("a real life", () => {
  test("hundreds of conversations: previews come with the list, no conversation is asked for, and a row is drawn when it changes", async (t) => {
    const [me, stranger, ...others] = users;
    const helper = await enter(t, stranger);
    await post(helper, me, others.map(([id], at) => [10, Number(id), `to number ${at}`]));
    await post(helper, others[7], [[10, Number(me[0]), "an answer that is not read yet"]]);
    const person = await enter(t, me);
    const { page } = person;
    await page.locator("#rows .row-text", { hasText: "an answer that is not read yet" }).waitFor();
    await page.waitForFunction((count) => document.querySelectorAll("#rows .row").length >= count, ROWS_STEP);
    await page.waitForFunction(() => document.querySelector("#rows .badge")?.textContent === "1");
    // All pages of the list are here.
    await page.fill("[type=search]", "no such name at all");
    await page.locator(".nothing").waitFor();
    await page.fill("[type=search]", "");
    await page.waitForFunction((count) => document.querySelectorAll("#rows .row").length === count, ROWS_STEP);
    t.diagnostic(`${others.length} conversations: ${Math.round(await person.cpuMs())} ms of the main thread; long tasks ${JSON.stringify(await person.longTasks())}`);
    assert.deepEqual(person.frames.filter(({ cmd }) => cmd === 4), [], "nothing is asked for that is not open");
    assert.ok(person.frames.filter(({ cmd }) => cmd === 5).length >= 2, "the further pages of the list");
    const texts = await page.locator("#rows .row-text").allTextContents();
    assert.ok(texts.every((text) => text.startsWith("to number") || text.startsWith("an answer")), texts.join());

    const count = await drawn(page, "#rows", ".row", async () => {
      await post(helper, others[400], [[10, Number(me[0]), "the four hundredth"]]);
      await page.locator("#rows > :first-child .row-text", { hasText: "the four hundredth" }).waitFor();
    });
    assert.ok(count <= 2, `${count} rows were drawn for one message`);

    // The end of the list is reached by scrolling, a part at a time.
    let rows = 0;
    for (let round = 0; rows < others.length && round < 40; round += 1) {
      await page.locator("#rows").evaluate((element) => { element.scrollTop = element.scrollHeight; });
      await page.waitForFunction((had) => document.querySelectorAll("#rows .row").length > had, rows);
      rows = await page.locator("#rows .row").count();
    }
    assert.equal(rows, others.length);
    person.noComplaints();
  });

  test("thousands of messages: the page holds some screens of them at any depth, and sending draws one line", async (t) => {
    const [, ann, bob] = users;
    const helper = await enter(t, bob);
    await post(helper, ann, Array.from({ length: MESSAGES }, (_, at) => [10, Number(bob[0]), `line ${at + 1}.`]));
    const person = await enter(t, ann, `#/c/10/${bob[0]}`);
    const { page } = person;
    await person.sees(`line ${MESSAGES}.`);
    // The first page of history is here.
    await page.waitForFunction(() => document.querySelectorAll(".line").length >= 40);
    await page.fill("#input", "x");
    // Each several times: what one costs is mostly the chance of what else the page just did.
    const send = async (text) => {
      const seen = { counts: [], costs: [] };
      for (let time = 1; time <= SENDS; time += 1) {
        const cpu = await person.cpuMs();
        const count = await drawn(page, ".lines", ".line", async () => {
          await person.say(`${text} ${time}`);
          await page.locator('.line[data-state]:not([data-state="sending"])', { hasText: `${text} ${time}` }).waitFor();
        });
        seen.counts.push(count);
        seen.costs.push(await person.cpuMs() - cpu);
      }
      const [lines, median] = [seen.counts, seen.costs].map((all) => Math.round(all.sort((one, two) => one - two)[SENDS >> 1]));
      return { lines, median };
    };
    const early = await send("after one page");
    await person.longTasks();
    const cpu = await person.cpuMs();
    // Up to the beginning, a page at a time.
    const { pages, most } = await page.evaluate(async () => {
      const scroller = document.querySelector(".scroller");
      const top = () => document.querySelector(".line").dataset.seq;
      const seen = { pages: 0, most: 0 };
      while (top() !== "1") {
        const before_ = top();
        scroller.scrollTop = 0;
        while (top() === before_) await new Promise((resolve) => { requestAnimationFrame(resolve); });
        seen.pages += 1;
        seen.most = Math.max(seen.most, document.querySelectorAll(".line").length);
      }
      return seen;
    });
    const cost = (await person.cpuMs() - cpu) / pages;
    t.diagnostic(`${pages} pages of history: ${cost.toFixed(1)} ms of the main thread each; long tasks ${JSON.stringify(await person.longTasks())}`);
    assert.ok(pages > MESSAGES / 100 && pages < MESSAGES / 10, `${pages} pages`);
    assert.ok(most <= LINES_MOST, `${most} lines in the page`);
    await page.locator(".note", { hasText: "beginning" }).waitFor();

    // What one reads stays in its place while something is loaded above it or let go.
    const jump = page.locator(".jump");
    await page.locator(".scroller").evaluate((element) => { element.scrollTop = 0; });
    await jump.click();
    await person.sees(`after one page ${SENDS}`);
    await jump.waitFor({ state: "hidden" });
    await page.waitForFunction(() => {
      const scroller = document.querySelector(".scroller");
      return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
    });
    assert.ok(await page.locator(".line").count() <= LINES_MOST);
    const late = await send("after all pages");
    t.diagnostic(`sending, the median of ${SENDS}: ${early.median} ms of the main thread after one page of history, ${late.median} ms after ${MESSAGES} lines`);
    // Its own line, and at most that of before, whose state has changed meanwhile.
    assert.ok(early.lines <= 3 && late.lines <= 3, `${early.lines} and ${late.lines} lines were drawn`);
    person.noComplaints();
  });

  test("what one reads stays where it is while something is loaded above it or let go below", async (t) => {
    const [, ann, bob] = users;
    const person = await enter(t, bob, `#/c/10/${ann[0]}`);
    const { page } = person;
    await person.sees(`after all pages ${SENDS}`);
    // The first page of history is here.
    await page.waitForFunction(() => document.querySelectorAll(".line").length >= 40);
    const middle = async () => page.evaluate(() => {
      const box = document.querySelector(".scroller").getBoundingClientRect();
      const line = document.elementFromPoint(box.left + 60, box.top + box.height / 2).closest(".lines > *") ?? document.querySelector(".line");
      return { text: line.textContent, top: line.getBoundingClientRect().top };
    });
    for (let round = 0; round < 6; round += 1) {
      const [before_, after_, moved] = await page.evaluate(async () => {
        const scroller = document.querySelector(".scroller");
        scroller.scrollTop = 100;
        // Not the first ones: what comes before them may make them the continuation of another's words, which draws them anew.
        const line = [...document.querySelectorAll(".line")].slice(3).find((one) => one.offsetTop > 100);
        const at = line.getBoundingClientRect().top;
        const first = document.querySelector(".line");
        // Until something was put before it.
        while (document.querySelector(".line") === first) await new Promise((resolve) => { requestAnimationFrame(resolve); });
        return [at, line.getBoundingClientRect().top, line.isConnected];
      });
      assert.ok(moved, "it is still there");
      assert.ok(Math.abs(before_ - after_) < 3, `${before_} became ${after_}`);
    }
    assert.ok((await middle()).text);
    person.noComplaints();
  });
});
