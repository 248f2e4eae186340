// What both views show of a decision: why, what would change it, the ladder, the data, the costs.

import { card, code, h, icon, instant, pill, table } from "./dom.js";
import { capital, currentLanguage, domainName, percent, text, yuan } from "./language.js";

const STATE_ICONS = {
  fresh: "check", stale: "clock", delayed: "clock", abnormal: "warn", not_covered: "page", no_consent: "stop",
};
const SOURCES = ["rule", "system"];

const spoken = (item) => item[currentLanguage()];
const sourceName = (source) => (SOURCES.includes(source) ? text(`source.${source}`) : domainName(source));

/** The reasons, the most important first; `codes` shows their codes too. */
export function whyCard(level, decision, codes = false) {
  const items = decision.reasons.map((reason) => h("li", {},
    h("p", { class: "said" }, codes && [code(reason.code), " "], spoken(reason)),
    h("p", { class: "hint" }, text("why.from"), " ", sourceName(reason.source))));
  return card(level, text("why.title"), {},
    items.length ? h("ol", { class: "said-list" }, items) : h("p", {}, text("why.none")));
}

/** The next steps, each with what it could give. */
export function stepsCard(level, decision, cause) {
  const title = text("steps.title");
  if (!decision.next_steps.length) {
    const key = { person: "steps.person", full: "steps.full" }[cause] ?? "steps.none";
    return card(level, title, {}, h("p", {}, text(key)));
  }
  const items = decision.next_steps.map((step) => h("li", {},
    h("p", { class: "said" }, spoken(step)),
    step.amount_fen > 0 && h("p", { class: "gives" },
      h("span", {}, text("steps.gives")), " ", h("strong", {}, yuan(step.amount_fen)))));
  return card(level, title, {},
    h("ol", { class: "said-list" }, items), h("p", { class: "hint" }, text("steps.note")));
}

/** Where the account stands on its ladder; `rungs` are the policy's amounts in fen. */
export function ladderCard(level, decision, rungs = []) {
  const note = decision.ladder;
  const full = decision.next_steps.find((step) => step.code === "SEASON")?.amount_fen ?? null;
  const named = note.rung === null
    ? [[text("ladder.start"), decision.amount_fen], [text("ladder.standard"), full]]
    : [...rungs.map((fen, at) => [text("ladder.rung", { rung: at + 1 }), fen]), [text("ladder.standard"), null]];
  const here = note.rung ?? 0;
  const steps = named.map(([name, fen], at) => h("li",
    { class: ["ahead", "here", "done"][1 + Math.sign(here - at)], "aria-current": at === here && "step" },
    h("span", { class: "rung-name" }, name),
    fen !== null && h("strong", {}, yuan(fen)),
    at === here && pill(text("ladder.here")),
    at < here && h("span", { class: "hint" }, text("ladder.done"))));
  const dot = (_, at) => h("span", { class: at < note.clean_cycles ? "dot full" : "dot" });
  const dots = Array.from({ length: note.needed }, dot);
  return card(level, text("ladder.title"), {},
    named.length > 1 && h("ol", { class: "rungs" }, steps),
    h("p", { class: "cycles" }, h("span", { class: "dots", "aria-hidden": "true" }, dots), " ",
      text("ladder.clean", { done: note.clean_cycles, needed: note.needed })),
    h("p", {}, text("ladder.earliest"), " ", instant(note.earliest)),
    h("p", { class: "hint" }, text("ladder.note")));
}

/** A block's state: a shape and a word. */
export function stateMark(state) {
  return h("span", { class: `state state-${state}` }, icon(STATE_ICONS[state] ?? "warn"), " ", text(`state.${state}`));
}

/** How each domain's data stands, in plain words. */
export function blocksCard(level, decision) {
  const items = Object.entries(decision.blocks).map(([domain, state]) => h("li", {},
    h("p", { class: "said" }, h("span", {}, capital(domainName(domain))), " ", stateMark(state)),
    h("p", { class: "hint" }, text(`means.${state}`))));
  const width = decision.ladder ? "wide" : "";
  return card(level, text("blocks.title"), { class: width }, h("ul", { class: "plain-list" }, items));
}

function planTable(schedule) {
  const rows = schedule.map(({ month, principal_fen, interest_fen }) => [
    month, yuan(principal_fen + interest_fen), yuan(principal_fen), yuan(interest_fen),
  ]);
  const amounts = ["payment", "principal", "interest"].map((key) => [text(`plan.${key}`), "number"]);
  return h("details", {},
    h("summary", {}, text("plan.title", { count: schedule.length })),
    table(text("plan.caption"), [text("plan.month"), ...amounts], rows, { class: "named narrow" }));
}

/** All that the limit costs, and its instalments. */
export function costsCard(level, decision, schedule) {
  const due = decision.costs.filter((row) => !row.contingent);
  const total = due.reduce((sum, row) => sum + row.total_fen, 0);
  const rows = decision.costs.map((row) => [
    spoken(row),
    text(`payee.${row.payee}`, {}, row.payee),
    percent(row.annual_bp),
    row.contingent ? text("costs.contingent") : yuan(row.total_fen),
  ]);
  const annual = due.reduce((sum, row) => sum + row.annual_bp, 0);
  rows.push({ cells: [text("costs.sum"), "", percent(annual), yuan(total)], class: "sum" });
  const numbers = ["annual", "total"].map((key) => [text(`costs.${key}`), "number"]);
  const first = schedule[0];
  const lead = first && text("costs.lead", {
    amount: yuan(decision.amount_fen),
    count: schedule.length,
    monthly: yuan(first.principal_fen + first.interest_fen),
    total: yuan(decision.amount_fen + total),
  });
  return card(level, text("costs.title"), { class: "wide" },
    lead && h("p", {}, lead),
    table(text("costs.caption"), [text("costs.name"), text("costs.payee"), ...numbers], rows),
    h("p", { class: "hint" }, text("costs.nothing")),
    first && planTable(schedule));
}
