// @ts-check
// The socket to /v1/stream: opens it, keeps it, and turns frames into messages.

import { delay } from "./backoff.js";

/** @typedef {import("./turns.js").Message} Message */
/** @typedef {{type: "connecting"|"open"|"waiting"|"refused"|"ended", text: string, retry_s?: number}} Link */
/**
 * @typedef {object} Handlers
 * @property {(message: Message, pcm: ArrayBuffer|null) => void} message pcm: the samples of a speech.audio
 * @property {(link: Link) => void} link
 */

const PATIENT_S = 10; // a session that lived this long has earned a quick second try

/**
 * The key that `textpro serve` prints in the address: taken out of the address bar at once.
 * A fragment never reaches a server or its logs.
 * @returns {string|null}
 */
export function takeKey() {
  const key = decodeURIComponent(location.hash.slice(1));
  if (key) history.replaceState(null, "", location.pathname + location.search);
  return key || null;
}

export class Connection {
  /** @type {WebSocket|null} */
  #socket = null;
  #failures = 0;
  #opened_ms = 0;
  #timer = 0;
  /** @type {Message|null} waits for the binary frame that follows it */
  #audio = null;

  /** @param {string|null} key @param {() => Record<string, unknown>} start first message of a session @param {Handlers} handlers */
  constructor(key, start, handlers) {
    this.key = key;
    this.start = start;
    this.handlers = handlers;
    addEventListener("online", () => this.#again(0));
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Bytes that the network has not taken yet. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  open() {
    clearTimeout(this.#timer);
    this.handlers.link({ type: "connecting", text: "Connecting" });
    const url = new URL("v1/stream", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const protocols = ["textpro"];
    if (this.key) protocols.push(`openai-insecure-api-key.${this.key}`);
    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch {
      this.handlers.link({ type: "refused", text: "The key in this address is not one: copy the whole link that textpro serve printed." });
      return;
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#opened_ms = performance.now();
      this.#audio = null;
      this.send({ type: "start", ...this.start() });
      this.handlers.link({ type: "open", text: "Connected" });
    };
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onclose = (event) => void this.#closed(event);
    this.#socket = socket;
  }

  /** @param {Record<string, unknown>} message @returns {boolean} it left */
  send(message) {
    if (!this.isOpen) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** @param {Int16Array} block PCM16, 16 kHz @returns {boolean} it left */
  sendAudio(block) {
    if (!this.isOpen) return false;
    this.#socket?.send(/** @type {Int16Array<ArrayBuffer>} */ (block));
    return true;
  }

  /** Try now, whatever the plan was. */
  #again(/** @type {number} */ wait_s) {
    if (this.#socket && this.#socket.readyState <= WebSocket.OPEN) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), wait_s * 1000);
  }

  retry() {
    this.#again(0);
  }

  /** @param {string|ArrayBuffer} data */
  #read(data) {
    if (typeof data !== "string") {
      const audio = this.#audio;
      this.#audio = null;
      if (audio) this.handlers.message(audio, data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "speech.audio") this.#audio = message;
    else this.handlers.message(message, null);
  }

  /** @param {CloseEvent} event */
  async #closed({ code, reason }) {
    const lived_s = this.#opened_ms ? (performance.now() - this.#opened_ms) / 1000 : 0;
    const never = this.#opened_ms === 0;
    this.#opened_ms = 0;
    this.#socket = null;
    if (code === 1000) {
      this.handlers.link({ type: "ended", text: reason || "The session is over. Press Talk or write to begin another." });
      return;
    }
    this.#failures = lived_s > PATIENT_S ? 1 : this.#failures + 1;
    if (never && (await isReady())) {
      const text = this.key
        ? "The server refuses this page: open the link that textpro serve printed."
        : "The server asks for a key: open the link that textpro serve printed.";
      this.handlers.link({ type: "refused", text });
      return;
    }
    const retry_s = delay(this.#failures + (code === 1013 ? 2 : 0));
    this.handlers.link({ type: "waiting", text: why(code, reason), retry_s });
    this.#again(retry_s);
  }
}

/** The server takes sessions, though its socket did not take us: then it does not want us. */
async function isReady() {
  try {
    return (await fetch(new URL("readyz", location.href), { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** @param {number} code @param {string} reason */
function why(code, reason) {
  if (code === 1001) return "The server is restarting";
  if (code === 1008) return `The server closed the session (${reason || "its limits"})`;
  if (code === 1011) return "The session failed";
  if (code === 1013) return "The server is full";
  return "No connection to the server";
}
