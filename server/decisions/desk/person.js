// One person for the officer: decisions, account, data feed, events and appeals.

import { button, card, code, facts, h, instant, pill, table } from "./dom.js";
import { capital, domainName, percent, text, yuan } from "./language.js";
import { stateMark } from "./parts.js";

const SHORT = 10;

/** A long code, cut; the whole of it on hover. */
function brief(value) {
  return value.length > SHORT ? h("code", { title: value }, `${value.slice(0, SHORT)}…`) : code(value);
}

export function historyCard(decisions, shownId, show) {
  const rows = decisions.map((row) => ({
    class: row.decision_id === shownId ? "binding" : null,
    cells: [
      instant(row.decided_at),
      text(`outcome.${row.decision}`),
      yuan(row.amount_fen),
      text(`cause.${row.cause}`, {}, row.cause),
      row.parent_id ? brief(row.parent_id) : "–",
      row.decision_id === shownId
        ? pill(text("history.shown"))
        : button([text("history.show"), " ", brief(row.decision_id)], () => show(row.decision_id)),
    ],
  }));
  const heads = [
    text("history.at"), text("history.outcome"), [text("history.amount"), "number"],
    text("history.cause"), text("history.parent"), text("history.id"),
  ];
  return card(3, text("history.title"), { class: "wide" }, table(text("history.caption"), heads, rows));
}

export function accountCard(account) {
  const clean = text("account.clean_value", { now: account.clean_cycles, all: account.clean_total });
  return card(3, text("account.title"), { class: "wide" }, facts([
    [text("account.stage"), text(`stage.${account.stage}`)],
    [text("account.status"), text(`status.${account.status}`)],
    [text("account.limit"), yuan(account.limit_fen)],
    [text("account.outstanding"), yuan(account.outstanding_fen)],
    [text("account.rung"), account.stage === "trial" ? account.rung + 1 : null],
    [text("account.clean"), clean],
    [text("account.hold"), account.hold_cycles || null],
    [text("account.dpd"), account.dpd_now],
    [text("account.lates"), account.lates.length],
    [text("account.points"), account.points],
    [text("account.step"), account.last_step_at && instant(account.last_step_at)],
  ], { class: "across" }));
}

function consentOf(block) {
  if (block.consent == null) return text("feed.unrecorded");
  if (!block.consent) return text("feed.no");
  return [text("feed.yes"), block.consent_until && [" ", text("feed.until"), " ", instant(block.consent_until)]];
}

/** The state of every block at the decision, and what partners and consents say now; else what the request said. */
export function feedCard({ decision, inputs }, blocks) {
  const rows = Object.entries(decision.blocks).map(([domain, state]) => {
    const block = blocks[domain] ?? {};
    const { as_of: at, quality } = block.as_of ? block : inputs?.blocks[domain] ?? {};
    return [
      capital(domainName(domain)),
      stateMark(state),
      block.partner ? code(block.partner) : text("feed.none"),
      at ? instant(at) : text("feed.none"),
      at && quality ? text(`quality.${quality}`) : text("feed.none"),
      consentOf(block),
    ];
  });
  const heads = ["domain", "state", "partner", "as_of", "quality", "consent"].map((key) => text(`feed.${key}`));
  return card(3, text("feed.title"), { class: "wide" }, table(text("feed.caption"), heads, rows));
}

const DETAILS = {
  cycle: String, dpd: String, used_bp: percent, outstanding_days: String, outstanding_fen: yuan, amount_fen: yuan,
};

function detailOf(event) {
  const told = Object.entries(DETAILS)
    .filter(([key]) => event[key])
    .map(([key, shown]) => text(`detail.${key}`, { value: shown(event[key]) }));
  if (event.offer) told.push(text(`kind.${event.offer}`));
  if (event.upheld) told.push(text("detail.upheld"));
  return [told.join(" · "), event.source && [" ", code(event.source)]];
}

export function eventsCard(events) {
  const rows = events.map((event) => [
    instant(event.at), text(`event.${event.kind}`, {}, event.kind), detailOf(event), code(event.event_id),
  ]);
  const heads = ["at", "kind", "detail", "id"].map((key) => text(`events.${key}`));
  return card(3, text("events.title"), { class: "wide" },
    rows.length ? table(text("events.title"), heads, rows, { class: "named" }) : h("p", {}, text("events.none")));
}

export function appealsCard(appeals) {
  const rows = appeals.map((appeal) => [
    code(appeal.appeal_id),
    text(`appeal_state.${appeal.state.toLowerCase()}`, {}, appeal.state),
    instant(appeal.opened_at),
    instant(appeal.due_at),
  ]);
  const heads = ["id", "state", "opened", "due"].map((key) => text(`appeals.${key}`));
  return card(3, text("appeals.title"), { class: "wide" },
    rows.length ? table(text("appeals.title"), heads, rows, { class: "named" }) : h("p", {}, text("appeals.none")));
}
