/**
 * Which part of a long conversation is in the page. Places are counted from the first message that was ever held here, so that they
 * stay the same while earlier ones are loaded: what was before it has places below zero.
 */

/** Messages in the page at most: some screens. */
export const SPAN_MOST = 120;
/** With so many it begins, and by so many it moves. */
export const SPAN_STEP = 40;

export class Span {
  from = 0;
  to = 0;
  #era = null;
  #high = 0;

  /**
   * Follows what the conversation holds now. Whoever is at the end stays there; elsewhere what is in the page stays in it.
   * @param {{low: number, high: number, era: number}} held the first place, the place behind the last, and which history it is
   * @param {boolean} follow whether the end is in view
   */
  update({ low, high, era }, follow) {
    if (era !== this.#era) {
      this.#era = era;
      [this.from, this.to] = [high - SPAN_STEP, high];
    } else if (this.to === this.#high) {
      // What comes while one reads above is put behind it, up to the bound.
      this.to = follow ? high : Math.min(high, Math.max(this.to, this.from + SPAN_MOST));
      if (follow) this.from = Math.max(this.from, high - SPAN_MOST);
    }
    this.#high = high;
    this.from = Math.max(low, Math.min(this.from, high));
    this.to = Math.max(this.from, Math.min(this.to, high));
    // A conversation that was nearly empty and has been filled.
    if (this.to - this.from < SPAN_STEP) this.from = Math.max(low, Math.min(this.from, this.to - SPAN_STEP));
  }

  /** Whether the newest message is in the page. */
  get atEnd() {
    return this.to === this.#high;
  }

  /** Takes in earlier ones, and lets the latest go if there are too many. */
  up(low) {
    this.from = Math.max(low, this.from - SPAN_STEP);
    this.to = Math.min(this.to, this.from + SPAN_MOST);
  }

  /** Takes in later ones, and lets the earliest go if there are too many. */
  down() {
    this.to = Math.min(this.#high, this.to + SPAN_STEP);
    this.from = Math.max(this.from, this.to - SPAN_MOST);
  }

  toEnd() {
    this.to = this.#high;
    this.from = this.#high - SPAN_STEP;
  }
}
