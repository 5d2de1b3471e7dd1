/** The picture of oneself or of a group, with buttons that change it. */

import { fill, h } from "./dom.js";
import { size, t } from "./language.js";
import { avatar } from "./parts.js";

/** What the server shows; any other file it would only hand out. */
const SHOWN = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/**
 * A face, and buttons to choose another or to take it away; only the face where no files are taken.
 * @param {import("./model.js").Model} model
 * @param {{id: number, name: string, picture: string, group?: boolean}} face
 * @param {(url: string) => Promise<void>} keep keeps the new picture; an empty one is none
 */
export function portrait(model, face, keep) {
  const element = h("div", { class: "portrait" });
  const wrong = h("p", { class: "form-error", role: "alert", hidden: true });
  const input = h("input", { type: "file", accept: SHOWN.join(), hidden: true, tabindex: -1, on: { change: () => {
    const [file] = input.files;
    // The same file may be chosen again.
    input.value = "";
    if (file) change(() => stored(model, file, (part) => (choose.textContent = t("uploading", { n: Math.round(part * 100) }))));
  } } });
  const choose = h("button", { type: "button", class: "link-button", data: { act: "choose-picture" }, on: { click: () => busy || input.click() } });
  const remove = h("button", { type: "button", class: "link-button", data: { act: "remove-picture" }, on: { click: () => change(async () => "") } }, t("removePicture"));
  let busy = false;

  const draw = () => {
    choose.textContent = t(face.picture ? "changePicture" : "choosePicture");
    remove.hidden = !face.picture;
    element.firstChild.replaceWith(avatar({ ...face, size: "is-huge" }));
  };
  /** One change at a time; the buttons stay enabled, as one that is not loses the focus. */
  const change = async (url) => {
    if (busy) return;
    busy = true;
    wrong.hidden = true;
    element.setAttribute("aria-busy", "true");
    try {
      const picture = await url();
      await keep(picture);
      face.picture = picture;
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
    busy = false;
    element.removeAttribute("aria-busy");
    // The button that took the picture away is gone now.
    const lost = document.activeElement === remove;
    draw();
    if (lost && remove.hidden) choose.focus();
  };

  fill(element, h("span", {}), model.config?.max_upload > 0 && [h("div", { class: "portrait-acts" }, choose, remove), wrong, input]);
  draw();
  return element;
}

/** Stores a picture and gives back the address of the small one. */
async function stored(model, file, progress) {
  const max = model.config.max_upload;
  if (file.size > max) throw new Error(t("tooLarge", { size: size(max) }));
  const { url, thumb, type } = await model.api.upload(file, file.name, progress);
  // Its content decides, not its name.
  if (!type.startsWith("image/")) throw new Error(t("e_bad_picture"));
  return thumb ?? url;
}
