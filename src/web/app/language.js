/** English and Chinese: the words, the choice, and how times and sizes are written. */

import { now } from "./time.js";

const WORDS = {
  en: {
    tagline: "A calm place to talk", mobile: "Mobile number or name", password: "Password", passwordAgain: "Password again", nickname: "Name", login: "Log in", register: "Create account",
    toRegister: "New here? Create an account", toLogin: "Have an account? Log in", language: "Language", theme: "Appearance", themeAuto: "As the system", themeLight: "Light", themeDark: "Dark",
    chats: "Chats", friends: "Friends", groups: "Groups", search: "Search by name", new: "New", addFriend: "Add a friend", createGroup: "Create a group", joinGroup: "Join a group",
    friendMobile: "Your friend's mobile number or name", groupName: "Group name", groupNameOrNumber: "Group name or number", description: "Description", find: "Find", add: "Add", join: "Join", create: "Create",
    cancel: "Cancel", save: "Save", close: "Close", back: "Back", send: "Send", message: "Message", writeMessage: "Write a message", emoji: "Emoji", attach: "Attach a picture or file", voice: "Voice message",
    recording: "Recording", recorded: "Recorded", stopAndSend: "Stop and send", discard: "Discard", settings: "Settings", profile: "Profile", logout: "Log out", logoutEverywhere: "Log out on all devices", notLoggedOut: "The server could not be told: you are logged out here only. Log in and out again to end the login itself.",
    about: "About you", changePassword: "Change password", oldPassword: "Current password", newPassword: "New password", saved: "Saved",
    noChats: "No conversations yet", noChatsHint: "Add a friend or a group to begin.", noFriends: "No friends yet", noGroups: "No groups yet", nothingFound: "Nothing found", pickChat: "Choose a conversation", pickChatHint: "or begin a new one",
    connecting: "Connecting…", offline: "Offline. Trying again…", tryNow: "Try now", replaced: "This account was opened in too many places, this one gave way.", useHere: "Use here", banned: "This account is banned.", closedByServer: "The connection was ended: {reason}",
    online: "online", offlineUser: "offline", typing: "typing…", typingWho: "{who} is typing…", members: "{n} members", oneMember: "1 member", you: "You", youAsObject: "you", yourself: "Notes to yourself",
    sending: "Sending", stored: "Sent", received: "Received", read: "Read", failed: "Not sent", waitingToSend: "Waiting for the network",
    today: "Today", yesterday: "Yesterday", newMessages: "New messages", beginning: "This is the beginning of the conversation", earlierGone: "Earlier messages are not available", loading: "Loading…", jumpDown: "To the newest message",
    picture: "Picture", voiceMessage: "Voice message", video: "Video", file: "File", link: "Link", article: "Article", redPacket: "Red packet", contact: "Contact card", unknownMedia: "A message of a kind that is not known here",
    youRecalled: "You recalled a message", recalledBy: "{who} recalled a message", recall: "Recall", copy: "Copy", copied: "Copied", resend: "Send again", actions: "Message actions",
    sendMessage: "Send a message", removeFriend: "Remove friend", removeFriendSure: "Remove {who} from your friends? You will no longer be in each other's lists.", block: "Block", unblock: "Unblock", blocked: "Blocked", blockSure: "Block {who}? They can no longer write to you.",
    groupInfo: "Group", rename: "Rename", leave: "Leave the group", deleteChat: "Delete this conversation", leaveSure: "Leave “{name}”?", dissolve: "Dissolve the group", dissolveSure: "Dissolve “{name}” for all members? This cannot be undone.", owner: "owner", removeMember: "Remove", removeMemberSure: "Remove {who} from the group?", more: "More", showMore: "Show more", copyNumber: "Copy number", shareNumber: "Others join with the number {n} or the name.",
    uploading: "Uploading {n}%", dropHere: "Drop files to send them", tooLarge: "The file is too large (at most {size}).", noMicrophone: "The microphone cannot be used.", playVoice: "Play", pauseVoice: "Pause", download: "Download", openPicture: "Open the picture", cardOf: "Contact",
    friendAdded: "{who} is now your friend", unread: "{n} unread", noMessages: "No messages yet", cutOff: "Too long: only the first {n} characters were kept.", draft: "Draft:", sureTitle: "Are you sure?", user: "User {id}", group: "Group {id}",
    sameAgain: "The passwords differ.", nicknameMissing: "The name that others see is missing.", externalPicture: "Picture on another site", yuan: "¥{n}",
    e_mobile_taken: "This mobile number or name is registered already.", e_wrong_login: "The mobile number (or name) or the password is wrong.", e_banned: "This account is banned.", e_bad_field: "Please check what you entered.", e_no_such_user: "Nobody has this mobile number or name.", e_no_such_group: "There is no such group.", e_yourself: "That is you.", e_too_many_groups: "You cannot create more groups.", e_owner_leaves: "The owner cannot leave; dissolve the group instead.", e_too_late: "Too late to recall.", e_too_often: "Too many tries. Please wait a moment.", e_locked: "Too many wrong passwords from here. Please wait a minute.", e_registration_closed: "New accounts are made by the operator only.", e_unsure: "It is not certain whether this was done; please look.", e_broken: "The server cannot do this now.", e_not_owner: "Only the owner of the group can do this.", e_too_many_friends: "There is no room for more friends.", e_not_logged_in: "Please log in again.", e_too_large: "The file is too large.", e_unsupported: "This kind of file is not taken.", e_network: "No connection. Please try again.", e_busy: "The server is busy. Please try again.", e_unknown: "That did not work ({code}).", e_blocked: "You cannot write to this user.", e_not_member: "You are not a member of this group.", e_wrong_password: "The current password is wrong.", e_unknown_user: "There is no such user.",
    e_empty_file: "The file is empty.", e_cut_off: "The upload was cut off. Please try again.", e_other_content: "The file changed while it was sent. Please try again.", e_uploads_off: "This server takes no files.", e_too_many_pixels: "The picture is too large (too many pixels).", e_bad_picture: "This picture cannot be read.", e_place_track: "This film says at every moment where it was taken, and was not sent.", e_bad_film: "This film cannot be read.", e_disk_full: "The server has no room for files.", e_over_quota: "Your files take up all the room that you have here.",
    skip: "Skip to the conversation", conversation: "Conversation",
    choosePicture: "Choose a picture", changePicture: "Change the picture", removePicture: "Remove it",
    devices: "Devices", devicesHint: "Where your account is logged in. Log out what you do not know, and change your password.", thisDevice: "this device", logoutThere: "Log out there", usedFrom: "Last used {when} · {where}", unknownDevice: "Unknown device",
    deleteAccount: "Delete account", deleteHint: "Your profile, friends, groups and files will be gone for good. What you wrote stays with those who received it.", deleteSure: "Delete your account for good? This cannot be undone.", accountDeleted: "Your account was deleted.",
    mobileRules: "A number of 5 to 15 digits, or a name of letters and digits.", passwordRules: "At least 8 characters; not your number, and nothing that is guessed first.",
    e_bad_mobile: "This is neither a telephone number (5 to 15 digits) nor a name of letters and digits.", e_weak_password: "This password is too easy to guess: at least 8 characters, and not your number.", e_no_such_login: "This device is logged out already.",
    rule: "Who can join", ruleInvitation: "By invitation only", ruleApproval: "Admins let people in", ruleOpen: "Anyone can join", membersAdd: "Members may add friends and share the link", pickFriends: "Friends to add", noFriendsToAdd: "All your friends are here already.", addMembers: "Add friends", admin: "admin",
    askToJoin: "Ask to join", askedToJoin: "The admins of the group have been asked.", invitedHint: "Groups by invitation are not found here: ask a member to add you, or for the link.", requests: "Want to join", letIn: "Let in", dontLetIn: "Decline",
    inviteLink: "Invite link", noLink: "There is no link.", noLinkYet: "There is no link yet.", makeLink: "Make a link", newLink: "Replace the link", copyLink: "Copy link", revokeLink: "Revoke the link", makeAdmin: "Make admin", unmakeAdmin: "No longer admin", makeOwner: "Make owner", makeOwnerSure: "Hand the group on to {who}? You will be an admin of it.",
    happenedJoined: "{who} joined", happenedAdded: "{by} added {who}", happenedLeft: "{who} left", happenedRemoved: "{by} removed {who}", happenedRenamed: "{by} renamed the group to “{name}”",
    e_not_admin: "Only the owner and the admins of the group can do this.", e_not_friend: "Only friends can be added.", e_no_role: "This is not possible (any more).", e_too_many_asked: "Too many requests are waiting for an answer.",
  },
  zh: {
    tagline: "安静地聊天", mobile: "手机号或用户名", password: "密码", passwordAgain: "再输一次密码", nickname: "昵称", login: "登录", register: "注册",
    toRegister: "还没有账号?去注册", toLogin: "已有账号?去登录", language: "语言", theme: "外观", themeAuto: "跟随系统", themeLight: "浅色", themeDark: "深色",
    chats: "聊天", friends: "好友", groups: "群聊", search: "按名称搜索", new: "新建", addFriend: "添加好友", createGroup: "创建群聊", joinGroup: "加入群聊",
    friendMobile: "好友的手机号或用户名", groupName: "群名称", groupNameOrNumber: "群名称或群号", description: "简介", find: "查找", add: "添加", join: "加入", create: "创建",
    cancel: "取消", save: "保存", close: "关闭", back: "返回", send: "发送", message: "消息", writeMessage: "输入消息", emoji: "表情", attach: "发送图片或文件", voice: "语音消息",
    recording: "正在录音", recorded: "录音已结束", stopAndSend: "停止并发送", discard: "放弃", settings: "设置", profile: "个人资料", logout: "退出登录", logoutEverywhere: "在所有设备上退出", notLoggedOut: "未能通知服务器:仅在此处退出。请重新登录并再次退出,以彻底结束此次登录。",
    about: "个人简介", changePassword: "修改密码", oldPassword: "当前密码", newPassword: "新密码", saved: "已保存",
    noChats: "还没有聊天", noChatsHint: "添加好友或群聊,开始聊天。", noFriends: "还没有好友", noGroups: "还没有群聊", nothingFound: "没有找到", pickChat: "选择一个聊天", pickChatHint: "或者开始新的聊天",
    connecting: "正在连接…", offline: "已断开,正在重连…", tryNow: "立即重试", replaced: "该账号在太多地方打开,此处已让位。", useHere: "在此使用", banned: "该账号已被禁用。", closedByServer: "连接已结束:{reason}",
    online: "在线", offlineUser: "离线", typing: "正在输入…", typingWho: "{who} 正在输入…", members: "{n} 位成员", oneMember: "1 位成员", you: "你", youAsObject: "你", yourself: "给自己的备忘",
    sending: "发送中", stored: "已发送", received: "已送达", read: "已读", failed: "未发送", waitingToSend: "等待网络",
    today: "今天", yesterday: "昨天", newMessages: "新消息", beginning: "聊天从这里开始", earlierGone: "更早的消息不可见", loading: "加载中…", jumpDown: "回到最新消息",
    picture: "图片", voiceMessage: "语音消息", video: "视频", file: "文件", link: "链接", article: "文章", redPacket: "红包", contact: "名片", unknownMedia: "暂不支持的消息类型",
    youRecalled: "你撤回了一条消息", recalledBy: "{who} 撤回了一条消息", recall: "撤回", copy: "复制", copied: "已复制", resend: "重新发送", actions: "消息操作",
    sendMessage: "发消息", removeFriend: "删除好友", removeFriendSure: "删除好友 {who}?双方都将不在对方的好友列表中。", block: "拉黑", unblock: "取消拉黑", blocked: "已拉黑", blockSure: "拉黑 {who}?对方将不能再给你发消息。",
    groupInfo: "群聊", rename: "改名", leave: "退出群聊", deleteChat: "删除聊天", leaveSure: "退出“{name}”?", dissolve: "解散群聊", dissolveSure: "为所有成员解散“{name}”?此操作不能撤销。", owner: "群主", removeMember: "移出", removeMemberSure: "将 {who} 移出群聊?", more: "更多", showMore: "显示更多", copyNumber: "复制群号", shareNumber: "其他人可用群号 {n} 或群名称加入。",
    uploading: "上传中 {n}%", dropHere: "拖放文件即可发送", tooLarge: "文件太大(最大 {size})。", noMicrophone: "无法使用麦克风。", playVoice: "播放", pauseVoice: "暂停", download: "下载", openPicture: "查看图片", cardOf: "名片",
    friendAdded: "{who} 已成为你的好友", unread: "{n} 条未读", noMessages: "还没有消息", cutOff: "内容过长,只保留前 {n} 个字符。", draft: "草稿:", sureTitle: "确定吗?", user: "用户 {id}", group: "群 {id}",
    sameAgain: "两次输入的密码不同。", nicknameMissing: "请填写昵称。", externalPicture: "其他网站上的图片", yuan: "¥{n}",
    e_mobile_taken: "该手机号或用户名已注册。", e_wrong_login: "手机号(或用户名)或密码不正确。", e_banned: "该账号已被禁用。", e_bad_field: "请检查输入的内容。", e_no_such_user: "没有找到使用该手机号或用户名的用户。", e_no_such_group: "没有这个群。", e_yourself: "这是你自己。", e_too_many_groups: "不能再创建更多的群。", e_owner_leaves: "群主不能退出,只能解散群聊。", e_too_late: "已超过可撤回的时间。", e_too_often: "操作太频繁,请稍后再试。", e_locked: "密码错误次数过多,请一分钟后再试。", e_registration_closed: "注册已关闭,请联系管理员。", e_unsure: "不确定是否已完成,请查看。", e_broken: "服务器暂时无法完成此操作。", e_not_owner: "只有群主可以这样做。", e_too_many_friends: "好友数量已达上限。", e_not_logged_in: "请重新登录。", e_too_large: "文件太大。", e_unsupported: "不支持这种文件。", e_network: "网络不通,请重试。", e_busy: "服务器繁忙,请稍后再试。", e_unknown: "操作失败({code})。", e_blocked: "你不能给该用户发消息。", e_not_member: "你不是该群的成员。", e_wrong_password: "当前密码不正确。", e_unknown_user: "没有这个用户。",
    e_empty_file: "文件是空的。", e_cut_off: "上传中断,请重试。", e_other_content: "文件在发送时被改动,请重试。", e_uploads_off: "此服务器不接收文件。", e_too_many_pixels: "图片过大(像素太多)。", e_bad_picture: "无法读取这张图片。", e_place_track: "此视频含有位置轨迹,未发送。", e_bad_film: "无法读取此视频。", e_disk_full: "服务器的文件空间已满。", e_over_quota: "您的文件已达到存储上限。",
    skip: "跳到聊天内容", conversation: "聊天内容",
    choosePicture: "选择头像", changePicture: "更换头像", removePicture: "移除头像",
    devices: "登录设备", devicesHint: "您的账号登录在以下设备上。请退出不认识的设备,并修改密码。", thisDevice: "本设备", logoutThere: "退出该设备", usedFrom: "最近使用 {when} · {where}", unknownDevice: "未知设备",
    deleteAccount: "注销账号", deleteHint: "您的资料、好友、群聊和文件将被永久删除。您发出的消息仍保留在对方的记录中。", deleteSure: "确定永久注销账号?此操作不能撤销。", accountDeleted: "账号已注销。",
    mobileRules: "5 至 15 位数字的号码,或由字母和数字组成的名称。", passwordRules: "至少 8 个字符;不能是您的号码,也不能太容易猜到。",
    e_bad_mobile: "请输入 5 至 15 位数字的号码,或由字母和数字组成的名称。", e_weak_password: "密码太容易猜到:至少 8 个字符,且不能是您的号码。", e_no_such_login: "该设备已退出登录。",
    rule: "入群方式", ruleInvitation: "仅限邀请", ruleApproval: "管理员审核", ruleOpen: "任何人可加入", membersAdd: "成员可以添加好友和分享链接", pickFriends: "选择好友", noFriendsToAdd: "您的好友都已在群里。", addMembers: "添加好友", admin: "管理员",
    askToJoin: "申请加入", askedToJoin: "已向群管理员提交申请。", invitedHint: "仅限邀请的群无法在此找到:请成员添加您,或索取邀请链接。", requests: "入群申请", letIn: "同意", dontLetIn: "拒绝",
    inviteLink: "邀请链接", noLink: "没有邀请链接。", noLinkYet: "还没有邀请链接。", makeLink: "生成链接", newLink: "更换链接", copyLink: "复制链接", revokeLink: "撤销链接", makeAdmin: "设为管理员", unmakeAdmin: "取消管理员", makeOwner: "转让群主", makeOwnerSure: "将群转让给 {who}?您将成为管理员。",
    happenedJoined: "{who} 加入了群聊", happenedAdded: "{by} 添加了 {who}", happenedLeft: "{who} 退出了群聊", happenedRemoved: "{by} 将 {who} 移出群聊", happenedRenamed: "{by} 将群改名为“{name}”",
    e_not_admin: "只有群主和管理员可以这样做。", e_not_friend: "只能添加好友。", e_no_role: "无法完成此操作。", e_too_many_asked: "等待处理的申请过多。",
  },
};

export const LANGUAGES = { en: "English", zh: "中文" };

let chosen = null;

/** Where the choice is remembered. */
let storage = null;

/** Gives it a place where the choice survives a reload. */
export function rememberIn(area) {
  storage = area;
  chosen = null;
}

/** The language of the page: chosen and remembered, otherwise the browser's. */
export function language() {
  if (chosen) return chosen;
  const kept = storage?.getItem("imgate.language");
  const first = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2)).find((tag) => tag in WORDS);
  chosen = kept in WORDS ? kept : (first ?? "en");
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  return chosen;
}

export function chooseLanguage(name) {
  storage?.setItem("imgate.language", name);
  chosen = name;
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
}

/** The words for a key, with `{name}` filled in. */
export function t(key, values = {}) {
  const words = WORDS[language()][key] ?? WORDS.en[key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** What a language has words for. */
export const keys = (name) => Object.keys(WORDS[name]);

/** Whether there are words for the key: for codes that come from the server. */
export const knows = (key) => key in WORDS.en;

const locale = () => (language() === "zh" ? "zh-CN" : navigator.languages?.find((tag) => tag.startsWith("en")) ?? "en");

/** Formatters by language and options: to make one takes far longer than to use it. */
const formatters = new Map();

function format(ms, options) {
  const key = `${locale()} ${JSON.stringify(options)}`;
  if (!formatters.has(key)) formatters.set(key, new Intl.DateTimeFormat(locale(), options));
  return formatters.get(key).format(ms);
}

/** Hours and minutes. `h23`, as `hour12: false` writes midnight as 24:00 in English. */
export const clockTime = (ms) => format(ms, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const dayNumber = (ms) => {
  const date = new Date(ms);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
};

/** A key that is the same within one day of this place. */
export const dayOf = dayNumber;

export function dayName(ms) {
  const age = dayNumber(now()) - dayNumber(ms);
  if (age === 0) return t("today");
  if (age === 1) return t("yesterday");
  const sameYear = new Date(ms).getFullYear() === new Date(now()).getFullYear();
  return format(ms, { month: "long", day: "numeric", ...(sameYear ? {} : { year: "numeric" }) });
}

/** For lists: the time if it was today, otherwise the day. */
export function shortTime(ms) {
  const age = dayNumber(now()) - dayNumber(ms);
  if (age <= 0) return clockTime(ms);
  if (age === 1) return t("yesterday");
  if (age < 7) return format(ms, { weekday: "short" });
  const sameYear = new Date(ms).getFullYear() === new Date(now()).getFullYear();
  return format(ms, { month: "numeric", day: "numeric", ...(sameYear ? {} : { year: "2-digit" }) });
}

export function size(bytes) {
  if (!(bytes >= 0)) return "";
  const units = ["B", "KB", "MB", "GB"];
  let at = 0;
  let number = bytes;
  while (number >= 1000 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${number >= 10 || at === 0 ? Math.round(number) : number.toFixed(1)} ${units[at]}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
