// @ts-check
// Runs as files: what this page measured, out and in again, and the server's own bench beside it.
// Only numbers leave the page: no words, no sound.

import { median } from "./stats.js";

/** @typedef {import("./turns.js").Turn} Turn */
/**
 * @typedef {object} Row one turn's figures
 * @property {string} session
 * @property {number} turn
 * @property {string} kind
 * @property {number|null} utterance_s
 * @property {number|null} heard_s
 * @property {boolean} cut_off
 * @property {string} ending how the reply ended
 * @property {Record<string, number>} marks
 */
/** @typedef {{label: string, rows: Row[], about: Record<string, unknown>}} Run */
/** @typedef {{name: string, turns: {utterance_s: number|null, perceived_s: number}[]}} Baseline */

export const FORMAT = "textpro page run 1";

/** @param {Iterable<Turn>} turns @returns {Row[]} those that got a reply */
export function rows(turns) {
  const found = [];
  for (const turn of turns) {
    if (turn.done === null && Object.keys(turn.marks).length === 0) continue;
    found.push({
      session: turn.session,
      turn: turn.number,
      kind: turn.kind,
      utterance_s: turn.utterance_s,
      heard_s: turn.heard_s,
      cut_off: turn.cutOff,
      ending: turn.done?.reason ?? "",
      marks: { ...turn.marks },
    });
  }
  return found;
}

/** @param {Row[]} list @param {Record<string, unknown>} about @returns {string} */
export function toJson(list, about) {
  return JSON.stringify({ format: FORMAT, about, turns: list }, null, 2);
}

const COLUMNS = /** @type {const} */ (["session", "turn", "kind", "utterance_s", "heard_s", "cut_off", "ending"]);

/** @param {Row[]} list @returns {string} a header, then a line a turn; marks are columns */
export function toCsv(list) {
  const marks = [...new Set(list.flatMap((row) => Object.keys(row.marks)))].sort();
  const lines = [[...COLUMNS, ...marks].join(",")];
  for (const row of list) {
    const head = COLUMNS.map((name) => cell(row[name]));
    lines.push([...head, ...marks.map((name) => cell(row.marks[name]))].join(","));
  }
  return `${lines.join("\n")}\n`;
}

/** @param {unknown} value */
function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {string} text of a file that this page, or `textpro bench`, wrote
 * @param {string} label
 * @returns {{run: Run|null, baselines: Baseline[]}}
 */
export function read(text, label) {
  if (!text.trimStart().startsWith("{")) return { run: { label, rows: fromCsv(text), about: {} }, baselines: [] };
  const data = JSON.parse(text);
  if (data.format === FORMAT) {
    const list = /** @type {unknown[]} */ (Array.isArray(data.turns) ? data.turns : []);
    return { run: { label, rows: list.map(toRow), about: data.about ?? {} }, baselines: [] };
  }
  const baselines = fromBench(data);
  if (baselines.length === 0) {
    throw new Error(`${label} is neither a run of this page nor a report of textpro bench`);
  }
  return { run: null, baselines };
}

/** @param {unknown} value @returns {Row} */
function toRow(value) {
  const row = /** @type {Record<string, any>} */ (value ?? {});
  return {
    session: String(row.session ?? ""),
    turn: Number(row.turn ?? 0),
    kind: String(row.kind ?? ""),
    utterance_s: number(row.utterance_s),
    heard_s: number(row.heard_s),
    cut_off: row.cut_off === true || row.cut_off === "true",
    ending: String(row.ending ?? ""),
    marks: marksOf(row.marks ?? {}),
  };
}

/** @param {Record<string, unknown>} value @returns {Record<string, number>} */
function marksOf(value) {
  /** @type {Record<string, number>} */
  const marks = {};
  for (const [name, one] of Object.entries(value)) {
    const known = number(one);
    if (known !== null) marks[name] = known;
  }
  return marks;
}

/** @param {unknown} value @returns {number|null} */
function number(value) {
  if (value === null || value === undefined || value === "") return null;
  const found = Number(value);
  return Number.isFinite(found) ? found : null;
}

/** @param {string} text @returns {Row[]} */
function fromCsv(text) {
  const [head, ...lines] = text.trim().split(/\r?\n/).map(cells);
  if (!head?.includes("turn")) throw new Error("not a run of this page: its CSV has a column named turn");
  return lines.map((line) => {
    const all = Object.fromEntries(head.map((name, i) => [name, line[i] ?? ""]));
    const known = /** @type {readonly string[]} */ (COLUMNS);
    const marks = Object.fromEntries(Object.entries(all).filter(([name]) => !known.includes(name)));
    return toRow({ ...all, marks });
  });
}

/** @param {string} line @returns {string[]} */
function cells(line) {
  const found = [];
  for (const [, quoted, plain] of line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)) {
    found.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
  }
  return found;
}

const OURS = "streaming"; // as the bench calls what this page talks to

/**
 * The systems of a bench report that do not stream: record-then-run first.
 * @param {any} report of `textpro bench baseline --json`
 * @returns {Baseline[]}
 */
function fromBench(report) {
  /** @type {Map<string, Baseline>} */
  const found = new Map();
  for (const turn of Array.isArray(report?.turns) ? report.turns : []) {
    const perceived_s = number(turn?.marks?.server_perceived);
    const name = String(turn?.system ?? OURS);
    // A turn that was answered in the middle of the question would look fast.
    if (name === OURS || perceived_s === null || turn.false_endpoints > 0) continue;
    const baseline = found.get(name) ?? { name, turns: [] };
    baseline.turns.push({ utterance_s: number(turn.speech_s), perceived_s });
    found.set(name, baseline);
  }
  const isGhost = (/** @type {Baseline} */ one) => Number(one.name.startsWith("record"));
  return [...found.values()].sort((one, two) => isGhost(two) - isGhost(one));
}

const NEAR_S = 1; // utterances this much longer or shorter are alike,
const NEAR = 0.35; // or by this share

/**
 * What the baseline would have taken for an utterance this long.
 * @param {Baseline} baseline @param {number|null} utterance_s
 * @returns {number|null} seconds from the end of speech to the first sound sent: the median of like turns
 */
export function ghost(baseline, utterance_s) {
  const far = (/** @type {{utterance_s: number|null}} */ turn) =>
    utterance_s === null || turn.utterance_s === null ? 0 : Math.abs(turn.utterance_s - utterance_s);
  const least = Math.min(...baseline.turns.map(far));
  const reach = Math.max(least, NEAR_S, NEAR * (utterance_s ?? 0));
  return median(baseline.turns.filter((turn) => far(turn) <= reach).map(({ perceived_s }) => perceived_s));
}
