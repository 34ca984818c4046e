// The page that is one file: its models are in it.

import { $, bitsPerCharacter } from "./dom.js";
import { Engine } from "./engine.js";
import { Page } from "./page.js";

class FileModels {
  described = [];
  engines = [];

  open() {
    for (let index = 0; $(`model-${index}`); index++) {
      this.described.push(JSON.parse($(`model-${index}`).textContent));
    }
  }

  async engine(index) {
    if (!this.engines[index]) {
      await new Promise((done) => setTimeout(done)); // paint first
      const weights = $(`weights-${index}`);
      this.engines[index] = new Engine(this.described[index], weights.textContent);
      weights.remove();
    }
    return this.engines[index];
  }

  /** Let every model go on behind a text, one after the other. */
  async *compare(wish) {
    for (const index of this.described.keys()) {
      const engine = await this.engine(index);
      const scored = await engine.score(wish.text, wish.signal);
      if (!scored) return;
      yield { index, own: bitsPerCharacter(scored.parts) };
      for await (const chunk of engine.write(wish)) yield { index, ...chunk };
      if (wish.signal.aborted) return;
    }
  }
}

const page = new Page(new FileModels());
window.semigpt = page; // for whoever opens the console
document.addEventListener("DOMContentLoaded", () => page.open());
