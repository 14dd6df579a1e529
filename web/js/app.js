// @ts-check
// The page: introduces the parts to each other, and says in one line what is going on.

import { Bench } from "./bench.js";
import { Captions } from "./captions.js";
import { ServerClock } from "./clock.js";
import { Connection, takeKey } from "./connection.js";
import { byId, eachFrame } from "./dom.js";
import { listen } from "./keys.js";
import { Player } from "./player.js";
import { inWords } from "./prosody.js";
import { read, rows, toCsv, toJson } from "./runs.js";
import { Settings } from "./settings.js";
import { linkText, situation, talkButton } from "./status.js";
import { Talker } from "./talker.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";

/** @typedef {import("./turns.js").Turn} Turn */
/** @typedef {import("./turns.js").Message} Message */

const CLOCK_EVERY_S = 5;
const CLOCK_FIRST = 5; // exchanges at once in the beginning: the quickest of them is soon good
const WIDE = "(min-width: 68rem)"; // room for the bench beside the talk
const OWN_PLAYBACK_S = 0.05; // of queue: below, nothing is sounding

const now_s = () => performance.now() / 1000;

const page = {
  link: byId("link"),
  state: byId("state"),
  notice: byId("notice"),
  dock: /** @type {HTMLElement} */ (document.querySelector(".dock")),
  welcome: byId("welcome"),
  talk: /** @type {HTMLButtonElement} */ (byId("talk")),
  stop: /** @type {HTMLButtonElement} */ (byId("stop")),
  words: /** @type {HTMLInputElement} */ (byId("words")),
  bench: byId("bench"),
  showBench: byId("show-bench"),
};

const turns = new Turns();
const clock = new ServerClock();
const captions = new Captions(byId("captions"));
/** @type {import("./connection.js").Link} */
let link = { type: "connecting", text: "Connecting" };
let retryAt_s = 0;
let about = /** @type {Record<string, unknown>} */ ({});
let sentAt_s = 0; // when the last typed turn left
let benchOther = /** @type {import("./runs.js").Run|null} */ (null);
let baselines = /** @type {import("./runs.js").Baseline[]} */ ([]);
/** @type {Map<number, number>} samples heard, by turn of this session */
const heard = new Map();

const settings = new Settings((name, value) => {
  if (name === "echo" || name === "noise") {
    if (talker.source === "microphone") {
      talker.stop();
      void talker.start();
    }
    return;
  }
  if (name === "letters") return;
  connection.send({ type: "set", [name]: value });
  if (name === "voice" && !value) player.clear();
  if (name === "push_to_talk" && talker.isOn) talker.stop();
  refresh();
});

const connection = new Connection(takeKey(), start, {
  message: (message, pcm) => take(message, pcm),
  link: (next) => {
    link = next;
    retryAt_s = now_s() + (next.retry_s ?? 0);
    if (next.type === "open") talker.begin(); // before any sound is sent
    else {
      turns.begin("");
      player.clear();
    }
    // Nobody tries again by itself: the microphone closes, and Talk begins anew.
    if ((next.type === "ended" || next.type === "refused") && talker.isOn) talker.stop();
    refresh();
  },
});
const talker = new Talker(connection, settings, () => refresh(), say);
const player = new Player({
  heard: (turn, samples) => {
    heard.set(turn, samples);
    connection.send({ type: "heard", turn, samples });
  },
  first: (number, at_s) => firstSound(number, at_s),
  state: () => refresh(),
});
const transcript = new Transcript(byId("turns"), talker.contour, (turn) => markCutOff(turn));
const bench = new Bench(page.bench, {
  streamFile: (file) => void streamFile(file),
  importFile: (file) => void importFile(file),
  exportJson: () => save("json", toJson(rows(turns.all), aboutRun())),
  exportCsv: () => save("csv", toCsv(rows(turns.all))),
});

/** First message of every session. */
function start() {
  const { voice, barge_in, push_to_talk } = settings.values;
  return { source: "page", live: true, vectors: true, voice, barge_in, push_to_talk };
}

/** @param {Message} message @param {ArrayBuffer|null} pcm */
function take(message, pcm) {
  if (pcm !== null) {
    player.push(message.turn, pcm);
    return;
  }
  if (message.type === "session.started") {
    beginSession(message);
    return;
  }
  if (message.type === "clock") {
    clock.add(message.t0, message.t1, message.t2, now_s());
    drawBench();
    return;
  }
  if (message.type === "error") say(`${message.message}`);
  if (message.type === "reply.ducked") player.duck(message.ducked);
  if (message.type === "reply.given") player.finish();
  if (message.type === "reply.done") {
    if (["barge_in", "cancelled", "failed"].includes(message.reason)) player.clear(message.turn);
    else player.finish();
  }
  const turn = turns.apply(message);
  if (turn !== null) show(turn);
  refresh();
}

/** @param {Message} message */
function beginSession(message) {
  const { session, version, models, reply_rate_hz } = message;
  about = { server: version, models };
  heard.clear();
  clock.reset();
  turns.begin(String(session));
  player.begin(reply_rate_hz ?? 24000);
  for (let i = 0; i < CLOCK_FIRST; i += 1) setTimeout(askClock, i * 100);
  refresh();
}

function askClock() {
  connection.send({ type: "clock", t0: now_s() });
}

/** @param {Turn} turn */
function show(turn) {
  page.welcome.hidden = true;
  transcript.render(turn);
  const readings = talker.contour.between(turn.speech_start_s ?? 0, turn.speech_end_s ?? 0);
  captions.follow(turn, inWords(turn.words, turn.windows, readings, turn.guess));
  follow();
  if (Object.keys(turn.marks).length > 0) drawBench();
}

/** Keep the newest in sight, unless somebody is reading further up. */
const follow = eachFrame(() => {
  const root = document.documentElement;
  const below = root.scrollHeight - innerHeight - scrollY;
  if (below < 320) scrollTo({ top: root.scrollHeight });
});

const drawBench = eachFrame(() => {
  bench.render({
    turns: turns.all,
    other: benchOther,
    baselines,
    clock: { offset_s: clock.offset_s, error_s: clock.error_s },
    output_s: player.latency_s,
  });
});

/** @param {number} number of the turn whose reply was heard for the first time @param {number} at_s our clock */
function firstSound(number, at_s) {
  const turn = turns.get(number);
  if (turn === undefined || turn.heard_s !== null) return;
  const spoken_s = turn.speech_end_s === null ? talker.released_s || null : talker.clock.moment(turn.speech_end_s);
  const from_s = turn.kind === "typed" ? sentAt_s : spoken_s;
  if (from_s === null || at_s < from_s) return; // an announcement answers nobody
  turn.heard_s = at_s - from_s;
  const server_s = clock.offset_s === null ? undefined : at_s + clock.offset_s;
  connection.send({ type: "mark", turn: number, name: "first_audio_played", at_s: server_s });
  show(turn);
  drawBench();
}

/** @param {Turn} turn */
function markCutOff(turn) {
  turn.cutOff = !turn.cutOff;
  if (turn.cutOff) connection.send({ type: "mark", turn: turn.number, name: "false_cutoff" });
  transcript.render(turn);
  drawBench();
}

function aboutRun() {
  return {
    ...about,
    made_at: new Date().toISOString(),
    browser: navigator.userAgent,
    clock_offset_s: clock.offset_s,
    clock_error_s: clock.error_s,
    output_latency_s: player.latency_s,
  };
}

/** @param {string} ending @param {string} text */
function save(ending, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: ending === "csv" ? "text/csv" : "application/json" }));
  link.download = `textpro-latency-${new Date().toISOString().slice(0, 16).replaceAll(/[:T]/g, "-")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @param {File} file */
async function importFile(file) {
  try {
    const found = read(await file.text(), file.name.replace(/\.(json|csv)$/, ""));
    if (found.run) benchOther = found.run;
    if (found.baselines.length > 0) ({ baselines } = found);
    say("");
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
  drawBench();
}

/** @param {File} file */
async function streamFile(file) {
  await wake();
  if (settings.values.push_to_talk) connection.send({ type: "set", push_to_talk: false });
  turns.kind = "file";
  await talker.stream(file);
  turns.kind = "spoken";
  connection.send({ type: "set", push_to_talk: settings.values.push_to_talk });
}

/** A gesture: audio may start, and a session that ended may begin anew. */
async function wake() {
  if (link.type !== "open") connection.retry();
  try {
    await player.wake();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
}

/** One line that says what to do; empty takes it away. @param {string} text */
function say(text) {
  page.notice.textContent = text;
}

function toggleTalk() {
  void wake();
  if (settings.values.push_to_talk) {
    if (talker.held) talker.release();
    else void talker.press();
  } else if (talker.isOn) talker.stop();
  else void talker.start();
}

function stopReply() {
  connection.send({ type: "stop" });
  player.clear(turns.last);
  refresh();
}

function toggleBench() {
  page.bench.hidden = !page.bench.hidden;
  page.showBench.setAttribute("aria-expanded", String(!page.bench.hidden));
  drawBench();
  if (!page.bench.hidden && !matchMedia(WIDE).matches) page.bench.scrollIntoView({ block: "start" });
}

/** @returns {import("./status.js").Facts} */
function facts() {
  const { push_to_talk, barge_in } = settings.values;
  const { playing, queued_s } = player.state;
  const { source, isOn: on, held } = talker;
  return { link, last: turns.all.at(-1), sounding: playing || queued_s > OWN_PLAYBACK_S, source, on, held, push_to_talk, barge_in };
}

const refresh = eachFrame(() => {
  const now = facts();
  const { name, text } = situation(now);
  const { pressed, shown, name: called } = talkButton(now);
  write(page.state, text);
  write(page.link.firstElementChild, linkText(link, retryAt_s - now_s()));
  write(page.talk.querySelector(".name"), shown);
  page.link.dataset.link = link.type;
  page.dock.dataset.state = name;
  page.talk.setAttribute("aria-pressed", String(pressed));
  page.talk.setAttribute("aria-label", called);
  page.stop.disabled = !(name === "speaking" || name === "thinking");
});

/** Only what is new: a live region reads out every writing. @param {Element|null} element @param {string} text */
function write(element, text) {
  if (element !== null && element.textContent !== text) element.textContent = text;
}

/** The talk button glows with whoever speaks. */
function animate() {
  const level = player.state.playing ? Math.min(1, player.state.level * 2) : talker.level;
  page.talk.style.setProperty("--level", level.toFixed(3));
  requestAnimationFrame(animate);
}

setInterval(() => {
  const last = turns.all.at(-1);
  if (last?.speaking) transcript.grow(last);
  if (link.type === "waiting") refresh();
}, 100);
setInterval(askClock, CLOCK_EVERY_S * 1000);

page.talk.addEventListener("pointerdown", (event) => {
  if (!settings.values.push_to_talk || event.button !== 0) return;
  page.talk.setPointerCapture(event.pointerId);
  void wake();
  void talker.press();
});
for (const end of ["pointerup", "pointercancel"]) page.talk.addEventListener(end, () => talker.release());
page.talk.addEventListener("click", (event) => {
  const byKey = event.detail === 0; // Enter, or a screen reader: press once to talk, once to end
  if (byKey || !settings.values.push_to_talk) toggleTalk();
});
page.talk.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press is talk
page.stop.addEventListener("click", stopReply);
page.showBench.addEventListener("click", toggleBench);
byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = page.words.value.trim();
  if (!text) return;
  void wake();
  if (!connection.send({ type: "say", text })) {
    say("Not connected: your words are still in the field; send them when the connection is back.");
    return;
  }
  sentAt_s = now_s();
  player.clear(turns.last);
  page.words.value = "";
  say("");
});
listen({
  talkDown: () => {
    if (!settings.values.push_to_talk) {
      toggleTalk();
      return;
    }
    void wake();
    void talker.press();
  },
  talkUp: () => talker.release(),
  stop: stopReply,
  write: () => page.words.focus(),
  cutOff: () => {
    const last = turns.all.findLast((turn) => turn.endpoint !== null && turn.kind !== "typed");
    if (last) markCutOff(last);
  },
  bench: toggleBench,
  letters: () => settings.values.letters,
});
navigator.mediaDevices?.addEventListener("devicechange", () => {
  if (talker.source === "microphone") say("Sound devices changed: press Talk twice to use the new one.");
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  askClock(); // timers slept; the audio threads did not
  void player.resume();
  drawBench();
});
addEventListener("pagehide", () => talker.stop());

if (matchMedia(WIDE).matches) toggleBench();
connection.open();
refresh();
animate();

/** What tests read. */
Object.assign(window, {
  __va: {
    get state() { return situation(facts()).name; },
    get link() { return link.type; },
    get playback() { return { ...player.state, gain: player.gain }; },
    get heard() { return Object.fromEntries(heard); },
    get sent() { return talker.sent; },
    get clock() { return { offset_s: clock.offset_s, error_s: clock.error_s }; },
    get rows() { return rows(turns.all); },
    get turns() { return turns.all.map(({ id, text, reply, done, windows }) => ({ id, text, reply, done, windows: windows.length })); },
  },
});
