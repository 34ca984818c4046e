// Elements, words and numbers of the page.

import { STRINGS } from "./strings.js";

export const $ = (id) => document.getElementById(id);

/** A new element: properties as they are called in the DOM, "aria-…" and "data-…" as attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

const asked = location.hash.slice(1);
let language = asked in STRINGS ? asked : navigator.language.startsWith("ko") ? "ko" : "en";

export const currentLanguage = () => language;

/** A text of the page in its language, with {name} filled in. */
export function say(name, values = {}) {
  return STRINGS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

const formats = {}; // each takes a millisecond to make

export function number(value, digits = 0) {
  const settings = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  const made = (formats[language + digits] ??= new Intl.NumberFormat(language, settings));
  return made.format(value);
}

/** 43 %, 0.5 %, or less than 0.1 %. */
export function percent(p) {
  if (p > 0 && p < 0.001) return `< ${number(0.1, 1)} %`;
  return `${number(100 * p, p < 0.1 ? 1 : 0)} %`;
}

/** A piece of text with its spaces and line ends in sight. */
export function visible(text) {
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
}

/** Switch the language, and fill in what stands in the page itself. */
export function speak(name) {
  language = name;
  document.documentElement.lang = name;
  for (const place of document.querySelectorAll("[data-say], [data-label]")) {
    const { say: text, label } = place.dataset;
    if (text) place.textContent = say(text);
    if (label) place.setAttribute("aria-label", say(label));
  }
}

const SHADES = [[0, 0], [0.5, 0.08], [1, 0.16], [2, 0.26], [3, 0.37], [5, 0.49], [7, 0.62], [10, 0.78]];

/** Letters, painted by how many bits each of them needed; null paints nothing. */
export function surprising(letters, bits) {
  const made = element("i", { className: "heat" }, letters);
  const [, weight] = SHADES.findLast(([edge]) => edge <= bits / [...letters].length) ?? SHADES[0];
  made.style.setProperty("--weight", weight);
  return made;
}

/** The shades, each with the bits from which it holds. */
export function shades() {
  return SHADES.map(([edge]) => {
    const made = surprising("x", edge);
    made.textContent = number(edge, edge % 1 ? 1 : 0);
    return made;
  });
}

/** The bits per character of the parts that have any; null where none has. */
export function bitsPerCharacter(parts) {
  let sum = 0, length = 0;
  for (const { start, end, bits } of parts) {
    if (bits === null) continue;
    sum += bits;
    length += end - start;
  }
  return length ? sum / length : null;
}
