/** The first page: log in or make an account, in one's language. */

import { Api } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { LANGUAGES, chooseLanguage, language, t } from "./language.js";
import { field, form } from "./parts.js";

/**
 * @param {HTMLElement} root
 * @param {(session: {id: number, token: string}) => void} entered
 * @param {string} [notice] why one is here
 */
export function showWelcome(root, entered, notice = "") {
  let registering = location.hash === "#/register";
  const api = new Api();

  const enter = ({ user, token }) => entered({ id: user.id, token });
  const login = () => form(t("login"), [
    field(t("mobile"), { name: "mobile", type: "tel", autocomplete: "username", required: true, maxlength: 20, inputmode: "tel" }),
    field(t("password"), { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 256 }),
  ], async ({ mobile, password }) => enter(await api.login(mobile.trim(), password)));
  const register = () => form(t("register"), [
    field(t("nickname"), { name: "nickname", autocomplete: "nickname", required: true, maxlength: 20 }),
    field(t("mobile"), { name: "mobile", type: "tel", autocomplete: "username", required: true, maxlength: 20, inputmode: "tel", aria: { describedby: "mobile-rules" } }),
    h("p", { class: "quiet", id: "mobile-rules" }, t("mobileRules")),
    field(t("password"), { name: "password", type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256, aria: { describedby: "password-rules" } }),
    h("p", { class: "quiet", id: "password-rules" }, t("passwordRules")),
    field(t("passwordAgain"), { name: "again", type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256 }),
  ], async ({ nickname, mobile, password, again }) => {
    if (password !== again) throw new Error(t("sameAgain"));
    enter(await api.register({ nickname: nickname.trim(), mobile: mobile.trim(), password }));
  });

  const draw = () => {
    document.title = "imgate";
    const other = h("button", { type: "button", class: "link-button", id: "switch-form", on: { click: () => {
      registering = !registering;
      draw();
    } } }, registering ? t("toLogin") : t("toRegister"));
    const languages = Object.entries(LANGUAGES).map(([name, label]) => h("button", {
      type: "button", class: "link-button", lang: name, aria: { pressed: String(name === language()) }, on: { click: () => { chooseLanguage(name); draw(); } },
    }, label));
    fill(root, h("main", { class: "welcome" },
      h("div", { class: "welcome-card" },
        h("div", { class: "welcome-mark" }, icon("chat")),
        h("h1", {}, "imgate"),
        h("p", { class: "quiet" }, t("tagline")),
        notice && h("p", { class: "notice", role: "alert" }, notice),
        registering ? register() : login(),
        other),
      h("nav", { class: "languages", aria: { label: t("language") } }, languages)));
    root.querySelector("input").focus();
  };
  draw();
}
