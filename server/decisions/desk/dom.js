// Elements from a name, attributes and children. Text is only ever set as text: nothing here reads HTML.

import { instantText, text } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  check: "M5 12.5l4.5 4.5L19 7.5",
  sprout: "M12 21v-9M12 12c0-4 3-6 7-6 0 4-3 6-7 6zM12 15c0-3-2.5-5-6-5 0 3 2.500 5 6 5z",
  page: "M7 3h7l4 4v14H7zM14 3v4h4M10 17h2",
  below: "M4 8h16M12 11v9M8 16l4 4 4-4",
  clock: "M12 3.500a8.500 8.500 0 1 0 0 17 8.500 8.500 0 0 0 0-17zM12 7.500V12l3 2",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.500 20.500c.8-4 3.700-6 7.500-6s6.700 2 7.500 6",
  stop: "M8.200 3.500h7.600l4.700 4.700v7.600l-4.700 4.700H8.200l-4.700-4.700V8.200zM8 12h8",
  coins: "M4 8h16M4 12h10M4 16h5",
  score: "M4 17a8 8 0 0 1 16 0M12 17l4-5",
  feed: "M4 18V9M9.300 18V5M14.700 18v-7M20 18v-4",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.5",
};

/** An element. `on…` attributes are listeners, `vars` are CSS variables, and empty children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...shown(children));
  return element;
}

/** Children without the empty ones, flat: what an element can hold. */
export function shown(children) {
  return [children].flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** A short mark in words. */
export function pill(words) {
  return h("span", { class: "pill" }, words);
}

/** A plain button; the one main action of a form is made by itself. */
export function button(words, onclick, attributes = {}) {
  return h("button", { type: "button", class: "quiet", onclick, ...attributes }, words);
}

/** A drawing that says nothing the words beside it do not say. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" };
  for (const [key, value] of Object.entries(attributes)) drawing.setAttribute(key, value);
  path.setAttribute("d", PATHS[name]);
  drawing.append(path);
  return drawing;
}

/** A part of the page under its own heading. */
export function card(level, title, attributes, ...children) {
  const id = `part-${Math.random().toString(36).slice(2)}`;
  const given = { ...attributes, class: `card ${attributes.class ?? ""}`, "aria-labelledby": id };
  return h("section", given, h(`h${level}`, { id }, title), children);
}

/** An instant: words for people, and the machine's form beside it. */
export function instant(iso) {
  return h("time", { datetime: iso }, instantText(iso));
}

/** A code that is the same in every language. */
export function code(value) {
  return h("code", {}, value);
}

/** Names and values; pairs without a value are left out. */
export function facts(pairs, attributes = {}) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { ...attributes, class: `facts ${attributes.class ?? ""}` },
    told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/**
 * A table that becomes a list of cards on a narrow screen; its roles are spelled out, since the layout hides them.
 * `heads` are texts, or pairs of text and class; a row is its cells, or `{ cells, ...attributes }`.
 */
export function table(caption, heads, rows, attributes = {}) {
  const columns = heads.map((head) => (Array.isArray(head) ? head : [head, null]));
  const headings = columns.map(([head, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, head));
  const body = rows.map((row) => {
    const { cells, ...more } = Array.isArray(row) ? { cells: row } : row;
    return h("tr", { role: "row", ...more }, cells.map((cell, at) => (at === 0
      ? h("th", { scope: "row", role: "rowheader" }, cell)
      : h("td", { role: "cell", class: columns[at][1], "data-head": columns[at][0] }, h("span", {}, cell)))));
  });
  return h("table", { role: "table", ...attributes },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headings)),
    h("tbody", { role: "rowgroup" }, body));
}

/** A form field with its label, and what it needs explained. */
export function field(label, input, hint = null) {
  const id = input.id || `field-${Math.random().toString(36).slice(2)}`;
  input.id = id;
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" },
    h("label", { for: id }, label), input, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
}

/** What went wrong and what to do, in words. `again` offers another try. */
export function troubleNote(trouble, again = null) {
  return h("div", { class: "trouble", role: "alert" },
    icon("warn"),
    h("div", {},
      h("p", { class: "trouble-title" }, text("trouble.title")),
      h("p", {}, text(trouble.key, trouble.values)),
      trouble.field && h("p", {}, text("trouble.field"), " ", code(trouble.field)),
      again && h("p", {}, button(text("trouble.retry"), again))));
}

/** Puts the reader at a heading, so that the next Tab goes on from there. */
export function moveTo(element) {
  if (!element) return;
  if (!element.matches("input")) element.setAttribute("tabindex", "-1");
  element.focus();
}
