// The training tab: the curve beside its baselines, and what the run writes, while it trains.

import { $, element, number, say } from "./dom.js";
import { draw } from "./chart.js";
import { showSamples } from "./sections.js";
import { Trouble } from "./trouble.js";

const SOON = 1000, LATER = 5000; // ms between two looks at a run that trains, and at another
const SHOWN_CHARACTERS = 600; // of a sample
const BASELINES = ["uniform", "unigram", "bigram", "xz", "kneser_ney_5"];

/** What is known of a run, read from where it was left. */
class Run {
  constructor(name) {
    this.name = name;
    this.metrics = [];
    this.samples = [];
    this.state = null;
  }

  async read(server) {
    for (let more = true; more; ) {
      const { step = -1 } = this.metrics.at(-1) ?? {};
      const query = new URLSearchParams({ model: this.name, after: step });
      const found = await server.ask(`/v1/training?${query}`);
      if ((found.step ?? -1) < step) this.metrics = this.samples = []; // it was resumed from before
      else if (found.metrics.length || found.samples.length) {
        this.metrics = [...this.metrics, ...found.metrics];
        this.samples = [...this.samples, ...found.samples];
      }
      this.state = found;
      more = found.more || (found.step ?? -1) < step;
    }
  }

  /** The samples as the slider shows them, each with the bits of its step. */
  shown() {
    const bits = new Map(this.metrics.map((row) => [row.step, row.bits_per_character]));
    return this.samples.map(({ step, prompt, text }) => {
      const letters = [...text].slice(0, SHOWN_CHARACTERS).join("");
      return { step, prompt, text: letters, bits_per_character: bits.get(step) };
    });
  }
}

export class Training {
  /** changed: called with a run that has new weights or samples */
  constructor(models, changed) {
    this.models = models;
    this.changed = changed;
    this.run = null;
    this.watched = new Map();
    this.chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.chart.id = "curve";
    this.chart.setAttribute("role", "img");
    this.choice = element("select", { id: "run", oninput: () => this.choose(this.choice.value) });
    this.chosen = element("label", {}, element("span", { "data-say": "run" }), " ", this.choice);
    this.state = element("p", { id: "run-state", className: "soft" });
    const title = element("h2", { "data-say": "curve" });
    $("training").append(this.chosen, title, this.state, this.chart);
    new ResizeObserver(() => this.draw()).observe(this.chart);
  }

  open() {
    const { runs } = this.models;
    this.choice.replaceChildren(...runs.map((name) => element("option", { value: name }, name)));
    this.chosen.hidden = runs.length < 2;
  }

  /** Watch this run from now on, where it is one; done after the first look. */
  choose(name) {
    if (!this.models.runs.includes(name) || this.run?.name === name) return null;
    this.choice.value = name;
    if (!this.watched.has(name)) this.watched.set(name, new Run(name));
    this.run = this.watched.get(name);
    return this.look();
  }

  /** Look at the run, and again soon. */
  async look() {
    clearTimeout(this.next);
    const { run } = this;
    const before = [run.state?.weights_step, run.samples];
    let isTraining = false;
    try {
      if (!document.hidden || !run.state) await run.read(this.models.server);
      isTraining = !run.state.finished;
      const isNews = run.state.weights_step !== before[0] || run.samples !== before[1];
      if (isNews || !this.models.described.length) await this.changed(run);
      if (run === this.run) this.draw();
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      this.state.textContent = say(error.message, error.values);
    }
    if (run === this.run) this.next = setTimeout(() => this.look(), isTraining ? SOON : LATER);
  }

  draw() {
    if (!this.run?.state) return;
    const { metrics, state } = this.run, { baselines, source_entropy: source } = state;
    const levels = BASELINES.filter((name) => typeof baselines?.[name] === "number");
    const measured = metrics.filter((row) => typeof row.bits_per_character === "number");
    const bits = state.tokens_per_character / Math.LN2;
    const trained = bits ? metrics.filter(({ loss }) => typeof loss === "number") : [];
    draw(this.chart, {
      series: [
        {
          name: say("trained"),
          className: "faint",
          points: trained.map(({ step, loss }) => [step, bits * loss]),
        },
        {
          name: say("validation"),
          className: "own",
          points: measured.map((row) => [row.step, row.bits_per_character]),
        },
      ],
      levels: [
        ...levels.map((name) => ({ name: say(name), value: baselines[name] })),
        ...(typeof source === "number" ? [{ name: say("source"), value: source }] : []),
      ],
      until: state.finished ? 0 : (state.planned_steps ?? 0),
    });
    const last = measured.at(-1);
    const said = last
      ? say("curveIs", { step: number(last.step), bits: number(last.bits_per_character, 2) })
      : say("noCurve");
    this.chart.setAttribute("aria-label", said);
    showSamples(this.run.shown());
    this.state.textContent = [said, this._progress(), this._weights()].filter(Boolean).join(" · ");
  }

  _progress() {
    const { step, planned_steps: planned, finished } = this.run.state;
    if (step === null) return "";
    const name = finished ? "finished" : planned ? "running" : "runningOpen";
    return say(name, { step: number(step), planned: number(planned ?? 0) });
  }

  _weights() {
    const { weights_step: step } = this.run.state;
    return step === null ? "" : say("weightsOf", { step: number(step) });
  }
}
