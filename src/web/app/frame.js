/** When the page is drawn: changes are gathered until the next picture. */

/** A page that is not drawn, in a tab behind others, is told its changes after so long. */
const UNDRAWN_MS = 200;

/** Calls it once before the next picture or, where none is drawn, soon. Returns what takes it back. */
export function beforeNextPicture(work) {
  let picture = 0;
  let timer = 0;
  const stop = () => {
    cancelAnimationFrame(picture);
    clearTimeout(timer);
  };
  const run = () => {
    stop();
    work();
  };
  picture = requestAnimationFrame(run);
  timer = setTimeout(run, UNDRAWN_MS);
  return stop;
}
