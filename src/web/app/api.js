/** The HTTP API (`/api/v1`), as one user of this browser. */

import { plain } from "./dom.js";
import { knows, t } from "./language.js";
import { heardDate } from "./time.js";

/** A failure with a code of the server, or `network`. Its message is for people, in their language. */
export class ApiError extends Error {
  constructor(code, status = 0, retryMs = 0) {
    super(knows(`e_${code}`) ? t(`e_${code}`) : t("e_unknown", { code }));
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    /** The pause that the server asks for, in milliseconds. */
    this.retryMs = retryMs;
  }
}

/** What other users may write as they like, and what stands in sentences of ours. */
const NAMES = new Set(["nickname", "name", "memo"]);

const parse = (text) => JSON.parse(text, (key, value) => (NAMES.has(key) && typeof value === "string" ? plain(value) : value));

const BY_STATUS = { 401: "wrong_login", 413: "too_large", 415: "unsupported", 429: "busy", 503: "busy" };

/** An upload of which nothing goes out for so long has failed. */
const STALLED_MS = 60_000;

/** So has one that is not answered for so long: what the system has taken may be megabytes that a slow network is still sending. */
const UNANSWERED_MS = 300_000;

/** The longest pause that is believed. */
const RETRY_MOST_S = 3600;

function failure(status, body, retryAfter) {
  const code = body?.error?.code ?? BY_STATUS[status] ?? String(status);
  const seconds = /^\d{1,9}$/.test(retryAfter ?? "") ? Number(retryAfter) : 0;
  return new ApiError(code, status, Math.min(seconds, RETRY_MOST_S) * 1000);
}

export class Api {
  /**
   * @param {{id: number, token: string} | null} session
   * @param {() => void} expired called when the server does not know the token (any more)
   */
  constructor(session = null, expired = () => {}) {
    this.session = session;
    this.expired = expired;
  }

  #headers() {
    return this.session ? { Authorization: `Bearer ${this.session.token}`, "X-Imgate-User": String(this.session.id) } : {};
  }

  async #call(method, path, body, signal) {
    let response;
    const late = AbortSignal.timeout(20_000);
    const begun = performance.now();
    try {
      response = await fetch(`/api/v1${path}`, {
        method,
        headers: { ...this.#headers(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "same-origin",
        // Browsers that cannot join two look at the other one afterwards.
        signal: signal && AbortSignal.any ? AbortSignal.any([signal, late]) : late,
      });
    } catch {
      throw new ApiError(signal?.aborted ? "aborted" : "network");
    }
    heardDate(response.headers.get("Date"), performance.now() - begun);
    const answer = await response.text().then(parse).catch(() => null);
    if (!response.ok) throw this.#failed(response.status, answer, response.headers.get("Retry-After"));
    return answer ?? {};
  }

  #failed(status, answer, retryAfter) {
    const error = failure(status, answer, retryAfter);
    if (this.session && error.code === "not_logged_in") this.expired();
    return error;
  }

  /** All rows of a list that is paged by `after`, up to `most`: as many as a user may have friends. */
  async #all(path, most = 5000) {
    const rows = [];
    for (;;) {
      const join = path.includes("?") ? "&" : "?";
      const page = await this.#call("GET", rows.length === 0 ? path : `${path}${join}after=${rows.at(-1).id}`);
      rows.push(...(page.rows ?? []));
      if (!page.more || (page.rows ?? []).length === 0 || rows.length >= most) return rows;
    }
  }

  register = (fields) => this.#call("POST", "/register", fields);
  login = (mobile, password) => this.#call("POST", "/login", { mobile, password });
  logout = (everywhere) => this.#call("POST", "/logout", { everywhere });
  me = () => this.#call("GET", "/me");
  changeMe = (fields) => this.#call("PATCH", "/me", fields);
  changePassword = (old, fresh) => this.#call("POST", "/me/password", { old, new: fresh });
  deleteMe = (password) => this.#call("POST", "/me/delete", { password });
  logins = async () => (await this.#call("GET", "/me/logins")).rows ?? [];
  endLogin = (id) => this.#call("DELETE", `/me/logins/${id}`);
  user = (id) => this.#call("GET", `/users/${id}`);
  users = async (ids) => (await this.#call("GET", `/users?ids=${ids.join(",")}`)).rows ?? [];
  userByMobile = async (mobile) => (await this.#call("GET", `/users?mobile=${encodeURIComponent(mobile)}`)).rows?.[0];
  friends = () => this.#all("/friends");
  befriend = (id) => this.#call("PUT", `/friends/${id}`);
  unfriend = (id) => this.#call("DELETE", `/friends/${id}`);
  blocks = () => this.#all("/blocks");
  block = (id) => this.#call("PUT", `/blocks/${id}`);
  unblock = (id) => this.#call("DELETE", `/blocks/${id}`);
  groups = () => this.#all("/groups");
  group = (id) => this.#call("GET", `/groups/${id}`);
  groupsByName = async (name) => (await this.#call("GET", `/groups?name=${encodeURIComponent(name)}`)).rows ?? [];
  makeGroup = (fields) => this.#call("POST", "/groups", fields);
  changeGroup = (id, fields) => this.#call("PATCH", `/groups/${id}`, fields);
  dissolve = (id) => this.#call("DELETE", `/groups/${id}`);
  join = (id) => this.#call("PUT", `/groups/${id}/members/me`);
  leave = (id) => this.#call("DELETE", `/groups/${id}/members/me`);
  removeMember = (id, user) => this.#call("DELETE", `/groups/${id}/members/${user}`);
  addMember = (id, user) => this.#call("PUT", `/groups/${id}/members/${user}`);
  setRole = (id, user, role) => this.#call("PATCH", `/groups/${id}/members/${user}`, { role });
  requests = (id) => this.#all(`/groups/${id}/requests`);
  forgetRequest = (id, user) => this.#call("DELETE", `/groups/${id}/requests/${user}`);
  invite = (id) => this.#call("GET", `/groups/${id}/invite`);
  makeInvite = (id) => this.#call("POST", `/groups/${id}/invite`);
  revokeInvite = (id) => this.#call("DELETE", `/groups/${id}/invite`);
  invited = (secret) => this.#call("GET", `/invites/${encodeURIComponent(secret)}`);
  joinBy = (secret) => this.#call("PUT", `/invites/${encodeURIComponent(secret)}`);
  members = (id, after) => this.#call("GET", `/groups/${id}/members?limit=100${after ? `&after=${after}` : ""}`);
  config = () => this.#call("GET", "/config");

  /**
   * Stores a file and gives back what the server says of it. What the server has already is not sent.
   * @param {Blob} blob
   * @param {(part: number) => void} progress 0 to 1
   * @param {AbortSignal} [signal] ends it, whatever it is at
   */
  async upload(blob, name, progress, signal) {
    // Plain http has no `crypto.subtle`; then the file is simply sent.
    if (globalThis.crypto?.subtle && blob.size <= 256 * 2 ** 20) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      signal?.throwIfAborted();
      const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      try {
        const known = await this.#call("POST", "/files/claim", { sha256, size: blob.size, name }, signal);
        progress(1);
        return known;
      } catch (error) {
        if (error.status !== 404) throw error;
      }
    }
    // Too late for a listener.
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", `/api/v1/files?name=${encodeURIComponent(name)}`);
      for (const [key, value] of Object.entries(this.#headers())) request.setRequestHeader(key, value);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.responseType = "json";
      // A network that takes nothing more says nothing either.
      let timer = null;
      const goesOn = (patience) => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          reject(new ApiError("network"));
          request.abort();
        }, patience);
      };
      request.upload.onprogress = ({ loaded, total }) => {
        goesOn(loaded < total ? STALLED_MS : UNANSWERED_MS);
        progress(total > 0 ? loaded / total : 0);
      };
      // The last progress is not told where it comes right behind another one.
      request.upload.onload = () => goesOn(UNANSWERED_MS);
      request.onloadend = () => clearTimeout(timer);
      goesOn(STALLED_MS);
      request.onload = () => (request.status < 300 && request.response ? resolve(request.response) : reject(this.#failed(request.status, request.response)));
      request.onerror = request.ontimeout = () => reject(new ApiError("network"));
      request.onabort = () => reject(new ApiError("aborted"));
      signal?.addEventListener("abort", () => request.abort());
      request.send(blob);
    });
  }
}
