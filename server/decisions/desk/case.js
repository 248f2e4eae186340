// One decision for the officer: its numbers, PD included, and the caps with the one that set the amount.

import { card, code, facts, h, instant, pill, table } from "./dom.js";
import { percent, text, yuan } from "./language.js";

const POINTS_PER_LOGIT = 60 / Math.LN2;
const RISK = ["EL_BUDGET", "AFFORDABILITY", "INCOME_MULTIPLE", "SEGMENT", "LEGAL_CONSUMER"];
const PARTS = ["SHARE", "SEASONING"];

export function capName(name) {
  return text(`cap.${name}`, {}, name);
}

/** Log-odds, and what they come to in points of the score. */
function margin(e6) {
  return text("sum.margin_value", { logit: (e6 / 1e6).toFixed(2), points: Math.round((e6 / 1e6) * POINTS_PER_LOGIT) });
}

function experiment(found) {
  if (!found) return null;
  const arm = text("sum.arm", { id: found.id, arm: found.arm, share: percent(found.propensity_bp) });
  return h("span", {}, code(arm), found.shadow && ` (${text("sum.shadow")})`);
}

/** The decision's figures, and below them what it was made by. */
export function summaryCard(envelope) {
  const { decision, inputs } = envelope;
  const { versions } = decision;
  const asked = inputs && (inputs.requested_fen === null ? text("sum.open") : yuan(inputs.requested_fen));
  const granted = decision.amount_fen > 0;
  const tier = text("sum.tier", { tier: decision.price_tier });
  return card(3, text("sum.title"), { class: "summary" },
    facts([
      [text("sum.amount"), h("strong", {}, yuan(decision.amount_fen))],
      [text("sum.asked"), asked],
      [text("sum.binding"), decision.binding_cap && capName(decision.binding_cap)],
      [text("sum.kind"), decision.kind && text(`kind.${decision.kind}`)],
      [text("sum.available"), granted ? yuan(decision.available_fen) : null],
      [text("sum.rate"), granted ? `${percent(decision.apr_bp)} (${tier})` : null],
      [text("sum.term"), text("hero.months", { count: decision.term_months })],
      [text("sum.score"), `${decision.score} (${text(`band.${decision.band}`, {}, decision.band)})`],
      [text("sum.pd"), percent(decision.pd_bp)],
      [text("sum.pd_upper"), percent(decision.pd_upper_bp)],
      [text("sum.margin"), margin(decision.margin_e6)],
      [text("sum.confidence"), code(decision.confidence)],
      [text("sum.record"), text(decision.thin ? "sum.thin" : "sum.thick")],
      [text("sum.decided"), instant(envelope.decided_at)],
      [text("sum.valid"), instant(decision.valid_until)],
      [text("sum.cause"), text(`cause.${envelope.cause}`, {}, envelope.cause)],
      [text("sum.parent"), envelope.parent_id && code(envelope.parent_id)],
      [text("sum.experiment"), experiment(envelope.experiment)],
    ], { class: "pairs" }),
    h("details", {},
      h("summary", {}, text("sum.provenance")),
      facts([
        [text("sum.policy"), code(`${versions.policy_id} ${versions.policy_version} ${versions.policy_sha256}`)],
        [text("sum.model"), code(`${versions.bundle_id} ${versions.bundle_sha256}`)],
        [text("sum.engine"), code(versions.engine)],
        [text("sum.record_sha"), code(`${envelope.seq} ${envelope.record_sha256}`)],
      ])));
}

/** The caps, the tightest first, and in words how the tightest became the amount. */
export function capsCard(decision) {
  const { caps, binding_cap: binding } = decision;
  const sorted = Object.entries(caps).sort(([, a], [, b]) => a - b);
  if (!sorted.length) return card(3, text("caps.title"), { class: "caps" }, h("p", {}, text("caps.none")));
  const [setter] = sorted[0];
  const risk = sorted.find(([name]) => RISK.includes(name))[0];
  const person = binding === "OVERRIDE";
  const rows = sorted.map(([name, fen]) => {
    const mark = person ? null : { [risk]: PARTS.includes(setter) && "caps.tightest", [setter]: "caps.binding" }[name];
    return {
      class: mark && "binding",
      cells: [[capName(name), " ", code(name), mark && [" ", pill(text(mark))]], yuan(fen)],
    };
  });
  const byHand = () => h("p", {}, text("caps.person", { amount: yuan(decision.amount_fen) }));
  return card(3, text("caps.title"), { class: "caps" },
    table(text("caps.caption"), [text("caps.name"), [text("caps.amount"), "number"]], rows),
    person ? byHand() : made(decision, setter, risk));
}

/** How the tightest cap became the amount. */
function made({ caps, amount_fen: amount }, setter, risk) {
  const share = PARTS.includes(setter) && h("p", {}, text("caps.share", {
    cap: capName(risk),
    value: yuan(caps[risk]),
    percent: percent(Math.round((10_000 * caps[setter]) / caps[risk])),
    granted: yuan(caps[setter]),
  }));
  const end = amount > 0 ? text("caps.rounded", { amount: yuan(amount) }) : text("caps.too_small");
  return [share, h("p", {}, end)];
}
