// Below the box: every rung side by side, what was written while learning, and the map of letters.

import { $, element, number, say, surprising, visible } from "./dom.js";
import { nearest } from "./projection.js";

/** A card a model; `start` writes into them, `choose` takes one for the box. */
export function showLadder(models, choose) {
  $("rungs").replaceChildren(
    ...models.map((model, index) => {
      const text = element("p", { className: "written", lang: "ko" });
      const bits = element("p", { className: "soft" });
      const button = element("button", {}, say("choose"));
      button.addEventListener("click", () => choose(index));
      const title = element("h3", {}, model.facts.name);
      return element("li", {}, element("header", {}, title, button), bits, text);
    }),
  );
}

/** Let every model go on behind a text, and show how. */
export async function compare(models, wish) {
  const cards = [...$("rungs").children];
  for (const card of cards) {
    card.querySelector(".written").replaceChildren(element("span", { className: "given" }, wish.text));
    card.querySelector(".soft").textContent = "";
  }
  const shown = (bits) => (bits ? number(bits, 2) : "–");
  for await (const { index, own, text, bits } of models.compare(wish)) {
    if (wish.signal.aborted) return;
    if (text) cards[index].querySelector(".written").append(surprising(text, bits));
    if (own === undefined) continue;
    const measured = shown(models.described[index].facts.bits_per_character);
    cards[index].querySelector(".soft").textContent = say("rungBits", { bits: shown(own), measured });
  }
}

/** The slider over a run's samples. */
export function showSamples(samples) {
  $("samples").hidden = !samples.length;
  if (!samples.length) return;
  const slider = $("sample-step"), last = samples.length - 1;
  const show = () => {
    const { step, prompt, text, bits_per_character: bits } = samples[slider.value];
    const at = say("sampleAt", { step: number(step) });
    slider.setAttribute("aria-valuetext", at);
    $("sample-at").textContent = bits ? `${at} · ${say("bits", { bits: number(bits, 2) })}` : at;
    $("sample").replaceChildren(element("b", {}, prompt), text);
  };
  slider.oninput = show;
  const follows = !slider.samples || Number(slider.value) >= slider.max; // the newest
  if (slider.samples !== samples) Object.assign(slider, { samples, max: last });
  if (follows || slider.value > last) slider.value = last;
  show();
}

const KINDS = [
  ["hangul", /^\s?\p{Script=Hangul}/u],
  ["digit", /^\s?\p{N}/u],
  ["latin", /^\s?\p{Script=Latin}/u],
  ["sign", /^\s?[\p{P}\p{S}]/u],
  ["other", /^/],
];
const kindOf = (text) => KINDS.findIndex(([, pattern]) => pattern.test(text));

/** The map of the embeddings, drawn when it is opened and again when the page changes. */
export class LetterMap {
  constructor() {
    this.canvas = $("map-canvas");
    this.chosen = null;
    this.points = null;
    $("map").addEventListener("toggle", () => this.open());
    $("find").addEventListener("input", () => this._find($("find").value));
    this.canvas.addEventListener("pointermove", (event) => this._point(event));
    this.canvas.addEventListener("click", (event) => this._point(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Show another model's. */
  async use(engine) {
    this.engine = engine;
    this.points = null;
    this.chosen = null;
    await this.open();
  }

  async open() {
    if (!$("map").open || !this.engine) return;
    const { engine } = this;
    this.points ??= await engine.map();
    if (engine === this.engine) this.draw();
  }

  legend() {
    $("map-legend").replaceChildren(
      ...KINDS.map(([name], index) => element("span", { className: `k${index}` }, say(name))),
    );
    this._say();
  }

  draw() {
    if (!this.points || !this.canvas.clientWidth) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const paper = this.canvas.getContext("2d");
    paper.scale(scale, scale);
    paper.textAlign = "center";
    paper.textBaseline = "middle";
    const style = getComputedStyle(this.canvas);
    const colours = KINDS.map((_, index) => style.getPropertyValue(`--k${index}`));
    paper.font = `11px ${style.fontFamily}`;
    for (const point of this.points) {
      const [x, y] = this._place(point);
      paper.fillStyle = colours[kindOf(point.text)];
      paper.globalAlpha = this.chosen ? 0.25 : 0.8;
      paper.fillText(point.text.trim().slice(0, 4), x, y);
    }
    if (!this.chosen) return;
    paper.globalAlpha = 1;
    for (const point of [...this.near, this.chosen]) {
      const [x, y] = this._place(point);
      paper.font = `${point === this.chosen ? "bold 20" : "14"}px ${style.fontFamily}`;
      paper.fillStyle = colours[kindOf(point.text)];
      paper.fillText(point.text.trim(), x, y);
    }
  }

  _place({ x, y }) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [(width / 2) * (1 + 0.94 * x), (height / 2) * (1 - 0.94 * y)];
  }

  _point(event) {
    if (!this.points) return;
    let closest = null, least = 24 ** 2;
    for (const point of this.points) {
      const [x, y] = this._place(point);
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < least) [closest, least] = [point, distance];
    }
    this._choose(closest);
  }

  _find(letter) {
    this._choose(this.points?.find(({ text }) => text.trim() === letter) ?? null);
    if (letter && !this.chosen) $("near").textContent = say("notOnMap", { letter });
  }

  _choose(point) {
    if (point === this.chosen) return;
    this.chosen = point;
    this.near = point ? nearest(this.points, point, 8) : [];
    this._say();
    this.draw();
  }

  _say() {
    const letters = this.near?.map(({ text }) => visible(text)).join(" ");
    $("near").textContent = this.chosen ? say("near", { letter: visible(this.chosen.text), letters }) : "";
  }
}
