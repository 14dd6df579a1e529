// @ts-check
// What is going on, in one line: from facts alone, so that it can be tested without a page.

/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./turns.js").Turn} Turn */
/**
 * @typedef {object} Facts
 * @property {Link} link
 * @property {Turn|undefined} last the newest turn
 * @property {boolean} sounding something is being played
 * @property {"off"|"microphone"|"file"} source
 * @property {boolean} on the microphone is, or is about to be
 * @property {boolean} held the talk key
 * @property {boolean} push_to_talk
 * @property {boolean} barge_in
 */
/** @typedef {"offline"|"hearing"|"speaking"|"thinking"|"listening"|"ready"} Name */

/** @param {Facts} facts @returns {{name: Name, text: string}} */
export function situation({ link, last, sounding, source, on, held, push_to_talk, barge_in }) {
  if (link.type === "waiting") return { name: "offline", text: `${link.text}. Trying again soon` };
  if (link.type !== "open") return { name: "offline", text: link.text };
  if (last?.speaking) return { name: "hearing", text: "Hearing you" };
  if (sounding) {
    return { name: "speaking", text: `Speaking. ${barge_in && on ? "Speak to interrupt, or press Esc" : "Esc stops it"}` };
  }
  if (last?.replying || (last?.endpoint?.replies && last.done === null)) return { name: "thinking", text: "Thinking" };
  if (source === "file") return { name: "listening", text: "Listening to the file" };
  if (push_to_talk && held) return { name: "listening", text: "Listening while you hold" };
  if (push_to_talk) return { name: "ready", text: "Hold Space or the button, and speak" };
  if (on) return { name: "listening", text: "Listening" };
  return { name: "ready", text: "Press Talk or Space, or write" };
}

/**
 * The connection, for the eye alone: it counts down, which nobody wants to be read out.
 * @param {Link} link @param {number} left_s until the next attempt
 */
export function linkText({ type }, left_s) {
  if (type === "waiting") return left_s > 0 ? `Reconnecting in ${Math.ceil(left_s)} s` : "Reconnecting";
  return type === "open" ? "Connected" : type === "connecting" ? "Connecting" : "Not connected";
}

/** The talk button: what it shows, and what it is called. @param {Facts} facts */
export function talkButton({ push_to_talk, held, on }) {
  if (push_to_talk) return { pressed: held, shown: "Hold", name: "Hold to talk" };
  return on ? { pressed: true, shown: "Mute", name: "Mute the microphone" } : { pressed: false, shown: "Talk", name: "Talk" };
}
