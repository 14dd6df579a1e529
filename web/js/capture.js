// @ts-check
// The microphone, or a file in its place, as blocks of 16 kHz PCM16. Both take the same path.

import { RATE } from "./blocks.js";

/** @typedef {(block: Int16Array, level: number) => void} OnBlock level: RMS, full scale is 1 */

const WORKLET = new URL("./worklets/capture.js", import.meta.url);
const AFTER_FILE_S = 4; // of silence, so that the endpoint can be decided

/** One line that says what to do. */
export class CaptureError extends Error {}

export class Capture {
  /** @type {AudioContext|null} */
  #context = null;
  /** @type {AudioWorkletNode|null} */
  #node = null;
  /** @type {MediaStream|null} */
  #stream = null;
  /** @type {AudioBufferSourceNode|null} */
  #file = null;
  #onBlock;
  #onLost;

  /** @param {OnBlock} onBlock @param {(text: string) => void} onLost the microphone is gone */
  constructor(onBlock, onLost) {
    this.#onBlock = onBlock;
    this.#onLost = onLost;
  }

  /** @returns {"off"|"microphone"|"file"} */
  get source() {
    return this.#node === null ? "off" : this.#file ? "file" : "microphone";
  }

  /** @param {{noiseSuppression: boolean, echoCancellation: boolean}} wishes @throws {CaptureError} */
  async start(wishes) {
    if (!isSecureContext || !navigator.mediaDevices) {
      throw new CaptureError("Browsers give a microphone to https and localhost only: open this page as http://localhost through an SSH forward, or serve it with --tls.");
    }
    this.stop();
    const audio = { ...wishes, autoGainControl: true, channelCount: 1 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
      throw new CaptureError(explain(error));
    });
    this.#stream = stream;
    for (const track of stream.getAudioTracks()) {
      track.onended = () => {
        this.stop();
        this.#onLost("The microphone is gone: plug it in again and press Talk.");
      };
    }
    try {
      await this.#attach(RATE, (context) => context.createMediaStreamSource(stream));
    } catch {
      // Firefox does not mix a microphone's rate with another: its own rate then, and our filter.
      await this.#attach(undefined, (context) => context.createMediaStreamSource(stream));
    }
  }

  /** @param {ArrayBuffer} bytes any format that the browser decodes @returns {Promise<void>} when it was played to its end @throws {CaptureError} */
  async startFile(bytes) {
    this.stop();
    const decoder = new OfflineAudioContext(1, 1, RATE);
    const buffer = await decoder.decodeAudioData(bytes).catch(() => {
      throw new CaptureError("The browser cannot decode this file: try WAV, FLAC, MP3 or Ogg.");
    });
    await this.#attach(RATE, (context) => {
      this.#file = context.createBufferSource();
      this.#file.buffer = buffer;
      return this.#file;
    });
    const file = /** @type {AudioBufferSourceNode|null} */ (this.#file);
    if (file === null) return;
    await new Promise((resolve) => {
      file.onended = resolve;
      file.start();
    });
    await new Promise((resolve) => setTimeout(resolve, AFTER_FILE_S * 1000));
    if (this.#file === file) this.stop();
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    const file = this.#file;
    this.#file = null;
    try {
      file?.stop();
    } catch {
      // It had not begun.
    }
    if (this.#node) this.#node.port.onmessage = null;
    this.#node?.disconnect();
    void this.#context?.close();
    this.#context = this.#node = this.#stream = null;
  }

  /** @param {number|undefined} rate @param {(context: AudioContext) => AudioNode} open */
  async #attach(rate, open) {
    const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    try {
      const source = open(context);
      await context.audioWorklet.addModule(WORKLET).catch(() => {
        throw new CaptureError("The audio worklet did not load: reload the page, or use a browser of the last three years.");
      });
      const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 1, channelCount: 1, channelCountMode: "explicit" });
      node.port.onmessage = ({ data }) => this.#onBlock(data.samples, data.level);
      source.connect(node).connect(context.destination); // it gives silence: this keeps it running
      if (context.state === "suspended") await context.resume();
      this.#context = context;
      this.#node = node;
    } catch (error) {
      void context.close();
      throw error;
    }
  }
}

/** @param {DOMException} error of getUserMedia */
function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone is blocked for this page: allow it beside the address bar, then press Talk. You can also write.";
    case "NotFoundError":
      return "No microphone was found: plug one in and press Talk. You can also write.";
    case "NotReadableError":
      return "Another program holds the microphone: close it and press Talk.";
    default:
      return `The microphone did not open (${error.name}): you can still write.`;
  }
}
