// The status page at the admin port: it draws what the gateway does, and says when that is nothing any more.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stage } from "./stage.mjs";

const { gateway, visit, arrive } = stage();

describe("the status page", () => {
  test("draws what happens, without a word to the console", async (t) => {
    const ann = await arrive(t, "Ann Archer");
    const page = await ann.context.newPage();
    const wrong = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(message.text()));
    page.on("pageerror", (error) => wrong.push(String(error)));
    await page.goto(`${gateway.adminUrl}/admin`);
    await page.getByRole("status").filter({ hasText: /^ready/ }).waitFor();
    // One session is open, and so a line is drawn.
    await page.locator("#tiles div", { hasText: "sessions" }).locator("b", { hasText: /^1$/ }).waitFor();
    // Each drawing makes its lines anew, so they are looked for each time.
    const line = 'svg[aria-label="Sessions"] path[data-name=open]';
    await page.waitForFunction((at) => document.querySelector(at)?.getAttribute("d").includes("L"), line);
    assert.equal(await page.getByRole("img").count(), 12);
    assert.match(await page.locator("#about").textContent(), /2 shards .* descriptors .* settings [0-9a-f]{8}$/);
    assert.deepEqual(wrong, []);
  });

  test("says what wants looking after although it is ready", async (t) => {
    const { context } = await visit(t);
    const page = await context.newPage();
    const told = { imgate_bus_up: "0", imgate_tls_refused_certificates: "1", imgate_data_free_bytes: "5e8", imgate_clock_moved_seconds: "-7200", imgate_clock_set_age_seconds: "20", process_max_fds: "100", process_open_fds: "91" };
    await page.route("**/metrics", async (route) => {
      const text = await (await route.fetch()).text();
      const others = text.split("\n").filter((line) => !Object.keys(told).some((name) => line.startsWith(`${name} `)));
      await route.fulfill({ body: [...others, ...Object.entries(told).map(([name, value]) => `${name} ${value}`), ""].join("\n") });
    });
    await page.goto(`${gateway.adminUrl}/admin`);
    await page.getByRole("status").filter({ hasText: "ready, but see below" }).waitFor();
    const troubles = await page.locator("#troubles li").allTextContents();
    for (const words of ["the bus between gateways", "the files of a certificate", "the disk is nearly full: 476.8 MiB left", "set 20 s ago: by -7200 s", "91 of 100 descriptors are open"]) {
      assert.ok(troubles.some((trouble) => trouble.includes(words)), `${words}: ${troubles}`);
    }
    assert.equal(troubles.length, 5, `${troubles}`);
    // Before the first NTP answer of a machine's start the clock is set once; that is over after a while.
    told.imgate_clock_set_age_seconds = "301";
    await page.waitForFunction(() => document.querySelectorAll("#troubles li").length === 4);
  });

  test("says when the gateway does not answer, and goes on when it does", async (t) => {
    const { context } = await visit(t);
    const page = await context.newPage();
    await page.goto(`${gateway.adminUrl}/admin`);
    await page.getByRole("status").filter({ hasText: /^ready/ }).waitFor();
    await page.route("**/metrics", (route) => route.abort());
    await page.getByRole("status").filter({ hasText: "does not answer" }).waitFor();
    await page.unroute("**/metrics");
    await page.getByRole("status").filter({ hasText: /^ready/ }).waitFor();
  });
});
