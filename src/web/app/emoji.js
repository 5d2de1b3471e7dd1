/** The emoji panel: the system's own characters, in groups; arrows move, Enter takes, Esc closes. */

import { h } from "./dom.js";
import { local } from "./kept.js";
import { t } from "./language.js";
import { roving } from "./parts.js";

const GROUPS = [
  "😀 😃 😄 😁 😆 😅 😂 🤣 😊 😇 🙂 🙃 😉 😌 😍 🥰 😘 😗 😋 😛 😜 🤪 🤗 🤭 🤫 🤔 🤐 😐 😑 😶 😏 😒 🙄 😬 😔 😪 😴 😷 🤒 🤕 🤢 🤧 🥵 🥶 🥳 😎 🤓 🧐 😕 😟 🙁 😮 😯 😲 😳 🥺 😨 😰 😢 😭 😱 😖 😞 😩 😤 😡 🤬 😈 💀 🤡 👻 🤖",
  "👍 👎 👌 ✌️ 🤞 🤟 🤘 👈 👉 👆 👇 👋 🤚 ✋ 👏 🙌 👐 🤝 🙏 ✍️ 💪 🙇 🤦 🤷 💁 🙋 🏃 💃 🕺 👀",
  "❤️ 🧡 💛 💚 💙 💜 🖤 💔 💕 💖 💘 💯 💢 💥 💤 🔥 ✨ ⭐ 🌟 🎉 🎊 🎁 🎂 🎈 🏆 ☀️ 🌈 🌙 ⛅ ❄️ 🌸 🌹 🌻 🍀",
  "🐶 🐱 🐭 🐰 🦊 🐻 🐼 🐯 🦁 🐮 🐷 🐸 🐵 🐔 🐧 🦉 🐝 🦋 🐢 🐳",
  "🍎 🍊 🍋 🍉 🍇 🍓 🍑 🥑 🍞 🧀 🍔 🍕 🌮 🍜 🍚 🥟 🍣 🍦 🍰 🍫 ☕ 🍵 🍺 🍷 🥂",
  "⚽ 🏀 🏐 🎾 🏓 🏸 🚲 🚗 🚌 🚄 ✈️ 🚀 🏠 🏖️ ⛰️ 📱 💻 📷 📚 📝 📅 ⏰ 💡 🔑 💰 ✅ ❌ ❓ ❗ 🎵",
].map((line) => line.split(" "));

const RECENT = "imgate.emoji";
const RECENT_MAX = 18;

const recent = () => (local.getItem(RECENT) ?? "").split(" ").filter(Boolean);

export function emojiPanel(take, close) {
  const groups = [recent(), ...GROUPS].filter((group) => group.length > 0);
  const panel = h("div", { class: "emoji-panel", role: "dialog", aria: { label: t("emoji") }, on: { keydown: (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      close();
    }
    // The window decides how many stand in a row.
    const columns = getComputedStyle(panel.querySelector(".emoji-group")).gridTemplateColumns.split(" ").length;
    roving(event, [...panel.querySelectorAll("button")], columns);
  } } }, groups.map((group) => h("div", { class: "emoji-group" }, group.map((character) => h("button", { type: "button", class: "emoji", on: { click: () => {
    local.setItem(RECENT, [character, ...recent().filter((one) => one !== character)].slice(0, RECENT_MAX).join(" "));
    take(character);
  } } }, character)))));
  return panel;
}
