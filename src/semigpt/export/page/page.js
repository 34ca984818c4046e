// The page: puts the models and the parts together.

import { $, bitsPerCharacter, currentLanguage, element, number, say, shades, speak } from "./dom.js";
import { Editor } from "./editor.js";
import { showAttention, showCandidates, showLens } from "./panel.js";
import { LetterMap, compare, showLadder, showSamples } from "./sections.js";
import { Trouble } from "./trouble.js";

const FRAME = 30; // ms between two looks at what is being written

export class Page {
  /**
   * models: {open(), described, engine(index), compare({text, …})}; a description is {facts,
   * samples}, and `engine.js` says what an engine is
   *
   * A page around this one may set `spoken`, called after another language, and `used`, called with
   * the description of another model.
   */
  constructor(models) {
    this.models = models;
    this.current = 0;
    this.work = {};
    this.writing = false;
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
    this.looks = {
      attention: (layers) => {
        showAttention(layers, [...this.editor.text], (weights) => this.editor.paintWeights(weights));
      },
      lens: showLens,
    };
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
    if (this.now) this.introduce();
    this.selected();
    this.tell();
    this.spoken?.();
  }

  /** A signal for work of this name, which ends the work that has the last one. */
  signal(name) {
    this.work[name]?.abort();
    return (this.work[name] = new AbortController()).signal;
  }

  settings() {
    $("temperature-shown").textContent = number(Number($("temperature").value), 2);
  }

  /** Show the models that there are, the last one first. */
  async open() {
    await this.models.open();
    await this.begin();
  }

  async begin() {
    const { described } = this.models;
    $("model").replaceChildren(
      ...described.map(({ facts }, index) => element("option", { value: index }, facts.name)),
    );
    const max = described.length - 1;
    if (described[0]?.facts.checkpoint) {
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
    const { samples } = this.models.described.at(-1);
    if (!samples.length) return "";
    const best = samples.reduce((a, b) => (b.bits_per_character < a.bits_per_character ? b : a));
    const text = best.prompt + best.text;
    const sentence = text.match(/^[^]{24,}?[.!?](?=\s)/)?.[0] ?? text;
    return [...sentence].slice(0, 100).join("").trimEnd();
  }

  async use(index) {
    this.stop();
    this.current = index;
    $("model").value = index;
    if ($("model").type === "range") {
      $("model").ariaValueText = this.models.described[index].facts.name;
    }
    this.tell(() => say("loading"));
    this.introduce();
    try {
      this.now = await this.models.engine(index);
      this.tell(() => "");
      this.map.use(this.now);
      this.used?.(this.models.described[index]);
      await this.changed();
    } catch (error) {
      this.tell(() => say("broken", { reason: error.message }));
      throw error;
    }
  }

  introduce() {
    const { facts, samples } = this.models.described[this.current];
    const said = [
      facts.bits_per_character && say("aboutBits", { bits: number(facts.bits_per_character, 2) }),
      say("aboutSize", { parameters: number(facts.parameters) }),
      say("aboutTokens", { tokenizer: facts.tokenizer, vocabulary: number(facts.vocab_size) }),
      facts.steps && say("aboutSteps", { steps: number(facts.steps) }),
    ];
    $("about").textContent = said.filter(Boolean).join(" · ");
    showSamples(samples);
    showLadder(this.models.described, (chosen) => this.use(chosen));
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
    const { now: engine, editor } = this, signal = this.signal("score");
    this.signal("look");
    if (!engine) return;
    const normalized = engine.normalized(editor.text); // as pasted text may not be
    if (normalized !== editor.text) editor.put(normalized);
    try {
      const scored = await engine.score(editor.text, signal);
      if (!scored || signal.aborted) return;
      this.place = scored.place;
      editor.paint(scored.parts);
      if (!this.writing) this.tell(() => this._measured(scored.parts));
      await this.selected();
    } catch (error) {
      this.tellOf(error);
      if (!signal.aborted) editor.paint([]);
    }
  }

  /** Say what went wrong, where the page has words for it. */
  tellOf(error) {
    if (!(error instanceof Trouble)) throw error;
    this.tell(() => say(error.message, error.values));
  }

  _measured(parts) {
    const measured = bitsPerCharacter(parts);
    if (measured === null) return "";
    const bits = say("perCharacter", { bits: number(measured, 2) });
    return this.wrote ? `${say("wrote", this.wrote())} · ${bits}` : bits;
  }

  /** Show the letter that is chosen. */
  async selected() {
    const { now: engine, editor } = this, chosen = editor.selected;
    if (!engine || this.writing || editor.text !== editor.paintedText) return;
    const signal = this.signal("look");
    const part = editor.partAt(chosen);
    const letters = part ? [...editor.text].slice(part.start, part.end).join("") : "";
    try {
      const candidates = await engine.candidates(part ? part.place : this.place, signal);
      if (signal.aborted) return;
      showCandidates(part, letters, candidates, (candidate) => this.take(part, candidate));
      await this.look();
    } catch (error) {
      this.tellOf(error);
    }
  }

  /** What happened before the chosen letter, where that is open. */
  async look() {
    const { editor, now: engine } = this, { signal } = this.work.look;
    if (!engine || this.writing || editor.text !== editor.paintedText) return;
    const place = editor.partAt(editor.selected)?.place ?? this.place;
    for (const [id, show] of Object.entries(this.looks)) {
      if (!$(id).open) continue;
      const found = await engine[id](editor.text, place, signal);
      if (signal.aborted) return;
      show(found);
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
    this.write(parent, Number($("seed").value), candidate, $("then-go").checked);
  }

  async write(parent, seed, first = null, onward = true) {
    const { editor, now: engine } = this, signal = this.signal("write");
    this.writing = true;
    const node = editor.branch(parent, seed);
    node.first = first;
    $("seed").value = seed;
    editor.put(parent.text);
    this.tell(() => say("writing"));
    const begin = performance.now();
    let written = "", shown = 0;
    const parts = editor.parts.filter(({ end }) => end <= [...parent.text].length);
    const show = () => {
      editor.put(parent.text + written);
      node.text = editor.text;
      editor.paint(parts);
    };
    try {
      const wish = {
        text: parent.text,
        first,
        count: onward ? Number($("length").value) : 0,
        temperature: Number($("temperature").value),
        seed,
        signal,
      };
      for await (const { text, bits } of engine.write(wish)) {
        if (signal.aborted || editor.composing) break;
        const start = [...parent.text + written].length;
        written += text;
        parts.push({ start, end: start + [...text].length, bits, place: null });
        if (performance.now() - shown < FRAME) continue;
        show();
        await new Promise((done) => setTimeout(done)); // for keys, and to be painted
        shown = performance.now();
      }
      if (!signal.aborted && !editor.composing) show();
    } catch (error) {
      return this.tellOf(error);
    } finally {
      if (!signal.aborted) this.writing = false;
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
    this.signal("write");
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
    const signal = this.signal("write");
    $("compare").disabled = true;
    try {
      await compare(this.models, {
        text: this.editor.text,
        count: Number($("length").value),
        temperature: Number($("temperature").value),
        seed: Number($("seed").value),
        signal,
      });
    } catch (error) {
      this.tellOf(error);
    } finally {
      $("compare").disabled = false;
    }
  }
}
