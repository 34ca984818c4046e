// The page behind a server: tabs, the key, the gate of a memory, and the training tab.

import { $, element, number, percent, say, visible } from "./dom.js";
import { Page } from "./page.js";
import { Server, ServerModels } from "./server.js";
import { Training } from "./training.js";
import { Trouble } from "./trouble.js";

const TABS = ["write", "training"];

/** The tabs' buttons; one is shown by its panel. */
class Tabs {
  constructor() {
    this.list = element("div", { id: "tabs", "data-label": "views", hidden: true });
    this.list.setAttribute("role", "tablist");
    $("models").before(this.list);
    this.buttons = TABS.map((name) => {
      const panel = $(name), button = element("button", { id: `${name}-tab`, "data-say": name });
      const set = (node, attributes) => {
        for (const one of Object.entries(attributes)) node.setAttribute(...one);
      };
      set(button, { role: "tab", "aria-controls": name });
      set(panel, { role: "tabpanel", "aria-labelledby": button.id });
      button.addEventListener("click", () => this.show(name));
      button.addEventListener("keydown", (event) => this._key(event));
      this.list.append(button);
      return button;
    });
  }

  show(name) {
    for (const button of this.buttons) {
      const isShown = button.id === `${name}-tab`;
      button.setAttribute("aria-selected", String(isShown));
      button.tabIndex = isShown ? 0 : -1;
    }
    for (const one of TABS) $(one).hidden = one !== name;
  }

  _key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const { buttons } = this, at = buttons.indexOf(event.target) + by;
    const next = buttons[(at + buttons.length) % buttons.length];
    next.click();
    next.focus();
  }
}

/** A row an expert: how much it was believed, and what it said. */
function showGate(experts) {
  const rows = experts.map(({ expert, tokens, weight, likeliest }) => {
    const share = element("td", { className: "share" }, percent(weight));
    share.style.setProperty("--weight", weight);
    const said = likeliest.map(({ text, p }) => {
      return `${text === null ? say("endOfText") : visible(text)} ${percent(p)}`;
    });
    const name = element("th", { scope: "row" }, say(expert, { tokens: number(tokens ?? 0) }));
    return element("tr", {}, name, share, element("td", { lang: "ko" }, said.join(", ")));
  });
  $("experts").replaceChildren(element("tbody", {}, ...rows));
}

/** Ask for the key until the server takes one. */
function askKey(server, work) {
  const input = element("input", { type: "password", autocomplete: "off", required: true });
  const wrong = element("p", {});
  wrong.setAttribute("role", "alert");
  const form = element(
    "form",
    {},
    element("h2", { id: "key-title", "data-say": "keyTitle" }),
    element("label", {}, element("span", { "data-say": "key" }), " ", input),
    element("button", { className: "main", "data-say": "open" }),
    element("p", { className: "soft", "data-say": "keyHint" }),
    wrong,
  );
  const dialog = element("dialog", { id: "key", "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    server.key = input.value;
    try {
      await work();
      dialog.remove();
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      wrong.textContent = say(error.message, error.values);
    }
  });
  dialog.showModal();
  page.speak(document.documentElement.lang);
}

const server = new Server(), models = new ServerModels(server);
let page, training, tabs;

/** A run has written something, or has new weights. */
async function changed(run) {
  await models.open();
  const one = models.described.find(({ facts }) => facts.name === run.name);
  if (!one) return;
  one.facts.steps = run.state.weights_step;
  one.samples = run.shown();
  const hasBegun = !!page.now;
  if (!hasBegun) return page.begin();
  page.introduce();
  const engine = models.engine(models.described.indexOf(one));
  if (!page.writing && page.now === engine) await page.changed();
}

async function open() {
  await models.open();
  training.open();
  tabs.list.hidden = !models.runs.length;
  const watched = !models.described.length || location.hash === "#training";
  tabs.show(models.runs.length && watched ? "training" : "write");
  if (!models.described.length) page.tell(() => say("noWeights"));
  const own = models.described.at(-1)?.facts.name;
  await training.choose(models.runs.includes(own) ? own : models.runs[0]);
  if (models.described.length && !page.now) await page.begin();
}

/** Make what a page behind a server has beside the others, and ask. */
function start() {
  $("write").after(element("section", { id: "training", hidden: true }));
  tabs = new Tabs();
  const gate = element(
    "details",
    { id: "gate", hidden: true },
    element("summary", { "data-say": "gate" }),
    element("p", { className: "soft", "data-say": "gateHint" }),
    element("table", { id: "experts" }),
  );
  $("lens").after(gate);
  $("map").hidden = true; // the server has no such question
  training = new Training(models, changed);
  $("training").append($("samples"));
  page = new Page(models);
  window.semigpt = page; // for whoever opens the console
  gate.addEventListener("toggle", () => page.look());
  page.looks.gate = showGate;
  page.spoken = () => training.draw();
  page.used = ({ facts }) => {
    gate.hidden = !facts.looks.includes("gate");
    training.choose(facts.name);
    training.draw();
  };
  document.documentElement.dataset.ready = "";
  if ("key" in document.documentElement.dataset) askKey(server, open);
  else open().catch((error) => page.tellOf(error));
}

// The first paint comes first, where there is one: a tab in the background has none.
if (document.hidden) start();
else requestAnimationFrame(() => setTimeout(start));
