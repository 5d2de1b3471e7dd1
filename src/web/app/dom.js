/** Elements without HTML: every string becomes text or an attribute of a known name, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Attributes that may be set from data. What could run a script has no way in. */
const ATTRIBUTES = new Set([
  "accept", "alt", "autocapitalize", "autocomplete", "cols", "controls", "dir", "download", "enterkeyhint", "for", "height", "href", "id", "inputmode", "lang",
  "loading", "maxlength", "minlength", "name", "placeholder", "poster", "preload", "rel", "role", "rows", "spellcheck", "src", "tabindex", "target",
  "title", "type", "width",
]);
/** What is set as a property. */
const PROPERTIES = new Set(["value", "disabled", "hidden", "checked", "multiple", "required", "autofocus", "readOnly", "open", "draggable"]);

/**
 * An element: `h("button", {class: "x", aria: {label: "…"}, on: {click}}, "text", otherElement)`.
 * Children that are null, undefined or false are left out; strings and numbers become text.
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) {
      if (value === false && PROPERTIES.has(name)) element[name] = false;
    } else if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "aria") for (const [key, word] of Object.entries(value)) element.setAttribute(`aria-${key}`, word);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (ATTRIBUTES.has(name)) element.setAttribute(name, value === true ? "" : value);
    else throw new TypeError(`no attribute of ours: ${name}`);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces the children. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** Paths on a 24 × 24 grid, drawn with a stroke. */
const ICONS = {
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M4 12l16-8-6 16-3-7z M11 13l9-9",
  smile: "M12 3a9 9 0 100 18 9 9 0 000-18z M8.5 14.5a4.2 4.2 0 007 0 M9 9.5v.01 M15 9.5v.01",
  clip: "M20 11.5l-8 8a5 5 0 01-7-7l8.5-8.5a3.3 3.3 0 014.7 4.7L10 17a1.7 1.7 0 01-2.4-2.4l7.4-7.3",
  mic: "M12 3a3 3 0 00-3 3v6a3 3 0 006 0V6a3 3 0 00-3-3z M5.5 11.5a6.5 6.5 0 0013 0 M12 18v3",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2 12.5l4.5 4.5L16 7.5 M12.5 16.5l.5.5L22.5 7.5",
  clock: "M12 4a8 8 0 100 16 8 8 0 000-16z M12 8v4.5l3 1.5",
  alert: "M12 4a8 8 0 100 16 8 8 0 000-16z M12 8v5 M12 16v.01",
  users: "M9 5a3.5 3.5 0 100 7 3.5 3.5 0 000-7z M2.5 20a6.5 6.5 0 0113 0 M16 5.300a3.5 3.5 0 010 6.4 M18 14.500a6.5 6.5 0 013.5 5.5",
  user: "M12 4a4 4 0 100 8 4 4 0 000-8z M4.5 20.500a7.5 7.5 0 0115 0",
  chat: "M4 5h16v11H11l-4.5 4v-4H4z",
  search: "M11 4.500a6.5 6.5 0 100 13 6.5 6.5 0 000-13z M16 16l4.5 4.5",
  info: "M12 4a8 8 0 100 16 8 8 0 000-16z M12 11v5 M12 8v.01",
  down: "M12 5v14M6 13l6 6 6-6",
  play: "M8 5.500v13l10.5-6.500z",
  pause: "M8.5 6v12M15.5 6v12",
  file: "M7 3.500h7l4.5 4.500v12.500H7z M14 3.500V8h4.5",
  link: "M10 14a4 4 0 005.7 0l3-3a4 4 0 00-5.7-5.700l-1 1 M14 10a4 4 0 00-5.7 0l-3 3a4 4 0 005.7 5.700l1-1",
  more: "M5.5 12v.01 M12 12v.01 M18.5 12v.01",
  trash: "M5 7h14 M9.5 7V4.500h5V7 M7 7l1 13h8l1-13",
  picture: "M4 5h16v14H4z M4 16l5-5 4.5 4.500L16 13l4 4 M15.5 9v.01",
  gift: "M4 10h16v10H4z M4 10V7h16v3 M12 7v13 M12 7C9 7 7.5 3.5 9.5 3.500S12 7 12 7s.5-3.5 2.5-3.500S15 7 12 7z",
  ban: "M12 4a8 8 0 100 16 8 8 0 000-16z M6.5 6.500l11 11",
  settings: "M4 7h9 M17 7h3 M4 17h3 M11 17h9 M15 5v4 M9 15v4",
  out: "M14 4H5v16h9 M10 12h11 M17 8l4 4-4 4",
};

/** One of our icons; `label` if it says something that stands nowhere else. */
export function icon(name, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon only. */
export function iconButton(name, label, click, extra = {}) {
  return h("button", { type: "button", class: `icon-button ${extra.class ?? ""}`, title: label, aria: { label, ...extra.aria }, on: click ? { click } : undefined, disabled: extra.disabled, id: extra.id }, icon(name));
}

/**
 * Without the characters that turn the direction of what stands around them (UAX #9) or are no characters at all: a name with them
 * would turn the sentence in which it stands, and a file could look as if it ended otherwise.
 */
export const plain = (text) => text.replace(/[\u202A-\u202E\u2066-\u2069\u200E\u200F\u061C]|(?!\n)\p{Cc}/gu, "");

/** A path of this server or a web address; null for everything that could run (`javascript:`) or be sneaked in. */
export function safeUrl(text) {
  if (typeof text !== "string" || text === "" || text.length > 2048) return null;
  try {
    const url = new URL(text, location.origin);
    return url.protocol === "http:" || url.protocol === "https:" || (url.protocol === "blob:" && url.origin === location.origin) ? url : null;
  } catch {
    return null;
  }
}

/** Whether the page's policy lets it be shown here. */
export const isOurs = (url) => url !== null && (url.origin === location.origin || url.protocol === "blob:");
