// @ts-check
// Where a turn's time went, as bars: each stage where it really happened. What lies before zero,
// the endpoint, was done while the server was still making sure that you had finished.

/** @typedef {import("./turns.js").Marks} Marks */
/** @typedef {{name: string, start: number, end: number, free: boolean}} Bar seconds against the endpoint */
/** @typedef {{bars: Bar[], start: number, end: number, heard: number|null}} Fall */

/** @type {[string, string, string][]} label, from, to */
const STAGES = [
  ["last word", "speech_end", "last_commit"],
  ["is it over?", "speech_end", "endpoint_decision"],
  ["prefill", "last_commit", "llm_ready"],
  ["first token", "llm_ready", "first_token"],
  ["first clause", "first_token", "first_clause"],
  ["voice", "first_clause", "first_audio"],
  ["to your ear", "first_audio", "first_audio_played"],
];

/**
 * @param {Marks} marks of `turn.latency`
 * @param {number|null} heard_s end of speech to the first sound, on the page's clock
 * @returns {Fall}
 */
export function fall(marks, heard_s) {
  /** @type {Marks} */
  const known = { endpoint_decision: 0, ...marks };
  const from = known.speech_end ?? 0;
  const heard = heard_s === null ? null : from + heard_s;
  /** @type {Marks} */
  const at = heard === null ? known : { ...known, first_audio_played: heard };
  /** @type {Bar[]} */
  const bars = [];
  for (const [name, first, last] of STAGES) {
    if (at[first] === undefined || at[last] === undefined) continue;
    const [start, end] = [Math.min(at[first], at[last]), Math.max(at[first], at[last])];
    bars.push({ name, start, end, free: end <= 0 });
  }
  const edges = bars.flatMap(({ start, end }) => [start, end]);
  return { bars, start: Math.min(0, ...edges), end: Math.max(0, ...edges), heard };
}

/**
 * Round steps for an axis.
 * @param {number} start @param {number} end @param {number} most ticks
 * @returns {number[]}
 */
export function ticks(start, end, most) {
  const rough = Math.max(end - start, 1e-6) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? rough;
  const found = [];
  for (let i = Math.ceil(start / step - 1e-9); i * step <= end + 1e-9; i += 1) found.push(i * step || 0);
  return found;
}

/** @param {number} value seconds @returns {string} */
export function ms(value) {
  const text = Math.abs(value) < 9.9995 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
  return text.replace("-", "−");
}
