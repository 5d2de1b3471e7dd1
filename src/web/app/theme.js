/** Light or dark: as the system, or as chosen and remembered. */

import { local } from "./kept.js";

const KEY = "imgate.theme";

export const theme = () => local.getItem(KEY) ?? "auto";

export function applyTheme() {
  const chosen = theme();
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  const dark = chosen === "dark" || (chosen === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.querySelector("meta[name=theme-color]").content = dark ? "#17191d" : "#f5f6f8";
}

export function chooseTheme(name) {
  if (name === "auto") local.removeItem(KEY);
  else local.setItem(KEY, name);
  applyTheme();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
