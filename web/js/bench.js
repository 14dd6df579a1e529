// @ts-check
// The latency bench: what this page measured, drawn so that one sees what took the time.

import { el, svg } from "./dom.js";
import { ghost, rows } from "./runs.js";
import { P99_NEEDS, summary } from "./stats.js";
import { fall, ms, ticks } from "./waterfall.js";

/** @typedef {import("./turns.js").Turn} Turn */
/** @typedef {import("./runs.js").Row} Row */
/** @typedef {import("./runs.js").Run} Run */
/** @typedef {import("./runs.js").Baseline} Baseline */
/**
 * @typedef {object} Facts
 * @property {Turn[]} turns
 * @property {Run|null} other an imported run, to compare
 * @property {Baseline[]} baselines
 * @property {{offset_s: number|null, error_s: number|null}} clock
 * @property {number|null} output_s loudspeaker latency
 */
/** @typedef {{streamFile: (file: File) => void, importFile: (file: File) => void, exportJson: () => void, exportCsv: () => void}} Actions */

/** @type {[string, string, (row: Row) => number|null|undefined][]} label, meaning, value */
const FIGURES = [
  ["heard", "end of your speech to the first sound from the loudspeaker, on this page's clock", (row) => row.heard_s],
  ["server", "server_perceived: end of speech to the first audio sent", (row) => row.marks.server_perceived],
  ["endpoint wait", "endpoint_wait: what deciding that you had finished costs", (row) => row.marks.endpoint_wait],
  ["TTFT, words known", "ttft_commit: last word in the LLM to its first token", (row) => row.marks.ttft_commit],
  ["TTFT, turn over", "ttft_ready: endpoint to the first token; below zero it was ready before", (row) => row.marks.ttft_ready],
  ["voice", "tts_ttfb: first clause to its first audio", (row) => row.marks.tts_ttfb],
];
const SHOWN = 3; // waterfalls at once; older ones are folded away

export class Bench {
  #view = el("div", { class: "unfold" });
  #open = false; // the older turns

  /** @param {HTMLElement} root @param {Actions} actions */
  constructor(root, actions) {
    this.root = root;
    const pick = (/** @type {string} */ label, /** @type {string} */ accept, /** @type {(file: File) => void} */ take, /** @type {string} */ id) => {
      const input = el("input", { type: "file", accept, id, hidden: true });
      input.onchange = () => {
        const file = input.files?.[0];
        input.value = "";
        if (file) take(file);
      };
      const button = el("button", { type: "button" }, label);
      button.onclick = () => input.click();
      return [button, input];
    };
    const act = (/** @type {string} */ label, /** @type {() => void} */ then) => {
      const button = el("button", { type: "button" }, label);
      button.onclick = then;
      return button;
    };
    const streaming = pick("Stream a file", "audio/*,.wav,.flac,.ogg,.mp3", actions.streamFile, "stream-file");
    const importing = pick("Import", ".json,.csv", actions.importFile, "import-file");
    root.append(
      el("h2", {}, "Latency"),
      this.#view,
      el("section", {},
        el("div", { class: "actions" }, ...streaming, ...importing, act("Export JSON", actions.exportJson), act("Export CSV", actions.exportCsv)),
        el("p", { class: "hint" }, "A streamed file takes the microphone's path, at its pace. Import an earlier export to compare, or the report of ", el("code", {}, "textpro bench baseline"), " for the ghost of record-then-run, which ends where its first sound was sent. Exports hold numbers, no words."),
      ),
    );
  }

  /** @param {Facts} facts */
  render(facts) {
    // Who is reading in it with the keyboard keeps the place.
    if (this.root.hidden || this.#view.contains(document.activeElement)) return;
    const list = rows(facts.turns);
    const parts = [this.#headline(list, facts)];
    if (list.length > 0 || facts.other) {
      parts.push(this.#falls(facts), figures(list, facts.other), scatter(list, facts.other));
    }
    this.#view.replaceChildren(...parts, about(list, facts));
  }

  /** @param {Row[]} list @param {Facts} facts */
  #headline(list, { baselines }) {
    const spoken = list.filter((row) => row.kind !== "typed");
    const heard = summary(spoken.map((row) => row.heard_s));
    const { p50, n } = heard.n > 0 ? heard : summary(spoken.map((row) => row.marks.server_perceived));
    const parts = [el("p", { class: "hint" }, "Your last word to the first sound, median")];
    if (p50 === null) parts.push(el("p", { class: "figure" }, "–"), el("p", { class: "hint" }, "Speak, or stream a file: each turn draws here where its time went."));
    else {
      parts.push(el("p", { class: "figure" }, (p50 * 1000).toFixed(0), el("small", {}, `ms, n = ${n}`)));
      const base = baselines[0];
      const theirs = base && summary(spoken.map((row) => ghost(base, row.utterance_s))).p50;
      if (base && theirs) parts.push(el("p", { class: "sooner" }, `${(theirs / p50).toFixed(1)} × ${theirs >= p50 ? "sooner" : "as long, later"} than ${base.name} (${ms(theirs)})`));
    }
    return el("section", { class: "headline" }, ...parts);
  }

  /** @param {Facts} facts */
  #falls({ turns, baselines }) {
    const measured = turns.filter((turn) => Object.keys(turn.marks).length > 0).reverse();
    const drawn = measured.map((turn) => waterfall(turn, baselines[0]));
    const section = el("section", {}, el("h3", {}, "Where the time went"));
    section.append(el("p", { class: "hint" }, drawn.length > 0 ? "Zero is the moment the turn was declared over. What lies before it (green) cost you nothing." : "No turn of this session was measured yet."));
    section.append(...drawn.slice(0, SHOWN));
    if (drawn.length > SHOWN) {
      const older = el("details", { class: "older", open: this.#open }, el("summary", {}, `${drawn.length - SHOWN} older`), ...drawn.slice(SHOWN));
      older.ontoggle = () => { this.#open = older.open; };
      section.append(older);
    }
    return section;
  }
}

/** @param {Turn} turn @param {Baseline|undefined} base */
function waterfall(turn, base) {
  const drawn = fall(turn.marks, turn.heard_s);
  const from = turn.marks.speech_end ?? 0;
  const theirs = base && turn.kind !== "typed" ? ghost(base, turn.utterance_s) : null;
  const start = drawn.start;
  const end = Math.max(drawn.end, theirs === null ? 0 : from + theirs);
  const width = Math.max(end - start, 0.05);
  const at = (/** @type {number} */ value) => `${((value - start) / width) * 100}%`;
  const steps = ticks(start, end, 5);
  const track = (/** @type {HTMLElement[]} */ ...bars) => {
    const lines = steps.map((step) => {
      const line = el("u", { class: Math.abs(step) < 1e-9 ? "zero" : "" });
      line.style.left = at(step);
      return line;
    });
    return el("span", { class: "track" }, ...lines, ...bars);
  };
  const row = (/** @type {string} */ name, /** @type {string} */ kind, /** @type {number} */ first, /** @type {number} */ last) => {
    const bar = (/** @type {string} */ look, /** @type {number} */ one, /** @type {number} */ two) => {
      const drawn = el("i", { class: look });
      drawn.style.left = at(one);
      drawn.style.width = look === "heard" ? "" : `${((two - one) / width) * 100}%`;
      return drawn;
    };
    const crosses = kind === "after" && first < 0 && last > 0;
    const bars = crosses ? [bar("free", first, 0), bar("after", 0, last)] : [bar(kind, first, last)];
    const value = kind === "heard" ? ms(first - from) : ms(last - first);
    return el("div", { class: "row" }, el("span", {}, name), track(...bars), el("span", {}, value));
  };
  const parts = drawn.bars.map((bar) => {
    const kind = bar.name === "is it over?" ? "wait" : bar.free ? "free" : "after";
    return row(bar.name, kind, bar.start, bar.end);
  });
  if (drawn.heard !== null) parts.push(row("heard", "heard", drawn.heard, drawn.heard));
  if (base && theirs !== null) parts.push(row(base.name, "ghost", from, from + theirs));
  const labels = steps.map((step) => {
    const label = el("span", {}, `${Math.round(step * 1000)}`.replace("-", "−"));
    label.style.left = at(step);
    return label;
  });
  parts.push(el("div", { class: "row axis" }, el("span", {}, ""), el("span", { class: "track", "aria-hidden": "true" }, ...labels), el("span", {}, "ms")));
  const length = turn.utterance_s === null ? turn.kind : `${turn.utterance_s.toFixed(1)} s`;
  const caption = el("figcaption", {}, el("span", {}, turn.text || "…"), el("span", {}, turn.cutOff ? `${length}, cut off` : length));
  return el("figure", { class: "fall" }, caption, ...parts);
}

/** @param {Row[]} list @param {Run|null} other */
function figures(list, other) {
  const head = ["ms", "p50", "p90", "p95", "p99", "max", "n"].map((name) => el("th", { scope: "col" }, name));
  const line = (/** @type {string} */ label, /** @type {string} */ title, /** @type {Row[]} */ from, /** @type {(row: Row) => number|null|undefined} */ value, /** @type {string} */ kind) => {
    const { n, ...found } = summary(from.map(value));
    const cells = Object.values(found).map((one) => el("td", {}, one === null ? "–" : String(Math.round(one * 1000)).replace("-", "−")));
    return el("tr", { class: kind }, el("th", { scope: "row", title }, label), ...cells, el("td", {}, String(n)));
  };
  const body = FIGURES.flatMap(([label, title, value]) => {
    const ours = line(label, title, list, value, "");
    return other ? [ours, line(`· ${other.label}`, title, other.rows, value, "other")] : [ours];
  });
  return el("section", {},
    el("h3", {}, "This session"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Percentiles" },
      el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body))),
    el("p", { class: "hint" }, `No 99th percentile below ${P99_NEEDS} turns.`));
}

/** @param {Row[]} list @param {Run|null} other */
function scatter(list, other) {
  const point = (/** @type {Row} */ row) => ({ x: row.utterance_s, y: row.marks.ttft_ready });
  const known = (/** @type {{x: number|null, y: number|undefined}} */ one) => one.x !== null && one.y !== undefined;
  const ours = /** @type {{x: number, y: number}[]} */ (list.map(point).filter(known));
  const theirs = /** @type {{x: number, y: number}[]} */ ((other?.rows ?? []).map(point).filter(known));
  const all = [...ours, ...theirs];
  const section = el("section", {}, el("h3", {}, "First token against length of speech"));
  if (all.length === 0) {
    section.append(el("p", { class: "hint" }, "A flat line means that long questions wait no longer than short ones."));
    return section;
  }
  const [w, h, left, below] = [380, 150, 46, 28];
  const most = Math.max(...all.map(({ x }) => x)) * 1.08;
  const low = Math.min(0, ...all.map(({ y }) => y)) * 1.1;
  const high = Math.max(0.05, ...all.map(({ y }) => y)) * 1.1;
  const px = (/** @type {number} */ x) => left + (x / most) * (w - left - 6);
  const py = (/** @type {number} */ y) => 8 + ((high - y) / (high - low)) * (h - below - 8);
  const drawing = svg("svg", { class: "scatter", viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `First token against length of speech, ${all.length} turns` });
  for (const step of ticks(low, high, 4)) {
    drawing.append(svg("line", { x1: left, x2: w, y1: py(step), y2: py(step), class: Math.abs(step) < 1e-9 ? "zero" : "" }));
    drawing.append(svg("text", { x: left - 6, y: py(step) + 4, "text-anchor": "end" }, `${Math.round(step * 1000)}`));
  }
  for (const step of ticks(0, most, 5)) drawing.append(svg("text", { x: px(step), y: h - 12, "text-anchor": "middle" }, `${step} s`));
  for (const { x, y } of theirs) drawing.append(svg("circle", { cx: px(x), cy: py(y), r: 4, class: "other" }));
  for (const { x, y } of ours) drawing.append(svg("circle", { cx: px(x), cy: py(y), r: 4.5 }));
  section.append(drawing, el("p", { class: "hint" }, "ttft_ready in ms: at or below zero, the first token was there before the turn was over."));
  return section;
}

/** @param {Row[]} list @param {Facts} facts */
function about(list, { clock, output_s, turns }) {
  const spoken = list.filter((row) => row.kind !== "typed");
  const cut = spoken.filter((row) => row.cut_off).length;
  const tokens = list.reduce((sum, row) => sum + (row.marks.spec_waste ?? 0), 0);
  const speech = list.reduce((sum, row) => sum + (row.marks.spec_waste_speech_s ?? 0), 0);
  const facts = [
    ["False cut-offs (F)", spoken.length ? `${cut} of ${spoken.length}` : "–"],
    ["Wasted drafts", `${tokens} tokens, ${speech.toFixed(1)} s of speech`],
    ["Interruptions", String(turns.filter((turn) => turn.done?.reason === "barge_in").length)],
    ["Server clock", clock.offset_s === null ? "not yet known" : `${clock.offset_s >= 0 ? "+" : "−"}${Math.abs(clock.offset_s).toFixed(4)} s ± ${((clock.error_s ?? 0) * 1000).toFixed(1)} ms`],
    ["Loudspeaker", output_s === null ? "latency unknown" : `${Math.round(output_s * 1000)} ms, as the browser says`],
  ];
  return el("section", {}, el("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}
