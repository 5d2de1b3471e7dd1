/** Who is logged in, in this tab: several users may be, in one browser. Tokens live in `localStorage`, the choice in the tab. */

const TOKENS = "imgate.sessions";
const LAST = "imgate.last";
const HERE = "imgate.user";

function all() {
  try {
    return JSON.parse(localStorage.getItem(TOKENS)) ?? {};
  } catch {
    return {};
  }
}

/** The session of this tab; a new tab takes the one that was used last. */
export function current() {
  const id = sessionStorage.getItem(HERE) ?? localStorage.getItem(LAST);
  const token = id === null ? undefined : all()[id];
  if (!token) return null;
  sessionStorage.setItem(HERE, id);
  return { id: Number(id), token };
}

export function keep({ id, token }) {
  localStorage.setItem(TOKENS, JSON.stringify({ ...all(), [id]: token }));
  localStorage.setItem(LAST, String(id));
  sessionStorage.setItem(HERE, String(id));
}

/** The newest token of the user, which another tab may have got by changing the password. */
export const newest = ({ id }) => all()[id];

/** Forgets the token; drafts and what waits to be sent stay for the next login. */
export function drop({ id }) {
  const sessions = all();
  delete sessions[id];
  localStorage.setItem(TOKENS, JSON.stringify(sessions));
  if (localStorage.getItem(LAST) === String(id)) localStorage.removeItem(LAST);
  sessionStorage.removeItem(HERE);
}
