// The two directions in which vectors differ most (principal components, by power iteration).

import { breath } from "./forward.js";

const ROUNDS = 24;

/** Points {x, y} in -1 … 1 of vectors; the farthest hundredth lies on the edge. */
export async function project(rows) {
  if (!rows.length) return [];
  const width = rows[0].length;
  const mean = new Float64Array(width);
  for (const row of rows) for (let i = 0; i < width; i++) mean[i] += row[i] / rows.length;
  const axes = [];
  for (let axis = 0; axis < 2; axis++) {
    let direction = Float64Array.from({ length: width }, (_, i) => Math.cos(i * (axis + 1) + 1));
    for (let round = 0; round < ROUNDS; round++) {
      await breath();
      const sum = new Float64Array(width);
      for (const row of rows) {
        const along = dot(row, direction, mean);
        for (let i = 0; i < width; i++) sum[i] += along * (row[i] - mean[i]);
      }
      for (const other of axes) {
        let along = 0;
        for (let i = 0; i < width; i++) along += sum[i] * other[i];
        for (let i = 0; i < width; i++) sum[i] -= along * other[i];
      }
      const length = Math.hypot(...sum) || 1;
      direction = sum.map((value) => value / length);
    }
    axes.push(direction);
  }
  const [xs, ys] = axes.map((axis) => scaled(rows.map((row) => dot(row, axis, mean))));
  return xs.map((x, i) => ({ x, y: ys[i] }));
}

function dot(row, direction, mean) {
  let sum = 0;
  for (let i = 0; i < direction.length; i++) sum += (row[i] - mean[i]) * direction[i];
  return sum;
}

function scaled(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  const most = sizes[Math.floor(0.99 * (sizes.length - 1))] || 1;
  return values.map((value) => Math.max(-1, Math.min(1, value / most)));
}

/** Those of `points` whose vectors point most nearly where that of `point` does (cosine). */
export function nearest(points, point, count) {
  const size = (row) => Math.sqrt(row.reduce((sum, value) => sum + value * value, 0)) || 1;
  const own = size(point.row);
  return points
    .filter((other) => other !== point)
    .map((other) => {
      const along = other.row.reduce((sum, value, i) => sum + value * point.row[i], 0);
      return { ...other, cosine: along / (own * size(other.row)) };
    })
    .sort((a, b) => b.cosine - a.cosine)
    .slice(0, count);
}
