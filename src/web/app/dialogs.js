/** Dialogs about people, groups and oneself. */

import { DIRECT, GROUP } from "../sdk/imgate.js";
import { showDeletion, showDevices } from "./account.js";
import { fill, h, iconButton } from "./dom.js";
import { LANGUAGES, chooseLanguage, language, t } from "./language.js";
import { attempt, avatar, confirmed, copy, dialog, field, form, toast } from "./parts.js";
import { portrait } from "./portrait.js";
import { chooseTheme, theme } from "./theme.js";

export function showAddFriend(model, page) {
  dialog(t("addFriend"), (close) => {
    const found = h("div", { class: "found" });
    return [
      form(t("find"), [field(t("friendMobile"), { name: "mobile", type: "tel", required: true, maxlength: 20, inputmode: "tel", autocomplete: "off" })], async ({ mobile }) => {
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

export function showCreateGroup(model, page) {
  let icon = "";
  const face = portrait(model, { id: 0, name: t("new"), picture: "", group: true }, async (url) => {
    icon = url;
  });
  dialog(t("createGroup"), (close) => form(t("create"), [
    face,
    field(t("groupName"), { name: "name", required: true, maxlength: 30, autocomplete: "off" }),
    field(t("description"), { name: "memo", maxlength: 120, rows: 2 }),
  ], async ({ name, memo }) => {
    const group = await model.api.makeGroup({ name: name.trim(), memo: memo.trim(), icon });
    model.groups.set(group.id, group);
    await model.loadGroups();
    close();
    page.open(GROUP, group.id);
  }));
}

export function showJoinGroup(model, page) {
  dialog(t("joinGroup"), (close) => {
    const found = h("div", { class: "found" });
    const join = (group) => attempt(async () => {
      await model.api.join(group.id);
      await model.loadGroups();
      close();
      page.open(GROUP, group.id);
    });
    return [
      form(t("find"), [field(t("groupNameOrNumber"), { name: "name", required: true, maxlength: 30, autocomplete: "off" })], async ({ name }) => {
        fill(found);
        const words = name.trim();
        const groups = await model.api.groupsByName(words);
        if (/^\d{1,16}$/.test(words)) {
          const numbered = await model.api.group(Number(words)).catch((error) => {
            if (error.status !== 404) throw error;
            return null;
          });
          if (numbered && !groups.some(({ id }) => id === numbered.id)) groups.unshift(numbered);
        }
        if (groups.length === 0) throw new Error(t("e_no_such_group"));
        fill(found, groups.map((group) => h("div", { class: "card" }, avatar({ id: group.id, name: group.name, picture: group.icon, group: true, size: "is-large" }),
          h("div", { class: "card-main" }, h("b", {}, group.name), h("p", { class: "quiet" }, `${t("number")} ${group.id}`, group.memo ? ` · ${group.memo}` : "")),
          h("button", { type: "button", class: "button is-main", data: { act: "join" }, on: { click: () => join(group) } }, t("join")))));
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

export async function showGroup(model, page, id) {
  const group = await attempt(() => model.api.group(id));
  if (!group) return;
  const owned = group.owner === model.id;
  const mine = model.groups.has(id);
  const shown = { id, name: group.name, picture: group.icon, group: true };
  const face = () => portrait(model, shown, async (icon) => {
    await model.api.changeGroup(id, { icon });
    await model.loadGroups();
  });
  dialog(t("groupInfo"), (close) => {
    const list = h("ul", { class: "members" });
    const more = h("button", { type: "button", class: "link-button", hidden: true, on: { click: () => load() } }, t("showMore"));
    let after;
    const remove = (user, row) => async () => {
      if (!(await confirmed(t("removeMemberSure", { who: user.nickname }), t("removeMember")))) return;
      await attempt(async () => {
        await model.api.removeMember(id, user.id);
        row().remove();
      });
    };
    const load = () => attempt(async () => {
      const page_ = await model.api.members(id, after);
      for (const user of page_.rows) {
        model.users.set(user.id, user);
        const row = h("li", {},
          h("button", { type: "button", class: "row", on: { click: () => { close(); showUser(model, page, user.id); } } },
            avatar({ id: user.id, name: user.nickname, picture: user.avatar, online: model.online.get(user.id) === true }),
            h("span", { class: "row-main" }, h("span", { class: "row-title" }, user.id === model.id ? `${model.nameOf(user.id)} (${t("you")})` : model.nameOf(user.id))),
            user.id === group.owner && h("span", { class: "tag" }, t("owner"))),
          owned && user.id !== model.id && iconButton("close", `${t("removeMember")}: ${user.nickname}`, (event) => remove(user, () => row)(event), { class: "row-more" }));
        list.append(row);
      }
      after = page_.rows.at(-1)?.id;
      more.hidden = !page_.more;
    });
    if (mine) load();
    const rename = form(t("save"), [
      field(t("groupName"), { name: "name", required: true, maxlength: 30, value: group.name, autocomplete: "off" }),
      field(t("description"), { name: "memo", maxlength: 120, rows: 2, value: group.memo ?? "" }),
    ], async ({ name, memo }) => {
      await model.api.changeGroup(id, { name: name.trim(), memo: memo.trim() });
      await model.loadGroups();
      toast(t("saved"));
      close();
    });
    const end = async (sure, label, work) => {
      if (!(await confirmed(sure, label))) return;
      await attempt(async () => {
        await work();
        close();
        page.shut();
        model.forget(model.conversation(GROUP, id));
        await model.loadGroups();
      });
    };
    return [
      h("div", { class: "profile" }, owned ? face() : avatar({ ...shown, size: "is-huge" }), h("h3", {}, group.name),
        group.memo && h("p", { class: "quiet" }, group.memo),
        h("p", { class: "quiet" }, t("shareNumber", { n: id })),
        h("button", { type: "button", class: "link-button", on: { click: () => copy(String(id)) } }, t("copyNumber"))),
      owned && h("details", {}, h("summary", {}, t("rename")), rename),
      h("h4", {}, group.members === 1 ? t("oneMember") : t("members", { n: group.members })), list, more,
      mine && h("div", { class: "stack" }, owned
        ? h("button", { type: "button", class: "button is-bad", on: { click: () => end(t("dissolveSure", { name: group.name }), t("dissolve"), () => model.api.dissolve(id)) } }, t("dissolve"))
        : h("button", { type: "button", class: "button is-bad", on: { click: () => end(t("leaveSure", { name: group.name }), t("leave"), () => model.api.leave(id)) } }, t("leave"))),
    ];
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
