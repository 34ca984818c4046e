// Lines of (x, y) points over levels to compare with, as SVG in the pixels of its place.

import { number } from "./dom.js";

const NAMES = 132, BELOW = 26, ABOVE = 10, LEFT = 34, LINE = 15; // pixels

/**
 * Draw into an <svg>.
 *
 * series: [{name, className, points: [[x, y]]}]; levels: [{name, value}]; until: the last x there
 * is going to be
 */
export function draw(svg, { series, levels, until }) {
  const width = svg.clientWidth, height = svg.clientHeight;
  if (!width) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = series.flatMap((one) => one.points);
  const right = width - NAMES, floor = height - BELOW;
  const most = Math.max(...points.map(([, y]) => y), ...levels.map(({ value }) => value), 1) * 1.03;
  const last = Math.max(until, ...points.map(([x]) => x), 1);
  const across = (x) => LEFT + ((right - LEFT) * x) / last;
  const up = (y) => floor - ((floor - ABOVE) * y) / most;
  const parts = [];
  for (const y of steps(most, (floor - ABOVE) / 50)) {
    parts.push(shape("line", { x1: LEFT, x2: right, y1: up(y), y2: up(y), class: "grid" }));
    parts.push(text(LEFT - 6, up(y) + 4, number(y, y % 1 ? 1 : 0), "end"));
  }
  for (const x of steps(last, (right - LEFT) / 90)) {
    parts.push(text(across(x), height - 6, number(x), "middle"));
  }
  const names = [];
  for (const { name, value } of levels) {
    const [y1, y2] = [up(value), up(value)];
    parts.push(shape("line", { x1: LEFT, x2: right, y1, y2, class: "level" }));
    names.push({ y: up(value), said: `${name} ${number(value, 2)}`, className: "" });
  }
  for (const { name, className, points } of series) {
    if (!points.length) continue;
    const path = points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" ");
    parts.push(shape("polyline", { points: path, class: className }));
    const [x, y] = points.at(-1);
    parts.push(shape("circle", { cx: across(x), cy: up(y), r: 3, class: className }));
    names.push({ y: up(y), said: `${name} ${number(y, 2)}`, className });
  }
  names.sort((a, b) => a.y - b.y);
  spread(names, ABOVE, floor);
  for (const { at, said, className } of names) {
    parts.push(text(right + 8, at + 4, said, "start", className));
  }
  svg.replaceChildren(...parts);
}

/** Round values from 0 to `most`, about `count` of them. */
function steps(most, count) {
  const rough = most / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
}

/** Move names apart that would overlap: down, and up again from the floor. */
function spread(names, top, floor) {
  let least = top;
  for (const name of names) least = (name.at = Math.max(name.y, least)) + LINE;
  let most = floor;
  for (const name of names.toReversed()) most = (name.at = Math.min(name.at, most)) - LINE;
}

function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function text(x, y, said, anchor, className = "") {
  const made = shape("text", { x, y, "text-anchor": anchor, class: className });
  made.textContent = said;
  return made;
}
