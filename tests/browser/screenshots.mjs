// Makes docs/screenshots: npm run screenshots. Looked at by people, compared by nobody.
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Gateway } from "./gateway.mjs";
import { PHONE, Person, launch } from "./people.mjs";
import { png } from "./pictures.mjs";

const folder = fileURLToPath(new URL("../../docs/screenshots/", import.meta.url));

/** Without what lies over the page for a moment, and without a pointer over anything. */
async function shoot(person, name) {
  await person.page.mouse.move(1, 1);
  await person.page.locator(".toast").waitFor({ state: "detached" });
  await person.page.screenshot({ path: `${folder}${name}.png`, animations: "disabled" });
}

/** Others who have written before: a list of one looks like nobody's. */
async function others(ann, ming, people) {
  const [dora, wei, ed] = people;
  await ed.befriend(ann.mobile);
  await ed.say("The book is on your desk.");
  await dora.befriend(ann.mobile);
  await dora.say("Happy birthday! 🎂");
  await dora.befriend(ming.mobile);
  await dora.say("Did you get the tickets?");
  await wei.befriend(ming.mobile);
  await wei.say("周末一起打羽毛球吗?");
  await wei.makeGroup("羽毛球");
  await ming.joinGroup("羽毛球", "羽毛球");
  await wei.say("星期天下午三点,老地方 🏸");
  await ming.sees("老地方");
  await ming.page.click(".only-phone");
  for (const title of ["Ed Evans", "Dora Diaz"]) {
    await ann.open(title);
    await ann.page.locator(".line").last().waitFor();
  }
  await ann.say("Thank you! 😊");
  await ann.page.keyboard.press("Escape");
}

async function conversation(ann, ming, carla) {
  await ann.befriend(ming.mobile);
  await ann.say("Hi! Are you coming on Saturday?");
  await ann.say("We meet at the lake at ten. The way is on https://example.org/lake");
  await ming.row("Ann Archer").locator(".badge", { hasText: "2" }).waitFor();
  await ming.open("Ann Archer");
  await ming.say("好的,我十点到 🙂");
  await ming.say("👍");
  await ann.sees("👍");
  await ann.say("Great, I bring the tea and something to eat. Could you take the camera with you?");
  await ann.makeGroup("Lake trip");
  await ming.page.click(".only-phone");
  await ming.joinGroup("lake trip", "Lake trip");
  await carla.joinGroup("lake trip", "Lake trip");
  await ann.say("Welcome, both of you!");
  await carla.sees("Welcome, both of you!");
  await carla.say("Thanks. Who drives?");
  await carla.say("I have room for three");
  await ming.sees("I have room for three");
  await ming.say("我可以带相机");
  await ann.sees("我可以带相机");
  await ann.say("Perfect. This is where we meet:");
  await ann.page.setInputFiles("#files", { name: "lake.png", mimeType: "image/png", buffer: png(640, 330) });
  await ann.page.locator('.line[data-state="stored"] .picture').waitFor();
  await ann.page.click("#voice");
  await ann.page.waitForFunction(() => document.querySelector(".recording-time")?.textContent === "0:02");
  await ann.page.click("#voice-send");
  await ann.page.locator('.line[data-state="stored"] .voice').waitFor();
  await carla.page.locator(".voice").waitFor();
  await carla.say("🎉");
  await ann.page.locator(".line:not(.is-own) .is-jumbo").waitFor();
  await ming.page.locator(".line .is-jumbo").waitFor();
  for (const one of [ann, ming, carla]) await one.page.waitForFunction(() => document.querySelector(".picture img")?.naturalWidth > 0 && !document.querySelector(".toast"));
}

const gateway = new Gateway();
let browser;
try {
  await mkdir(folder, { recursive: true });
  await gateway.start();
  browser = await launch();
  const arrive = async (name, options) => {
    const person = await Person.arrive(browser, gateway.url, options);
    await person.register(name);
    return person;
  };
  const small = { viewport: { width: 1040, height: 720 } };
  const ann = await arrive("Ann Archer", small);
  const ming = await arrive("李明", { ...PHONE, deviceScaleFactor: 1.5, colorScheme: "dark", locale: "zh-CN" });
  const carla = await arrive("Carla Cole", { ...small, colorScheme: "dark" });
  const people = [];
  for (const name of ["Dora Diaz", "陈伟", "Ed Evans"]) people.push(await arrive(name, small));
  await others(ann, ming, people);
  await conversation(ann, ming, carla);
  await shoot(ann, "desktop-light");
  await shoot(ming, "phone-dark");
  await carla.page.click("#about");
  await carla.page.locator(".members li").nth(2).waitFor();
  await shoot(carla, "group-dark");
  await ming.page.click(".only-phone");
  await ann.open("李明");
  await ann.say("See you there!");
  await ming.row("Ann Archer").locator(".badge").waitFor();
  await shoot(ming, "phone-list-dark");
  await shoot(ann, "desktop-direct");
  const guest = await Person.arrive(browser, gateway.url, { ...PHONE, deviceScaleFactor: 1.5 });
  await guest.page.waitForSelector(".welcome-card");
  await shoot(guest, "phone-welcome");
} finally {
  await browser?.close();
  await gateway.remove();
}
