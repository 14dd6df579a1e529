// @ts-check
// The spoken reply: queue, volume, and what of it was really heard, and when.

import { Resampler } from "./resample.js";

const WORKLET = new URL("./worklets/playback.js", import.meta.url);
const DUCKED = 10 ** (-12 / 20); // -12 dB
const GLIDE_S = 0.02;
const UNHEARD = 100; // pieces kept for a page that may not sound yet: some ten seconds
const A_SESSION = 1_000_000; // more turns than a session has

/** @typedef {{playing: boolean, queued_s: number, underruns: number, target_ms: number, level: number}} Playback */
/**
 * @typedef {object} PlayerHandlers
 * @property {(turn: number, samples: number) => void} heard samples of a turn that left the loudspeaker, at the reply's rate
 * @property {(turn: number, now_s: number) => void} first a turn's first sound, on our clock
 * @property {(state: Playback) => void} state
 */

export class Player {
  /** @type {AudioContext|null} */
  #context = null;
  /** @type {AudioWorkletNode|null} */
  #node = null;
  /** @type {GainNode|null} */
  #gain = null;
  /** @type {Resampler|null} */
  #resampler = null;
  /** @type {Promise<void>|null} */
  #opening = null;
  /** @type {Map<number, number>} */
  #told = new Map();
  #handlers;
  #stopped = 0; // turns up to this one are silenced
  #base = 0; // added to turn numbers, which each session begins anew
  #queue = /** @type {[number, ArrayBuffer][]} */ ([]);
  #finished = false;
  rate = 24000; // Hz of the reply
  /** @type {Playback} */
  state = { playing: false, queued_s: 0, underruns: 0, target_ms: 80, level: 0 };

  /** @param {PlayerHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** Seconds from a rendered sample to the ear; null where the browser does not know. */
  get latency_s() {
    const known = (this.#context?.baseLatency ?? 0) + (this.#context?.outputLatency ?? 0);
    return known > 0 ? known : null;
  }

  /** Browsers start audio only in answer to a gesture: call this in one. */
  async wake() {
    this.#opening ??= this.#open();
    await this.#opening;
    if (this.#context?.state !== "running") await this.#context?.resume();
  }

  /** The tab is back: a context that the system stopped goes on. */
  async resume() {
    if (this.#context?.state === "suspended") await this.#context.resume();
  }

  async #open() {
    let context;
    try {
      context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
    } catch {
      context = new AudioContext({ latencyHint: "interactive" });
    }
    try {
      await context.audioWorklet.addModule(WORKLET);
    } catch {
      this.#opening = null;
      void context.close();
      throw new Error("The audio worklet did not load: replies are text only. Reload the page to try again.");
    }
    const options = { numberOfInputs: 0, outputChannelCount: [1] };
    this.#node = new AudioWorkletNode(context, "playback", options);
    this.#gain = context.createGain();
    this.#node.connect(this.#gain).connect(context.destination);
    this.#node.port.onmessage = ({ data }) => this.#told_us(data);
    this.#context = context;
    this.#resampler = context.sampleRate === this.rate ? null : new Resampler(this.rate, context.sampleRate);
    for (const [turn, pcm] of this.#queue.splice(0)) this.push(turn, pcm);
    if (this.#finished) this.finish();
  }

  /** A new session numbers its turns anew. @param {number} rate Hz */
  begin(rate) {
    this.clear();
    this.#stopped = 0;
    this.#base += A_SESSION;
    this.#told.clear();
    if (rate === this.rate) return;
    this.rate = rate;
    if (this.#context) this.#resampler = this.#context.sampleRate === rate ? null : new Resampler(rate, this.#context.sampleRate);
  }

  /** @param {number} turn @param {ArrayBuffer} pcm PCM16 at the reply's rate */
  push(turn, pcm) {
    if (turn <= this.#stopped) return;
    this.#finished = false;
    if (this.#node === null) {
      this.#queue.push([turn, pcm]);
      if (this.#queue.length > UNHEARD) this.#queue.shift();
      return;
    }
    const ints = new Int16Array(pcm.slice(0, pcm.byteLength & ~1));
    let samples = Float32Array.from(ints, (value) => value / 32768);
    if (this.#resampler) samples = this.#resampler.push(samples);
    this.#node.port.postMessage({ type: "push", turn: this.#base + turn, samples }, [samples.buffer]);
  }

  /** The reply has been given whole: play it out. */
  finish() {
    this.#finished = true;
    this.#node?.port.postMessage({ type: "finish" });
  }

  /** Silence, at once. @param {number} [turn] nothing more of it, nor of those before, will sound */
  clear(turn = 0) {
    this.#stopped = Math.max(this.#stopped, turn);
    this.#queue = [];
    this.#node?.port.postMessage({ type: "clear" });
    this.duck(false);
  }

  /** @param {boolean} ducked somebody may be speaking: play quietly until that is clear */
  duck(ducked) {
    const at = this.#context?.currentTime ?? 0;
    this.#gain?.gain.setTargetAtTime(ducked ? DUCKED : 1, at, GLIDE_S);
  }

  get gain() {
    return this.#gain?.gain.value ?? 1;
  }

  /** @param {any} data from the worklet */
  #told_us(data) {
    if (data.type === "first") {
      if (data.turn > this.#base) this.#handlers.first(data.turn - this.#base, this.#moment(data.at_s));
      return;
    }
    const rate = this.#context?.sampleRate ?? this.rate;
    const late = Math.round((this.latency_s ?? 0) * rate);
    for (const [id, played] of /** @type {Map<number, number>} */ (data.played)) {
      const turn = id - this.#base;
      if (turn <= 0) continue;
      const gone = data.playing ? Math.max(0, played - late) : played;
      const samples = Math.round((gone * this.rate) / rate);
      if (samples <= (this.#told.get(turn) ?? 0)) continue;
      this.#told.set(turn, samples);
      this.#handlers.heard(turn, samples);
    }
    this.state = {
      playing: data.playing,
      queued_s: data.queued / rate,
      underruns: data.underruns,
      target_ms: data.target_ms,
      level: data.level,
    };
    this.#handlers.state(this.state);
  }

  /** When a sample of the context's time leaves the loudspeaker. @param {number} at_s @returns {number} our clock, seconds */
  #moment(at_s) {
    const stamp = this.#context?.getOutputTimestamp();
    if (stamp?.performanceTime && stamp.contextTime !== undefined) {
      return stamp.performanceTime / 1000 + (at_s - stamp.contextTime);
    }
    const ahead = at_s - (this.#context?.currentTime ?? at_s);
    return performance.now() / 1000 + ahead + (this.latency_s ?? 0);
  }
}
