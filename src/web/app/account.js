/** One's account: the devices that are logged in, and its end. */

import { fill, h } from "./dom.js";
import { shortTime, t } from "./language.js";
import { attempt, confirmed, dialog, field, form, toast } from "./parts.js";

const BROWSERS = [[/\bEdgA?\//, "Edge"], [/\bOPR\//, "Opera"], [/\bFirefox\/|\bFxiOS\//, "Firefox"], [/Chrom(e|ium)\/|\bCriOS\//, "Chrome"], [/Safari\//, "Safari"]];
const SYSTEMS = [[/iPhone|iPad|iPod/, "iOS"], [/Android/, "Android"], [/Windows/, "Windows"], [/Mac OS X|Macintosh/, "macOS"], [/CrOS/, "ChromeOS"], [/Linux/, "Linux"]];

/** What a program calls itself, in words that people know it by. */
export function deviceName(agent) {
  const found = (list) => list.find(([sign]) => sign.test(agent))?.[1];
  const names = [found(BROWSERS), found(SYSTEMS)].filter(Boolean);
  return names.join(" · ") || agent.slice(0, 60) || t("unknownDevice");
}

/** The devices that are logged in, each with a button that logs it out. */
export function showDevices(model, page) {
  dialog(t("devices"), (close) => {
    const list = h("ul", { class: "members devices" });
    const draw = async () => {
      const logins = await attempt(() => model.api.logins());
      if (!logins) return;
      fill(list, logins.map((login) => h("li", { data: { login: login.id } },
        h("div", { class: "row" },
          h("span", { class: "row-main" },
            h("span", { class: "row-title" }, deviceName(login.agent), login.current && h("span", { class: "tag" }, t("thisDevice"))),
            h("span", { class: "quiet" }, t("usedFrom", { when: shortTime(login.used_ms), where: login.address })))),
        h("button", { type: "button", class: "button is-bad", data: { act: "end-login" }, aria: { label: `${t("logoutThere")}: ${deviceName(login.agent)}` }, on: { click: async () => {
          if (login.current) {
            close();
            return page.logout(false);
          }
          await attempt(() => model.api.endLogin(login.id));
          return draw();
        } } }, login.current ? t("logout") : t("logoutThere")))));
    };
    draw();
    return [h("p", { class: "quiet" }, t("devicesHint")), list];
  });
}

/** The end of the account, with the password once more. */
export function showDeletion(model, page) {
  dialog(t("deleteAccount"), (close) => [
    h("p", {}, t("deleteHint")),
    form(t("deleteAccount"), [
      field(t("password"), { name: "password", id: "deletion", type: "password", autocomplete: "current-password", required: true, maxlength: 256 }),
    ], async ({ password }) => {
      if (!(await confirmed(t("deleteSure"), t("deleteAccount")))) return;
      await model.api.deleteMe(password).catch((error) => {
        throw error.code === "wrong_login" ? new Error(t("e_wrong_password")) : error;
      });
      close();
      page.leave(t("accountDeleted"));
      toast(t("accountDeleted"));
    }),
  ]);
}
