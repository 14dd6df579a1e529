// @ts-check
// How something was said: pauses, likeness of neighbouring windows, and all of it in words.

/** @typedef {import("./turns.js").Word} Word */
/** @typedef {import("./turns.js").ProsodyWindow} ProsodyWindow */
/** @typedef {import("./pitch.js").Reading} Reading */
/** @typedef {{after: number, seconds: number, start_s: number, end_s: number}} Pause `after` is an index of words */

const SHORTEST_S = 0.25; // a stop consonant closes for less
const TOLD_S = 0.5;
const FAINT_DBFS = -58; // quieter than any voice that was recognized
const DROP_DB = [22, 38]; // below the loud parts of the turn, least and most: nobody is speaking
const ROOM_DB = 10; // above the quietest moments: the room alone

/**
 * The pauses between words. Word times are rough, so the sound itself decides where it is known.
 * @param {readonly Word[]} words
 * @param {readonly Reading[]} readings of the whole turn; may be empty
 * @returns {Pause[]}
 */
export function pauses(words, readings) {
  const quiet = threshold(readings);
  /** @type {Pause[]} */
  const found = [];
  for (let i = 0; i + 1 < words.length; i += 1) {
    const from = middle(words[i]);
    const to = middle(words[i + 1]);
    const pause = readings.length > 0
      ? longestQuiet(readings, from, to, quiet)
      : { start_s: words[i].end_s, end_s: words[i + 1].start_s };
    const seconds = pause.end_s - pause.start_s;
    if (seconds >= SHORTEST_S) found.push({ after: i, seconds, ...pause });
  }
  return found;
}

/** @param {Word} word */
function middle(word) {
  return (word.start_s + word.end_s) / 2;
}

/**
 * Below this nobody is speaking: above the room, below the voice.
 * @param {readonly Reading[]} readings of a turn @returns {number} dBFS
 */
export function threshold(readings) {
  if (readings.length === 0) return -Infinity;
  const sorted = readings.map(({ dbfs }) => dbfs).sort((a, b) => a - b);
  const loud = sorted[Math.floor((sorted.length - 1) * 0.95)];
  const room = sorted[Math.floor((sorted.length - 1) * 0.05)] + ROOM_DB;
  return Math.max(FAINT_DBFS, loud - DROP_DB[1], Math.min(loud - DROP_DB[0], room));
}

/**
 * @param {readonly Reading[]} readings @param {number} from @param {number} to @param {number} quiet
 * @returns {{start_s: number, end_s: number}}
 */
function longestQuiet(readings, from, to, quiet) {
  let best = { start_s: from, end_s: from };
  let start = /** @type {number|null} */ (null);
  for (const { at_s, dbfs } of readings) {
    if (at_s < from || at_s > to) continue;
    if (dbfs >= quiet) {
      start = null;
      continue;
    }
    start ??= at_s;
    if (at_s - start > best.end_s - best.start_s) best = { start_s: start, end_s: at_s };
  }
  return best;
}

/**
 * How alike neighbouring windows sound to the model: cosines, one fewer than windows.
 * @param {readonly ProsodyWindow[]} windows
 * @returns {{at_s: number, likeness: number}[]}
 */
export function likeness(windows) {
  const found = [];
  for (let i = 1; i < windows.length; i += 1) {
    const [one, two] = [windows[i - 1], windows[i]];
    if (!one.embedding || !two.embedding) continue;
    const at_s = (one.start_s + one.end_s + two.start_s + two.end_s) / 4;
    found.push({ at_s, likeness: cosine(one.embedding, two.embedding) });
  }
  return found;
}

/** @param {readonly number[]} a @param {readonly number[]} b */
export function cosine(a, b) {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? dot / Math.sqrt(aa * bb) : 0;
}

/** @param {number} hz @param {number} middle_hz @returns {number} semitones */
export function semitones(hz, middle_hz) {
  return 12 * Math.log2(hz / middle_hz);
}

/**
 * The ribbon in words, for ears and for those who would rather read.
 * @param {readonly Word[]} words
 * @param {readonly ProsodyWindow[]} windows
 * @param {readonly Reading[]} readings
 * @param {string} [guess] of an emotion, as the server tells it
 * @returns {string} such as "rising, loud, fast; a pause of 0.8 s"; empty when nothing is known
 */
export function inWords(words, windows, readings, guess = "unsure") {
  const said = [];
  const tune = melody(windows, readings);
  if (tune !== null) said.push(tune);
  const loud = mean(windows.map((window) => window.energy_z));
  if (loud !== null && Math.abs(loud) > 0.5) said.push(loud > 0 ? "loud" : "quiet");
  const pace = mean(windows.map((window) => window.rate_tps));
  if (pace !== null) said.push(pace > 4.2 ? "fast" : pace < 2.2 ? "slow" : "steady");
  const long = pauses(words, readings).filter(({ seconds }) => seconds >= TOLD_S);
  const rests = long.map(({ seconds }) => `${seconds.toFixed(1)} s`).join(", ");
  const rest = long.length === 0 ? "" : long.length === 1 ? `a pause of ${rests}` : `pauses of ${rests}`;
  const maybe = guess === "unsure" ? "" : `perhaps ${guess} (a guess: about two in five are right)`;
  return [said.join(", "), rest, maybe].filter(Boolean).join("; ");
}

const ENDING_S = 0.6; // of voice, at the end: where a question rises
const BEND = 1.5; // semitones; less is level to the ear

/** @param {readonly ProsodyWindow[]} windows @param {readonly Reading[]} readings */
function melody(windows, readings) {
  const voiced = readings.filter(({ hz }) => hz !== null);
  if (voiced.length >= 10) {
    const end_s = voiced[voiced.length - 1].at_s;
    const ending = voiced.filter(({ at_s }) => at_s > end_s - ENDING_S);
    const half = ending.length >> 1;
    const change = semitones(middleHz(ending.slice(half)), middleHz(ending.slice(0, half)));
    return change > BEND ? "rising" : change < -BEND ? "falling" : "level";
  }
  const pitched = windows.filter((window) => window.f0_semitones !== null);
  if (pitched.length < 2) return null;
  const change = Number(pitched[pitched.length - 1].f0_semitones) - Number(pitched[0].f0_semitones);
  return change > BEND ? "rising" : change < -BEND ? "falling" : "level";
}

/** @param {readonly Reading[]} readings voiced ones @returns {number} their median, Hz */
export function middleHz(readings) {
  const sorted = readings.map(({ hz }) => Number(hz)).sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 1;
}

/** @param {(number|null|undefined)[]} values @returns {number|null} */
function mean(values) {
  const known = /** @type {number[]} */ (values.filter((value) => Number.isFinite(value)));
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}
