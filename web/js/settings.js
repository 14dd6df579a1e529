// @ts-check
// The switches of the page, remembered by the browser and by nobody else.

import { byId } from "./dom.js";

/** @typedef {{voice: boolean, barge_in: boolean, push_to_talk: boolean, echo: boolean, noise: boolean, letters: boolean}} Values */
/** @typedef {keyof Values} Name */

const STORED = "textpro.settings";
/** @type {[Name, string][]} */
const BOXES = [
  ["voice", "set-voice"],
  ["barge_in", "set-barge-in"],
  ["push_to_talk", "set-push-to-talk"],
  ["echo", "set-echo"],
  ["noise", "set-noise"],
  ["letters", "set-letters"],
];

export class Settings {
  /** @param {(name: Name, value: boolean) => void} onChange */
  constructor(onChange) {
    const stored = load();
    for (const [name, id] of BOXES) {
      const box = /** @type {HTMLInputElement} */ (byId(id));
      if (typeof stored[name] === "boolean") box.checked = stored[name];
      box.onchange = () => {
        save(this.values);
        onChange(name, box.checked);
      };
    }
    const menu = /** @type {HTMLDetailsElement} */ (byId("settings"));
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.stopPropagation(); // elsewhere it stops the reply
      menu.open = false;
      menu.querySelector("summary")?.focus();
    });
    addEventListener("pointerdown", ({ target }) => {
      if (menu.open && !menu.contains(/** @type {Node} */ (target))) menu.open = false;
    });
  }

  /** @returns {Values} */
  get values() {
    const checked = BOXES.map(([name, id]) => [name, /** @type {HTMLInputElement} */ (byId(id)).checked]);
    return Object.fromEntries(checked);
  }
}

/** @returns {Partial<Values>} */
function load() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}") ?? {};
  } catch {
    return {}; // private windows may have no storage
  }
}

/** @param {Values} values */
function save(values) {
  try {
    localStorage.setItem(STORED, JSON.stringify(values));
  } catch {
    // As above: the switch works until the page is left.
  }
}
