// @ts-check
// Any rate to any other, as a stream: a windowed sinc whose taps do not depend on how the audio
// was cut. Used where the browser will not open the microphone or the loudspeaker at our rate.

const ZEROS = 16; // crossings of the sinc on each side: 60 dB down where aliases would fall
const PHASES = 512; // of the tabulated kernel; between them, linear

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** Knows one channel; holds as much past as its filter is wide. */
export class Resampler {
  #ratio; // input samples per output sample
  #reach; // input samples on each side of the filter's centre
  #table;
  #scale;
  #held = new Float32Array(0);
  #next = 0; // where the next output sample lies, in samples of #held

  /** @param {number} from Hz @param {number} to Hz */
  constructor(from, to) {
    this.#ratio = from / to;
    const cutoff = Math.min(1, to / from) * 0.92; // the rest is the way down
    this.#scale = cutoff;
    this.#reach = Math.ceil(ZEROS / cutoff);
    const steps = this.#reach * PHASES;
    this.#table = new Float32Array(steps + 2);
    for (let i = 0; i <= steps; i += 1) {
      const x = i / PHASES;
      const across = x / this.#reach;
      const window = 0.42 + 0.5 * Math.cos(Math.PI * across) + 0.08 * Math.cos(2 * Math.PI * across);
      this.#table[i] = sinc(x * cutoff) * window;
    }
    this.#held = new Float32Array(this.#reach); // silence before the beginning
    this.#next = this.#reach;
  }

  /** @param {Float32Array} samples @returns {Float32Array<ArrayBuffer>} what they complete */
  push(samples) {
    if (this.#ratio === 1) return samples.slice();
    const held = new Float32Array(this.#held.length + samples.length);
    held.set(this.#held);
    held.set(samples, this.#held.length);
    const last = held.length - this.#reach;
    const count = Math.max(0, Math.ceil((last - this.#next) / this.#ratio));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 1) out[i] = this.#at(held, this.#next + i * this.#ratio);
    this.#next += count * this.#ratio;
    const drop = Math.max(0, Math.floor(this.#next) - this.#reach);
    this.#held = held.slice(drop);
    this.#next -= drop;
    return out;
  }

  /** @param {Float32Array} held @param {number} place */
  #at(held, place) {
    const first = Math.max(0, Math.ceil(place - this.#reach));
    const last = Math.min(held.length - 1, Math.floor(place + this.#reach));
    let sum = 0;
    for (let i = first; i <= last; i += 1) {
      const x = Math.abs(i - place) * PHASES;
      const step = Math.floor(x);
      const part = x - step;
      sum += held[i] * (this.#table[step] * (1 - part) + this.#table[step + 1] * part);
    }
    return sum * this.#scale;
  }
}
