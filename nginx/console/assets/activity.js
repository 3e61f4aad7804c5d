// From totals to rates: what happened between two answers of /api/v1/activity. Nothing here touches the page.

export const WINDOW_MS = 15 * 60_000;
// Over a longer gap, such as a hidden page's, an average would be drawn as if it had been measured.
const LONGEST_INTERVAL_MS = 30_000;

export function reading(answer) {
  const { requests, latency } = answer;
  return {
    at: Date.parse(answer.observed_at),
    container: { release: answer.release, colour: answer.colour, since: answer.since },
    counts: [requests.informational + requests.successful + requests.redirection, requests.client_error, requests.server_error],
    bounds: latency.buckets.map((bucket) => bucket.at_most_seconds ?? Infinity),
    buckets: latency.buckets.map((bucket) => bucket.count),
  };
}

export function sameContainer(before, after) {
  return ["release", "colour", "since"].every((name) => before.container[name] === after.container[name]);
}

// Where the share q of what the buckets count ends, as if each bucket's were spread evenly over it.
export function quantile(q, bounds, counts) {
  const wanted = q * counts.at(-1);
  if (!(wanted > 0)) return null;
  const index = counts.findIndex((number) => number >= wanted);
  const lower = index === 0 ? 0 : bounds[index - 1];
  if (bounds[index] === Infinity) return lower;
  const below = index === 0 ? 0 : counts[index - 1];
  return lower + ((bounds[index] - lower) * (wanted - below)) / (counts[index] - below);
}

// A bound that the first answer does not have yet has counted nothing.
function grown(before, after) {
  const known = new Map(before.bounds.map((bound, index) => [bound, before.buckets[index]]));
  return after.bounds.map((bound, index) => after.buckets[index] - (known.get(bound) ?? 0));
}

// What happened until `after`; without values where the two cannot be compared.
export function point(before, after) {
  const none = { at: after.at, succeeded: null, refused: null, failed: null, median: null, slow: null };
  if (before === undefined) return none;
  const elapsed = after.at - before.at;
  const counts = after.counts.map((number, index) => number - before.counts[index]);
  const buckets = grown(before, after);
  const backwards = counts.some((number) => number < 0) || buckets.some((number) => number < 0);
  if (!sameContainer(before, after) || backwards || elapsed <= 0 || elapsed > LONGEST_INTERVAL_MS) return none;
  const [succeeded, refused, failed] = counts.map((number) => (number * 1000) / elapsed);
  const [median, slow] = [0.5, 0.95].map((q) => (buckets.length ? quantile(q, after.bounds, buckets) : null));
  return { at: after.at, succeeded, refused, failed, median, slow };
}

// Another container's answers begin a new line; the moment is marked.
export function release(before, after) {
  if (before === undefined || sameContainer(before, after)) return null;
  return { at: after.at, label: after.container.colour ?? "restart" };
}
