// What a file of browser tests begins with: a gateway and a browser for all of its tests, and people who leave with their test.
import { after, before } from "node:test";
import { Gateway } from "./gateway.mjs";
import { Person, launch } from "./people.mjs";

/** Starts them before the tests of the calling file, and ends them afterwards. */
export function stage() {
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

  /** Somebody who has opened the page. */
  const visit = async (t, options) => {
    const person = await Person.arrive(browser, gateway.url, options);
    t.after(() => person.context.close());
    return person;
  };
  /** Somebody who has registered. */
  const arrive = async (t, name, options) => {
    const person = await visit(t, options);
    await person.register(name);
    return person;
  };
  return { gateway, visit, arrive };
}
