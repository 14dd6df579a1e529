// @ts-check
// The ribbon under the words: height is pitch, thickness is loudness, a gap is a pause. Time runs
// with the words, so the marks each 0.1 s stand close where somebody speaks slowly; the rail they
// stand on is stronger where the model heard more of the same.

import { semitones, threshold } from "./prosody.js";

/** @typedef {import("./pitch.js").Reading} Reading */
/** @typedef {{start_s: number, end_s: number, left: number, right: number, bottom: number}} Stretch of time, and where it lies on the page (CSS pixels) */
/** @typedef {{x: number, y: number, half: number}} Point of the ribbon's middle; y 0 is high, 1 is low */
/** @typedef {{points: Point[], bottom: number}} Strip unbroken, within one line of text */
/** @typedef {{high: string, low: string, rail: string, marks: string}} Ink */

const SPAN = 8; // semitones to either side of the speaker's middle; further ones are pressed together
const MARK_S = 0.1;
const LEAST_LIKE = 0.82; // neighbours share half their sound: 0.86 to 0.95 in calm speech
const HEIGHT = 26; // CSS pixels of the ribbon
const RAIL = 32; // CSS pixels below the words; talk.css leaves room for both
const HOLD = 8; // readings, 160 ms: a consonant is no pause

/** @param {number} value @param {number} least @param {number} most */
function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}

/**
 * @param {readonly Stretch[]} stretches in order of time
 * @param {number} at_s
 * @returns {{x: number, stretch: Stretch}|null} null in a pause
 */
export function place(stretches, at_s) {
  for (const stretch of stretches) {
    const { start_s, end_s, left, right } = stretch;
    if (at_s < start_s || at_s > end_s || end_s <= start_s) continue;
    return { x: left + ((at_s - start_s) / (end_s - start_s)) * (right - left), stretch };
  }
  return null;
}

/**
 * @param {readonly Reading[]} readings of the turn
 * @param {readonly Stretch[]} stretches
 * @param {number} middle_hz of the speaker
 * @returns {Strip[]}
 */
export function strips(readings, stretches, middle_hz) {
  const quiet = threshold(readings);
  const silent = silences(readings, quiet);
  const range = Math.max(1, readings.reduce((most, { dbfs }) => Math.max(most, dbfs), quiet) - quiet);
  const levels = tune(readings, middle_hz);
  /** @type {Strip[]} */
  const found = [];
  let strip = /** @type {Strip|null} */ (null);
  readings.forEach(({ at_s, dbfs, hz }, i) => {
    const spot = silent[i] ? null : place(stretches, at_s);
    if (spot === null) {
      strip = null;
      return;
    }
    if (strip === null || strip.bottom !== spot.stretch.bottom) {
      strip = { points: [], bottom: spot.stretch.bottom };
      found.push(strip);
    }
    const loud = clamp((dbfs - quiet) / range, 0, 1);
    const half = (0.7 + 5.5 * loud ** 2.2) * (hz === null ? 0.5 : 1);
    strip.points.push({ x: spot.x, y: 0.5 - levels[i] / (2 * SPAN), half });
  });
  for (const { points } of found) soften(points);
  return found.filter(({ points }) => points.length > 1);
}

/**
 * Which readings belong to a silence that the ear would notice.
 * @param {readonly Reading[]} readings @param {number} quiet dBFS
 * @returns {boolean[]}
 */
function silences(readings, quiet) {
  const found = readings.map(({ dbfs }) => dbfs < quiet);
  for (let from = 0; from < found.length; from += 1) {
    if (!found[from]) continue;
    let to = from;
    while (to < found.length && found[to]) to += 1;
    if (to - from < HOLD && from > 0 && to < found.length) found.fill(false, from, to);
    from = to;
  }
  return found;
}

/**
 * Pitch of each reading in semitones about the middle; where there is no voice, between its neighbours.
 * @param {readonly Reading[]} readings @param {number} middle_hz
 * @returns {number[]}
 */
function tune(readings, middle_hz) {
  const known = readings.map(({ hz }) => (hz === null ? null : SPAN * Math.tanh(semitones(hz, middle_hz) / SPAN)));
  const levels = new Array(known.length).fill(0);
  let before = -1;
  known.forEach((level, i) => {
    if (level === null) return;
    const from = before < 0 ? level : Number(known[before]);
    for (let k = before + 1; k <= i; k += 1) {
      levels[k] = before < 0 ? level : from + ((level - from) * (k - before)) / (i - before);
    }
    before = i;
  });
  for (let k = before + 1; before >= 0 && k < levels.length; k += 1) levels[k] = Number(known[before]);
  return levels;
}

/** The eye wants the sweep, not each reading. @param {Point[]} points */
function soften(points) {
  const from = points.map((point) => ({ ...point }));
  points.forEach((point, i) => {
    const near = from.slice(Math.max(0, i - 2), i + 3);
    point.y = near.map(({ y }) => y).sort((a, b) => a - b)[near.length >> 1] * 0.4
      + (near.reduce((sum, { y }) => sum + y, 0) / near.length) * 0.6;
    point.half = near.reduce((sum, { half }) => sum + half, 0) / near.length;
  });
}

/**
 * @param {HTMLCanvasElement} canvas laid over the words
 * @param {object} what
 * @param {readonly Reading[]} what.readings
 * @param {readonly Stretch[]} what.stretches
 * @param {readonly {at_s: number, likeness: number}[]} what.likeness
 * @param {number} what.middle_hz of the speaker
 * @param {Ink} what.ink
 */
export function draw(canvas, { readings, stretches, likeness, middle_hz, ink }) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const dense = devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  if (pen === null) return;
  pen.scale(dense, dense);
  for (const stretch of stretches) rail(pen, stretch, likeness, ink);
  for (const strip of strips(readings, stretches, middle_hz)) paint(pen, strip, ink);
}

/**
 * @param {CanvasRenderingContext2D} pen @param {Stretch} stretch
 * @param {readonly {at_s: number, likeness: number}[]} likeness @param {Ink} ink
 */
function rail(pen, stretch, likeness, ink) {
  const y = stretch.bottom + RAIL;
  const middle = (stretch.start_s + stretch.end_s) / 2;
  let alike = 0.5;
  let nearest = Infinity;
  for (const one of likeness) {
    if (Math.abs(one.at_s - middle) >= nearest) continue;
    nearest = Math.abs(one.at_s - middle);
    alike = clamp((one.likeness - LEAST_LIKE) / (1 - LEAST_LIKE), 0, 1);
  }
  pen.globalAlpha = 0.1 + 0.8 * alike;
  pen.fillStyle = ink.rail;
  pen.fillRect(stretch.left, y - 1.5, stretch.right - stretch.left, 3);
  pen.globalAlpha = 0.9;
  pen.fillStyle = ink.marks;
  for (let i = Math.ceil(stretch.start_s / MARK_S); i * MARK_S < stretch.end_s; i += 1) {
    const spot = place([stretch], i * MARK_S);
    if (spot) pen.fillRect(spot.x - 0.5, y - 2.5, 1, 5);
  }
  pen.globalAlpha = 1;
}

/** @param {CanvasRenderingContext2D} pen @param {Strip} strip @param {Ink} ink */
function paint(pen, { points, bottom }, ink) {
  const top = bottom + 2;
  const reach = HEIGHT - 8;
  const y = (/** @type {Point} */ point) => top + 4 + point.y * reach;
  const shade = pen.createLinearGradient(0, top, 0, top + HEIGHT);
  shade.addColorStop(0.15, ink.high);
  shade.addColorStop(0.85, ink.low);
  pen.fillStyle = shade;
  pen.beginPath();
  pen.moveTo(points[0].x, y(points[0]));
  for (const point of points) pen.lineTo(point.x, y(point) - point.half);
  pen.lineTo(points[points.length - 1].x, y(points[points.length - 1]));
  for (const point of [...points].reverse()) pen.lineTo(point.x, y(point) + point.half);
  pen.closePath();
  pen.fill();
}
