/** Records a voice message with the browser's own means. Nothing is given away before somebody says so, also where a recording ends by itself. */

/** The longest recording, in seconds. */
const MAX_SECONDS = 300;
/** In the order of our liking; Safari records mp4 only. */
const KINDS = [["audio/webm;codecs=opus", "webm"], ["audio/ogg;codecs=opus", "ogg"], ["audio/mp4", "m4a"]];

export class Recorder {
  #recorder = null;
  #stream = null;
  #begun = 0;
  #limit = null;
  /** What was recorded, and for how many seconds; null while it goes on. */
  #done = null;
  /** Whether it is to be sent; null before anybody has said so. */
  #wanted = null;
  #kind = KINDS.find(([kind]) => globalThis.MediaRecorder?.isTypeSupported(kind));
  /** Called once with the recording and its seconds, or with null, after `stop` or `discard`. */
  onEnd = () => {};
  /** Called when nothing more is recorded. */
  onOver = () => {};

  /** Microphones are for secure pages only (https, or localhost). */
  static possible() {
    return Boolean(globalThis.MediaRecorder && navigator.mediaDevices?.getUserMedia);
  }

  /** Asks for the microphone; false if this browser records nothing that others can play. */
  async start() {
    if (!this.#kind) return false;
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: this.#kind[0], audioBitsPerSecond: 32_000 });
    this.#recorder.ondataavailable = ({ data }) => data.size > 0 && parts.push(data);
    this.#recorder.onstop = () => {
      clearTimeout(this.#limit);
      for (const track of this.#stream.getTracks()) track.stop();
      this.#done = { blob: new Blob(parts, { type: this.#kind[0].split(";")[0] }), seconds: this.seconds() };
      this.onOver();
      this.#give();
    };
    this.#recorder.start();
    this.#begun = performance.now();
    this.#limit = setTimeout(() => this.#recorder.state === "recording" && this.#recorder.stop(), MAX_SECONDS * 1000);
    return true;
  }

  seconds() {
    return this.#done?.seconds ?? (performance.now() - this.#begun) / 1000;
  }

  extension() {
    return this.#kind[1];
  }

  stop() {
    this.#end(true);
  }

  discard() {
    this.#end(false);
  }

  #end(wanted) {
    if (this.#wanted !== false) this.#wanted = wanted;
    if (this.#recorder?.state === "recording") this.#recorder.stop();
    else this.#give();
  }

  #give() {
    if (!this.#done || this.#wanted === null) return;
    const { blob, seconds } = this.#done;
    const { onEnd } = this;
    this.onEnd = () => {};
    onEnd(this.#wanted && blob.size > 0 ? blob : null, seconds);
  }
}
