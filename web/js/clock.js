// @ts-check
// Two clocks: the server's (seconds since the session began) seen from ours, and the moment at
// which each sample of the microphone was there to be heard.

const KEPT = 30; // exchanges: with one each 5 s, the drift of 2.5 minutes is below a millisecond

/** The server's clock less ours, from the exchange that was quickest: its error is the smallest. */
export class ServerClock {
  /** @type {{offset_s: number, rtt_s: number}[]} */
  #seen = [];

  /**
   * One four-stamp exchange, as in NTP.
   * @param {number} t0 we asked, our clock, seconds
   * @param {number} t1 the server read it, its clock
   * @param {number} t2 the server answered, its clock
   * @param {number} t3 we read the answer, our clock
   */
  add(t0, t1, t2, t3) {
    const rtt_s = Math.max(0, t3 - t0 - (t2 - t1));
    this.#seen.push({ offset_s: (t1 - t0 + (t2 - t3)) / 2, rtt_s });
    if (this.#seen.length > KEPT) this.#seen.shift();
  }

  /** A new session counts from its own beginning. */
  reset() {
    this.#seen = [];
  }

  /** @returns {{offset_s: number, rtt_s: number}|null} */
  get #best() {
    if (this.#seen.length === 0) return null;
    return this.#seen.reduce((best, one) => (one.rtt_s < best.rtt_s ? one : best));
  }

  /** Seconds to add to our clock to get the server's; null until the first exchange. */
  get offset_s() {
    return this.#best?.offset_s ?? null;
  }

  /** Half the round trip: the way there may have taken all of it, or none. */
  get error_s() {
    const best = this.#best;
    return best === null ? null : best.rtt_s / 2;
  }

  /** @param {number} server_s @returns {number|null} the same moment on our clock, seconds */
  ours(server_s) {
    const best = this.#best;
    return best === null ? null : server_s - best.offset_s;
  }
}

const FIT_S = 30; // as on the server: longer than pauses, short against a drifting sound card

/**
 * Sample position -> our clock. A block says "my end is here now"; delivery only ever delays, so
 * the earliest claim of the last half minute is the best one.
 */
export class CaptureClock {
  /** @type {{at_s: number, offset_s: number}[]} */
  #claims = [];

  /** @param {number} rate samples a second */
  constructor(rate) {
    this.rate = rate;
  }

  /** @param {number} end samples sent so far @param {number} now_s our clock */
  stamp(end, now_s) {
    const at_s = end / this.rate;
    this.#claims.push({ at_s, offset_s: now_s - at_s });
    while (this.#claims[0].at_s < at_s - FIT_S) this.#claims.shift();
  }

  /** The microphone was off: positions stood still while time went on. */
  restart() {
    this.#claims = [];
  }

  /** @param {number} at_s seconds of audio sent @returns {number|null} our clock, seconds */
  moment(at_s) {
    if (this.#claims.length === 0) return null;
    let least = Infinity;
    for (const claim of this.#claims) least = Math.min(least, claim.offset_s);
    return least + at_s;
  }
}
