// Beside the box: the chosen letter, what else could stand there, where each head looked, and what
// each layer would have written.

import { $, element, number, percent, say, visible } from "./dom.js";

/** A candidate as it is shown. */
function shown(text) {
  if (text === null) return say("endOfText");
  if (text === " ") return `␣ ${say("space")}`;
  if (text === "\n") return `↵ ${say("line")}`;
  return visible(text);
}

/** The title, and the likeliest letters; `take` is called with the one that is chosen. */
export function showCandidates(part, letters, candidates, take) {
  $("letter-title").textContent = part ? say("letterTitle", { letter: visible(letters) }) : say("nextLetter");
  const bits = part && part.bits !== null ? say("bits", { bits: number(part.bits, 2) }) : "";
  $("letter-bits").textContent = part && part.bits === null ? say("noBits") : bits;
  if (bits) $("letter-bits").append(" · ", percent(2 ** -part.bits));
  const top = candidates[0]?.p || 1;
  const rows = candidates.map((candidate) => {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--length", candidate.p / top);
    const content = [
      element("span", { className: "letters", lang: "ko" }, shown(candidate.text)),
      bar,
      element("span", { className: "share" }, percent(candidate.p)),
    ];
    if (candidate.text === null) return element("li", { className: "row" }, ...content);
    const button = element("button", { className: "row" }, ...content);
    if (part && candidate.text === letters) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => take(candidate));
    return element("li", {}, button);
  });
  $("candidates").replaceChildren(...rows);
}

const wide = (text) => [...text].slice(0, 3).join("");

/** A table of heads, each with the letter that it looked at most. */
export function showAttention(layers, points, choose) {
  const table = $("heads");
  if (!layers.length) {
    table.replaceChildren();
    $("attention-hint").textContent = say("noAttention");
    $("looked").textContent = "";
    return;
  }
  $("attention-hint").textContent = say("attentionHint");
  const letterAt = ({ start, end }) => visible(points.slice(start, end).join(""));
  const top = element("tr", {}, element("td"));
  layers[0].forEach((_, head) => top.append(element("th", { scope: "col" }, number(head + 1))));
  const rows = layers.map((heads, layer) => {
    const row = element("tr", {}, element("th", { scope: "row" }, say("layer", { layer: layer + 1 })));
    heads.forEach((weights, head) => {
      const most = weights.reduce((a, b) => (b.weight > a.weight ? b : a), { weight: 0, start: 0, end: 0 });
      const rest = 1 - weights.reduce((sum, { weight }) => sum + weight, 0);
      const atStart = rest > most.weight;
      const letter = atStart ? "⊢" : wide(letterAt(most));
      const name = say("head", { layer: layer + 1, head: head + 1 });
      const button = element(
        "button",
        { "aria-pressed": "false", "aria-label": `${name}, ${atStart ? say("start") : letter}` },
        letter,
      );
      button.style.setProperty("--weight", Math.max(most.weight, rest));
      button.addEventListener("click", () => {
        const pressed = button.getAttribute("aria-pressed") === "true";
        for (const other of table.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", String(!pressed));
        const found = [...weights].sort((a, b) => b.weight - a.weight).slice(0, 3);
        const listed = found.map((one) => `${letterAt(one)} ${percent(one.weight)}`);
        if (rest > 0.05) listed.push(`${say("start")} ${percent(rest)}`);
        $("looked").textContent = pressed ? "" : say("looked", { head: name, letters: listed.join(", ") });
        choose(pressed ? null : weights);
      });
      row.append(element("td", {}, button));
    });
    return row;
  });
  $("looked").textContent = "";
  table.replaceChildren(element("thead", {}, top), element("tbody", {}, ...rows));
}

/** A row a layer, with its likeliest tokens. */
export function showLens(stages) {
  const rows = stages.map((likeliest, stage) => {
    const name = stage ? say("layer", { layer: stage }) : say("embedding");
    const cells = likeliest.map(({ text, p }) => {
      const cell = element("td", {}, element("span", { lang: "ko" }, text === null ? say("endOfText") : visible(text)), " ");
      cell.style.setProperty("--weight", p);
      cell.append(element("small", {}, percent(p)));
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
  });
  $("stages").replaceChildren(element("tbody", {}, ...rows));
}
