// @ts-check
// What a screen reader hears: whole sentences, once each, never the words that may still change.

import { el } from "./dom.js";

const KEPT = 40; // lines; a log that only grows slows the reader down

/**
 * The finished sentences of a growing text.
 * @param {string} text
 * @returns {number} how many characters of it are finished
 */
export function finished(text) {
  let end = 0;
  for (const match of text.matchAll(/[.!?…][\p{Pf}"')\]]*(?=\s)/gu)) end = match.index + match[0].length;
  return end;
}

/** @typedef {import("./turns.js").Turn} Turn */

export class Captions {
  /** @type {WeakMap<Turn, {said: boolean, told: number}>} */
  #told = new WeakMap();

  /** @param {HTMLElement} log */
  constructor(log) {
    this.log = log;
  }

  /** @param {Turn} turn @param {string} tone how it was said, in words */
  follow(turn, tone) {
    const seen = this.#told.get(turn) ?? { said: false, told: 0 };
    this.#told.set(turn, seen);
    if (turn.endpoint && !seen.said && turn.text) {
      seen.said = true;
      this.#add(tone ? `You, ${tone}: ${turn.text}` : `You: ${turn.text}`);
    }
    const whole = turn.done === null ? turn.reply : turn.done.text;
    const end = turn.done === null ? finished(whole) : whole.length;
    const fresh = whole.slice(seen.told, end).trim();
    seen.told = Math.max(seen.told, end);
    if (fresh) this.#add(`Reply: ${fresh}`);
    if (turn.done?.reason === "barge_in" && fresh) this.#add("Interrupted.");
  }

  /** @param {string} text */
  #add(text) {
    this.log.append(el("p", {}, text));
    while (this.log.childElementCount > KEPT) this.log.firstElementChild?.remove();
  }
}
