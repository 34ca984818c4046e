// What the page asks of a model. This is the engine that is in the page; another may answer the
// same questions over a network:
//
//   normalized(text)            the text as the model reads it
//   score(text)                 the bits of each part of a text
//   candidates(place)           what could stand there, as whole characters
//   write({text, …})            goes on behind a text, chunk by chunk
//   attention(text, at)         where each head looked to write what stands at `at`
//   lens(text, at)              what each layer would have written there
//   map()                       the embeddings in two dimensions
//
// Places in a text are counted in code points. What has been asked is answered in turn; a signal
// that is aborted ends an answer early with null.

import { Model, Session, breath, softmax } from "./forward.js";
import { Constraint, Tokenizer } from "./tokenizer.js";
import { project } from "./projection.js";
import { readTensors } from "./weights.js";

const LIKELIEST = 8; // candidates of a place
const MOST_BACK = 8; // tokens of a prompt that one token may replace
const MAPPED = 1500; // tokens of the map

export class Engine {
  constructor(described, base64) {
    this.facts = described.facts;
    this.model = new Model(described, readTensors(described.tensors, base64));
    this.tokenizer = new Tokenizer(described.tokenizer);
    this.constraint = new Constraint(this.tokenizer);
    this.reader = new Session(this.model);
    this.probe = new Session(this.model);
    this.writer = new Session(this.model);
    this.bits = []; // of the token at each place of the reader
    this.likeliest = []; // behind the token at each place
    this.turn = Promise.resolve();
  }

  /** Run one thing after the other: they share sessions. */
  _inTurn(work) {
    const result = this.turn.then(work);
    this.turn = result.catch(() => {});
    return result;
  }

  normalized(text) {
    return this.tokenizer.normalized(text);
  }

  /** The ids of a text, behind the end of another one. */
  ids(text) {
    const { end_of_text } = this.tokenizer;
    return [...(end_of_text === null ? [] : [end_of_text]), ...this.tokenizer.encode(text)];
  }

  /**
   * The parts of a text that are whole characters: {start, end, bits, place}; the place is that of
   * the part's first token. Bits are null where nothing stood before.
   */
  score(text, signal) {
    return this._inTurn(async () => {
      const ids = this.ids(text);
      const from = Math.max(this.reader.keepPrefix(ids) - 1, 0);
      this.reader.rewind(from);
      for (let place = from; place < ids.length; place++) {
        if (signal?.aborted) return null;
        const logits = this.model.logits(await this.reader.read(ids[place]));
        const whole = logSum(logits);
        const likeliest = best(logits, LIKELIEST, this.constraint.allowed(""));
        this.likeliest[place] = likeliest.map((id) => [id, Math.exp(logits[id] - whole)]);
        if (place + 1 < ids.length) {
          this.bits[place + 1] = (whole - logits[ids[place + 1]]) / Math.LN2;
        }
      }
      const parts = this._parts(text, ids);
      for (const part of parts) {
        const tokens = this.bits.slice(part.place, part.place + part.tokens);
        part.bits = part.place ? tokens.reduce((sum, bits) => sum + bits, 0) : null;
      }
      return { parts, place: ids.length };
    });
  }

  /** Runs of tokens that spell whole characters, with where they stand in the text. */
  _parts(text, ids) {
    const sizes = [...text].map((character) => this.tokenizer.size(character));
    const parts = [];
    let at = 0, owed = 0;
    let part = null;
    for (let place = this.tokenizer.end_of_text === null ? 0 : 1; place < ids.length; place++) {
      part ??= { start: at, end: at, place, tokens: 0 };
      part.tokens++;
      owed += this.tokenizer.weight(ids[place]);
      while (at < sizes.length && owed >= sizes[at]) owed -= sizes[at++];
      if (owed) continue;
      parts.push({ ...part, end: at });
      part = null;
    }
    return parts;
  }

  /**
   * What could stand at a place of the text that was scored last, whole characters, likeliest
   * first: {text, tokens, p}.
   */
  candidates(place) {
    return this._inTurn(async () => {
      const before = this.reader.ids.slice(0, place);
      const found = [];
      for (const [id, p] of this.likeliest[place - 1] ?? []) {
        found.push(await this._completed(before, id, p));
      }
      return found;
    });
  }

  /** A token, and where it is only a part of a character its likeliest rest. */
  async _completed(before, id, p) {
    const tokens = [id];
    if (id === this.tokenizer.end_of_text) return { text: null, tokens, p };
    let rest;
    while ((rest = this.tokenizer.rest(tokens))) {
      const all = [...before, ...tokens];
      await this.probe.settle(all.slice(0, -1));
      const shares = softmax(this.model.logits(await this.probe.read(all.at(-1))));
      let next = -1, sum = 0;
      for (let other = 0; other < this.tokenizer.bytes.length; other++) {
        if (!rest.allows(other)) continue;
        sum += shares[other];
        if (next < 0 || shares[other] > shares[next]) next = other;
      }
      if (next < 0) break;
      if (rest.optional && shares[next] < 1 - sum) {
        p *= 1 - sum;
        break;
      }
      p *= shares[next];
      tokens.push(next);
    }
    return { text: this.tokenizer.decode(tokens), tokens, p };
  }

  /**
   * Go on behind a text: whole characters as they come, {text, bits}.
   *
   * first: a candidate to begin with; count: of tokens at most; temperature 0 takes the likeliest;
   * the same seed gives the same text
   */
  async *write({ text, first, count, temperature, seed, signal }) {
    const random = randomNumbers(seed);
    const stream = this.tokenizer.stream();
    let state = "";
    const given = first?.tokens ?? [];
    let { ids, covered, allowed } = await this._inTurn(() => {
      return this._begin(text, given, temperature, random);
    });
    for (const id of given) yield { text: stream.push(id), bits: null };
    let bits = 0;
    for (let written = 0; ids.length && written < count && !signal?.aborted; written++) {
      const token = await this._inTurn(async () => {
        await this.writer.settle(ids.slice(0, -1));
        const logits = this.model.logits(await this.writer.read(ids.at(-1)));
        const after = allowed ?? this.constraint.allowed(state);
        const id = draw(logits, after, temperature, random);
        if (id >= 0) bits += (logSum(logits) - logits[id]) / Math.LN2;
        return { id, state: after[id] };
      });
      if (token.id < 0 || token.id === this.tokenizer.end_of_text) break;
      ids.push(token.id);
      [state, allowed] = [token.state, null];
      const chunk = [...stream.push(token.id)].slice(covered).join("");
      covered = 0;
      if (!chunk) continue;
      yield { text: chunk, bits };
      bits = 0;
    }
    const left = stream.finish().replace(/\ufffd+$/, "");
    if (left) yield { text: left, bits };
  }

  /** Where a new text begins: at the prompt's end, or where a longer token reaches over it. */
  async _begin(text, given, temperature, random) {
    const ids = this.ids(text);
    const plain = { ids: [...ids, ...given], covered: 0, allowed: null };
    const points = given.length ? [] : this._healingPoints(ids);
    if (points.length < 2) return plain;
    const back = points.at(-1).back, start = ids.length - back;
    await this.writer.settle(ids.slice(0, start - 1));
    const rows = [];
    for (let place = start - 1; place < ids.length; place++) {
      const logits = this.model.logits(await this.writer.read(ids[place]));
      const whole = logSum(logits);
      rows.push(logits.map((logit) => logit - whole));
    }
    const scores = points.map(({ back: taken, allowed }) => {
      let reached = 0;
      for (let i = 0; i < back - taken; i++) reached += rows[i][ids[start + i]];
      let sum = 0;
      allowed.forEach((after, id) => (sum += after === null ? 0 : Math.exp(rows[back - taken][id])));
      return reached + Math.log(sum);
    });
    const chosen = points[draw(scores, scores, temperature, random)] ?? points[0];
    if (!chosen.back) return plain;
    return { ...chosen, ids: ids.slice(0, ids.length - chosen.back) };
  }

  /** The prompt's end, and each place before it from which a longer token reaches over it. */
  _healingPoints(ids) {
    const points = [{ back: 0, covered: 0, allowed: this.constraint.allowed("") }];
    const { bytes } = this.tokenizer;
    let covered = [];
    for (let back = 1; back <= MOST_BACK && ids.length - back > 0; back++) {
      const data = bytes[ids[ids.length - back]];
      if (!data.length) break;
      covered = [...data, ...covered];
      if ((covered[0] & 0xc0) === 0x80) continue; // inside a character
      const allowed = this.constraint.healing(covered);
      if (!allowed.some((after) => after !== null)) continue;
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(covered));
      points.push({ back, covered: [...text].length, allowed });
    }
    return points;
  }

  /** The layers' weights and streams at the token before the place. */
  async _traced(text, place) {
    const ids = this.ids(text).slice(0, place);
    const trace = { weights: [], streams: [] };
    if (!ids.length) return { ids, trace };
    await this.probe.settle(ids.slice(0, -1));
    await this.probe.read(ids.at(-1), trace);
    return { ids, trace, begin: this.probe.begin };
  }

  /** Of each layer and head the parts that were looked at: [layer][head] = [{start, end, weight}]. */
  attention(text, place) {
    return this._inTurn(async () => {
      const { ids, trace, begin } = await this._traced(text, place);
      const parts = this._parts(text, this.ids(text)).filter((part) => part.place < ids.length);
      return trace.weights.map((heads) =>
        heads.map((weights) =>
          parts.map(({ start, end, place: from, tokens }) => {
            let weight = 0;
            for (let i = Math.max(from, begin); i < from + tokens; i++) weight += weights[i - begin] ?? 0;
            return { start, end, weight };
          }),
        ),
      );
    });
  }

  /** Of the embedding and of each layer the likeliest tokens, were it the last: [[{text, p}]]. */
  lens(text, place, signal, count = 3) {
    return this._inTurn(async () => {
      const { trace } = await this._traced(text, place);
      return trace.streams.map((stream) => {
        const shares = softmax(this.model.logits(stream));
        return best(shares, count).map((id) => {
          return { text: id === this.tokenizer.end_of_text ? null : this.tokenizer.shown(id), p: shares[id] };
        });
      });
    });
  }

  /** The embeddings of the shortest tokens as points, {text, x, y}. */
  map() {
    return this._inTurn(async () => {
      await breath();
      const { data, columns } = this.model.parts.embedding;
      const { texts } = this.tokenizer;
      const ids = texts
        .flatMap((text, id) => (text?.trim() && !this.tokenizer.isFallback(id) ? [id] : []))
        .sort((a, b) => texts[a].length - texts[b].length || a - b)
        .slice(0, MAPPED);
      const rows = ids.map((id) => data.subarray(id * columns, (id + 1) * columns));
      const points = await project(rows);
      return ids.map((id, i) => ({ text: texts[id], row: rows[i], ...points[i] }));
    });
  }
}

function logSum(logits) {
  let top = -Infinity, sum = 0;
  for (const logit of logits) if (logit > top) top = logit;
  for (const logit of logits) sum += Math.exp(logit - top);
  return top + Math.log(sum);
}

/** The indices of the `count` largest values, the largest first; of those that `after` allows. */
function best(values, count, after = values) {
  const found = [];
  for (let i = 0; i < after.length; i++) {
    if (after[i] === null) continue;
    if (found.length === count && values[i] <= values[found[count - 1]]) continue;
    let at = found.length;
    while (at && values[found[at - 1]] < values[i]) at--;
    found.splice(at, 0, i);
    found.length = Math.min(found.length, count);
  }
  return found;
}

/** The index of one drawn value of those that `after` allows; -1 where none is. */
function draw(logits, after, temperature, random) {
  let top = -Infinity, likeliest = -1;
  for (let id = 0; id < after.length; id++) {
    if (after[id] !== null && logits[id] > top) [top, likeliest] = [logits[id], id];
  }
  if (likeliest < 0 || temperature < 1e-6) return likeliest;
  let sum = 0;
  const sums = new Float64Array(after.length);
  for (let id = 0; id < after.length; id++) {
    if (after[id] !== null) sum += Math.exp((logits[id] - top) / temperature);
    sums[id] = sum;
  }
  const uniform = random() * sum;
  const found = sums.findIndex((reached) => reached > uniform);
  return found < 0 ? likeliest : found;
}

/** Numbers in [0, 1) from a seed (Mulberry32). */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
