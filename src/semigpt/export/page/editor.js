// The box: a plain textarea, so that Hangul, undo and screen readers are the system's own, over a
// painted copy of its text. And the tree of what was written.

import { element, surprising } from "./dom.js";

/** A text with those that were written behind it. */
class Node {
  constructor(text, parent = null, seed = null) {
    Object.assign(this, { text, parent, seed, children: [] });
  }

  add(text, seed = null) {
    const child = new Node(text, this, seed);
    this.children.push(child);
    return child;
  }
}

export class Editor {
  /**
   * on: {change, select, go, stop, sibling}, called when the text changes, when a place in it is
   * chosen, and for Ctrl+Enter, Escape and Alt+arrows
   */
  constructor(box, on) {
    this.box = box;
    this.area = box.querySelector("textarea");
    this.mirror = box.querySelector(".mirror");
    this.on = on;
    this.parts = [];
    this.paintedText = "";
    this.weights = null; // of a head, by part
    this.selected = 0; // a place in code points
    this.composing = false;
    this.wanted = false; // Ctrl+Enter came while composing
    this.node = new Node("");
    this._listen();
  }

  get text() {
    return this.area.value;
  }

  _listen() {
    const { area } = this;
    area.addEventListener("compositionstart", () => (this.composing = true));
    area.addEventListener("compositionend", () => {
      this.composing = false;
      if (this.wanted) this.on.go();
      this.wanted = false;
    });
    area.addEventListener("beforeinput", () => this.on.stop());
    area.addEventListener("input", () => this._changed());
    area.addEventListener("keydown", (event) => this._key(event));
    area.addEventListener("keyup", () => this._followCaret());
    area.addEventListener("click", (event) => this._clicked(event));
  }

  _key(event) {
    if (event.key === "Escape") this.on.stop();
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.on.sibling(event.key === "ArrowUp" ? -1 : 1);
    }
    // While composing the key is "Process" in some browsers.
    const isEnter = event.key === "Enter" || event.code === "Enter";
    if (!isEnter || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (event.repeat) return;
    this.on.go();
  }

  _changed() {
    this.weights = null;
    this.render();
    this._followCaret();
    this.on.change();
  }

  /** The letter behind the caret is the chosen one; behind the text, the next one. */
  _followCaret() {
    this.select([...this.text.slice(0, this.area.selectionStart)].length);
  }

  /** The letter that was hit, though the caret may stand at either of its sides. */
  _clicked(event) {
    const hit = document
      .elementsFromPoint(event.clientX, event.clientY)
      .find((found) => found.dataset?.part && this.mirror.contains(found));
    if (hit) this.select(this.parts[Number(hit.dataset.part)].start);
    else this._followCaret();
  }

  select(place) {
    const part = this.partAt(place);
    const chosen = part ? part.start : [...this.text].length;
    if (chosen === this.selected) return;
    this.selected = chosen;
    this.weights = null;
    this.render();
    this.on.select();
  }

  /** The part that holds a place; undefined behind the text. */
  partAt(place) {
    return this.parts.find(({ start, end }) => start <= place && place < end);
  }

  /** Replace the text, by a program. Never while composing. A box holds no carriage return. */
  put(text) {
    if (this.composing) return;
    text = text.replace(/\r/g, "\n");
    const follow = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    this.area.value = text;
    this.area.setSelectionRange(text.length, text.length);
    this.selected = [...text].length;
    this.weights = null;
    this.render();
    if (follow) this.box.scrollTop = this.box.scrollHeight;
  }

  /** Paint parts of the text by their bits. */
  paint(parts) {
    this.parts = parts;
    this.paintedText = this.text;
    this.render();
  }

  /** Paint the parts by how much a head looked at each instead; null paints surprise again. */
  paintWeights(weights) {
    this.weights = weights && new Map(weights.map(({ start, weight }) => [start, weight]));
    this.render();
  }

  render() {
    const points = [...this.text], painted = [...this.paintedText];
    let same = 0;
    while (same < points.length && points[same] === painted[same]) same++;
    const content = [];
    let at = 0;
    this.parts.forEach((part, index) => {
      if (part.end > same) return;
      const letters = points.slice(part.start, part.end).join("");
      const mark = surprising(letters, part.bits);
      mark.dataset.part = index;
      if (this.weights) {
        mark.className = "looked";
        mark.style.setProperty("--weight", this.weights.get(part.start) ?? 0);
      }
      if (part.start === this.selected) mark.classList.add("chosen");
      content.push(mark);
      at = part.end;
    });
    const end = element("i", { textContent: "\u200b", className: "end" });
    if (this.selected >= points.length) end.classList.add("chosen");
    this.mirror.replaceChildren(...content, points.slice(at).join(""), end);
  }

  // The tree

  /** The node of the text as it stands: typing behind a result makes a new one. */
  settle(text = this.text) {
    if (this.node.text !== text) this.node = this.node.add(text);
    return this.node;
  }

  /** A new result behind a node. */
  branch(parent, seed) {
    this.node = parent.add(parent.text, seed);
    return this.node;
  }

  get siblings() {
    return this.node.parent?.children ?? [this.node];
  }

  get canUndo() {
    return this.node.parent !== null || this.node.text !== this.text;
  }

  undo() {
    const here = this.settle();
    this.node = here.parent ?? here;
    this.put(this.node.text);
  }

  /** Go to the sibling so many places on; whether there is one. What was typed becomes the last. */
  walk(by) {
    if (this.node.text !== this.text) this.node.parent?.add(this.text);
    const next = this.siblings[this.siblings.indexOf(this.node) + by];
    if (!next) return false;
    this.node = next;
    this.put(next.text);
    return true;
  }
}
