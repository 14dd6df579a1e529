// @ts-check
// The queue in front of the loudspeaker. It starts when enough is there to ride out the network's
// jitter, fades what it cuts, and counts what was really played, turn by turn.

const START_MS = 80;
const STEP_MS = 20; // more patience after running dry
const MOST_MS = 300;
const FADE_MS = 5; // shorter clicks
const CALM_S = 10; // of play without running dry: a step less patience
const SILENT = 1e-3; // -60 dBFS: padding before the first sound is below it

/** @typedef {{turn: number, samples: Float32Array, from: number}} Piece */
/** @typedef {{turn: number, index: number}} FirstSound */

/** Knows samples and turns; nothing of clocks, sockets or the sound card. */
export class JitterBuffer {
  /** @type {Piece[]} */
  #pieces = [];
  #playing = false;
  #complete = false; // no more is coming: what is here need not wait for company
  #gain = 0;
  #calm = 0;
  #target;
  /** @type {Set<number>} */
  #sounded = new Set();
  /** @type {Map<number, number>} samples played by turn */
  played = new Map();
  queued = 0; // samples
  underruns = 0;

  /** @param {number} rate Hz */
  constructor(rate) {
    this.rate = rate;
    this.#target = (START_MS / 1000) * rate;
    this.fade = Math.max(1, Math.round((FADE_MS / 1000) * rate));
  }

  /** How much has to wait before play begins. */
  get target_ms() {
    return Math.round((this.#target / this.rate) * 1000);
  }

  get playing() {
    return this.#playing;
  }

  /** @param {number} turn @param {Float32Array} samples */
  push(turn, samples) {
    if (samples.length === 0) return;
    this.#complete = false;
    this.#pieces.push({ turn, samples, from: 0 });
    this.queued += samples.length;
  }

  /** The reply has been given whole. */
  finish() {
    this.#complete = true;
  }

  /** Forget what waits; what is sounding fades out. */
  clear() {
    let left = this.#playing ? this.fade : 0;
    /** @type {Piece[]} */
    const kept = [];
    for (const piece of this.#pieces) {
      if (left === 0) break;
      const samples = piece.samples.subarray(piece.from, piece.from + left);
      kept.push({ turn: piece.turn, samples, from: 0 });
      left -= samples.length;
    }
    this.#pieces = kept;
    this.queued = kept.reduce((sum, piece) => sum + piece.samples.length, 0);
    this.#complete = true;
  }

  /**
   * Fill a block for the loudspeaker; silence where there is nothing.
   * @param {Float32Array} out
   * @returns {FirstSound[]} where in `out` a turn was heard for the first time
   */
  pull(out) {
    /** @type {FirstSound[]} */
    const first = [];
    if (!this.#playing && this.queued > 0) {
      this.#playing = this.#complete || this.queued >= this.#target;
    }
    const step = 1 / this.fade;
    for (let i = 0; i < out.length; i += 1) {
      if (!this.#playing) {
        out[i] = 0;
        continue;
      }
      const wanted = Math.min(1, this.queued / this.fade); // the last 5 ms go down to nothing
      this.#gain += Math.max(-step, Math.min(step, wanted - this.#gain));
      const piece = this.#pieces[0];
      const value = piece.samples[piece.from] * this.#gain;
      out[i] = value;
      this.#count(piece);
      if (Math.abs(value) > SILENT && !this.#sounded.has(piece.turn)) {
        this.#sounded.add(piece.turn);
        first.push({ turn: piece.turn, index: i });
      }
      if (this.queued === 0) this.#ranDry();
    }
    return first;
  }

  /** @param {Piece} piece of which one sample is leaving */
  #count(piece) {
    this.played.set(piece.turn, (this.played.get(piece.turn) ?? 0) + 1);
    piece.from += 1;
    if (piece.from === piece.samples.length) this.#pieces.shift();
    this.queued -= 1;
    this.#calm += 1;
    if (this.#calm >= CALM_S * this.rate) {
      this.#calm = 0;
      this.#target = Math.max((START_MS / 1000) * this.rate, this.#target - this.#step);
    }
  }

  get #step() {
    return (STEP_MS / 1000) * this.rate;
  }

  #ranDry() {
    this.#playing = false;
    this.#gain = 0;
    if (this.#complete) return;
    this.underruns += 1;
    this.#calm = 0;
    this.#target = Math.min((MOST_MS / 1000) * this.rate, this.#target + this.#step);
  }
}
