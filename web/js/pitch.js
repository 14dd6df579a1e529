// @ts-check
// Pitch and loudness of what the microphone gives, every 20 ms, for the eye: the ribbon is drawn
// while one speaks. What the model hears comes from the server, as windows.

import { RATE } from "./blocks.js";

export const STEP = 320; // samples between two readings
const FRAME = 640; // samples looked at: two periods of the lowest voice
const LOWEST_HZ = 65;
const HIGHEST_HZ = 450;
const VOICED = 0.6; // of the normalised autocorrelation: breath and hiss stay below
const QUIET_DBFS = -52;

/** @typedef {{at_s: number, dbfs: number, hz: number|null}} Reading */

/**
 * @param {Float32Array} frame
 * @returns {number|null} Hz; null where nothing is periodic
 */
export function pitchOf(frame) {
  const shortest = Math.floor(RATE / HIGHEST_HZ);
  const longest = Math.min(Math.ceil(RATE / LOWEST_HZ), frame.length >> 1);
  const width = frame.length - longest;
  let head = 0;
  for (let i = 0; i < width; i += 1) head += frame[i] * frame[i];
  if (head === 0) return null;
  const scores = new Float32Array(longest + 1);
  let tail = 0;
  for (let i = shortest; i < shortest + width; i += 1) tail += frame[i] * frame[i];
  for (let lag = shortest; lag <= longest; lag += 1) {
    let product = 0;
    for (let i = 0; i < width; i += 1) product += frame[i] * frame[i + lag];
    scores[lag] = tail > 0 ? product / Math.sqrt(head * tail) : 0;
    tail += frame[lag + width] ** 2 - frame[lag] ** 2;
  }
  let best = 0;
  for (let lag = shortest + 1; lag < longest; lag += 1) best = Math.max(best, scores[lag]);
  if (best < VOICED) return null;
  // The first peak almost as good as the best: the best itself may be twice the period.
  for (let lag = shortest + 1; lag < longest; lag += 1) {
    const [left, here, right] = [scores[lag - 1], scores[lag], scores[lag + 1]];
    if (here < best * 0.9 || here < left || here < right) continue;
    const bend = left - 2 * here + right;
    const shift = bend === 0 ? 0 : (left - right) / (2 * bend);
    return RATE / (lag + shift);
  }
  return null;
}

/** The last minutes of readings, by position in the audio that was sent. */
export class Contour {
  /** @type {Reading[]} */
  #readings = [];
  #held = new Float32Array(0);
  #position = 0; // samples, where #held begins
  #kept;

  /** @param {number} [kept_s] */
  constructor(kept_s = 120) {
    this.#kept = Math.round((kept_s * RATE) / STEP);
  }

  /** @param {Int16Array} block the next samples */
  push(block) {
    const held = new Float32Array(this.#held.length + block.length);
    held.set(this.#held);
    for (let i = 0; i < block.length; i += 1) held[this.#held.length + i] = block[i] / 32768;
    let from = 0;
    for (; from + FRAME <= held.length; from += STEP) {
      this.#readings.push(this.#read(held.subarray(from, from + FRAME), this.#position + from));
    }
    this.#held = held.slice(from);
    this.#position += from;
    if (this.#readings.length > this.#kept) this.#readings.splice(0, this.#readings.length - this.#kept);
  }

  /** @param {Float32Array} frame @param {number} start @returns {Reading} */
  #read(frame, start) {
    let sum = 0;
    for (const sample of frame) sum += sample * sample;
    const dbfs = 10 * Math.log10(sum / frame.length + 1e-10);
    const hz = dbfs < QUIET_DBFS ? null : pitchOf(frame);
    return { at_s: (start + FRAME / 2) / RATE, dbfs, hz };
  }

  /** A new session counts samples from zero. */
  reset() {
    this.#readings = [];
    this.#held = new Float32Array(0);
    this.#position = 0;
  }

  /** @param {number} start_s @param {number} end_s @returns {Reading[]} */
  between(start_s, end_s) {
    return this.#readings.filter(({ at_s }) => at_s >= start_s && at_s < end_s);
  }
}
