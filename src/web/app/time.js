/** What time it is for the server. Clocks of computers are wrong at times, by hours, and are set while a page is open. */

/** The server says seconds, and an answer takes its time: less than this is no difference. */
const TRUSTED_MS = 3000;

let ahead = 0;

/** Milliseconds since 1970, comparable with the `ts` of messages. */
export const now = () => Date.now() + ahead;

/** Takes note of the `Date` of an answer (RFC 9110, section 6.6.1) that took `tookMs`. */
export function heardDate(text, tookMs) {
  const said = Date.parse(text ?? "");
  if (Number.isNaN(said)) return;
  const difference = said + 500 - (Date.now() - tookMs / 2);
  ahead = Math.abs(difference) < TRUSTED_MS ? 0 : difference;
}
