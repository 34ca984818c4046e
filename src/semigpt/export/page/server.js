// The models behind a server: the same questions as `engine.js` answers, asked over its API.

import { bitsPerCharacter } from "./dom.js";
import { Trouble } from "./trouble.js";

const LIKELIEST = 8; // candidates of a place
const MOST_SCORED = 200000, MOST_LOOKED_AT = 20000; // code points that the server takes
const TYPING = 150; // ms without a key before a text is scored

/** Asks; the key stays in memory. */
export class Server {
  #key = null;

  set key(key) {
    this.#key = key;
  }

  /** The JSON of an answer; null where the signal ended it. */
  async ask(path, body, signal) {
    try {
      return await (await this.begin(path, body, signal))?.json();
    } catch (error) {
      if (signal?.aborted) return null;
      throw error;
    }
  }

  async begin(path, body, signal) {
    const headers = body ? { "content-type": "application/json" } : {};
    if (this.#key !== null) headers.authorization = `Bearer ${this.#key}`;
    const [method, sent] = body ? ["POST", JSON.stringify(body)] : ["GET"];
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: sent, signal, credentials: "omit" });
    } catch (error) {
      if (signal?.aborted) return null;
      throw new Trouble("unreachable");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) throw new Trouble("wrongKey");
    throw refused((await answer.json()).error);
  }

  /** The events of a stream, until its end or the signal's. */
  async *events(path, body, signal) {
    const answer = await this.begin(path, body, signal);
    if (!answer) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const blocks = (held + value).split("\n\n");
        held = blocks.pop();
        for (const block of blocks) {
          if (!block.startsWith("data: ") || block === "data: [DONE]") continue;
          const event = JSON.parse(block.slice(6));
          if (event.error && !event.object) throw refused(event.error);
          yield event;
        }
      }
    } catch (error) {
      if (signal?.aborted) return;
      throw error instanceof Trouble ? error : new Trouble("unreachable");
    } finally {
      reader.cancel().catch(() => {});
    }
  }
}

const refused = ({ message }) => new Trouble("refused", { reason: message });

export class ServerModels {
  described = [];
  runs = []; // the names of those that may be training
  engines = new Map();

  constructor(server) {
    this.server = server;
  }

  /** Ask which models there are, and what is known of them by now. */
  async open() {
    const { data, runs } = await this.server.ask("/v1/models");
    const known = new Map(this.described.map((one) => [one.facts.name, one]));
    this.runs = runs;
    this.described = data.map((model) => {
      const one = known.get(model.id) ?? { facts: {}, samples: [] };
      Object.assign(one.facts, model, { name: model.id, rung: model.kind });
      return one;
    });
  }

  engine(index) {
    const { facts } = this.described[index];
    if (!this.engines.has(facts.name)) {
      this.engines.set(facts.name, new ServerEngine(this.server, facts));
    }
    return this.engines.get(facts.name);
  }

  /** Let every model go on behind a text, all at once, in one stream. */
  async *compare({ text, count, temperature, seed, signal }) {
    for (const index of this.described.keys()) {
      const scored = await this.engine(index).score(text, signal);
      if (!scored) return;
      yield { index, own: bitsPerCharacter(scored.parts) };
    }
    const columns = this.described.map(({ facts }) => ({ model: facts.name, temperature, seed }));
    const pieces = columns.map(() => new Pieces());
    const body = { prompt: text, max_tokens: count, columns };
    const events = this.server.events("/v1/compare", body, signal);
    for await (const { column, choices, error } of events) {
      if (error) throw refused(error);
      for (const piece of pieces[column].of(choices[0])) yield { index: column, ...piece };
    }
  }
}

class ServerEngine {
  constructor(server, facts) {
    this.server = server;
    this.facts = facts;
    this.text = ""; // that was scored last
  }

  normalized(text) {
    return this.facts.normalization ? text.normalize(this.facts.normalization) : text;
  }

  async score(text, signal) {
    await new Promise((done) => setTimeout(done, this.text && TYPING));
    if (signal?.aborted) return null;
    this.text = text;
    const parts = [], place = [...text].length;
    if (!place) return { parts, place };
    const { own, begin } = around(text, place, MOST_SCORED);
    const found = await this._ask("/v1/surprise", { text: own, alternatives: 0 }, signal);
    if (!found) return null;
    for (const part of whole(found.tokens, ({ bits }) => bits)) {
      const start = begin + part.start, end = begin + part.end;
      // Before the first one stands what has no bits.
      if (!parts.length && start) parts.push({ start: 0, end: start, bits: null, place: 0 });
      parts.push({ start, end, bits: part.sum, place: start });
    }
    return { parts, place };
  }

  async candidates(place, signal) {
    const found = await this._look("candidates", this.text, place, signal);
    return found?.candidates.map(({ text, probability }) => ({ text, p: probability })) ?? [];
  }

  async *write({ text, first, count, temperature, seed, signal }) {
    if (first) {
      yield { text: first.text, bits: null };
      text += first.text;
    }
    if (!count) return;
    const wish = { prompt: text, max_tokens: count, temperature, seed, stream: true, logprobs: 0 };
    const body = { model: this.facts.name, ...wish };
    const pieces = new Pieces();
    for await (const { choices } of this.server.events("/v1/completions", body, signal)) {
      yield* pieces.of(choices[0]);
    }
  }

  async attention(text, place, signal) {
    const found = await this._look("attention", text, place, signal);
    return (
      found?.layers.map((heads) =>
        heads.map((weights) =>
          whole(found.tokens, (_, at) => weights[at]).map(({ start, end, sum }) => {
            return { start: start + found.begin, end: end + found.begin, weight: sum };
          }),
        ),
      ) ?? []
    );
  }

  async lens(text, place, signal) {
    const found = await this._look("lens", text, place, signal, 3);
    return found?.layers.map(({ likeliest }) => likeliest.map(named)) ?? [];
  }

  /** Of a memory: each expert with its weight and what it said. */
  async gate(text, place, signal) {
    const found = await this._look("gate", text, place, signal, 3);
    return found?.experts.map((one) => ({ ...one, likeliest: one.likeliest.map(named) })) ?? [];
  }

  _ask(path, body, signal) {
    return this.server.ask(path, { model: this.facts.name, ...body }, signal);
  }

  /** What is before a place; null for what this rung has not. */
  async _look(what, text, place, signal, alternatives = LIKELIEST) {
    if (!this.facts.looks.includes(what)) return null;
    const { own, begin } = around(text, place, MOST_LOOKED_AT);
    const body = { text: own, at: place - begin, alternatives };
    const found = await this._ask(`/v1/${what}`, body, signal);
    return found && { ...found, begin };
  }
}

/** As much of a text around a place as the server takes, and where that begins. */
function around(text, place, most) {
  const points = [...text];
  if (points.length <= most) return { own: text, begin: 0 };
  const begin = Math.min(Math.max(place - Math.floor(0.9 * most), 0), points.length - most);
  return { own: points.slice(begin, begin + most).join(""), begin };
}

/** Special tokens are spelt <…>, and stand nowhere in a text. */
const isSpecial = ({ text, start, end }) => start === end && /^<.+>$/.test(text);

/** Tokens as whole characters, {start, end, sum}: of the parts of one, the last has its place. */
function whole(tokens, valueOf) {
  const parts = [];
  let held = 0;
  tokens.forEach((token, at) => {
    if (isSpecial(token)) return;
    held += valueOf(token, at);
    if (token.end === token.start) return;
    parts.push({ start: token.start, end: token.end, sum: held });
    held = 0;
  });
  return parts;
}

const named = ({ text, probability }) => {
  return { text: /^<\|.+\|>$/.test(text) ? null : text.replace(/^bytes:/, ""), p: probability };
};

/** Cuts what a stream writes into whole characters with their bits. */
class Pieces {
  written = 0; // code points
  given = 0; // of them in pieces
  bits = 0;

  *of({ text, logprobs }) {
    const points = [...text], begin = this.written;
    this.written += points.length;
    const { text_offset: offsets, token_logprobs: values } = logprobs;
    for (const [at, value] of values.entries()) {
      this.bits -= value / Math.LN2;
      yield* this._until(offsets[at + 1] ?? this.written, points, begin);
    }
    yield* this._until(this.written, points, begin);
  }

  *_until(end, points, begin) {
    const text = points.slice(this.given - begin, end - begin).join("");
    if (!text) return;
    yield { text, bits: this.bits };
    this.given = end;
    this.bits = 0;
  }
}
