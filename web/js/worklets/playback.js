// @ts-check
// The loudspeaker's end: plays the queue, and tells what left it.

import { JitterBuffer } from "../jitter.js";

const REPORT_S = 0.05;

class Playback extends AudioWorkletProcessor {
  #buffer = new JitterBuffer(sampleRate);
  #due = 0;
  #level = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data.type === "push") this.#buffer.push(data.turn, data.samples);
      else if (data.type === "finish") this.#buffer.finish();
      else if (data.type === "clear") this.#buffer.clear();
      this.#due = 0; // whoever changed something wants to know soon
    };
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, outputs) {
    const out = outputs[0][0];
    for (const { turn, index } of this.#buffer.pull(out)) {
      this.port.postMessage({ type: "first", turn, at_s: (currentFrame + index) / sampleRate });
    }
    for (const value of out) this.#level = Math.max(this.#level, Math.abs(value));
    this.#due -= out.length;
    if (this.#due <= 0) this.#report();
    return true;
  }

  #report() {
    const { played, queued, underruns, playing, target_ms } = this.#buffer;
    const level = this.#level;
    const at_s = currentFrame / sampleRate;
    this.port.postMessage({ type: "report", played, queued, underruns, playing, target_ms, level, at_s });
    this.#level = 0;
    this.#due = REPORT_S * sampleRate;
  }
}

registerProcessor("playback", Playback);
