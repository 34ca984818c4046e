// Text to ids and back, with the ids of semigpt's own tokenizers.

import { Trouble } from "./trouble.js";

const UTF8 = new TextEncoder();
const SYLLABLE = 0xac00, INITIALS = 19, VOWELS = 21, FINALS = 27, SYLLABLES = 11172;
const INITIAL = 256, VOWEL = INITIAL + INITIALS, FINAL = VOWEL + VOWELS, OTHERS = FINAL + FINALS;
// GPT-2's words, with the white space of Unicode, which JavaScript's \s is not.
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** One string a sequence of bytes, to look it up by. */
const key = (bytes) => String.fromCharCode(...bytes);

export class Tokenizer {
  constructor(described) {
    Object.assign(this, described);
    /** Of each id; empty for a special token. */
    this.bytes = described.tokens.map((token) =>
      token === null ? new Uint8Array(0) : typeof token === "string" ? UTF8.encode(token) : Uint8Array.from(token),
    );
    this.texts = described.tokens.map((token) => (typeof token === "string" ? token : null));
    this.characters = new Map();
    this.texts.forEach((text, id) => {
      if (text !== null && !this.isFallback(id) && [...text].length === 1) this.characters.set(text, id);
    });
    if (this.kind === "bpe" || this.kind === "char_bpe") this._readMerges();
    if (this.kind === "unigram") {
      this.pieces = new Map();
      this.longest = 0;
      this.scores.forEach((_, id) => {
        this.pieces.set(key(this.bytes[id]), id);
        this.longest = Math.max(this.longest, this.bytes[id].length);
      });
    }
  }

  _readMerges() {
    this.rules = new Map(); // a pair as one number -> what it makes; the smaller came first
    this.neighbours = new Set(); // pairs of characters that some merge joins
    const made = this.bytes.length - (this.merges.length / 2) - this.bytes.filter((b) => !b.length).length;
    for (let i = 0; i < this.merges.length; i += 2) {
      const [left, right] = [this.merges[i], this.merges[i + 1]];
      this.rules.set(left * 2 ** 24 + right, made + i / 2);
      if (this.kind === "char_bpe") {
        this.neighbours.add([...this.texts[left]].at(-1) + [...this.texts[right]][0]);
      }
    }
  }

  /** The text as `encode` reads it. */
  normalized(text) {
    return this.normalization ? text.normalize(this.normalization) : text;
  }

  /** The ids of a text, without special tokens. */
  encode(text) {
    text = this.normalized(text);
    switch (this.kind) {
      case "char":
        return [...text].flatMap((c) => this.characters.get(c) ?? this._spelled(c));
      case "byte":
        return [...UTF8.encode(text)];
      case "jamo":
        return [...text].flatMap((c) => letters(c) ?? this._letterless(c));
      case "char_bpe":
        return this._runs(text).flatMap((run) => {
          return this._merged([...run].flatMap((c) => this.characters.get(c) ?? this._spelled(c)));
        });
      case "bpe":
        return (text.match(WORDS) ?? []).flatMap((word) => this._merged([...UTF8.encode(word)]));
      default:
        return (text.match(WORDS) ?? []).flatMap((word) => this._cut(UTF8.encode(word)));
    }
  }

  _spelled(character) {
    // A plain vocabulary has no bytes to fall back on.
    if (this.first_byte === null) throw new Trouble("unknown", { character });
    return [...UTF8.encode(character)].map((byte) => this.first_byte + byte);
  }

  _letterless(character) {
    const id = this.characters.get(character);
    return id !== undefined && id >= OTHERS ? id : [...UTF8.encode(character)];
  }

  /** Cut where no merge joins the characters of both sides. */
  _runs(text) {
    const runs = [];
    let before = "";
    for (const character of text) {
      if (before && this.neighbours.has(before + character)) runs[runs.length - 1] += character;
      else runs.push(character);
      before = character;
    }
    return runs;
  }

  /** The symbols after every merge: the earliest rule first, and of one rule the leftmost. */
  _merged(symbols) {
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const made = this.rules.get(symbols[i] * 2 ** 24 + symbols[i + 1]);
        if (made < best) [best, at] = [made, i];
      }
      if (at < 0) return symbols;
      symbols.splice(at, 2, best);
    }
  }

  /** The pieces of a word's likeliest cut (Viterbi); of two as likely, the longer last piece. */
  _cut(word) {
    const best = new Float64Array(word.length + 1).fill(-Infinity);
    const last = new Int32Array(word.length + 1), begins = new Int32Array(word.length + 1);
    best[0] = 0;
    for (let begin = 0; begin < word.length; begin++) {
      let spelled = "";
      for (let end = begin + 1; end <= Math.min(begin + this.longest, word.length); end++) {
        spelled += String.fromCharCode(word[end - 1]);
        const piece = this.pieces.get(spelled);
        if (piece === undefined) continue;
        const score = best[begin] + this.scores[piece];
        if (score > best[end]) [best[end], last[end], begins[end]] = [score, piece, begin];
      }
    }
    const ids = [];
    for (let end = word.length; end; end = begins[end]) ids.unshift(last[end]);
    return ids;
  }

  /** Whether a token only spells characters that have none of their own. */
  isFallback(id) {
    const fallsBack = this.first_byte !== null && this.kind.startsWith("char");
    return fallsBack && id >= this.first_byte && id < this.first_byte + 256;
  }

  /** What a character owes its tokens, and what a token pays: bytes, or letters of a syllable. */
  size(character) {
    const own = this.kind === "jamo" ? letters(character) : undefined;
    return own ? own.length : UTF8.encode(character).length;
  }

  weight(id) {
    const isLetter = this.kind === "jamo" && id >= INITIAL && id < OTHERS;
    return isLetter ? 1 : this.bytes[id].length;
  }

  /** What may complete the last character of these tokens; null where it is whole. */
  rest(ids) {
    const last = ids.at(-1);
    if (this.kind === "jamo" && last >= INITIAL && last < FINAL) {
      const isOpen = last >= VOWEL;
      if (isOpen && !(ids.at(-2) >= INITIAL && ids.at(-2) < VOWEL)) return null;
      const [from, to] = isOpen ? [FINAL, OTHERS] : [VOWEL, FINAL];
      return { optional: isOpen, allows: (id) => id >= from && id < to };
    }
    const state = ids.reduce((now, id) => now === null ? null : afterBytes(now, this.bytes[id]), "");
    if (!state) return null;
    return { optional: false, allows: (id) => this.bytes[id].length && afterBytes(state, this.bytes[id]) !== null };
  }

  /** A decoder that takes ids one at a time and gives whole characters. */
  stream() {
    return this.kind === "jamo" ? new JamoStream(this) : new TextStream(this);
  }

  decode(ids) {
    const stream = this.stream();
    return ids.map((id) => stream.push(id)).join("") + stream.finish();
  }

  /** A token as a person may read it. */
  shown(id) {
    if (this.texts[id] !== null) return this.texts[id];
    return [...this.bytes[id]].map((b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`).join("");
  }
}

/** The ids of a syllable's letters; undefined for another character. */
function letters(character) {
  const index = character.codePointAt(0) - SYLLABLE;
  if (index < 0 || index >= SYLLABLES) return undefined;
  const final = index % (FINALS + 1), open = Math.floor(index / (FINALS + 1));
  const ids = [INITIAL + Math.floor(open / VOWELS), VOWEL + (open % VOWELS)];
  return final ? [...ids, FINAL + final - 1] : ids;
}

class TextStream {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  /** The characters that a token completes. */
  push(id) {
    return this.decoder.decode(this.tokenizer.bytes[id], { stream: true });
  }

  /** What is left; a character that was never completed becomes U+FFFD. */
  finish() {
    return this.decoder.decode();
  }
}

/** Joins letters to syllables, and holds those back that the next one may still complete. */
class JamoStream extends TextStream {
  held = [];

  push(id) {
    const isVowel = id >= VOWEL && id < FINAL, isFinal = id >= FINAL && id < OTHERS;
    if (this.held.length === 1 && isVowel) return this.held.push(id), "";
    const done = this.held;
    this.held = [];
    if (id >= INITIAL && id < VOWEL) this.held = [id];
    else if (done.length === 2 && isFinal) return this._read([...done, id]);
    else return this._read(done) + super.push(id);
    return this._read(done);
  }

  finish() {
    const rest = this._read(this.held);
    this.held = [];
    return rest + super.finish();
  }

  _read(ids) {
    if (ids.length < 2) return ids.map((id) => super.push(id)).join("");
    const [initial, vowel, final = FINAL - 1] = ids;
    const index = ((initial - INITIAL) * VOWELS + vowel - VOWEL) * (FINALS + 1);
    return String.fromCodePoint(SYLLABLE + index + final - FINAL + 1);
  }
}

// Which tokens may follow: only well-formed UTF-8 is written, whatever a model would draw.

const RANGES = {
  "": [[0x00, 0x7f, ""], [0xc2, 0xdf, "1"], [0xe0, 0xe0, "E0"], [0xe1, 0xec, "2"], [0xed, 0xed, "ED"],
    [0xee, 0xef, "2"], [0xf0, 0xf0, "F0"], [0xf1, 0xf3, "3"], [0xf4, 0xf4, "F4"]],
  1: [[0x80, 0xbf, ""]],
  2: [[0x80, 0xbf, "1"]],
  3: [[0x80, 0xbf, "2"]],
  E0: [[0xa0, 0xbf, "1"]],
  ED: [[0x80, 0x9f, "1"]],
  F0: [[0x90, 0xbf, "2"]],
  F4: [[0x80, 0x8f, "2"]],
};

/** The state after bytes[from …]; null where they cannot stand there. */
function afterBytes(state, bytes, from = 0) {
  for (let i = from; i < bytes.length; i++) {
    const range = RANGES[state].find(([first, last]) => first <= bytes[i] && bytes[i] <= last);
    if (!range) return null;
    state = range[2];
  }
  return state;
}

export class Constraint {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.known = new Map();
  }

  /** Of each token the state after it, null where it may not follow: [V]. */
  allowed(state) {
    if (!this.known.has(state)) {
      const { bytes, end_of_text } = this.tokenizer;
      const after = bytes.map((data, id) => {
        if (data.length) return afterBytes(state, data);
        return state === "" && id === end_of_text ? state : null;
      });
      this.known.set(state, after);
    }
    return this.known.get(state);
  }

  /** As `allowed`, for tokens that begin with `covered` and go on (token healing). */
  healing(covered) {
    return this.tokenizer.bytes.map((data) => {
      if (data.length <= covered.length) return null;
      if (covered.some((byte, i) => byte !== data[i])) return null;
      return afterBytes("", data, covered.length);
    });
  }
}
