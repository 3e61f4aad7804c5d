// Health and release at a glance, and what the service has had to do in the last minutes.
import { point, reading, release, sameContainer, WINDOW_MS } from "./activity.js";
import { call, probe } from "./api.js";
import { drawChart } from "./charts.js";
import { fill, setTime, stamp } from "./templates.js";

const POLL_MS = 5_000;
const SHORTEST_WINDOW_MS = 2 * 60_000;
const TABLE_ROWS = 12;
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

// Kept while other views are shown, so that the lines go on where they were.
let previous;
let points = [];
let marks = [];

export function forgetActivity() {
  previous = undefined;
  points = [];
  marks = [];
}

function remember(answer) {
  const after = reading(answer);
  const before = previous;
  // Answers that overtook each other say nothing.
  if (before && sameContainer(before, after) && after.at <= before.at) return;
  const mark = release(before, after);
  if (mark) marks.push(mark);
  points.push(point(before, after));
  previous = after;
  const oldest = after.at - WINDOW_MS;
  points = points.filter(({ at }) => at >= oldest);
  marks = marks.filter(({ at }) => at >= oldest);
}

const perSecond = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)}/s`);
const duration = (value) => {
  if (value === null) return "–";
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
};
const digits = (step) => Math.max(0, -Math.floor(Math.log10(step)));

const CHARTS = {
  rate: {
    series: ["succeeded", "refused", "failed"],
    floor: 1,
    text: perSecond,
    format: (value, step) => value.toFixed(digits(step)),
    label: (now) => `Requests per second: now ${perSecond(now.succeeded)} succeeded, ${perSecond(now.refused)} refused, ${perSecond(now.failed)} failed`,
  },
  latency: {
    series: ["median", "slow"],
    floor: 0.02,
    text: duration,
    format: (value, step) => (step < 0.5 ? `${(value * 1000).toFixed(digits(step * 1000))} ms` : `${value.toFixed(digits(step))} s`),
    label: (now) => `Response time: now half of the requests within ${duration(now.median)}, 95 % within ${duration(now.slow)}`,
  },
};

function drawAll(root) {
  const now = points.at(-1);
  if (now === undefined) return;
  const from = Math.min(Math.max(points[0].at, now.at - WINDOW_MS), now.at - SHORTEST_WINDOW_MS);
  for (const [name, { series, floor, text, format, label }] of Object.entries(CHARTS)) {
    const figure = root.querySelector(`[data-chart=${name}]`);
    drawChart(figure.querySelector("svg"), { points, series, marks, from, to: now.at, floor, format, label: label(now) });
    figure.querySelector("tbody").replaceChildren(...points.slice(-TABLE_ROWS).reverse().map((at) => {
      const row = document.createElement("tr");
      const moment = document.createElement("th");
      moment.scope = "row";
      moment.textContent = time.format(at.at);
      row.append(moment, ...series.map((key) => {
        const cell = document.createElement("td");
        cell.textContent = text(at[key]);
        return cell;
      }));
      return row;
    }));
    for (const key of series) figure.querySelector(`[data-now=${key}]`).textContent = text(now[key]);
  }
}

function showRelease(root, { release: image, colour, since }) {
  fill(root, { release: image ?? "not named", colour: colour ?? "" });
  root.querySelector("[data-colour]").dataset.colour = colour ?? "";
  setTime(root.querySelector("[data-since]"), since);
}

function showHealth(root, failure, milliseconds) {
  const health = root.querySelector("[data-health]");
  const state = failure ? "down" : "up";
  const text = failure ? "Does not answer" : "Answers";
  // A live region speaks whenever it is written to.
  if (health.dataset.health !== state) {
    health.dataset.health = state;
    health.textContent = text;
  }
  fill(root, { "health-detail": failure ? `${failure.message} (${failure.code})` : `in ${Math.round(milliseconds)} ms, over TLS and the edge` });
}

async function askHealth(root) {
  const begun = performance.now();
  await probe().then(() => showHealth(root, null, performance.now() - begun), (error) => showHealth(root, error));
}

async function askActivity(root) {
  const charts = root.querySelector("[data-charts]");
  const note = root.querySelector("[data-note]");
  try {
    const answer = await call("GET", "/api/v1/activity");
    remember(answer);
    showRelease(root, answer);
    charts.hidden = false;
    note.hidden = true;
    drawAll(root);
  } catch (error) {
    if (error.status === 401) throw error;
    note.textContent = error.status === 404 ? error.message : `No measurements at the moment: ${error.message}`;
    note.hidden = false;
    if (error.status === 404) charts.hidden = true;
  }
}

// Until the next poll is due and somebody looks.
function untilDue(signal) {
  return new Promise((resolve) => {
    let due = false;
    const timer = setTimeout(() => { due = true; check(); }, POLL_MS);
    function check() {
      if (!signal.aborted && (!due || document.visibilityState !== "visible")) return;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", check);
      signal.removeEventListener("abort", check);
      resolve();
    }
    document.addEventListener("visibilitychange", check);
    signal.addEventListener("abort", check);
  });
}

export async function serviceView(root, { report, signal }) {
  root.append(stamp("service-view"));
  const poll = () => Promise.all([askHealth(root), askActivity(root)]);
  await poll();
  const resized = new ResizeObserver(() => drawAll(root));
  resized.observe(root.querySelector("[data-charts]"));
  signal.addEventListener("abort", () => resized.disconnect());
  (async () => {
    for (;;) {
      await untilDue(signal);
      if (signal.aborted) return;
      await poll();
    }
  })().catch(report);
  return "Service";
}
