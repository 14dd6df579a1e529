// @ts-check
// The microphone (or a file in its place), as 20 ms blocks of 16 kHz PCM16.

import { BLOCK, Blocks, RATE } from "../blocks.js";
import { Resampler } from "../resample.js";

class Capture extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #blocks = new Blocks();
  #silence = new Float32Array(128);

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    // A source that has ended has no channel: time goes on, so silence does.
    const channel = inputs[0]?.[0] ?? this.#silence;
    this.#blocks.push(this.#resampler.push(channel), (block) => {
      let sum = 0;
      for (const sample of block) sum += sample * sample;
      const level = Math.sqrt(sum / BLOCK) / 32768;
      this.port.postMessage({ samples: block, level }, [block.buffer]);
    });
    return true;
  }
}

registerProcessor("capture", Capture);
