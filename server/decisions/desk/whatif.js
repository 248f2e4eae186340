// "What if?" for the applicant: another amount or a verified income, decided again without storing anything.

import { card, field, h, moveTo, pill, table, troubleNote } from "./dom.js";
import { percent, text, yuan } from "./language.js";

const LATE = ["delayed", "abnormal"];
const MAX_YUAN = 10_000_000;

/** The form and, below it, the answer; what was entered is kept in `state.asked`. */
export function whatIfCard(state, api) {
  const { decision } = state.envelope;
  const asked = state.asked;
  const result = h("div", { role: "status", class: "result" }, asked.answer && answer(decision, asked.answer));
  const numbers = (name) => h("input", {
    type: "number", inputmode: "numeric", min: "0", max: String(MAX_YUAN), step: "1", name, value: asked[name] ?? "",
    oninput: (event) => { asked[name] = event.target.value; },
  });
  const late = Object.values(decision.blocks).some((found) => LATE.includes(found));
  const now = h("input", {
    type: "checkbox", id: "decide-now", checked: asked.now ?? false,
    onchange: (event) => { asked.now = event.target.checked; },
  });

  async function work(event) {
    event.preventDefault();
    const changes = changesOf(asked);
    if (!Object.keys(changes).length) {
      result.replaceChildren(h("p", { class: "notice" }, text("try.nothing")));
      return;
    }
    try {
      const { data } = await api.post(`/v1/decisions/${encodeURIComponent(state.id)}/what-if`, { changes });
      asked.answer = data.decision;
      result.replaceChildren(answer(decision, data.decision));
      moveTo(result.querySelector("h3"));
    } catch (trouble) {
      asked.answer = null;
      result.replaceChildren(troubleNote(trouble));
    }
  }

  return card(2, text("try.title"), { class: "try" },
    h("p", {}, text("try.lead")),
    h("form", { onsubmit: work, novalidate: true },
      field(text("try.asked"), numbers("amount")),
      field(text("try.income"), numbers("income")),
      late && h("div", { class: "field tick" }, now, h("label", { for: "decide-now" }, text("try.now"))),
      h("button", { type: "submit" }, text("try.go"))),
    result);
}

function changesOf({ amount, income, now }) {
  const changes = {};
  if (amount) changes.requested_fen = fen(amount);
  if (income) Object.assign(changes, { "kyc.income_fen_month": fen(income), "kyc.income_source": "verified" });
  if (now) changes["flags.decide_now"] = true;
  return changes;
}

const fen = (entered) => Math.round(Number(entered) * 100);

function answer(before, after) {
  const rate = (decision) => (decision.apr_bp === null ? text("row.none") : percent(decision.apr_bp));
  const rows = [
    [text("row.outcome"), text(`outcome.${before.decision}`), text(`outcome.${after.decision}`)],
    [text("row.amount"), yuan(before.amount_fen), yuan(after.amount_fen)],
    [text("row.rate"), rate(before), rate(after)],
    [text("row.score"), before.score, after.score],
  ];
  return h("div", {}, h("h3", {}, text("try.result")), ...compared(rows), h("p", { class: "hint" }, text("try.note")));
}

/** Rows of name, value before and value after as a table that marks what changed. */
export function compared(rows, caption = text("slide.table")) {
  const marked = rows.map(([name, before, after]) => {
    const same = before === after;
    return [name, before, same ? after : [h("strong", {}, after), " ", pill(text("try.changed"))]];
  });
  const heads = [text("try.what"), text("try.before"), text("try.after")];
  const unchanged = rows.every(([, before, after]) => before === after);
  return [unchanged && h("p", {}, text("try.same")), table(caption, heads, marked, { class: "compared narrow" })];
}
