// @ts-check
// How long to wait before the next attempt.

export const FIRST_S = 0.5;
export const LONGEST_S = 15;

/**
 * Doubles with every failure, up to a quarter of a minute; half of it is chance, so that many
 * pages which lost the same server do not come back at the same moment.
 * @param {number} failures attempts that failed in a row, from 1
 * @param {() => number} [chance] 0 to 1
 * @returns {number} seconds
 */
export function delay(failures, chance = Math.random) {
  const most = Math.min(LONGEST_S, FIRST_S * 2 ** Math.min(failures, 10));
  return most / 2 + (most / 2) * chance();
}
