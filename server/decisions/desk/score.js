// The score on its scale from 350 to 950, with the band that it lies in.

import { card, h, pill } from "./dom.js";
import { text } from "./language.js";

export const LOWEST = 350;
export const HIGHEST = 950;
/** Bands and their lowest scores, from the bottom; as in model/points.py. */
export const BANDS = [["poor", 350], ["fair", 550], ["good", 600], ["very_good", 650], ["excellent", 700]];

const MINOR = [600, 650]; // edges that have no room for their number on a phone

const share = (score) => `${(100 * (score - LOWEST)) / (HIGHEST - LOWEST)}%`;

/** The scale as a part of the page; `provisional` where data is still missing. */
export function scoreCard(level, { score, band }, provisional = false) {
  const at = BANDS.findIndex(([name]) => name === band);
  const next = BANDS[at + 1];
  const name = text(`band.${band}`, {}, band);
  const range = { band: name, low: BANDS[at]?.[1], high: next ? next[1] - 1 : HIGHEST };
  const parts = BANDS.map(([part, low], index) => h("span", {
    class: `scale-part ${part === band ? "here" : ""}`,
    vars: { "--from": share(low), "--to": share(BANDS[index + 1]?.[1] ?? HIGHEST) },
  }));
  const edges = [...BANDS.map(([, low]) => low), HIGHEST].map((edge) => h("span", {
    class: MINOR.includes(edge) && "minor", vars: { "--at": share(edge) },
  }, edge));
  return card(level, text("rank.title"), { class: "rank" },
    h("p", { class: "rank-value" },
      h("strong", {}, score), " ", pill(name)),
    h("p", { class: "hint" }, text("rank.of")),
    h("div", { class: "scale", role: "img", "aria-label": text("rank.text", { score, band: name }) },
      h("div", { class: "scale-track" }, parts, h("span", { class: "scale-mark", vars: { "--at": share(score) } })),
      h("div", { class: "scale-edges" }, edges)),
    at >= 0 && h("p", {}, text("rank.band", range)),
    provisional && h("p", { class: "notice" }, text("rank.provisional")));
}
