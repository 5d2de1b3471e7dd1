/** Dialogs about people, groups and oneself. */

import { DIRECT } from "../sdk/imgate.js";
import { showDeletion, showDevices } from "./account.js";
import { fill, h } from "./dom.js";
import { LANGUAGES, chooseLanguage, language, t } from "./language.js";
import { attempt, avatar, confirmed, dialog, field, form, toast } from "./parts.js";
import { portrait } from "./portrait.js";
import { chooseTheme, theme } from "./theme.js";

export { showCreateGroup, showGroup, showInvite, showJoinGroup } from "./groups.js";

export function showAddFriend(model, page) {
  dialog(t("addFriend"), (close) => {
    const found = h("div", { class: "found" });
    return [
      form(t("find"), [field(t("friendMobile"), { name: "mobile", autocapitalize: "none", required: true, maxlength: 20, autocomplete: "off" })], async ({ mobile }) => {
        fill(found);
        const user = await model.api.userByMobile(mobile.trim());
        if (!user) throw new Error(t("e_no_such_user"));
        model.users.set(user.id, user);
        const add = h("button", { type: "button", class: "button is-main", data: { act: "befriend" }, on: { click: () => attempt(async () => {
          await model.befriend(user.id);
          close();
          page.open(DIRECT, user.id);
        }) } }, t("add"));
        if (user.id === model.id) throw new Error(t("e_yourself"));
        fill(found, h("div", { class: "card" }, avatar({ id: user.id, name: user.nickname, picture: user.avatar, size: "is-large" }),
          h("div", { class: "card-main" }, h("b", {}, model.nameOf(user.id)), h("p", { class: "quiet" }, user.memo)),
          model.friends.has(user.id) ? h("button", { type: "button", class: "button", on: { click: () => { close(); page.open(DIRECT, user.id); } } }, t("sendMessage")) : add));
        found.querySelector("button").focus();
      }),
      found,
    ];
  });
}

export async function showUser(model, page, id) {
  const user = model.users.get(id) ?? (await attempt(() => model.api.user(id)));
  if (!user) return;
  model.users.set(id, user);
  dialog(t("profile"), (close) => {
    const body = h("div", {});
    const draw = () => {
      const friend = model.friends.has(id);
      const blocked = model.blocks?.has(id) ?? false;
      const act = (work, after = draw) => () => attempt(async () => {
        await work();
        await model.loadFriends();
        after();
      });
      const button = (label, click, kind = "") => h("button", { type: "button", class: `button ${kind}`, on: { click } }, label);
      fill(body,
        h("div", { class: "profile" }, avatar({ id, name: user.nickname, picture: user.avatar, size: "is-huge", online: model.online.get(id) === true }),
          h("h3", {}, model.nameOf(id)), user.memo && h("p", { class: "quiet" }, user.memo),
          blocked && h("p", { class: "quiet" }, t("blocked"))),
        h("div", { class: "stack" },
          button(t("sendMessage"), () => { close(); page.open(DIRECT, id); }, "is-main"),
          id !== model.id && !friend && button(t("addFriend"), act(() => model.befriend(id))),
          id !== model.id && (blocked ? button(t("unblock"), act(() => model.api.unblock(id)))
            : button(t("block"), async () => (await confirmed(t("blockSure", { who: model.nameOf(id) }), t("block"))) && act(() => model.api.block(id))())),
          friend && button(t("removeFriend"), async () => (await confirmed(t("removeFriendSure", { who: model.nameOf(id) }), t("removeFriend"))) && act(() => model.api.unfriend(id), close)(), "is-bad")));
    };
    draw();
    return body;
  });
}

export function showSettings(model, page) {
  const { me } = model;
  const change = async (fields) => {
    model.me = await model.api.changeMe(fields);
    model.users.set(me.id, model.me);
    model.changed("people", "list");
  };
  dialog(t("settings"), (close) => {
    const choice = (label, name, value, entries, choose) => h("label", { class: "field", for: `field-${name}` }, h("span", {}, label),
      (() => {
        const select = h("select", { id: `field-${name}`, on: { change: () => choose(select.value) } },
          Object.entries(entries).map(([key, word]) => h("option", { value: key }, word)));
        select.value = value;
        return select;
      })());
    return [
      h("div", { class: "profile" }, portrait(model, { id: me.id, name: me.nickname, picture: me.avatar }, (url) => change({ avatar: url })), h("h3", {}, me.nickname), h("p", { class: "quiet" }, me.mobile)),
      h("div", { class: "form" },
        choice(t("language"), "language", language(), LANGUAGES, (name) => {
          chooseLanguage(name);
          close();
          page.draw();
          model.changed("list", "people", "status");
        }),
        choice(t("theme"), "theme", theme(), { auto: t("themeAuto"), light: t("themeLight"), dark: t("themeDark") }, chooseTheme)),
      h("details", {}, h("summary", {}, t("profile")), form(t("save"), [
        field(t("nickname"), { name: "nickname", required: true, maxlength: 20, value: me.nickname ?? "" }),
        field(t("about"), { name: "memo", maxlength: 140, rows: 2, value: me.memo ?? "" }),
      ], async ({ nickname, memo }) => {
        await change({ nickname: nickname.trim(), memo: memo.trim() });
        toast(t("saved"));
        close();
      })),
      h("details", {}, h("summary", {}, t("changePassword")), form(t("save"), [
        field(t("oldPassword"), { name: "old", type: "password", required: true, autocomplete: "current-password", maxlength: 256 }),
        field(t("newPassword"), { name: "fresh", type: "password", required: true, autocomplete: "new-password", minlength: 8, maxlength: 256 }),
        h("p", { class: "quiet" }, t("passwordRules")),
      ], async ({ old, fresh }) => {
        const { token } = await model.api.changePassword(old, fresh).catch((error) => {
          throw error.code === "wrong_login" ? new Error(t("e_wrong_password")) : error;
        });
        page.renew(token);
        toast(t("saved"));
        close();
      })),
      h("div", { class: "stack" },
        h("button", { type: "button", class: "button", id: "devices", on: { click: () => { close(); showDevices(model, page); } } }, t("devices")),
        h("button", { type: "button", class: "button", id: "logout", on: { click: () => { close(); page.logout(false); } } }, t("logout")),
        h("button", { type: "button", class: "button is-bad", on: { click: () => { close(); page.logout(true); } } }, t("logoutEverywhere")),
        h("button", { type: "button", class: "button is-bad", id: "delete-account", on: { click: () => { close(); showDeletion(model, page); } } }, t("deleteAccount"))),
    ];
  });
}
