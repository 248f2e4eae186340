// What kind of answer a decision is, and which of record, score and data decided it: the three are never mixed up.

import { h, icon, pill } from "./dom.js";
import { text } from "./language.js";

const THIN = ["T01", "T02", "T03", "L04"];
const RULES = ["K01", "K02", "L01", "L02", "L05", "F01", "B03", "B04", "B05", "V01"];
const ICONS = {
  full: "check", less: "check", season: "check", review: "check", trial: "sprout", thin: "page", score: "below",
  late: "clock", checked: "clock", person: "person", refused: "person", rule: "stop", amount: "coins",
};
const TONES = {
  score: "low", late: "wait", checked: "wait",
  thin: "plain", person: "plain", rule: "plain", amount: "plain", refused: "plain",
};
const LATE = ["delayed", "abnormal"];

/** The kind of answer: a key of the texts `title.*` and `lead.*`. */
export function causeOf(decision) {
  const codes = decision.reasons.map((reason) => reason.code);
  const states = Object.values(decision.blocks);
  if (decision.decision === "REFER") return "person";
  if (decision.decision === "DEFER") return states.includes("delayed") ? "late" : "checked";
  if (decision.decision === "TRIAL") return "trial";
  if (decision.decision === "APPROVE") {
    if (codes[0] === "H03") return "review";
    if (decision.binding_cap === "SEASONING") return "season";
    return codes.length ? "less" : "full";
  }
  if (codes[0] === "H03") return "refused";
  if (codes.includes("S01")) return "score";
  if (RULES.includes(codes[0])) return "rule";
  return THIN.includes(codes[0]) ? "thin" : "amount";
}

export function iconOf(cause) {
  return icon(ICONS[cause]);
}

/** The colour that goes with the icon: never the only sign. */
export function toneOf(cause) {
  return TONES[cause] ?? "good";
}

function recordOf(decision, cause) {
  if (["thin", "trial", "season"].includes(cause) && decision.thin) return { key: "record.cause", cause: true };
  return decision.thin ? { key: "record.weak", state: "weak" } : { key: "record.ok", state: "ok" };
}

function scoreOf(cause) {
  if (cause === "score") return { key: "score.cause", cause: true };
  if (["late", "checked", "person"].includes(cause)) return { key: "score.open", state: "open" };
  if (["rule", "refused", "review"].includes(cause)) return { key: "score.aside", state: "open" };
  return { key: "score.ok", state: "ok" };
}

function dataOf(decision, cause) {
  if (cause === "late") return { key: "data.late", cause: true };
  if (cause === "checked") return { key: "data.checked", cause: true };
  const states = Object.values(decision.blocks);
  if (states.some((state) => LATE.includes(state))) return { key: "data.unused", state: "weak" };
  if (!states.some((state) => state === "fresh" || state === "stale")) return { key: "data.none", state: "ok" };
  return states.includes("stale") ? { key: "data.stale", state: "weak" } : { key: "data.ok", state: "ok" };
}

/** Record, score and data side by side; the one that decided is marked in words, shape and colour. */
export function threeChecks(decision, cause) {
  const checks = [
    ["record", "page", recordOf(decision, cause)],
    ["score", "score", scoreOf(cause)],
    ["data", "feed", dataOf(decision, cause)],
  ];
  const items = checks.map(([name, drawing, found]) => h("li",
    { class: `check ${found.cause ? `decides tone-${toneOf(cause)}` : `is-${found.state}`}` },
    icon(drawing),
    h("div", {},
      h("p", { class: "check-name" }, text(`check.${name}`)),
      h("p", { class: "check-value" }, text(found.key)),
      found.cause && pill(text("check.cause")))));
  return h("section", { class: "checks", "aria-label": text("check.title") }, h("ul", {}, items));
}
