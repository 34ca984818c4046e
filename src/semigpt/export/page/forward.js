// The forward pass of every rung, one position at a time. Keys and values are kept, so that one
// more token costs one position.

const TURN = 12; // milliseconds of work between two looks at the page
const channel = new MessageChannel();
let resting = performance.now();

/** Let the page answer, where it has waited for a while. */
export async function breath() {
  if (performance.now() - resting < TURN) return;
  await new Promise((done) => {
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  });
  resting = performance.now();
}

/** out = weight x (+ bias); four rows side by side, as one row waits for its own sum. */
function product(weight, x, bias, out) {
  const { data, rows, columns } = weight;
  let row = 0;
  for (; row + 3 < rows; row += 4) {
    let p = row * columns, q = p + columns, r = q + columns, s = r + columns;
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < columns; i++) {
      const value = x[i];
      a += data[p++] * value;
      b += data[q++] * value;
      c += data[r++] * value;
      d += data[s++] * value;
    }
    out[row] = a;
    out[row + 1] = b;
    out[row + 2] = c;
    out[row + 3] = d;
  }
  for (; row < rows; row++) {
    let sum = 0;
    for (let i = 0, p = row * columns; i < columns; i++) sum += data[p + i] * x[i];
    out[row] = sum;
  }
  if (bias) for (let i = 0; i < rows; i++) out[i] += bias.data[i];
  return out;
}

/** LayerNorm where there is a bias, else RMSNorm, of x[from … from + width). */
function normalize(x, from, width, { weight, bias, epsilon }, out) {
  let mean = 0;
  if (bias) {
    for (let i = 0; i < width; i++) mean += x[from + i];
    mean /= width;
  }
  let square = 0;
  for (let i = 0; i < width; i++) square += (x[from + i] - mean) ** 2;
  const factor = 1 / Math.sqrt(square / width + epsilon);
  for (let i = 0; i < width; i++) {
    out[from + i] = (x[from + i] - mean) * factor * weight.data[i] + (bias ? bias.data[i] : 0);
  }
}

function normalized(x, norm) {
  const out = new Float32Array(x.length);
  normalize(x, 0, x.length, norm, out);
  return out;
}

/** The angles of a position, by which each pair (i, i + width / 2) of a head is turned (RoPE). */
function anglesOf(position, width, theta) {
  const angles = Array.from({ length: width / 2 }, (_, i) => position * theta ** ((-2 * i) / width));
  return { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

function rotate(x, from, width, { cos, sin }) {
  const half = width / 2;
  for (let i = from, pair = 0; pair < half; i++, pair++) {
    const left = x[i], right = x[i + half];
    x[i] = left * cos[pair] - right * sin[pair];
    x[i + half] = right * cos[pair] + left * sin[pair];
  }
}

/** softmax(logits) in place; returns it. */
export function softmax(logits) {
  let top = -Infinity, sum = 0;
  for (const logit of logits) if (logit > top) top = logit;
  for (let i = 0; i < logits.length; i++) sum += logits[i] = Math.exp(logits[i] - top);
  for (let i = 0; i < logits.length; i++) logits[i] /= sum;
  return logits;
}

/** The parts of a shape with tensors in place of their names. */
function withTensors(part, tensors) {
  if (Array.isArray(part)) return part.map((value) => withTensors(value, tensors));
  if (part && typeof part === "object") {
    return Object.fromEntries(
      Object.entries(part).map(([key, value]) => [key, withTensors(value, tensors)]),
    );
  }
  return typeof part === "string" ? tensors[part] : part;
}

/** A model's parts, shared by its sessions. */
export class Model {
  constructor({ shape, vocab_size, context_length }, tensors) {
    this.parts = withTensors(shape, tensors);
    this.vocabulary = vocab_size;
    this.context = context_length;
    this.layers = this.parts.layers.length;
  }

  /** The logits that a residual stream gives, [V]; a bigram's row is them. */
  logits(x) {
    const { final_norm: norm, output } = this.parts;
    if (!output) return x.slice(0, this.vocabulary);
    const h = norm ? normalized(x, norm) : x;
    return product(output.weight, h, output.bias, new Float32Array(this.vocabulary));
  }
}

/**
 * One text as a model reads it.
 *
 * A text longer than the context is read in windows: where one is full, the next begins half a
 * context later. So each token sees half a context at least, and what it sees depends on the text
 * alone, not on how it was typed.
 */
export class Session {
  constructor(model) {
    this.model = model;
    this.ids = [];
    this.begin = 0; // of the window
    this.cache = model.parts.layers.map(({ kv_heads, head_width }) => {
      const size = model.context * kv_heads * head_width;
      return { keys: new Float32Array(size), values: new Float32Array(size) };
    });
  }

  /** Where the window begins in which the token at `place` is read. */
  windowOf(place) {
    const { context } = this.model;
    if (place < context) return 0;
    const half = Math.max(context >> 1, 1);
    return half * (Math.floor((place - context) / half) + 1);
  }

  /** Forget the tokens from `length` on. */
  rewind(length) {
    this.ids.length = Math.min(length, this.ids.length);
    if (this.windowOf(this.ids.length) !== this.begin) this.begin = -1; // it is to be read again
  }

  /** How many of `ids` are read already; the rest of what was read is forgotten. */
  keepPrefix(ids) {
    let same = 0;
    while (same < ids.length && ids[same] === this.ids[same]) same++;
    this.rewind(same);
    return same;
  }

  /**
   * Be where `ids` have been read, but for what lies before the window of the next token.
   */
  async settle(ids) {
    const same = this.keepPrefix(ids), begin = this.windowOf(ids.length);
    if (begin !== this.begin || same < begin) {
      this.ids = ids.slice();
      this.begin = -1;
      return;
    }
    for (const id of ids.slice(same)) await this.read(id);
  }

  /**
   * Read one more token; the stream behind the last layer, [C].
   *
   * trace: {weights, streams} to be filled: of each layer the attention weights of each head, and
   * the stream before the first layer and behind each
   */
  async read(id, trace = null) {
    await breath();
    const begin = this.windowOf(this.ids.length);
    if (begin !== this.begin) {
      this.begin = begin;
      for (let place = begin; this.model.layers && place < this.ids.length; place++) {
        await breath();
        this._position(this.ids[place], place - begin, null);
      }
    }
    this.ids.push(id);
    return this._position(id, this.ids.length - 1 - begin, trace);
  }

  _position(id, position, trace) {
    const { embedding, positions, layers } = this.model.parts;
    const width = embedding.columns;
    let x = embedding.data.slice(id * width, (id + 1) * width);
    if (positions) for (let i = 0; i < width; i++) x[i] += positions.data[position * width + i];
    trace?.streams.push(x.slice());
    for (let number = 0; number < layers.length; number++) {
      const layer = layers[number];
      x = this._attention(layer, this.cache[number], x, position, trace);
      if (layer.feedforward) x = feedForward(layer, x);
      trace?.streams.push(x.slice());
    }
    return x;
  }

  _attention(layer, cache, x, position, trace) {
    const { heads, kv_heads: shared, head_width: width } = layer;
    const h = layer.attention_norm ? normalized(x, layer.attention_norm) : x;
    const { separate, joined } = layer.query_key_value;
    let query, key, value;
    if (joined) {
      const all = product(joined, h, null, new Float32Array(joined.rows));
      const third = joined.rows / 3;
      [query, key, value] = [0, 1, 2].map((part) => all.subarray(part * third, (part + 1) * third));
    } else {
      [query, key, value] = separate.map((w) => product(w, h, null, new Float32Array(w.rows)));
    }
    const angles = layer.rope_theta ? anglesOf(position, width, layer.rope_theta) : null;
    for (const [vectors, norm] of [[query, layer.query_norm], [key, layer.key_norm]]) {
      for (let from = 0; from < vectors.length; from += width) {
        if (norm) normalize(vectors, from, width, norm, vectors);
        if (angles) rotate(vectors, from, width, angles);
      }
    }
    const row = shared * width;
    cache.keys.set(key, position * row);
    cache.values.set(value, position * row);
    const mixed = attend(layer, cache, query, position, trace);
    if (!layer.projection) return mixed;
    const { weight, bias } = layer.projection;
    const out = product(weight, mixed, bias, new Float32Array(weight.rows));
    if (layer.residual) for (let i = 0; i < out.length; i++) out[i] += x[i];
    return out;
  }
}

/** softmax(q kᵀ / √D) v of one position, its heads side by side. */
function attend({ heads, kv_heads: shared, head_width: width }, cache, query, position, trace) {
  const mixed = new Float32Array(heads * width);
  const row = shared * width, group = heads / shared, scale = 1 / Math.sqrt(width);
  const weights = [];
  for (let head = 0; head < heads; head++) {
    const from = Math.floor(head / group) * width, q = head * width;
    const scores = new Float32Array(position + 1);
    for (let place = 0; place <= position; place++) {
      let sum = 0;
      for (let i = 0, k = place * row + from; i < width; i++) sum += query[q + i] * cache.keys[k + i];
      scores[place] = sum * scale;
    }
    softmax(scores);
    for (let place = 0; place <= position; place++) {
      const weight = scores[place];
      for (let i = 0, v = place * row + from; i < width; i++) {
        mixed[q + i] += weight * cache.values[v + i];
      }
    }
    weights.push(scores);
  }
  trace?.weights.push(weights);
  return mixed;
}

/** SwiGLU where there is a gate, else two layers with a ReLU between. */
function feedForward({ feedforward, feedforward_norm: norm, residual }, x) {
  const { gate, expand, contract } = feedforward;
  const h = norm ? normalized(x, norm) : x;
  const hidden = product(expand.weight, h, expand.bias, new Float32Array(expand.weight.rows));
  if (gate) {
    const opened = product(gate, h, null, new Float32Array(gate.rows));
    for (let i = 0; i < hidden.length; i++) hidden[i] *= opened[i] / (1 + Math.exp(-opened[i]));
  } else {
    for (let i = 0; i < hidden.length; i++) if (hidden[i] < 0) hidden[i] = 0;
  }
  const out = product(contract.weight, hidden, contract.bias, new Float32Array(x.length));
  if (residual) for (let i = 0; i < out.length; i++) out[i] += x[i];
  return out;
}
