// The page: puts the engine and the parts together.

import { $, bitsPerCharacter, currentLanguage, element, number, say, shades, speak } from "./dom.js";
import { Editor } from "./editor.js";
import { Engine } from "./engine.js";
import { showAttention, showCandidates, showLens } from "./panel.js";
import { LetterMap, compare, showLadder, showSamples } from "./sections.js";
import { UnknownCharacter } from "./tokenizer.js";

class Page {
  constructor() {
    this.models = []; // as described
    this.engines = [];
    this.current = 0;
    this.run = 0; // of writing; another number ends it
    this.writing = false;
    this.asked = 0; // for scores; another number makes them stale
    this.last = () => say("loading"); // what the status says
    this.editor = new Editor($("box"), {
      change: () => this.changed(),
      select: () => this.selected(),
      go: () => this.go(),
      stop: () => this.stop(),
      sibling: (by) => this.walk(by),
    });
    this.map = new LetterMap();
    this._listen();
    this.speak(currentLanguage());
  }

  _listen() {
    const on = (id, act, event = "click") => $(id).addEventListener(event, act);
    on("go", () => (this.writing ? this.stop() : this.go()));
    on("undo", () => this.undo());
    on("retry", () => this.retry());
    on("before", () => this.walk(-1));
    on("after", () => this.walk(1));
    on("language", () => this.speak(currentLanguage() === "ko" ? "en" : "ko"));
    on("temperature", () => this.settings(), "input");
    on("models", () => this.use(Number($("model").value)), "change");
    on("compare", () => this.compare());
    for (const id of ["attention", "lens"]) on(id, () => this.look(), "toggle");
  }

  /** Everything that is said, in another language. */
  speak(language) {
    speak(language);
    $("language").lang = language === "ko" ? "en" : "ko";
    $("language").textContent = say("otherLanguage");
    $("text").placeholder = say("placeholder");
    $("legend").replaceChildren(...shades());
    this.settings();
    this.map.legend();
    if (this.models.length) this.introduce();
    this.selected();
    this.tell();
  }

  settings() {
    $("temperature-shown").textContent = number(Number($("temperature").value), 2);
  }

  /** Read the models that the file holds. */
  async open() {
    for (let index = 0; $(`model-${index}`); index++) {
      this.models.push(JSON.parse($(`model-${index}`).textContent));
    }
    $("model").replaceChildren(
      ...this.models.map(({ facts }, index) => element("option", { value: index }, facts.name)),
    );
    const max = this.models.length - 1;
    if (this.models[0].facts.checkpoint) {
      // One model as it learnt: a slider.
      $("model").replaceWith(element("input", { type: "range", max, id: "model" }));
    }
    $("models").hidden = $("ladder").hidden = !max;
    this.editor.put(this._opening());
    this.editor.node.text = this.editor.text;
    await this.use(max);
  }

  /** The first sentence or so of what the best model wrote. */
  _opening() {
    const { samples } = this.models.at(-1);
    if (!samples.length) return "";
    const best = samples.reduce((a, b) => (b.bits_per_character < a.bits_per_character ? b : a));
    const text = best.prompt + best.text;
    const sentence = text.match(/^[^]{24,}?[.!?](?=\s)/)?.[0] ?? text;
    return [...sentence].slice(0, 100).join("").trimEnd();
  }

  async engine(index) {
    if (!this.engines[index]) {
      await new Promise((done) => setTimeout(done)); // paint first
      const weights = $(`weights-${index}`);
      this.engines[index] = new Engine(this.models[index], weights.textContent);
      weights.remove();
    }
    return this.engines[index];
  }

  get now() {
    return this.engines[this.current];
  }

  async use(index) {
    this.stop();
    this.current = index;
    $("model").value = index;
    $("model").ariaValueText = this.models[index].facts.name;
    this.tell(() => say("loading"));
    this.introduce();
    try {
      const engine = await this.engine(index);
      this.tell(() => "");
      this.map.use(engine);
      await this.changed();
    } catch (error) {
      this.tell(() => say("broken", { reason: error.message }));
      throw error;
    }
  }

  introduce() {
    const { facts, samples } = this.models[this.current];
    const said = [
      facts.bits_per_character && say("aboutBits", { bits: number(facts.bits_per_character, 2) }),
      say("aboutSize", { parameters: number(facts.parameters) }),
      say("aboutTokens", { tokenizer: facts.tokenizer, vocabulary: number(facts.vocab_size) }),
      facts.steps && say("aboutSteps", { steps: number(facts.steps) }),
    ];
    $("about").textContent = said.filter(Boolean).join(" · ");
    showSamples(samples);
    showLadder(this.models, (chosen) => this.use(chosen));
  }

  /** Say something in the status line, and go on saying it in another language. */
  tell(what = this.last) {
    this.last = what;
    $("status").textContent = what();
    const { node, siblings } = this.editor;
    $("go").textContent = say(this.writing ? "stop" : "go");
    $("undo").disabled = !this.editor.canUndo;
    $("retry").disabled = this.writing || node.seed === null;
    $("branches").hidden = siblings.length < 2;
    const place = siblings.indexOf(node);
    $("branch").textContent = say("branch", { number: place + 1, count: siblings.length });
    $("before").disabled = place === 0;
    $("after").disabled = place === siblings.length - 1;
  }

  // Scores

  /** Score the text as it stands, and show the chosen letter. */
  async changed() {
    if (!this.now) return;
    const asked = ++this.asked, engine = this.now, { editor } = this;
    const normalized = engine.tokenizer.normalized(editor.text); // as pasted text may not be
    if (normalized !== editor.text) editor.put(normalized);
    const { text } = editor;
    const alive = () => asked === this.asked;
    try {
      const scored = await engine.score(text, alive);
      if (!scored || !alive()) return;
      this.place = scored.place;
      this.editor.paint(scored.parts);
      if (!this.writing) this.tell(() => this._measured(scored.parts));
      this.selected();
    } catch (error) {
      if (!(error instanceof UnknownCharacter)) throw error;
      this.editor.paint([]);
      this.tell(() => say("unknown", { character: error.message }));
    }
  }

  _measured(parts) {
    const measured = bitsPerCharacter(parts);
    if (measured === null) return "";
    const bits = say("perCharacter", { bits: number(measured, 2) });
    return this.wrote ? `${say("wrote", this.wrote())} · ${bits}` : bits;
  }

  /** Show the letter that is chosen. */
  async selected() {
    if (!this.now || this.writing || this.editor.text !== this.editor.paintedText) return;
    const asked = this.asked, { editor } = this, chosen = editor.selected;
    const part = editor.partAt(chosen);
    const letters = part ? [...editor.text].slice(part.start, part.end).join("") : "";
    const candidates = await this.now.candidates(part ? part.place : this.place);
    if (asked !== this.asked || chosen !== editor.selected) return;
    showCandidates(part, letters, candidates, (candidate) => this.take(part, candidate));
    this.look();
  }

  /** Attention and lens, where they are open. */
  async look() {
    const { editor, now: engine, asked } = this, chosen = editor.selected;
    if (!engine || this.writing || editor.text !== editor.paintedText) return;
    const place = editor.partAt(chosen)?.place ?? this.place;
    const stale = () => asked !== this.asked || chosen !== editor.selected || engine !== this.now;
    if ($("attention").open) {
      const layers = await engine.attention(editor.text, place);
      if (stale()) return;
      showAttention(layers, [...editor.text], (weights) => editor.paintWeights(weights));
    }
    if ($("lens").open) {
      const stages = await engine.lens(editor.text, place);
      if (!stale()) showLens(stages);
    }
  }

  // Writing

  /** Go on behind the text, or from a candidate. */
  go() {
    if (this.writing || !this.now) return;
    if (this.editor.composing) {
      this.editor.wanted = true;
      return;
    }
    const parent = this.editor.settle();
    this.write(parent, Number($("seed").value));
  }

  /** Another text behind the same one, with the next seed. */
  retry() {
    const { node } = this.editor;
    if (this.writing || node.seed === null) return;
    const seeds = node.parent.children.map(({ seed }) => seed ?? 0);
    this.write(node.parent, Math.max(...seeds) + 1, node.first);
  }

  take(part, candidate) {
    if (this.writing) return;
    this.editor.settle();
    const cut = part ? [...this.editor.text].slice(0, part.start).join("") : this.editor.text;
    const parent = this.editor.settle(cut);
    this.write(parent, Number($("seed").value), candidate.tokens, $("then-go").checked);
  }

  async write(parent, seed, first = null, onward = true) {
    const run = ++this.run, { editor, now: engine } = this;
    const alive = () => run === this.run;
    this.writing = true;
    const node = editor.branch(parent, seed);
    node.first = first;
    $("seed").value = seed;
    editor.put(parent.text);
    this.tell(() => say("writing"));
    const begin = performance.now();
    let written = "";
    const parts = editor.parts.filter(({ end }) => end <= [...parent.text].length);
    try {
      const wish = {
        text: parent.text,
        first,
        count: onward ? Number($("length").value) : 0,
        temperature: Number($("temperature").value),
        seed,
        alive,
      };
      for await (const { text, bits } of engine.write(wish)) {
        if (!alive() || editor.composing) break;
        const start = [...parent.text + written].length;
        written += text;
        editor.put(parent.text + written);
        node.text = editor.text;
        parts.push({ start, end: start + [...text].length, bits, place: null });
        editor.paint(parts);
      }
    } finally {
      if (alive()) this.writing = false;
    }
    const seconds = (performance.now() - begin) / 1000, count = [...written].length;
    this.wrote = () => ({
      count: number(count),
      seconds: number(seconds, 1),
      speed: number(count / seconds),
    });
    this.tell();
    await this.changed();
    this.wrote = null;
  }

  /** What is being written ends here; what stands there stays. */
  stop() {
    this.run++;
    this.writing = false;
    this.tell();
  }

  undo() {
    this.stop();
    this.editor.undo();
    this.changed();
  }

  walk(by) {
    if (this.writing || !this.editor.walk(by)) return;
    $("seed").value = this.editor.node.seed ?? 1;
    this.changed();
  }

  /** Every model behind the same text. */
  async compare() {
    this.stop();
    const run = this.run;
    const alive = () => run === this.run;
    $("compare").disabled = true;
    try {
      await compare((index) => this.engine(index), {
        text: this.editor.text,
        count: Number($("length").value),
        temperature: Number($("temperature").value),
        seed: Number($("seed").value),
        alive,
      });
    } finally {
      $("compare").disabled = false;
    }
  }
}

const page = new Page();
window.semigpt = page; // for whoever opens the console
document.addEventListener("DOMContentLoaded", () => page.open());
