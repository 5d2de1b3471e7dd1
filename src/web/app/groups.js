/** Dialogs about groups: making one, joining one, who is in it and who may do what. */

import { GROUP } from "../sdk/imgate.js";
import { showUser } from "./dialogs.js";
import { fill, h, icon } from "./dom.js";
import { t } from "./language.js";
import { attempt, avatar, confirmed, copy, dialog, field, form, menu, toast } from "./parts.js";
import { portrait } from "./portrait.js";

const RULES = ["invitation", "approval", "open"];

const ruleNames = () => ({ invitation: t("ruleInvitation"), approval: t("ruleApproval"), open: t("ruleOpen") });

function ruleField(value) {
  const select = h("select", { id: "field-rule" }, RULES.map((rule) => h("option", { value: rule }, ruleNames()[rule])));
  select.name = "rule";
  select.value = value;
  return h("label", { class: "field", for: "field-rule" }, h("span", {}, t("rule")), select);
}

/** Friends with a box at each; `chosen` holds those that are ticked. */
function picker(model, friends, chosen) {
  if (friends.length === 0) return h("p", { class: "quiet" }, t("noFriendsToAdd"));
  return h("fieldset", { class: "picker" }, h("legend", {}, t("pickFriends")),
    friends.map((friend) => h("label", { class: "row" },
      h("input", { type: "checkbox", data: { friend: friend.id }, on: { change: ({ target }) => (target.checked ? chosen.add(friend.id) : chosen.delete(friend.id)) } }),
      avatar({ id: friend.id, name: friend.nickname, picture: friend.avatar }),
      h("span", { class: "row-main" }, h("span", { class: "row-title" }, model.nameOf(friend.id))))));
}

export function showCreateGroup(model, page) {
  let icon_ = "";
  const chosen = new Set();
  const face = portrait(model, { id: 0, name: t("new"), picture: "", group: true }, async (url) => {
    icon_ = url;
  });
  dialog(t("createGroup"), (close) => form(t("create"), [
    face,
    field(t("groupName"), { name: "name", required: true, maxlength: 30, autocomplete: "off" }),
    field(t("description"), { name: "memo", maxlength: 120, rows: 2 }),
    ruleField("invitation"),
    picker(model, [...model.friends.values()], chosen),
  ], async ({ name, memo, rule }) => {
    const group = await model.api.makeGroup({ name: name.trim(), memo: memo.trim(), icon: icon_, rule, members: [...chosen] });
    model.groups.set(group.id, group);
    await model.loadGroups();
    close();
    page.open(GROUP, group.id);
  }));
}

/** A group that one may join, and what the button does. */
function card(group, label, act) {
  return h("div", { class: "card" }, avatar({ id: group.id, name: group.name, picture: group.icon, group: true, size: "is-large" }),
    h("div", { class: "card-main" }, h("b", {}, group.name),
      h("p", { class: "quiet" }, group.members === 1 ? t("oneMember") : t("members", { n: group.members }), group.memo ? ` · ${group.memo}` : "")),
    h("button", { type: "button", class: "button is-main", data: { act: "join" }, on: { click: act } }, label));
}

export function showJoinGroup(model, page) {
  dialog(t("joinGroup"), (close) => {
    const found = h("div", { class: "found" });
    const join = (group) => attempt(async () => {
      const joined = await model.api.join(group.id);
      close();
      if (joined.asked) return toast(t("askedToJoin"));
      await model.loadGroups();
      return page.open(GROUP, group.id);
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
        fill(found, groups.map((group) => card(group, group.rule === "approval" ? t("askToJoin") : t("join"), () => join(group))));
        found.querySelector("button").focus();
      }),
      h("p", { class: "quiet" }, t("invitedHint")),
      found,
    ];
  });
}

/** Where a link to a group leads. */
export async function showInvite(model, page, secret) {
  const group = await attempt(() => model.api.invited(secret));
  if (!group) return;
  if (model.groups.has(group.id)) {
    page.open(GROUP, group.id);
    return;
  }
  dialog(t("joinGroup"), (close) => card(group, t("join"), () => attempt(async () => {
    await model.api.joinBy(secret);
    await model.loadGroups();
    close();
    page.open(GROUP, group.id);
  })));
}

/** Adds friends who are no members yet, as far as that is known. */
function showAddMembers(model, id, members, done) {
  const chosen = new Set();
  const friends = [...model.friends.values()].filter((friend) => !members.has(friend.id));
  dialog(t("addMembers"), (close) => form(t("add"), [picker(model, friends, chosen)], async () => {
    for (const user of chosen) await model.api.addMember(id, user);
    close();
    done();
  }));
}

/** The link to a group: made, copied, revoked. */
function invite(model, group, admin) {
  const part = h("div", { class: "stack invite" });
  const button = (label, act, click, kind = "") => h("button", { type: "button", class: `button ${kind}`, data: { act }, on: { click: () => attempt(click) } }, label);
  const draw = ({ path }) => fill(part,
    h("h4", {}, t("inviteLink")),
    path ? h("p", { class: "quiet link", data: { link: `${location.origin}${path}` } }, `${location.origin}${path}`) : h("p", { class: "quiet" }, admin ? t("noLinkYet") : t("noLink")),
    path && button(t("copyLink"), "copy-link", () => copy(`${location.origin}${path}`)),
    admin && button(path ? t("newLink") : t("makeLink"), "make-link", async () => draw(await model.api.makeInvite(group.id))),
    admin && path && button(t("revokeLink"), "revoke-link", async () => {
      await model.api.revokeInvite(group.id);
      draw({});
    }, "is-bad"));
  attempt(async () => draw(await model.api.invite(group.id)));
  return part;
}

/** Who asks to be let in, with an answer to each. */
function requests(model, group, done) {
  const part = h("div", { class: "requests" });
  const draw = async () => {
    const rows = (await attempt(() => model.api.requests(group.id))) ?? [];
    for (const user of rows) model.users.set(user.id, user);
    if (rows.length === 0) return fill(part);
    const answer = (work) => () => attempt(async () => {
      await work();
      await draw();
      done();
    });
    return fill(part, h("h4", {}, t("requests")), h("ul", { class: "members" }, rows.map((user) => h("li", { data: { asks: user.id } },
      h("span", { class: "row" }, avatar({ id: user.id, name: user.nickname, picture: user.avatar }), h("span", { class: "row-main" }, h("span", { class: "row-title" }, model.nameOf(user.id)))),
      h("button", { type: "button", class: "button is-main", data: { act: "let-in" }, on: { click: answer(() => model.api.addMember(group.id, user.id)) } }, t("letIn")),
      h("button", { type: "button", class: "button", data: { act: "not-let-in" }, on: { click: answer(() => model.api.forgetRequest(group.id, user.id)) } }, t("dontLetIn"))))));
  };
  draw();
  return part;
}

export async function showGroup(model, page, id) {
  const group = await attempt(() => model.api.group(id));
  if (!group) return;
  const { role } = group;
  const owner = role === "owner";
  const admin = owner || role === "admin";
  const shown = { id, name: group.name, picture: group.icon, group: true };
  const face = () => portrait(model, shown, async (icon_) => {
    await model.api.changeGroup(id, { icon: icon_ });
    await model.loadGroups();
  });
  dialog(t("groupInfo"), (close) => {
    const again = () => {
      close();
      showGroup(model, page, id);
    };
    const list = h("ul", { class: "members" });
    const more = h("button", { type: "button", class: "link-button", hidden: true, on: { click: () => load() } }, t("showMore"));
    const members = new Set();
    let after;
    const remove = (user) => async () => {
      if (!(await confirmed(t("removeMemberSure", { who: user.nickname }), t("removeMember")))) return;
      await attempt(async () => {
        await model.api.removeMember(id, user.id);
        again();
      });
    };
    const give = (user, to, sure) => async () => {
      if (sure && !(await confirmed(sure, t("makeOwner")))) return;
      await attempt(async () => {
        await model.api.setRole(id, user.id, to);
        again();
      });
    };
    const actions = (user) => [
      owner && user.role === "member" && [t("makeAdmin"), "user", give(user, "admin")],
      owner && user.role === "admin" && [t("unmakeAdmin"), "user", give(user, "member")],
      owner && [t("makeOwner"), "user", give(user, "owner", t("makeOwnerSure", { who: user.nickname }))],
      (owner || (admin && user.role === "member")) && [t("removeMember"), "close", remove(user), true],
    ].filter(Boolean);
    const load = () => attempt(async () => {
      const page_ = await model.api.members(id, after);
      for (const user of page_.rows) {
        model.users.set(user.id, user);
        members.add(user.id);
        const entries = user.id === model.id || user.role === "owner" ? [] : actions(user);
        const button = entries.length > 0 && h("button", { type: "button", class: "icon-button row-more", data: { act: "member" }, aria: { label: `${t("more")}: ${user.nickname}`, haspopup: "menu" }, on: { click: () => menu(button, entries) } }, icon("info"));
        list.append(h("li", { data: { member: user.id } },
          h("button", { type: "button", class: "row", on: { click: () => { close(); showUser(model, page, user.id); } } },
            avatar({ id: user.id, name: user.nickname, picture: user.avatar, online: model.online.get(user.id) === true }),
            h("span", { class: "row-main" }, h("span", { class: "row-title" }, user.id === model.id ? `${model.nameOf(user.id)} (${t("you")})` : model.nameOf(user.id))),
            user.role === "owner" && h("span", { class: "tag" }, t("owner")), user.role === "admin" && h("span", { class: "tag" }, t("admin"))),
          button));
      }
      after = page_.rows.at(-1)?.id;
      more.hidden = !page_.more;
    });
    if (role) load();
    const rename = form(t("save"), [
      field(t("groupName"), { name: "name", required: true, maxlength: 30, value: group.name, autocomplete: "off" }),
      field(t("description"), { name: "memo", maxlength: 120, rows: 2, value: group.memo ?? "" }),
    ], async ({ name, memo }) => {
      await model.api.changeGroup(id, { name: name.trim(), memo: memo.trim() });
      await model.loadGroups();
      toast(t("saved"));
      close();
    });
    const membersAdd = h("input", { type: "checkbox", id: "field-members-add", checked: group.members_add });
    const rules = owner && form(t("save"), [
      ruleField(group.rule),
      h("label", { class: "row", for: "field-members-add" }, membersAdd, h("span", { class: "row-main" }, t("membersAdd"))),
    ], async ({ rule }) => {
      await model.api.changeGroup(id, { rule, members_add: membersAdd.checked });
      toast(t("saved"));
      again();
    });
    const end = async (sure, label, work) => {
      if (!(await confirmed(sure, label))) return;
      await attempt(async () => {
        await work();
        close();
        page.shut();
        await model.loadGroups();
      });
    };
    const adds = admin || (role && group.members_add);
    return [
      h("div", { class: "profile" }, admin ? face() : avatar({ ...shown, size: "is-huge" }), h("h3", {}, group.name),
        group.memo && h("p", { class: "quiet" }, group.memo),
        h("p", { class: "quiet" }, ruleNames()[group.rule]),
        group.rule !== "invitation" && h("p", { class: "quiet" }, t("shareNumber", { n: id })),
        group.rule !== "invitation" && h("button", { type: "button", class: "link-button", on: { click: () => copy(String(id)) } }, t("copyNumber"))),
      admin && h("details", {}, h("summary", {}, t("rename")), rename),
      owner && h("details", {}, h("summary", {}, t("rule")), rules),
      admin && group.rule === "approval" && requests(model, group, again),
      h("h4", {}, group.members === 1 ? t("oneMember") : t("members", { n: group.members })), list, more,
      adds && h("div", { class: "stack" }, h("button", { type: "button", class: "button", data: { act: "add-members" }, on: { click: () => showAddMembers(model, id, members, again) } }, t("addMembers"))),
      adds && invite(model, group, admin),
      role && h("div", { class: "stack" }, owner
        ? h("button", { type: "button", class: "button is-bad", on: { click: () => end(t("dissolveSure", { name: group.name }), t("dissolve"), () => model.api.dissolve(id)) } }, t("dissolve"))
        : h("button", { type: "button", class: "button is-bad", on: { click: () => end(t("leaveSure", { name: group.name }), t("leave"), () => model.api.leave(id)) } }, t("leave"))),
    ];
  });
}
