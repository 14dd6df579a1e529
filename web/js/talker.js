// @ts-check
// Who has the floor on our side: the microphone on or off, held or open, and what of it is sent.

import { BLOCK, RATE } from "./blocks.js";
import { Capture } from "./capture.js";
import { CaptureClock } from "./clock.js";
import { Contour } from "./pitch.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./settings.js").Settings} Settings */

const PRE_ROLL = 15; // blocks, 300 ms: people begin to speak before the key is down
const LEVEL_FLOOR = 0.004; // RMS of a quiet room

export class Talker {
  contour = new Contour();
  clock = new CaptureClock(RATE);
  sent = 0; // samples of this session
  level = 0; // 0 to 1, for the eye
  held = false;
  released_s = 0; // our clock, when the key last came up
  #capture;
  #starting = false;
  /** @type {Int16Array[]} */
  #before = [];

  /**
   * @param {Connection} connection @param {Settings} settings
   * @param {() => void} onChange @param {(text: string) => void} onTrouble one line that says what to do
   */
  constructor(connection, settings, onChange, onTrouble) {
    this.connection = connection;
    this.settings = settings;
    this.onChange = onChange;
    this.onTrouble = onTrouble;
    this.#capture = new Capture((block, level) => this.#take(block, level), (text) => {
      onTrouble(text);
      onChange();
    });
  }

  get source() {
    return this.#capture.source;
  }

  get isOn() {
    return this.source !== "off" || this.#starting;
  }

  /** A new session counts samples from zero. */
  begin() {
    this.sent = 0;
    this.clock.restart();
    this.contour.reset();
    if (this.held) this.connection.send({ type: "press" });
  }

  async start() {
    if (this.isOn) return;
    this.#starting = true;
    this.onTrouble("");
    this.clock.restart();
    this.onChange();
    const { echo, noise } = this.settings.values;
    try {
      await this.#capture.start({ echoCancellation: echo, noiseSuppression: noise });
    } catch (error) {
      this.#capture.stop();
      this.onTrouble(error instanceof Error ? error.message : String(error));
    } finally {
      this.#starting = false;
      this.onChange();
    }
  }

  stop() {
    this.#capture.stop();
    this.#before = [];
    this.level = 0;
    // A turn that is open would wait for audio that no longer comes.
    this.connection.send({ type: "release" });
    this.onChange();
  }

  async press() {
    if (this.held) return;
    this.held = true;
    this.connection.send({ type: "press" });
    const before = this.#before;
    this.#before = [];
    this.clock.restart();
    for (const block of before) this.#send(block);
    this.onChange();
    await this.start();
  }

  release() {
    if (!this.held) return;
    this.held = false;
    this.released_s = performance.now() / 1000;
    this.connection.send({ type: "release" });
    this.onChange();
  }

  /** @param {File} file through the microphone's path @returns {Promise<void>} */
  async stream(file) {
    this.onTrouble("");
    this.clock.restart();
    try {
      const done = this.#capture.startFile(await file.arrayBuffer());
      this.onChange();
      await done;
    } catch (error) {
      this.#capture.stop();
      this.onTrouble(error instanceof Error ? error.message : String(error));
    }
    this.onChange();
  }

  /** @param {Int16Array} block @param {number} level */
  #take(block, level) {
    const loud = Math.max(0, Math.log10(Math.max(level, 1e-6) / LEVEL_FLOOR) / 1.8);
    this.level = Math.max(Math.min(1, loud), this.level * 0.85);
    if (this.settings.values.push_to_talk && this.source === "microphone" && !this.held) {
      this.#before.push(block);
      if (this.#before.length > PRE_ROLL) this.#before.shift();
      return;
    }
    this.#send(block);
  }

  /** @param {Int16Array} block */
  #send(block) {
    if (!this.connection.sendAudio(block)) return;
    this.sent += BLOCK;
    this.clock.stamp(this.sent, performance.now() / 1000);
    this.contour.push(block);
  }
}
