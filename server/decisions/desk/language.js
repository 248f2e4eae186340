// Texts in Chinese and English, and how amounts, rates and instants are written in either.

import { recall, remember } from "./memory.js";

const LOCALES = { zh: "zh-CN", en: "en-GB" };
const KEPT = "fedscore.language";
const catalogues = {};
let language = "zh";

export const languages = Object.keys(LOCALES);

/** Fetches both catalogues, and chooses: what was chosen before, else what the browser prefers. */
export async function loadTexts() {
  await Promise.all(languages.map(async (name) => {
    const answer = await fetch(`${name}.json`);
    catalogues[name] = await answer.json();
  }));
  const preferred = navigator.languages.some((name) => name.startsWith("zh")) ? "zh" : "en";
  setLanguage(recall(KEPT) ?? preferred);
}

/** Changes the language of all texts that are made from now on, and of the document. */
export function setLanguage(name) {
  language = languages.includes(name) ? name : "en";
  remember(KEPT, language);
  document.documentElement.lang = LOCALES[language];
}

export function currentLanguage() {
  return language;
}

/** The text of a key, its {places} filled in; `fallback`, if given, for keys that no catalogue has. */
export function text(key, values = {}, fallback = key) {
  const found = catalogues[language][key] ?? fallback;
  return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The name of a data domain, or of several joined by "+"; one that has no text is called by its own name. */
export function domainName(names) {
  const each = names.split("+").map((name) => text(`domain.${name}`, {}, name.replaceAll("_", " ")));
  return each.join(language === "zh" ? "、" : ", ");
}

/** For the beginning of a line. */
export function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Fen as yuan; the decimals only where there are some. */
export function yuan(fen) {
  const digits = fen % 100 === 0 ? 0 : 2;
  const amount = Math.abs(fen / 100).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: 2 });
  return `${fen < 0 ? "−" : ""}¥${amount}`;
}

/** Basis points as percent. */
export function percent(bp) {
  return `${(bp / 100).toLocaleString("en", { maximumFractionDigits: 2 })}%`;
}

/** An instant in the reader's own zone, to the minute, with its offset. */
export function instantText(iso) {
  const at = new Date(iso);
  const locale = navigator.languages.find((name) => name.startsWith(language)) ?? LOCALES[language];
  const date = at.toLocaleDateString(locale, { year: "numeric", month: "short", day: "numeric" });
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "longOffset" }).formatToParts(at);
  const offset = parts.find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");
  return `${date} ${time} (${offset})`;
}
