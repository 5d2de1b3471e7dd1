/** Who is logged in, in this tab: several users may be, in one browser. Tokens live in `localStorage`, the choice in the tab. */

import { local, tab } from "./kept.js";

const TOKENS = "imgate.sessions";
const LAST = "imgate.last";
const HERE = "imgate.user";

function all() {
  try {
    return JSON.parse(local.getItem(TOKENS)) ?? {};
  } catch {
    return {};
  }
}

/** The session of this tab; a new tab takes the one that was used last. */
export function current() {
  const id = tab.getItem(HERE) ?? local.getItem(LAST);
  const token = id === null ? undefined : all()[id];
  if (typeof token !== "string" || !/^\d{1,16}$/.test(id)) return null;
  tab.setItem(HERE, id);
  return { id: Number(id), token };
}

export function keep({ id, token }) {
  local.setItem(TOKENS, JSON.stringify({ ...all(), [id]: token }));
  local.setItem(LAST, String(id));
  tab.setItem(HERE, String(id));
}

/** The newest token of the user, which another tab may have got by changing the password. */
export const newest = ({ id }) => all()[id];

/** Forgets the token; drafts and what waits to be sent stay for the next login. */
export function drop({ id }) {
  const sessions = all();
  delete sessions[id];
  local.setItem(TOKENS, JSON.stringify(sessions));
  if (local.getItem(LAST) === String(id)) local.removeItem(LAST);
  tab.removeItem(HERE);
}
