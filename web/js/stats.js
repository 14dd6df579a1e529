// @ts-check
// Percentiles as the latency docs ask for them: with n, and none that n cannot carry.

/** @typedef {{n: number, p50: number|null, p90: number|null, p95: number|null, p99: number|null, max: number|null}} Summary */

/** Fewer values than this have no 99th percentile: it would only be their maximum. */
export const P99_NEEDS = 100;

/**
 * The value below which a share of `sorted` lies, interpolated between neighbours.
 * @param {readonly number[]} sorted ascending, not empty
 * @param {number} share 0 to 1
 */
export function percentile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/**
 * @param {Iterable<number|null|undefined>} values what is missing is left out, and out of n
 * @returns {Summary}
 */
export function summary(values) {
  const sorted = /** @type {number[]} */ (
    [...values].filter((value) => Number.isFinite(value))
  ).sort((a, b) => a - b);
  const n = sorted.length;
  if (n === 0) return { n, p50: null, p90: null, p95: null, p99: null, max: null };
  return {
    n,
    p50: percentile(sorted, 0.5),
    p90: percentile(sorted, 0.9),
    p95: percentile(sorted, 0.95),
    p99: n < P99_NEEDS ? null : percentile(sorted, 0.99),
    max: sorted[n - 1],
  };
}

/** @param {readonly number[]} values @returns {number|null} */
export function median(values) {
  return summary(values).p50;
}
