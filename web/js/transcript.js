// @ts-check
// One turn on the page. Committed words are laid down once and never move; what may still change
// comes after them, lighter, and is kept from screen readers.

import { el } from "./dom.js";
import { inWords, likeness, middleHz, pauses } from "./prosody.js";
import { draw } from "./ribbon.js";
import { ms } from "./waterfall.js";

/** @typedef {import("./turns.js").Turn} Turn */
/** @typedef {import("./pitch.js").Contour} Contour */
/** @typedef {import("./ribbon.js").Stretch} Stretch */

const BEFORE_S = 0.2; // sound before the first word that still belongs to it
const AFTER_S = 0.5; // the recognizer gives last words too little
const ENDINGS = /** @type {Record<string, string>} */ ({
  barge_in: "You interrupted; the words in grey were not said aloud.",
  cancelled: "Stopped.",
  failed: "The reply failed; ask again.",
  length: "Cut at its longest.",
  cut: "The connection was lost here.",
});
const UNANSWERED = /** @type {Record<string, string>} */ ({
  echo: "That was the reply itself, heard again: headphones help.",
  unclear: "These words are in doubt, so they are not answered; say it again.",
  failed: "These words could not be made out; say it again.",
});

export class TurnView {
  #saying;
  #words = el("p", { class: "words" });
  #maybe = el("span", { class: "maybe", "aria-hidden": "true" });
  #ribbon = el("canvas", { class: "ribbon", "aria-hidden": "true" });
  #tone = el("p", { class: "tone" });
  #answer = el("div", { class: "answer", hidden: true });
  #gap = el("p", { class: "gap" });
  #figure = el("span");
  #cut = el("button", { type: "button", "aria-pressed": "false" }, "I was cut off");
  /** @type {HTMLElement[]} */
  #laid = [];
  /** @type {import("./prosody.js").Pause[]} */
  #pauses = [];
  /** @type {import("./pitch.js").Reading[]} the sound of a turn that is over */
  #kept = [];
  #said = ""; // as it was drawn last
  #keptHz = 0; // the speaker's middle, as it was then

  /** @param {Turn} turn @param {Contour} contour @param {() => void} onCutOff */
  constructor(turn, contour, onCutOff) {
    this.turn = turn;
    this.contour = contour;
    this.#words.append(this.#maybe, this.#ribbon);
    this.#gap.append(this.#figure, this.#cut);
    this.#cut.onclick = onCutOff;
    this.#saying = el("div", { class: "said" }, el("span", { class: "unseen" }, "You: "), this.#words, this.#tone);
    this.element = el("li", { class: "turn" }, this.#saying, this.#answer, this.#gap);
    new ResizeObserver(() => this.drawRibbon()).observe(this.#words);
  }

  render() {
    const { turn } = this;
    this.element.dataset.kind = turn.kind;
    const saysNothing = turn.words.length === 0 && !turn.tentative && !turn.speaking;
    this.#saying.hidden = saysNothing; // the assistant may speak first: an announcement
    this.element.classList.toggle("empty", turn.isEmpty || (saysNothing && !turn.reply));
    const last = this.#laid.length - 1;
    if (last >= 0 && this.#laid[last].textContent !== turn.words[last].text) {
      this.#laid[last].textContent = turn.words[last].text; // its comma came
    }
    for (const word of turn.words.slice(this.#laid.length)) this.#lay(word);
    this.#maybe.textContent = turn.tentative || (turn.speaking && turn.words.length === 0 ? "…" : "");
    this.#renderAnswer();
    this.#renderGap();
    const said = [turn.words.length, turn.windows.length, turn.tentative, turn.endpoint !== null].join();
    if (said === this.#said) return; // a reply comes in many pieces, and changes nothing above it
    this.#said = said;
    if (turn.endpoint && this.#kept.length === 0) {
      this.#kept = this.#readings();
      this.#keptHz = this.#middle();
    }
    this.#tone.textContent = turn.kind === "typed" ? "" : inWords(turn.words, turn.windows, this.#readings(), turn.guess);
    this.drawRibbon();
  }

  /** @param {import("./turns.js").Word} word */
  #lay(word) {
    const index = this.#laid.length;
    const before = this.turn.words[index - 1];
    // Decided once, when the next word is known: what stands does not move.
    const found = before ? pauses([before, word], this.#readings()) : [];
    for (const pause of found) {
      this.#pauses.push({ ...pause, after: index - 1 });
      const label = pause.seconds >= 0.5 ? el("span", {}, `${pause.seconds.toFixed(1)} s`) : "";
      const rest = el("span", { class: "rest", "aria-hidden": "true" }, label);
      rest.style.width = `${Math.min(3, Math.max(0.4, pause.seconds * 1.6))}em`;
      this.#maybe.before(rest);
    }
    const shown = el("span", { class: "word" }, word.text);
    this.#maybe.before(shown, " ");
    this.#laid.push(shown);
  }

  #renderAnswer() {
    const { turn } = this;
    const awaited = turn.endpoint?.replies === true && turn.done === null;
    const note = turn.endpoint ? UNANSWERED[turn.endpoint.reason] : undefined;
    this.#answer.hidden = !awaited && !turn.reply && turn.done === null && turn.calls.length === 0 && !note;
    const parts = [];
    if (!this.#answer.hidden) parts.push(el("span", { class: "unseen" }, "Reply: "));
    if (awaited && !turn.reply) parts.push(el("span", { class: "thinking", "aria-hidden": "true" }, el("i"), el("i"), el("i")));
    const heard = turn.done && turn.reply.startsWith(turn.done.text) ? turn.done.text : turn.reply;
    if (heard) parts.push(el("span", {}, heard.trimEnd()));
    const rest = turn.reply.slice(heard.length);
    if (rest.trim()) parts.push(" ", el("span", { class: "unheard" }, rest.trim()));
    for (const call of turn.calls) parts.push(el("code", {}, call));
    const ending = note ?? ENDINGS[turn.done?.reason ?? ""];
    if (ending) parts.push(el("p", { class: "ending" }, ending));
    this.#answer.replaceChildren(...parts);
  }

  #renderGap() {
    const { turn } = this;
    const value = turn.heard_s ?? turn.marks.server_perceived;
    this.#gap.hidden = value === undefined || turn.endpoint === null;
    if (value === undefined) return;
    const what = turn.kind === "typed" ? "after you sent it" : "after your last word";
    const where = turn.heard_s === null ? "sent" : "heard";
    this.#figure.replaceChildren(el("b", {}, ms(value)), ` ${what} the reply was ${where}`);
    this.#cut.setAttribute("aria-pressed", String(turn.cutOff));
    this.#cut.hidden = turn.kind === "typed";
  }

  /** The sound of this turn, as far as this page sent it. */
  #readings() {
    if (this.#kept.length > 0) return this.#kept;
    const { turn } = this;
    if (turn.kind === "typed" || turn.speech_start_s === null) return [];
    const end_s = turn.endpoint ? (turn.speech_end_s ?? turn.speech_start_s) + AFTER_S : Infinity;
    return this.contour.between(turn.speech_start_s - BEFORE_S, end_s);
  }

  /** Of all that this speaker said lately: one sentence may lie high as a whole. */
  #middle() {
    return this.#keptHz || middleHz(this.contour.between(-Infinity, Infinity).filter(({ hz }) => hz !== null));
  }

  /** Where each word's time lies on the page. @returns {Stretch[]} */
  #stretches() {
    const { words } = this.turn;
    const origin = this.#words.getBoundingClientRect();
    /** @type {Stretch[]} */
    const found = [];
    this.#laid.forEach((shown, i) => {
      const box = shown.getBoundingClientRect();
      const before = this.#pauses.find(({ after }) => after === i - 1);
      const after = this.#pauses.find((pause) => pause.after === i);
      const isLast = i === words.length - 1;
      const last_s = Math.max(words[i].end_s, Math.min(this.turn.speech_end_s ?? Infinity, words[i].end_s + AFTER_S));
      const stretch = {
        start_s: before ? before.end_s : (found[i - 1]?.end_s ?? words[0].start_s),
        end_s: after ? after.start_s : isLast ? last_s : words[i + 1].start_s,
        left: box.left - origin.left,
        right: box.right - origin.left,
        bottom: box.bottom - origin.top,
      };
      const previous = found[i - 1];
      if (previous && !before && previous.bottom === stretch.bottom) {
        previous.right = stretch.left = (previous.right + stretch.left) / 2; // no gap: there was no pause
      }
      // The recognizer lets first words begin with the silence before them.
      if (i === 0) stretch.start_s = Math.min(Math.max(stretch.start_s, this.turn.speech_start_s ?? 0), stretch.end_s);
      found.push(stretch);
    });
    this.#addOpenEnd(found, origin);
    return found;
  }

  /** What was said after the last certain word lies under the tentative ones. @param {Stretch[]} found @param {DOMRect} origin */
  #addOpenEnd(found, origin) {
    if (this.turn.endpoint || !this.#maybe.textContent) return;
    const box = this.#maybe.getClientRects()[0];
    const readings = this.#readings();
    if (!box || readings.length === 0) return;
    found.push({
      start_s: found.at(-1)?.end_s ?? readings[0].at_s,
      end_s: readings[readings.length - 1].at_s,
      left: box.left - origin.left,
      right: box.right - origin.left,
      bottom: box.bottom - origin.top,
    });
  }

  drawRibbon() {
    if (this.turn.kind === "typed" || !this.element.isConnected) return;
    const style = getComputedStyle(this.#words);
    draw(this.#ribbon, {
      readings: this.#readings(),
      stretches: this.#stretches(),
      likeness: likeness(this.turn.windows),
      middle_hz: this.#middle(),
      ink: {
        high: style.getPropertyValue("--voice-high"),
        low: style.getPropertyValue("--voice-low"),
        rail: style.getPropertyValue("--voice-low"),
        marks: style.getPropertyValue("--soft"),
      },
    });
  }
}

/** All turns, newest last. */
export class Transcript {
  /** @type {Map<Turn, TurnView>} */
  #views = new Map();

  /** @param {HTMLElement} list @param {Contour} contour @param {(turn: Turn) => void} onCutOff */
  constructor(list, contour, onCutOff) {
    this.list = list;
    this.contour = contour;
    this.onCutOff = onCutOff;
    const redraw = () => this.#views.forEach((view) => view.drawRibbon());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  /** @param {Turn} turn */
  render(turn) {
    let view = this.#views.get(turn);
    if (view === undefined) {
      view = new TurnView(turn, this.contour, () => this.onCutOff(turn));
      this.#views.set(turn, view);
      this.list.append(view.element);
    }
    view.render();
  }

  /** The turn at hand grows while somebody speaks. @param {Turn} turn */
  grow(turn) {
    this.#views.get(turn)?.drawRibbon();
  }
}
