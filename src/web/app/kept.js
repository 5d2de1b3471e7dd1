/**
 * What survives a reload, as far as the browser lets it. Storage may be forbidden (with cookies blocked the very word
 * `localStorage` throws), full, or gone with the window: then what is kept lives as long as the page, and nothing else changes.
 */

class Kept {
  #area = null;
  /** What the browser did not take, and what it has not removed: null. */
  #here = new Map();

  /** @param {() => Storage} open */
  constructor(open) {
    try {
      this.#area = open() ?? null;
    } catch {
      // Forbidden.
    }
  }

  getItem(key) {
    if (this.#here.has(key)) return this.#here.get(key);
    try {
      return this.#area?.getItem(key) ?? null;
    } catch {
      return null;
    }
  }

  setItem(key, value) {
    try {
      if (!this.#area) throw new Error("there is none");
      this.#area.setItem(key, value);
      this.#here.delete(key);
    } catch {
      // What lies there is older; after a reload that is better than nothing.
      this.#here.set(key, String(value));
    }
  }

  removeItem(key) {
    this.#here.delete(key);
    try {
      this.#area?.removeItem(key);
    } catch {
      this.#here.set(key, null);
    }
  }

  /** All keys that begin so. */
  keys(prefix = "") {
    const found = new Set();
    try {
      for (let at = 0; at < (this.#area?.length ?? 0); at += 1) found.add(this.#area.key(at));
    } catch {
      // As if there were none.
    }
    for (const [key, value] of this.#here) {
      if (value === null) found.delete(key);
      else found.add(key);
    }
    return [...found].filter((key) => key?.startsWith(prefix));
  }
}

/** Of this browser. */
export const local = new Kept(() => globalThis.localStorage);
/** Of this tab. */
export const tab = new Kept(() => globalThis.sessionStorage);

/** `local` under a prefix, as the SDK wants a storage. */
export const storage = (start) => ({
  entries(prefix) {
    const found = [];
    for (const key of local.keys(start + prefix)) {
      try {
        found.push([key.slice(start.length), JSON.parse(local.getItem(key))]);
      } catch {
        // Cut off: as if it were not there.
      }
    }
    return found;
  },
  put: (key, value) => local.setItem(start + key, JSON.stringify(value)),
  remove: (key) => local.removeItem(start + key),
});
