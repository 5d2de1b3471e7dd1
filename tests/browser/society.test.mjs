// Accounts and groups as people expect them: devices, the end of an account, invitations, roles.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway } from "./gateway.mjs";
import { Person, launch } from "./people.mjs";

const gateway = new Gateway();
let browser;

before(async () => {
  await gateway.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway.remove();
});

async function arrive(t, name) {
  const person = await Person.arrive(browser, gateway.url);
  t.after(() => person.context.close());
  await person.register(name);
  return person;
}

const settings = (person) => person.page.click("#settings");

/** The dialog about the group that is open. */
async function about(person) {
  await person.page.click("#chat-title");
  await person.page.locator("dialog .members").first().waitFor();
}

describe("an account", () => {
  test("says its rules before they are broken", async (t) => {
    const person = await Person.arrive(browser, gateway.url);
    t.after(() => person.context.close());
    const { page } = person;
    await page.click("#switch-form");
    for (const [field, words] of [["password", "At least 8 characters"], ["mobile", "5 to 15 digits"]]) {
      const id = await page.getAttribute(`[name=${field}]`, "aria-describedby");
      assert.match(await page.textContent(`#${id}`), new RegExp(words));
    }
    await page.fill("[name=nickname]", "Ann");
    await page.fill("[name=mobile]", "13800000001");
    for (const name of ["password", "again"]) await page.fill(`[name=${name}]`, "12345678");
    await page.click("[type=submit]");
    await page.locator(".form-error", { hasText: "too easy to guess" }).waitFor();
    person.noComplaints();
  });

  test("logging out ends the token, and another device is logged out from here", async (t) => {
    const ann = await arrive(t, "Ann");
    const phone = await Person.arrive(browser, gateway.url);
    t.after(() => phone.context.close());
    Object.assign(phone, { name: "Ann", mobile: ann.mobile, password: ann.password });
    await phone.login();
    await phone.page.waitForSelector("#settings");
    await settings(ann);
    await ann.page.click("#devices");
    const rows = ann.page.locator("dialog [data-login]");
    await rows.nth(1).waitFor();
    assert.equal(await rows.count(), 2);
    await ann.page.locator("dialog [data-login]", { hasNotText: "this device" }).locator("[data-act=end-login]").click();
    await rows.nth(1).waitFor({ state: "detached" });
    // The other one is at the first page at once.
    await phone.page.locator("#switch-form").waitFor();
    await ann.leaveDialog();
    const token = await ann.page.evaluate(() => Object.values(JSON.parse(localStorage.getItem("imgate.sessions")))[0]);
    const me = () => fetch(`${gateway.url}/api/v1/me`, { headers: { Authorization: `Bearer ${token}` } }).then(({ status }) => status);
    assert.equal(await me(), 200);
    await settings(ann);
    await ann.page.click("#logout");
    await ann.page.locator("#switch-form").waitFor();
    assert.equal(await me(), 401);
    for (const person of [ann, phone]) person.noComplaints();
  });

  test("is deleted by its owner, with the password", async (t) => {
    const ann = await arrive(t, "Ann");
    const { page } = ann;
    await settings(ann);
    await page.click("#delete-account");
    await page.fill("dialog [name=password]", "wrong password");
    await page.click("dialog [type=submit]");
    await page.click("dialog:last-of-type [data-first]");
    await page.locator(".form-error", { hasText: "password is wrong" }).waitFor();
    await page.fill("dialog [name=password]", ann.password);
    await page.click("dialog [type=submit]");
    await page.click("dialog:last-of-type [data-first]");
    await page.locator(".notice", { hasText: "was deleted" }).waitFor();
    await ann.login();
    await page.locator(".form-error", { hasText: "wrong" }).waitFor();
    ann.noComplaints();
  });
});

describe("a group", () => {
  test("starts with picked friends, says who came and went, and is hidden from strangers", async (t) => {
    const [ann, bob, eve] = await Promise.all(["Ann", "Bob", "Eve"].map((name) => arrive(t, name)));
    await ann.befriend(bob.mobile);
    await ann.makeGroup("Tea", "invitation", ["Bob"]);
    await ann.page.locator(".event", { hasText: "You added Bob" }).waitFor();
    await bob.row("Tea").waitFor();
    await bob.open("Tea");
    await bob.page.locator(".event", { hasText: "Ann added you" }).waitFor();
    await eve.choose(2);
    await eve.page.fill("dialog [name=name]", "Tea");
    await eve.page.press("dialog [name=name]", "Enter");
    await eve.page.locator(".form-error", { hasText: "no such group" }).waitFor();
    await eve.leaveDialog();
    await about(ann);
    await ann.page.locator("details", { hasText: "Rename" }).locator("summary").click();
    await ann.page.fill("dialog [name=name]", "Coffee");
    await ann.page.locator("dialog details form [type=submit]").first().click();
    await bob.page.locator(".event", { hasText: "renamed the group to “Coffee”" }).waitFor();
    for (const person of [ann, bob, eve]) person.noComplaints();
  });

  test("is joined by its link until the link is revoked", async (t) => {
    const [ann, bob, eve] = await Promise.all(["Ann", "Bob", "Eve"].map((name) => arrive(t, name)));
    await ann.makeGroup("Lake", "invitation");
    await about(ann);
    await ann.page.click("[data-act=make-link]");
    const link = await ann.page.getAttribute("[data-link]", "data-link");
    await bob.page.goto(link);
    await bob.page.click("[data-act=join]");
    await bob.titled("Lake");
    await bob.say("hello");
    await ann.page.click("[data-act=revoke-link]");
    await ann.page.locator("[data-link]").waitFor({ state: "detached" });
    await eve.page.goto(link);
    await eve.page.locator(".toast", { hasText: "no such group" }).waitFor();
    await ann.leaveDialog();
    await ann.sees("hello");
    for (const person of [ann, bob, eve]) person.noComplaints();
  });

  test("by approval lets in whom an admin lets in", async (t) => {
    const [ann, bob] = await Promise.all(["Ann", "Bob"].map((name) => arrive(t, name)));
    await ann.makeGroup("Choir", "approval");
    await bob.choose(2);
    await bob.page.fill("dialog [name=name]", "Choir");
    await bob.page.press("dialog [name=name]", "Enter");
    await bob.page.click("[data-act=join]");
    await bob.page.locator(".toast", { hasText: "have been asked" }).waitFor();
    await about(ann);
    await ann.page.click("[data-act=let-in]");
    await ann.page.locator("[data-member]", { hasText: "Bob" }).waitFor();
    await ann.page.locator("[data-member]", { hasText: "Bob" }).locator("[data-act=member]").click();
    await ann.page.locator("[role=menuitem]", { hasText: "Make admin" }).click();
    await ann.page.locator("[data-member]", { hasText: "Bob" }).locator(".tag", { hasText: "admin" }).waitFor();
    await bob.row("Choir").waitFor();
    for (const person of [ann, bob]) person.noComplaints();
  });
});
