// Clocks, back-off, percentiles, the waterfall.
import assert from "node:assert/strict";
import { test } from "node:test";

import { delay, FIRST_S, LONGEST_S } from "../../web/js/backoff.js";
import { CaptureClock, ServerClock } from "../../web/js/clock.js";
import { median, percentile, summary } from "../../web/js/stats.js";
import { fall, ms, ticks } from "../../web/js/waterfall.js";

test("the quickest exchange gives the offset, half its round trip the error", () => {
  const clock = new ServerClock();
  assert.equal(clock.offset_s, null);
  clock.add(10, 110.3, 110.3, 10.4); // slow, and lopsided
  clock.add(20, 120.005, 120.006, 20.011);
  clock.add(30, 130.1, 130.1, 30.5);
  assert.ok(Math.abs(clock.offset_s - 100) < 1e-9);
  assert.ok(Math.abs(clock.error_s - 0.005) < 1e-9);
  assert.ok(Math.abs(clock.ours(120) - 20) < 1e-9);
});

test("only the last thirty exchanges count: clocks drift", () => {
  const clock = new ServerClock();
  clock.add(0, 5, 5, 0);
  for (let i = 1; i <= 30; i += 1) clock.add(i, i + 6, i + 6, i + 0.01);
  assert.ok(Math.abs(clock.offset_s - 5.995) < 1e-9);
});

test("the earliest claim says when a sample was spoken", () => {
  const clock = new CaptureClock(16000);
  assert.equal(clock.moment(1), null);
  for (let i = 1; i <= 100; i += 1) clock.stamp(i * 320, 50 + i * 0.02 + (i % 7) * 0.004);
  assert.ok(Math.abs(clock.moment(1) - 51) < 1e-9);
  clock.restart();
  clock.stamp(33 * 320, 90);
  assert.ok(Math.abs(clock.moment(0.66) - 90) < 1e-9);
});

test("waiting doubles, has a bound, and half of it is chance", () => {
  assert.equal(delay(1, () => 1), FIRST_S * 2);
  assert.equal(delay(1, () => 0), FIRST_S);
  assert.equal(delay(50, () => 1), LONGEST_S);
  assert.ok(delay(3, () => 1) > delay(2, () => 1));
});

test("percentiles lie between their neighbours", () => {
  assert.equal(percentile([1, 2, 3, 4], 0.5), 2.5);
  assert.equal(percentile([1], 0.99), 1);
  assert.equal(median([]), null);
});

test("a summary says n, leaves out what is missing, and has no p99 below a hundred", () => {
  const { n, p50, p99, max } = summary([3, null, 1, undefined, 2, NaN]);
  assert.deepEqual({ n, p50, p99, max }, { n: 3, p50: 2, p99: null, max: 3 });
  assert.ok(summary(Array.from({ length: 100 }, (_, i) => i)).p99 > 97);
});

const MARKS = { speech_end: -0.5, endpoint_decision: 0, last_commit: -0.3, llm_ready: -0.28, first_token: -0.2, first_clause: 0.05, first_audio: 0.1 };

test("stages lie where they happened: before zero costs nobody time", () => {
  const { bars, start, end, heard } = fall(MARKS, 0.7);
  const named = Object.fromEntries(bars.map((bar) => [bar.name, bar]));
  assert.ok(named["first token"].free && named.prefill.free && !named.voice.free);
  assert.equal(named["is it over?"].end, 0);
  assert.ok(Math.abs(heard - 0.2) < 1e-9);
  assert.equal(start, -0.5);
  assert.ok(Math.abs(end - 0.2) < 1e-9);
});

test("marks that a turn does not have draw nothing", () => {
  assert.deepEqual(fall({}, null).bars, []);
  assert.equal(fall({ first_token: 0.2 }, null).heard, null);
});

test("ticks are round and inside", () => {
  assert.deepEqual(ticks(-0.52, 0.2, 4).map((one) => one.toFixed(1)), ["-0.4", "-0.2", "0.0", "0.2"]);
  assert.deepEqual(ticks(0, 20, 5), [0, 5, 10, 15, 20]);
});

test("times read well", () => {
  assert.deepEqual([0.0123, -0.25, 12.34].map(ms), ["12 ms", "−250 ms", "12.3 s"]);
});
