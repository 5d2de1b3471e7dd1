// Makes docs/screenshots: npm run screenshots. Looked at by people, compared by nobody.
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Gateway } from "./gateway.mjs";
import { PHONE, Person, launch } from "./people.mjs";
import { png } from "./pictures.mjs";

const folder = fileURLToPath(new URL("../../docs/screenshots/", import.meta.url));
const shoot = (person, name) => person.page.screenshot({ path: `${folder}${name}.png`, animations: "disabled" });

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
  await ming.page.keyboard.press("Escape");
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
  await ann.page.setInputFiles("#files", { name: "lake.png", mimeType: "image/png", buffer: png(640, 380) });
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
  const small = { viewport: { width: 1040, height: 680 } };
  const ann = await arrive("Ann Archer", small);
  const ming = await arrive("李明", { ...PHONE, deviceScaleFactor: 1.5, colorScheme: "dark", locale: "zh-CN" });
  const carla = await arrive("Carla Cole", { ...small, colorScheme: "dark" });
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
  await ann.page.click("#emoji");
  await shoot(ann, "desktop-direct");
  const guest = await Person.arrive(browser, gateway.url, { ...PHONE, deviceScaleFactor: 1.5 });
  await guest.page.waitForSelector(".welcome-card");
  await shoot(guest, "phone-welcome");
} finally {
  await browser?.close();
  await gateway.remove();
}
