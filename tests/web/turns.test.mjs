// Events -> turns, prosody in words, captions, and runs as files.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { finished } from "../../web/js/captions.js";
import { cosine, inWords, likeness, pauses } from "../../web/js/prosody.js";
import { place, strips } from "../../web/js/ribbon.js";
import { ghost, read, rows, toCsv, toJson } from "../../web/js/runs.js";
import { linkText, situation, talkButton } from "../../web/js/status.js";
import { Turns } from "../../web/js/turns.js";

const RECORDED = JSON.parse(readFileSync(new URL("spoken_turn.json", import.meta.url), "utf8"));

function recorded() {
  const turns = new Turns();
  turns.begin("s1");
  for (const event of RECORDED) turns.apply(event);
  return turns;
}

test("a recorded turn is told as it was", () => {
  const [turn, ...others] = recorded().all;
  assert.equal(others.length, 0);
  assert.equal(turn.text, "What is the largest city in Japan?");
  assert.deepEqual(turn.words.map(({ text }) => text), ["What", "is", "the", "largest", "city", "in", "Japan?"]);
  assert.equal(turn.reply, "The largest city in Japan is Tokyo.");
  assert.equal(turn.done.reason, "stop");
  assert.equal(turn.tentative, "");
  assert.equal(turn.windows.length, 2);
  assert.ok(Math.abs(turn.utterance_s - 2.528) < 1e-9);
  assert.equal(turn.marks.ttft_commit, 0.0127);
  assert.ok(!("at_s" in turn.marks) && !("wall_s" in turn.marks));
});

test("committed words never change while a turn grows", () => {
  const turns = new Turns();
  turns.begin("s1");
  let shown = [];
  for (const event of RECORDED) {
    const turn = turns.apply(event);
    if (turn === null) continue;
    const now = turn.words.map(({ text }) => text);
    // The last word may still get its full stop.
    assert.deepEqual(now.slice(0, Math.max(0, shown.length - 1)), shown.slice(0, -1));
    shown = now;
  }
});

test("revised words take the place of those committed", () => {
  const turns = new Turns();
  turns.begin("s1");
  for (const event of RECORDED) {
    turns.apply(event);
    if (event.type !== "transcript.committed") continue;
    const tokens = [{ text: " Where", start_s: 0, end_s: 1 }, { text: " is", start_s: 1, end_s: 2 }];
    turns.apply({ ...event, type: "transcript.revised", text: " Where is", tokens });
    assert.equal(turns.get(event.turn).text, "Where is");
  }
});

test("a new session counts from one, and the old turns stay", () => {
  const turns = recorded();
  turns.begin("s2");
  assert.equal(turns.last, 0);
  turns.apply({ type: "speech.started", turn: 1, at_s: 0.5, wall_s: 0.5, speech_s: 0.3 });
  assert.deepEqual(turns.all.map(({ id }) => id), ["s1:1", "s2:1"]);
});

test("a lost connection ends the reply that was running", () => {
  const turns = new Turns();
  turns.begin("s1");
  turns.apply({ type: "reply.delta", turn: 1, text: "Half a" });
  turns.begin("");
  assert.deepEqual(turns.all[0].done, { text: "Half a", reason: "cut" });
});

test("a typed turn has its words at once; a cough has none and is empty", () => {
  const turns = new Turns();
  turns.begin("s1");
  const typed = turns.apply({ type: "turn.endpoint", turn: 1, transcript: "Hello there", reason: "typed", replies: true, wall_s: 1 });
  assert.equal(typed.kind, "typed");
  assert.deepEqual(typed.words.map(({ text }) => text), ["Hello there"]);
  const cough = turns.apply({ type: "turn.endpoint", turn: 2, transcript: "", reason: "no_words", replies: false, wall_s: 2 });
  assert.ok(cough.isEmpty && !typed.isEmpty);
});

test("events of no turn change no turn", () => {
  const turns = recorded();
  for (const type of ["source.done", "clock", "session.started"]) assert.equal(turns.apply({ type, turn: 0 }), null);
  assert.equal(turns.apply({ type: "something.new", turn: 1 }), null);
});

const FACTS = { link: { type: "open", text: "" }, last: undefined, sounding: false, source: "off", on: false, held: false, push_to_talk: false, barge_in: true };
const named = (more) => situation({ ...FACTS, ...more }).name;

test("one line says what is going on", () => {
  const awaited = { speaking: false, replying: false, endpoint: { replies: true }, done: null };
  assert.equal(named({}), "ready");
  assert.equal(named({ on: true }), "listening");
  assert.equal(named({ on: true, push_to_talk: true }), "ready");
  assert.equal(named({ on: true, push_to_talk: true, held: true }), "listening");
  assert.equal(named({ last: awaited }), "thinking");
  assert.equal(named({ last: awaited, sounding: true }), "speaking");
  assert.equal(named({ last: { ...awaited, speaking: true }, sounding: true }), "hearing");
  assert.equal(named({ link: { type: "waiting", text: "No connection" }, sounding: true }), "offline");
  assert.match(situation({ ...FACTS, sounding: true, on: true }).text, /Speak to interrupt/);
  assert.doesNotMatch(situation({ ...FACTS, sounding: true, on: true, barge_in: false }).text, /Speak to interrupt/);
});

test("the talk button is called what it does", () => {
  assert.equal(talkButton(FACTS).name, "Talk");
  assert.deepEqual(talkButton({ ...FACTS, on: true }), { pressed: true, shown: "Mute", name: "Mute the microphone" });
  assert.equal(talkButton({ ...FACTS, on: true, push_to_talk: true }).pressed, false);
});

test("the link counts down to the next attempt", () => {
  assert.equal(linkText({ type: "waiting" }, 2.2), "Reconnecting in 3 s");
  assert.equal(linkText({ type: "waiting" }, -1), "Reconnecting");
  assert.equal(linkText({ type: "refused" }, 0), "Not connected");
});

const WORDS = [
  { text: "Well", start_s: 0, end_s: 0.4 },
  { text: "yes", start_s: 1.4, end_s: 1.8 },
];
const level = (at_s) => (at_s < 0.5 || at_s > 1.3 ? -20 : -70);
const READINGS = Array.from({ length: 90 }, (_, i) => ({ at_s: i * 0.02, dbfs: level(i * 0.02), hz: 100 + i }));

test("the sound decides how long a pause was; without it, the words do", () => {
  const [heard] = pauses(WORDS, READINGS);
  assert.ok(heard.after === 0 && Math.abs(heard.seconds - 0.8) < 0.05);
  assert.ok(Math.abs(pauses(WORDS, [])[0].seconds - 1) < 1e-9);
  assert.deepEqual(pauses([WORDS[0], { text: "so", start_s: 0.42, end_s: 0.6 }], []), []);
});

test("prosody is told in words", () => {
  const window = (f0_semitones, energy_z, rate_tps) => ({ start_s: 0, end_s: 1, f0_semitones, energy_z, rate_tps });
  assert.equal(inWords(WORDS.slice(0, 1), [window(-2, 1, 5), window(2, 1, 5)], []), "rising, loud, fast");
  assert.equal(inWords(WORDS, [window(2, -1, 1), window(-2, -1, 1)], []), "falling, quiet, slow; a pause of 1.0 s");
  assert.equal(inWords([], [], []), "");
  assert.equal(inWords([], [], [], "unsure"), "");
  assert.match(inWords([], [window(0, 0, 3)], [], "anger"), /^steady; perhaps anger \(a guess: .*\)$/);
});

test("neighbouring windows are compared by their cosine", () => {
  assert.ok(Math.abs(cosine([1, 0], [1, 1]) - Math.SQRT1_2) < 1e-9);
  assert.equal(cosine([0, 0], [1, 1]), 0);
  const one = { start_s: 0, end_s: 2, embedding: [1, 0] };
  const found = likeness([one, { ...one, start_s: 1, end_s: 3 }, { start_s: 2, end_s: 4 }]);
  assert.deepEqual(found, [{ at_s: 1.5, likeness: 1 }]);
});

test("the ribbon has a gap where there is a pause, and rises with the voice", () => {
  const stretches = [
    { start_s: 0, end_s: 0.5, left: 0, right: 50, bottom: 30 },
    { start_s: 1.3, end_s: 1.8, left: 80, right: 130, bottom: 30 },
  ];
  assert.equal(place(stretches, 0.9), null);
  assert.equal(place(stretches, 0.25).x, 25);
  const [first, second, ...more] = strips(READINGS, stretches, 140);
  assert.equal(more.length, 0);
  assert.ok(first.points.at(-1).x <= 50 && second.points[0].x >= 80);
  assert.ok(second.points[0].y < first.points[0].y, "higher pitch lies higher");
});

test("screen readers get whole sentences", () => {
  assert.equal("Yes. It is ".slice(0, finished("Yes. It is ")), "Yes.");
  assert.equal(finished("It costs 3.50 euros"), 0);
  assert.equal(finished("“Really?” she"), 9);
});

test("runs come back from JSON and CSV as they went out", () => {
  const list = rows(recorded().all);
  list[0].heard_s = 0.61;
  list[0].cut_off = true;
  list[0].session = 'a "quoted", one';
  for (const text of [toJson(list, { server: "1" }), toCsv(list)]) {
    const { run, baselines } = read(text, "before");
    assert.equal(run.label, "before");
    assert.deepEqual(run.rows, list);
    assert.deepEqual(baselines, []);
  }
});

test("exports hold no words", () => {
  const text = toJson(rows(recorded().all), {});
  assert.ok(!text.includes("Japan") && !text.includes("Tokyo"));
});

test("files of others are refused in one line", () => {
  assert.throws(() => read('{"a": 1}', "x.json"), /neither a run of this page nor a report of textpro bench/);
  assert.throws(() => read("a,b\n1,2\n", "x.csv"), /not a run of this page/);
});

test("a bench report gives the ghost: the nearest lengths decide", () => {
  const turns = ["sentence-stream", "record-then-run", "streaming"].flatMap((system) =>
    [2, 2, 2, 2, 2, 20, 20, 20, 20, 20].map((speech_s) => ({ system, speech_s, marks: { server_perceived: speech_s / 10 + 1 } })));
  turns.push({ system: "record-then-run", speech_s: 3, false_endpoints: 1, marks: { server_perceived: -1 } });
  turns.push({ system: "record-then-run", speech_s: 3, marks: {} });
  const { run, baselines } = read(JSON.stringify({ kind: "textpro bench latency", turns }), "bench");
  assert.equal(run, null);
  assert.deepEqual(baselines.map(({ name, turns: { length } }) => [name, length]), [["record-then-run", 10], ["sentence-stream", 10]]);
  assert.equal(ghost(baselines[0], 3), 1.2);
  assert.equal(ghost(baselines[0], 18), 3);
  assert.equal(ghost(baselines[0], 9), 1.2, "the nearest, where none is near");
});
