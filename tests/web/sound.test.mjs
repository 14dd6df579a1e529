// What happens to samples on the page: rates, blocks, the queue before the loudspeaker, pitch.
import assert from "node:assert/strict";
import { test } from "node:test";

import { BLOCK, Blocks, toInt16 } from "../../web/js/blocks.js";
import { JitterBuffer } from "../../web/js/jitter.js";
import { Contour, pitchOf } from "../../web/js/pitch.js";
import { Resampler } from "../../web/js/resample.js";

const sine = (hz, rate, n) => Float32Array.from({ length: n }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rate));
const rms = (samples) => Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);

function resample(samples, from, to, cuts) {
  const resampler = new Resampler(from, to);
  const parts = [];
  let at = 0;
  for (const cut of [...cuts, samples.length]) {
    parts.push(...resampler.push(samples.subarray(at, at + cut)));
    at += cut;
    if (at >= samples.length) break;
  }
  return Float32Array.from(parts);
}

test("cutting the input differently changes no resampled sample", () => {
  const speech = sine(700, 48000, 9600);
  const whole = resample(speech, 48000, 16000, []);
  const cut = resample(speech, 48000, 16000, Array.from({ length: 400 }, (_, i) => 1 + ((i * 37) % 129)));
  assert.equal(cut.length, whole.length);
  whole.forEach((value, i) => assert.ok(Math.abs(value - cut[i]) < 1e-6));
});

for (const [from, to] of [[48000, 16000], [44100, 16000], [22050, 48000], [24000, 44100]]) {
  test(`${from} -> ${to} keeps a tone, its level and its length`, () => {
    const out = resample(sine(440, from, from), from, to, []);
    assert.ok(Math.abs(out.length - to) < to * 0.01, `${out.length} samples`);
    const inside = out.subarray(to >> 2, to >> 1);
    assert.ok(Math.abs(rms(inside) - Math.SQRT1_2) < 0.01);
    const hz = inside.reduce((n, value, i) => n + (i > 0 && inside[i - 1] < 0 && value >= 0), 0) * 4;
    assert.ok(Math.abs(hz - 440) <= 4, `${hz} Hz`);
  });
}

test("what the lower rate cannot hold does not fold back", () => {
  const out = resample(sine(11000, 48000, 48000), 48000, 16000, []);
  assert.ok(rms(out.subarray(1000, 15000)) < 10 ** (-60 / 20));
});

test("one rate to itself is left as it is", () => {
  const samples = sine(100, 16000, 50);
  assert.deepEqual(new Resampler(16000, 16000).push(samples), samples);
});

test("blocks are 20 ms, whatever comes in", () => {
  const blocks = new Blocks();
  const given = [];
  for (const n of [128, 128, 128, 1, 700]) blocks.push(new Float32Array(n).fill(0.5), (block) => given.push(block));
  assert.equal(given.length, Math.floor((128 * 3 + 1 + 700) / BLOCK));
  assert.ok(given.every((block) => block.length === BLOCK && block.every((value) => value === 16384)));
});

test("loud samples are clipped, not wrapped", () => {
  assert.deepEqual([2, 1, -1, -2, 0].map(toInt16), [32767, 32767, -32768, -32768, 0]);
});

const RATE = 1000; // one sample a millisecond
const ones = (n) => new Float32Array(n).fill(1);
function pull(buffer, n) {
  const out = new Float32Array(n);
  return { out, first: buffer.pull(out) };
}

test("play begins when 80 ms wait, not before", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(1, ones(79));
  assert.ok(pull(buffer, 10).out.every((value) => value === 0));
  buffer.push(1, ones(1));
  assert.ok(pull(buffer, 10).out.some((value) => value > 0));
});

test("a short reply that is complete does not wait", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(1, ones(30));
  buffer.finish();
  pull(buffer, 40);
  assert.equal(buffer.played.get(1), 30);
  assert.equal(buffer.underruns, 0);
});

test("play fades in and out over 5 ms", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(1, ones(100));
  buffer.finish();
  const { out } = pull(buffer, 110);
  const steps = out.map((value, i) => Math.abs(value - (out[i - 1] ?? 0)));
  assert.ok(Math.max(...steps) <= 0.21, "no step is more than a fifth of full scale");
  assert.ok(out.subarray(6, 90).every((value) => value === 1));
  assert.equal(out[109], 0);
});

test("clear silences within the fade, and counts only what was played", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(1, ones(500));
  pull(buffer, 100);
  buffer.clear();
  const { out } = pull(buffer, 50);
  assert.ok(out.subarray(6).every((value) => value === 0));
  assert.ok(out[0] > 0 && out[0] <= 1);
  assert.ok(buffer.played.get(1) <= 105);
  assert.equal(buffer.queued, 0);
});

test("running dry asks for 20 ms more, to 300 at most, and calm takes it back", () => {
  const buffer = new JitterBuffer(RATE);
  for (let i = 0; i < 30; i += 1) {
    buffer.push(1, ones(300));
    pull(buffer, 310);
  }
  assert.equal(buffer.target_ms, 300);
  assert.equal(buffer.underruns, 30);
  buffer.push(1, ones(10_500));
  pull(buffer, 10_200);
  assert.equal(buffer.target_ms, 280);
});

test("the first sound of a turn is marked once, after its silence", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(3, new Float32Array(40));
  buffer.push(3, ones(100));
  buffer.finish();
  const marks = [];
  for (let at = 0; at < 200; at += 16) for (const { turn, index } of pull(buffer, 16).first) marks.push([turn, at + index]);
  assert.deepEqual(marks, [[3, 40]]);
});

test("two turns are counted apart", () => {
  const buffer = new JitterBuffer(RATE);
  buffer.push(1, ones(60));
  buffer.push(2, ones(50));
  pull(buffer, 80);
  assert.deepEqual([...buffer.played], [[1, 60], [2, 20]]);
});

for (const hz of [80, 120, 210, 380]) {
  test(`a voice at ${hz} Hz is heard at ${hz} Hz`, () => {
    const voice = Float32Array.from({ length: 640 }, (_, i) =>
      [1, 2, 3, 4].reduce((sum, k) => sum + Math.sin((2 * Math.PI * hz * k * i) / 16000) / k, 0) * 0.2);
    const found = pitchOf(voice);
    assert.ok(Math.abs(12 * Math.log2(found / hz)) < 0.3, `${found} Hz`);
  });
}

test("hiss has no pitch", () => {
  let seed = 1;
  const noise = Float32Array.from({ length: 640 }, () => (seed = (seed * 16807) % 2147483647) / 1073741823.5 - 1);
  assert.equal(pitchOf(noise), null);
});

test("the contour knows where its readings lie, and forgets the far past", () => {
  const contour = new Contour(1);
  const block = Int16Array.from(sine(200, 16000, 320), (value) => value * 8000);
  for (let i = 0; i < 100; i += 1) contour.push(block);
  const all = contour.between(-Infinity, Infinity);
  assert.equal(all.length, 50);
  assert.ok(all[0].at_s > 0.9 && all.at(-1).at_s < 2);
  assert.ok(all.every(({ hz }) => Math.abs(hz - 200) < 2));
});
