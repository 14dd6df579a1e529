// @ts-check
// The keyboard: Space talks, Esc stops, / writes, F marks a cut-off, L shows the bench.

/**
 * @typedef {object} Keys
 * @property {() => void} talkDown
 * @property {() => void} talkUp
 * @property {() => void} stop
 * @property {() => void} write
 * @property {() => void} cutOff
 * @property {() => void} bench
 * @property {() => boolean} letters single letters are keys; who dictates by voice turns that off
 */

/** Elements that want the space bar for themselves. */
const OWN_SPACE = "input, textarea, select, summary, a[href], button:not(#talk)";

/** @param {EventTarget|null} target */
function isWriting(target) {
  return target instanceof Element && target.matches("input:not([type=checkbox]):not([type=file]), textarea");
}

/** @param {Keys} keys */
export function listen(keys) {
  let held = false;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      keys.stop();
      return;
    }
    const { target } = event;
    if (event.code === "Space" && !(target instanceof Element && target.matches(OWN_SPACE))) {
      event.preventDefault();
      if (event.repeat || held) return;
      held = true;
      keys.talkDown();
      return;
    }
    if (isWriting(target) || event.repeat || !keys.letters()) return;
    if (event.key === "/") {
      event.preventDefault();
      keys.write();
    } else if (event.key.toLowerCase() === "f") keys.cutOff();
    else if (event.key.toLowerCase() === "l") keys.bench();
  });
  const up = () => {
    if (!held) return;
    held = false;
    keys.talkUp();
  };
  addEventListener("keyup", (event) => {
    if (event.code !== "Space" || !held) return;
    event.preventDefault(); // or the focused talk button would be clicked as well
    up();
  });
  addEventListener("blur", up); // the key may come up elsewhere
}
