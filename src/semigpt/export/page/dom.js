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

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
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
  for (const place of document.querySelectorAll("[data-say]")) {
    place.textContent = say(place.dataset.say);
  }
  for (const place of document.querySelectorAll("[data-label]")) {
    place.setAttribute("aria-label", say(place.dataset.label));
  }
  for (const place of document.querySelectorAll("[data-title]")) {
    place.title = say(place.dataset.title);
  }
}

const EDGES = [0.5, 1, 2, 3, 5, 7, 10]; // bits between the shades of surprise

/** The shade of so many bits per character, 0 … 7. */
export function shade(bits) {
  return EDGES.filter((edge) => bits >= edge).length;
}

/** The shades with the bits from which each holds. */
export function shades() {
  return [0, ...EDGES].map((edge, index) => element("i", { className: `s${index}` }, number(edge, edge % 1 ? 1 : 0)));
}
