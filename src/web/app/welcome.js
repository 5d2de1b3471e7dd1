/** The first page: log in or make an account, in one's language. */

import { Api } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { LANGUAGES, chooseLanguage, language, t } from "./language.js";
import { field, form } from "./parts.js";

/** All that is wrong with a new account, as far as it can be told before the server is asked; the server has the last word. */
function faults(nickname, mobile, password, again) {
  const digits = /^[\d\s+().-]*$/.test(mobile.normalize("NFKC")) ? mobile.normalize("NFKC").replace(/\D/g, "").length : null;
  const found = [];
  if (nickname === "") found.push(t("nicknameMissing"));
  if (mobile.length < 2 || (digits !== null && digits < 5)) found.push(t("e_bad_mobile"));
  if ([...password].length < 8 || password.trim().toLowerCase() === mobile.toLowerCase()) found.push(t("e_weak_password"));
  if (password !== again) found.push(t("sameAgain"));
  return found;
}

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
    field(t("mobile"), { name: "mobile", autocapitalize: "none", autocomplete: "username", required: true, maxlength: 20 }),
    field(t("password"), { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 256 }),
  ], async ({ mobile, password }) => enter(await api.login(mobile.trim(), password)));
  const register = () => form(t("register"), [
    field(t("nickname"), { name: "nickname", autocomplete: "nickname", required: true, maxlength: 20 }),
    field(t("mobile"), { name: "mobile", autocapitalize: "none", autocomplete: "username", required: true, maxlength: 20, aria: { describedby: "mobile-rules" } }),
    h("p", { class: "quiet", id: "mobile-rules" }, t("mobileRules")),
    field(t("password"), { name: "password", type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256, aria: { describedby: "password-rules" } }),
    h("p", { class: "quiet", id: "password-rules" }, t("passwordRules")),
    field(t("passwordAgain"), { name: "again", type: "password", autocomplete: "new-password", required: true, minlength: 8, maxlength: 256 }),
  ], async ({ nickname, mobile, password, again }) => {
    const wrong = faults(nickname.trim(), mobile.trim(), password, again);
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
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
    const shown = registering ? register() : login();
    // The browser would name the first fault only.
    shown.noValidate = registering;
    fill(root, h("main", { class: "welcome" },
      h("div", { class: "welcome-card" },
        h("div", { class: "welcome-mark" }, icon("chat")),
        h("h1", {}, "imgate"),
        h("p", { class: "quiet" }, t("tagline")),
        notice && h("p", { class: "notice", role: "alert" }, notice),
        shown,
        other),
      h("nav", { class: "languages", aria: { label: t("language") } }, languages)));
    root.querySelector("input").focus();
  };
  draw();
}
