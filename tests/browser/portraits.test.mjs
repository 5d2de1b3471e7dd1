// Pictures of people and groups: chosen, seen by others, changed, taken away.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE } from "./people.mjs";
import { png } from "./pictures.mjs";
import { stage } from "./stage.mjs";

const { arrive } = stage();

const picture = (width, height) => ({ name: "me.png", mimeType: "image/png", buffer: png(width, height) });

/** Chooses a file with the button of the newest dialog, by keyboard. */
async function choose(page, file) {
  const chosen = page.waitForEvent("filechooser");
  await page.locator("dialog [data-act=choose-picture]").focus();
  await page.keyboard.press("Enter");
  await (await chosen).setFiles(file);
}

/** The address of the picture in a face, once it is there. */
async function faceOf(page, place) {
  const image = page.locator(`${place} .avatar img`).first();
  await image.waitFor();
  await image.evaluate((element) => element.decode());
  return new URL(await image.getAttribute("src")).pathname;
}

test("one's own picture: seen in the list and by a friend, kept, taken away", async (t) => {
  const [ann, bob] = [await arrive(t, "Ann Archer"), await arrive(t, "Bob Brook", PHONE)];
  const { page } = ann;
  await page.click("#settings");
  await choose(page, picture(900, 600));
  const small = await faceOf(page, "dialog");
  await page.locator("[data-act=choose-picture]", { hasText: "Change the picture" }).waitFor();
  assert.ok(await page.evaluate(() => document.activeElement.matches("[data-act=choose-picture]")), "the button keeps the focus");
  await ann.leaveDialog();
  assert.equal(await faceOf(page, ".mine"), small, "the small picture is shown everywhere");
  await page.reload();
  assert.equal(await faceOf(page, ".mine"), small);

  await bob.befriend(ann.mobile);
  assert.equal(await faceOf(bob.page, "#chat-title"), small);

  await page.click("#settings");
  await page.locator("[data-act=remove-picture]").focus();
  await page.keyboard.press("Enter");
  await page.locator("[data-act=choose-picture]", { hasText: "Choose a picture" }).waitFor();
  assert.equal(await page.locator("dialog .avatar img").count(), 0);
  assert.ok(await page.evaluate(() => document.activeElement.matches("[data-act=choose-picture]")), "the focus is not lost with the button");
  await ann.leaveDialog();
  assert.equal(await page.locator(".mine .avatar img").count(), 0);
  ann.noComplaints();
  bob.noComplaints();
});

test("what is no picture is refused with a word, in one's language, and nothing changes", async (t) => {
  const ann = await arrive(t, "安安", { locale: "zh-CN" });
  const { page } = ann;
  await page.click("#settings");
  await page.locator("[data-act=choose-picture]", { hasText: "选择头像" }).waitFor();
  for (const buffer of [Buffer.from("<html><script>alert(1)</script>"), png(40, 40).subarray(0, 60)]) {
    await choose(page, { name: "me.png", mimeType: "image/png", buffer });
    await page.locator("dialog .form-error", { hasText: "无法读取这张图片" }).waitFor();
  }
  assert.equal((await ann.api("GET", "/me")).body.avatar, "");
  await choose(page, picture(40, 40));
  await faceOf(page, "dialog");
  await page.locator("dialog .form-error").first().waitFor({ state: "hidden" });
  ann.noComplaints();
});

test("a group's picture: chosen as it is made, changed by its owner, seen by its members", async (t) => {
  const [ann, bob] = [await arrive(t, "Ann Archer"), await arrive(t, "Bob Brook")];
  const name = `Faces ${process.pid}`;
  await ann.choose(1);
  assert.ok(await ann.page.evaluate(() => document.activeElement.name === "name"), "the name comes first");
  await choose(ann.page, picture(900, 600));
  const first = await faceOf(ann.page, "dialog");
  await ann.page.fill("dialog [name=name]", name);
  await ann.page.selectOption("dialog [name=rule]", "open");
  await ann.page.press("dialog [name=name]", "Enter");
  await ann.titled(name);
  assert.equal(await faceOf(ann.page, "#chat-title"), first);

  await bob.joinGroup(name, name);
  assert.equal(await faceOf(bob.page, "#chat-title"), first);
  await bob.page.click("#about");
  await bob.page.locator("dialog .members li").nth(1).waitFor();
  assert.equal(await bob.page.locator("dialog [data-act=choose-picture]").count(), 0, "only the owner may change it");
  await bob.leaveDialog();

  await ann.page.click("#about");
  await choose(ann.page, picture(500, 500));
  await ann.page.waitForFunction((old) => !document.querySelector("dialog .avatar img")?.src.endsWith(old), first);
  const second = await faceOf(ann.page, "dialog");
  // He is told while he looks.
  await bob.page.waitForFunction((fresh) => document.querySelector("#chat-title .avatar img")?.src.endsWith(fresh), second);
  ann.noComplaints();
  bob.noComplaints();
});
