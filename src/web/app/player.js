/** A voice message: play and pause, a bar, how long it is. One plays at a time. */

import { fill, h, icon, isOurs } from "./dom.js";
import { duration, t } from "./language.js";

let playing = null;

/**
 * @param {URL | null} url
 * @param {number} [seconds] as the sender says; recordings of browsers do not say it themselves
 */
export function player(url, seconds) {
  const said = Number.isFinite(seconds) && seconds > 0 ? seconds : 0;
  const time = h("span", { class: "voice-time" }, duration(said));
  const bar = h("progress", { class: "voice-bar", aria: { hidden: "true" } });
  bar.max = 1;
  bar.value = 0;
  const button = h("button", { type: "button", class: "voice-play", aria: { label: t("playVoice") }, disabled: !url || !isOurs(url) }, icon("play"));
  const element = h("div", { class: "voice" }, button, bar, time);
  let audio = null;
  const show = (sign, label) => {
    fill(button, icon(sign));
    button.setAttribute("aria-label", label);
  };
  button.addEventListener("click", () => {
    if (!audio) {
      audio = new Audio(url.href);
      audio.addEventListener("timeupdate", () => {
        const whole = Number.isFinite(audio.duration) ? audio.duration : said;
        bar.value = whole > 0 ? Math.min(1, audio.currentTime / whole) : 0;
        time.textContent = duration(audio.currentTime);
      });
      audio.addEventListener("play", () => {
        if (playing && playing !== audio) playing.pause();
        playing = audio;
        show("pause", t("pauseVoice"));
      });
      audio.addEventListener("pause", () => show("play", t("playVoice")));
      audio.addEventListener("ended", () => {
        bar.value = 0;
        time.textContent = duration(said);
      });
    }
    if (audio.paused) audio.play().catch(() => show("alert", t("voiceMessage")));
    else audio.pause();
  });
  return element;
}
