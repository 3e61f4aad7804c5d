// Line charts as plain SVG. Their colours and dashes are the style sheet's, by the classes line-1, line-2 and so on.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const EDGE = { top: 18, right: 12, bottom: 24, left: 56 };
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The smallest 1, 2 or 5 times a power of ten that reaches the top in at most four steps.
export function stepFor(top) {
  const power = 10 ** Math.floor(Math.log10(top / 4));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step * 4 >= top);
}

// Pieces of a line, parted where there is no value.
function pieces(points, key) {
  const found = [[]];
  for (const point of points) {
    if (point[key] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((piece) => piece.length > 0);
}

function horizontal({ top, step, y, width, format }) {
  const made = [];
  for (let value = 0; value <= top + step / 2; value += step) {
    made.push(node("line", { class: value === 0 ? "axis" : "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
    made.push(node("text", { class: "tick", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value, step)));
  }
  return made;
}

function vertical({ from, to, x, width }) {
  const minutes = [1, 2, 5].find((number) => (to - from) / (number * 60_000) <= Math.max(2, (width - EDGE.left) / 90)) ?? 15;
  const made = [];
  for (let at = Math.ceil(from / (minutes * 60_000)) * minutes * 60_000; at <= to; at += minutes * 60_000) {
    made.push(node("line", { class: "grid", x1: x(at), x2: x(at), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    if (x(at) > EDGE.left + 14 && x(at) < width - EDGE.right - 14) {
      made.push(node("text", { class: "tick", x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, clock.format(at)));
    }
  }
  return made;
}

function line(points, key, index, x, y) {
  return pieces(points, key).flatMap((piece) => {
    const [only] = piece;
    // A line of one point would not be seen.
    if (piece.length === 1) return node("circle", { class: `dot line-${index}`, cx: x(only.at), cy: y(only[key]), r: 2.5 });
    const steps = piece.map((point, at) => `${at ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`);
    const path = node("path", { class: `line line-${index}`, d: steps.join("") });
    if (index > 1) return path;
    const below = `${steps.join("")}L${x(piece.at(-1).at).toFixed(1)} ${y(0)}L${x(only.at).toFixed(1)} ${y(0)}Z`;
    return [node("path", { class: `area line-${index}`, d: below }), path];
  });
}

// `series` are keys of the points, `marks` moments with a label; `floor` keeps noise from filling the height.
export function drawChart(svg, { points, series, marks, from, to, floor, format, label }) {
  const width = Math.max(240, svg.clientWidth);
  const highest = Math.max(floor, ...points.flatMap((point) => series.map((key) => point[key] ?? 0)));
  const step = stepFor(highest);
  const top = Math.ceil(highest / step) * step;
  const x = (at) => EDGE.left + ((at - from) / (to - from)) * (width - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  // The first series above the others: where all are zero, it is the one to see.
  const lines = series.map((key, index) => line(points, key, index + 1, x, y)).reverse().flat();
  const nothing = node("text", { class: "tick", x: (EDGE.left + width) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "Nothing measured yet");
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("aria-label", label);
  svg.replaceChildren(
    ...horizontal({ top, step, y, width, format }),
    ...vertical({ from, to, x, width }),
    ...marks.flatMap(({ at, label: name }) => [
      node("line", { class: "mark", x1: x(at), x2: x(at), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
      node("text", { class: "tick", x: x(at), y: EDGE.top - 6, "text-anchor": "middle" }, name),
    ]),
    ...(lines.length ? lines : [nothing]),
  );
}
