// @ts-check
// A stream of floats -> 16-bit blocks of one length, as the server's route takes them.

export const RATE = 16000; // Hz of the wire
export const BLOCK = 320; // samples: 20 ms

/** @param {number} value full scale is 1 @returns {number} 16-bit, clipped */
export function toInt16(value) {
  const scaled = Math.round(value * 32768);
  return Math.max(-32768, Math.min(32767, scaled));
}

/** Cuts a stream into blocks; what is left over waits for the next push. */
export class Blocks {
  #block = new Int16Array(BLOCK);
  #filled = 0;

  /** @param {Float32Array} samples @param {(block: Int16Array) => void} give takes each whole block */
  push(samples, give) {
    for (const sample of samples) {
      this.#block[this.#filled] = toInt16(sample);
      this.#filled += 1;
      if (this.#filled === BLOCK) {
        give(this.#block);
        this.#block = new Int16Array(BLOCK);
        this.#filled = 0;
      }
    }
  }
}
