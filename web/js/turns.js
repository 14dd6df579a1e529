// @ts-check
// The server's events -> turns: what was said, how, what was answered, where the time went.
// Knows no page and no socket; one `Turns` for all sessions of this page.

/** @typedef {{text: string, start_s: number, end_s: number}} Token */
/** @typedef {{text: string, start_s: number, end_s: number}} Word */
/**
 * @typedef {object} ProsodyWindow
 * @property {number} start_s
 * @property {number} end_s
 * @property {number|null} f0_semitones against the speaker's own middle
 * @property {number|null} energy_z deviations from the speaker's own loudness
 * @property {number|null} rate_tps tokens a second
 * @property {number[]} [embedding]
 */
/** @typedef {Record<string, number>} Marks seconds against the endpoint decision */
/** @typedef {"spoken"|"typed"|"file"} Kind */
/** @typedef {Record<string, any> & {type: string}} Message as the server sends it */

/** One person's say and the reply to it. */
export class Turn {
  /** @type {Word[]} */
  words = [];
  tentative = "";
  /** @type {ProsodyWindow[]} */
  windows = [];
  /** The emotion that the server would name, or "unsure". */
  guess = "unsure";
  reply = "";
  replying = false;
  /** @type {{text: string, reason: string}|null} */
  done = null;
  /** @type {{transcript: string, reason: string, replies: boolean, wall_s: number}|null} */
  endpoint = null;
  /** @type {Marks} */
  marks = {};
  /** @type {string[]} */
  calls = [];
  speech_start_s = /** @type {number|null} */ (null); // of audio
  speech_end_s = /** @type {number|null} */ (null);
  speaking = false;
  /** From the end of speech to the first sound heard, both on this page's clock. */
  heard_s = /** @type {number|null} */ (null);
  cutOff = false;

  /** @param {string} session @param {number} number @param {Kind} kind */
  constructor(session, number, kind) {
    this.session = session;
    this.number = number;
    this.kind = kind;
  }

  get id() {
    return `${this.session}:${this.number}`;
  }

  /** What was said, as far as it is certain. */
  get text() {
    return this.endpoint?.transcript.trim() ?? this.words.map((word) => word.text).join(" ");
  }

  /** Seconds of speech; null for a typed turn. */
  get utterance_s() {
    if (this.speech_start_s === null || this.speech_end_s === null) return null;
    return Math.max(0, this.speech_end_s - this.speech_start_s);
  }

  /** A cough, a click: a turn in which nothing came. */
  get isEmpty() {
    return this.endpoint !== null && !this.endpoint.transcript.trim() && this.reply === "";
  }

  /** @param {readonly Token[]} tokens a word begins with a space, or begins the turn */
  take(tokens) {
    for (const { text, start_s, end_s } of tokens) {
      const last = this.words.at(-1);
      if (last === undefined || text.startsWith(" ")) {
        this.words.push({ text: text.trim(), start_s, end_s });
      } else {
        last.text += text;
        last.end_s = end_s;
      }
    }
  }
}

/** All turns of this page, in order. */
export class Turns {
  /** @type {Turn[]} */
  all = [];
  /** @type {Kind} of the next turn that begins */
  kind = "spoken";
  #session = "";
  /** @type {Map<number, Turn>} */
  #current = new Map();

  /** A new session counts its turns from 1; those before stay on the page. @param {string} session */
  begin(session) {
    for (const turn of this.#current.values()) {
      turn.tentative = "";
      turn.speaking = false;
      if (turn.done === null && turn.replying) turn.done = { text: turn.reply, reason: "cut" };
      turn.replying = false;
    }
    this.#session = session;
    this.#current = new Map();
  }

  /** @param {number} number @returns {Turn|undefined} of the present session */
  get(number) {
    return this.#current.get(number);
  }

  /** The newest turn's number in the present session; 0 before the first. */
  get last() {
    return Math.max(0, ...this.#current.keys());
  }

  /** @param {Message} message @returns {Turn|null} the turn that it changed */
  apply(message) {
    if (typeof message.turn !== "number" || message.turn < 1 || message.type === "source.done") return null;
    const turn = this.#current.get(message.turn) ?? this.#open(message.turn);
    return this.#change(turn, message) ? turn : null;
  }

  /** @param {number} number */
  #open(number) {
    const turn = new Turn(this.#session, number, this.kind);
    this.#current.set(number, turn);
    this.all.push(turn);
    return turn;
  }

  /** @param {Turn} turn @param {Message} message @returns {boolean} it changed something */
  #change(turn, message) {
    switch (message.type) {
      case "speech.started":
        turn.speech_start_s ??= message.speech_s ?? message.at_s;
        turn.speaking = true;
        return true;
      case "speech.stopped":
        turn.speech_end_s = message.speech_s ?? message.at_s;
        turn.speaking = false;
        return true;
      case "transcript.hypothesis":
        turn.tentative = message.text.trim();
        return true;
      case "transcript.committed":
        turn.take(message.tokens ?? [message]);
        return true;
      case "transcript.revised":
        turn.words = [];
        turn.take(message.tokens);
        return true;
      case "prosody.window":
        turn.windows.push(/** @type {any} */ (message));
        return true;
      case "turn.tone":
        turn.guess = message.guess;
        return true;
      case "turn.endpoint":
        turn.endpoint = {
          transcript: message.transcript,
          reason: message.reason,
          replies: message.replies !== false,
          wall_s: message.wall_s,
        };
        turn.tentative = "";
        turn.speaking = false;
        if (message.reason === "typed") turn.kind = "typed";
        if (turn.words.length === 0 && message.transcript.trim()) {
          turn.words.push({ text: message.transcript.trim(), start_s: 0, end_s: 0 });
        }
        return true;
      case "reply.started":
        turn.replying = true;
        return true;
      case "reply.delta":
        turn.replying = true;
        turn.reply += message.text;
        return true;
      case "tool.call":
        turn.calls.push(`${message.name}(${message.arguments})`);
        return true;
      case "reply.given":
        Object.assign(turn.marks, numbers(message.marks ?? {}));
        return true;
      case "reply.done":
        turn.done = { text: message.text, reason: message.reason };
        turn.replying = false;
        return true;
      case "turn.latency":
        Object.assign(turn.marks, numbers(message.marks ?? message));
        return true;
      default:
        return false;
    }
  }
}

const HEAD = new Set(["turn", "at_s", "wall_s"]); // of every event; not marks

/** @param {Record<string, unknown>} value @returns {Marks} */
function numbers(value) {
  /** @type {Marks} */
  const marks = {};
  for (const [name, one] of Object.entries(value)) {
    if (typeof one === "number" && Number.isFinite(one) && !HEAD.has(name)) marks[name] = one;
  }
  return marks;
}
