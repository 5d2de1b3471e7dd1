/** Where one writes: text, emoji, pictures and files, voice. What is written survives a reload. */

import { OWN, PICTURE, TEXT, VIDEO, VOICE } from "./bubbles.js";
import { emojiPanel } from "./emoji.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { duration, size, t } from "./language.js";
import { attempt, toast } from "./parts.js";
import { Recorder } from "./recorder.js";

/** Characters of one message: far below the 64 KiB of the protocol in any script. */
const TEXT_MAX = 10_000;
/** A box that grows to this part of the window, then scrolls. */
const HEIGHT = 0.3;

export class Composer {
  /**
   * @param {() => void} toEnd called after one has sent something
   * @param {() => void} shut closes the conversation
   */
  constructor(model, conversation, toEnd, shut) {
    this.model = model;
    this.conversation = conversation;
    this.toEnd = toEnd;
    this.shut = shut;
    this.panel = null;
    this.recorder = null;
    /** The microphone was asked for, and not given yet. */
    this.asking = false;
    this.left = false;
    this.input = h("textarea", { class: "input", id: "input", dir: "auto", rows: 1, maxlength: TEXT_MAX, placeholder: t("writeMessage"), enterkeyhint: "send", aria: { label: t("writeMessage") }, on: {
      input: () => this.edited(),
      keydown: (event) => this.key(event),
      paste: (event) => this.paste(event),
    } });
    this.input.value = model.draft(conversation, true);
    this.files = h("input", { type: "file", multiple: true, class: "off-screen", tabindex: -1, id: "files", aria: { hidden: "true" }, on: { change: () => {
      this.sendFiles(this.files.files);
      this.files.value = "";
    } } });
    this.attach = iconButton("clip", t("attach"), () => this.files.click(), { id: "attach" });
    this.smile = iconButton("smile", t("emoji"), () => this.emoji(), { id: "emoji", aria: { expanded: "false" } });
    this.mic = iconButton("mic", t("voice"), () => this.record(), { id: "voice" });
    this.submit = iconButton("send", t("send"), () => this.send(), { class: "is-send", id: "send" });
    this.gone = h("div", { class: "note", hidden: true }, h("p", {}, t("e_not_member")),
      h("button", { type: "button", class: "link-button", on: { click: () => this.forget() } }, t("deleteChat")));
    this.bar = h("div", { class: "composer-bar" }, this.attach, this.files, this.input, this.smile, this.mic, this.submit);
    this.element = h("footer", { class: "composer" }, this.bar, this.gone);
    this.refresh();
    this.edited(false);
  }

  /** A group that was left goes from the list when its reader says so. */
  forget() {
    this.shut();
    this.model.forget(this.conversation);
  }

  /** Whether this server stores files. */
  get takesFiles() {
    return this.model.config?.max_upload > 0 && this.model.mayWrite(this.conversation);
  }

  refresh() {
    this.gone.hidden = this.model.mayWrite(this.conversation);
    this.bar.hidden = !this.gone.hidden;
    if (this.bar.hidden) {
      this.recorder?.discard();
      this.panel?.remove();
      this.panel = null;
    }
    this.attach.hidden = !this.takesFiles;
    this.buttons();
  }

  /** Voice while there are no words, otherwise "send". */
  buttons() {
    const empty = this.input.value.trim() === "";
    this.mic.hidden = !empty || !this.takesFiles || !Recorder.possible();
    this.submit.hidden = !this.mic.hidden;
    this.submit.disabled = empty;
  }

  /** On a phone the keyboard would cover what one wants to read: only after one has written. */
  focus(anywhere = true) {
    if (anywhere || matchMedia("(hover: hover)").matches) this.input.focus({ preventScroll: true });
  }

  leave() {
    this.left = true;
    this.recorder?.discard();
  }

  edited(byUser = true) {
    if (this.input.isConnected) {
      this.input.style.setProperty("height", "auto");
      this.input.style.setProperty("height", `${Math.min(this.input.scrollHeight + 2, innerHeight * HEIGHT)}px`);
    }
    this.buttons();
    if (byUser === null) return;
    if (!byUser) {
      // It has no height before it is in the page.
      requestAnimationFrame(() => this.input.isConnected && this.input.value && this.edited(null));
      return;
    }
    this.model.keepDraft(this.conversation, this.input.value);
    if (this.input.value !== "") this.model.client.typing(this.conversation.kind, this.conversation.dstid);
  }

  key(event) {
    // Enter also chooses a word in Chinese, Japanese and Korean input.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.send();
    }
    if (event.key === "Escape" && this.panel) {
      event.preventDefault();
      this.emoji();
    }
  }

  send() {
    const content = this.input.value.trim();
    if (content === "") return;
    this.model.send(this.conversation, { media: TEXT, content });
    this.input.value = "";
    this.edited();
    this.focus();
    this.toEnd();
  }

  /** Cells of a table and words of a text are copied with a picture of them: what has words is pasted as words. */
  paste(event) {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    const files = [...(event.clipboardData?.files ?? [])];
    if (this.takesFiles && files.length > 0 && (text.trim() === "" || areNames(text, files))) {
      event.preventDefault();
      this.sendFiles(files);
      return;
    }
    const { selectionStart: from, selectionEnd: to, value } = this.input;
    // The box would drop the rest without a word.
    if (value.length - (to - from) + text.length > TEXT_MAX) toast(t("cutOff", { n: TEXT_MAX }), true);
  }

  async sendFiles(files) {
    const max = this.model.config?.max_upload ?? 0;
    for (const file of [...files]) {
      if (file.size > max) {
        toast(t("tooLarge", { size: size(max) }), true);
        continue;
      }
      const picture = /^image\/(png|jpeg|gif|webp)$/.test(file.type);
      const video = /^video\/(mp4|webm|quicktime|3gpp2?|x-m4v)$/.test(file.type);
      const draft = picture ? { media: PICTURE, content: file.name } : video ? { media: VIDEO } : { media: OWN, type: "file", content: file.name, size: file.size };
      this.model.sendFile(this.conversation, file, file.name, draft, (stored) => {
        if (picture) return { ...draft, url: stored.url, ...(stored.thumb ? { pic: stored.thumb } : {}), ...(stored.width ? { width: stored.width, height: stored.height } : {}) };
        return { ...draft, url: stored.url, ...(video && stored.thumb ? { pic: stored.thumb } : {}) };
      });
      this.toEnd();
    }
    this.focus();
  }

  emoji() {
    if (this.panel) {
      this.panel.remove();
      this.panel = null;
      this.focus();
    } else {
      this.panel = emojiPanel((character) => {
        const { selectionStart: from, selectionEnd: to } = this.input;
        this.input.setRangeText(character, from, to, "end");
        this.edited();
      }, () => this.emoji());
      this.element.prepend(this.panel);
      this.panel.querySelector("button")?.focus();
    }
    this.smile.setAttribute("aria-expanded", String(this.panel !== null));
  }

  async record() {
    if (this.asking || this.recorder) return;
    this.asking = true;
    const recorder = new Recorder();
    const started = await recorder.start().catch(() => false);
    this.asking = false;
    if (!started) {
      toast(t("noMicrophone"), true);
      return;
    }
    // Whoever has gone on to another conversation is not to be recorded.
    if (this.left || this.bar.hidden) {
      recorder.discard();
      return;
    }
    this.recorder = recorder;
    const time = h("span", { class: "recording-time", role: "timer" }, duration(0));
    const tick = setInterval(() => { time.textContent = duration(recorder.seconds()); }, 250);
    const said = h("span", { class: "recording" }, h("span", { class: "recording-dot" }), t("recording"), time);
    recorder.onOver = () => {
      clearInterval(tick);
      fill(said, t("recorded"), time);
      time.textContent = duration(recorder.seconds());
    };
    const back = () => {
      clearInterval(tick);
      this.recorder = null;
      fill(this.bar, this.attach, this.files, this.input, this.smile, this.mic, this.submit);
      this.focus();
    };
    recorder.onEnd = (blob, seconds) => {
      back();
      if (!blob) return;
      const draft = { media: VOICE, amount: Math.max(1, Math.ceil(seconds)) };
      attempt(() => this.model.sendFile(this.conversation, blob, `voice.${recorder.extension()}`, draft, (stored) => ({ ...draft, url: stored.url })));
      this.toEnd();
    };
    fill(this.bar, iconButton("trash", t("discard"), () => recorder.discard(), { id: "voice-discard" }),
      said,
      h("button", { type: "button", class: "icon-button is-send", id: "voice-send", title: t("stopAndSend"), aria: { label: t("stopAndSend") }, on: { click: () => recorder.stop() } }, icon("send")));
    this.bar.querySelector("#voice-send").focus();
  }
}

/** Whether the words are the names of the files: what a file manager copies beside them. */
function areNames(text, files) {
  if (text.length > 10_000) return false;
  const lines = text.trim().split(/\r?\n/).map((line) => line.split(/[\\/]/).at(-1));
  return lines.length === files.length && files.every(({ name }) => lines.includes(name));
}
