// "What if?" for the officer: sliders whose every move is decided again, shown before and after.

import { capName } from "./case.js";
import { button, card, field, h, shown, troubleNote } from "./dom.js";
import { capital, domainName, percent, text, yuan } from "./language.js";
import { compared } from "./whatif.js";

const PAUSE_MS = 350; // a moving slider is asked about once it rests; the service allows 60 calls a minute
const E6_PER_POINT = (1e6 * Math.LN2) / 60;
const SOURCES = ["verified", "partner_estimated", "declared"];
const MOST_POINTS = 120;

/** The sliders and, below them, the comparison; `state.moved` keeps what was moved, `state.after` the last answer. */
export function slidersCard(state, api) {
  const { envelope } = state;
  const { inputs, decision } = envelope;
  if (!inputs) return null;
  const path = `/v1/decisions/${encodeURIComponent(envelope.decision_id)}/what-if`;
  const told = h("div", { role: "status" });
  const result = h("div", { class: "result" });
  let timer = null;
  let running = null;

  function show() {
    if (state.after) result.replaceChildren(...shown(comparison(decision, state.after)));
    else result.replaceChildren(h("p", { class: "hint" }, text("slide.still")));
  }

  async function ask() {
    running?.abort();
    running = new AbortController();
    const changes = Object.assign({}, ...Object.values(state.moved));
    try {
      const some = Object.keys(changes).length > 0;
      state.after = some ? (await api.post(path, { changes }, running.signal)).data.decision : null;
      told.replaceChildren(state.after ? h("p", { class: "unseen" }, spokenResult(state.after)) : "");
      show();
    } catch (trouble) {
      if (trouble.key) told.replaceChildren(troubleNote(trouble, ask));
    }
  }

  function moved(name, changes) {
    if (changes) state.moved[name] = changes;
    else delete state.moved[name];
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  }

  const made = () => shown(controls(inputs, state.moved, moved));
  const form = h("form", { class: "sliders", onsubmit: (event) => event.preventDefault() }, made());
  const reset = button(text("slide.reset"), () => {
    state.moved = {};
    form.replaceChildren(...made());
    clearTimeout(timer);
    ask();
  });
  show();
  return card(3, text("slide.title"), { class: "wide try" },
    h("p", {}, text("slide.lead")),
    envelope.cause === "override" && h("p", { class: "notice" }, text("slide.machine")),
    form, h("p", {}, reset), told, result);
}

function controls(inputs, moves, moved) {
  const { kyc, blocks } = inputs;
  const known = Object.entries(blocks).filter(([, block]) => block?.logit_e6 != null);
  const unknown = Object.keys(blocks).filter((domain) => blocks[domain]?.logit_e6 == null);
  return [
    askedSlider(inputs, moves, moved),
    moneySlider("slide.income", "kyc.income_fen_month", kyc.income_fen_month, moves, moved),
    moneySlider("slide.debt", "kyc.existing_debt_service_fen_month", kyc.existing_debt_service_fen_month, moves, moved),
    sourceChoice(kyc.income_source, moves, moved),
    kyc.logit_e6 != null && pointsSlider("lender_kyc", "kyc.logit_e6", kyc.logit_e6, moves, moved),
    known.map(([domain, block]) => pointsSlider(domain, `blocks.${domain}.logit_e6`, block.logit_e6, moves, moved)),
    h("p", { class: "hint" }, text("slide.block_hint"), " ",
      unknown.length > 0 && text("slide.missing", { domains: domainName(unknown.join("+")) })),
  ];
}

/** A range with its value in words beside it. */
function slider(label, { min, max, step, value }, words, onmove) {
  const said = h("output", {}, words(value));
  const input = h("input", { type: "range", min, max, step, "aria-valuetext": words(value) });
  input.value = value;
  input.addEventListener("input", () => {
    const now = Number(input.value);
    said.textContent = words(now);
    input.setAttribute("aria-valuetext", words(now));
    onmove(now);
  });
  const made = field(label, input);
  said.htmlFor = input.id;
  made.append(said);
  return made;
}

/** The right end asks for as much as possible. */
function askedSlider({ requested_fen: base }, moves, moved) {
  const most = Math.max(100_000, Math.ceil((base ?? 0) / 100) + 500);
  const open = most + 500;
  const inYuan = (fen) => (fen === null ? open : fen / 100);
  const asFen = (value) => (value >= open ? null : value * 100);
  const words = (value) => (value >= open ? text("sum.open") : yuan(value * 100));
  const kept = moves.requested_fen;
  const value = inYuan(kept ? kept.requested_fen : base);
  return slider(text("slide.asked"), { min: 0, max: open, step: 100, value }, words, (now) => {
    moved("requested_fen", asFen(now) === base ? null : { requested_fen: asFen(now) });
  });
}

function moneySlider(key, path, base, moves, moved) {
  const max = Math.max(20_000, Math.ceil((base * 2) / 100));
  const value = (moves[path]?.[path] ?? base) / 100;
  return slider(text(key), { min: 0, max, step: 100, value }, (now) => yuan(now * 100), (now) => {
    moved(path, now * 100 === base ? null : { [path]: now * 100 });
  });
}

/** Points of the block's own log-odds: to the right is better, which is fewer log-odds of default. */
function pointsSlider(domain, path, base, moves, moved) {
  const kept = moves[path];
  const value = kept ? Math.round((base - kept[path]) / E6_PER_POINT) : 0;
  const words = (now) => text("slide.points", { value: now > 0 ? `+${now}` : String(now).replace("-", "−") });
  const label = capital(text("slide.block", { domain: domainName(domain) }));
  return slider(label, { min: -MOST_POINTS, max: MOST_POINTS, step: 5, value }, words, (now) => {
    moved(path, now === 0 ? null : { [path]: base - Math.round(now * E6_PER_POINT) });
  });
}

function sourceChoice(base, moves, moved) {
  const path = "kyc.income_source";
  const select = h("select", {}, SOURCES.map((source) => h("option", { value: source }, text(`income.${source}`))));
  select.value = moves[path]?.[path] ?? base;
  select.addEventListener("change", () => moved(path, select.value === base ? null : { [path]: select.value }));
  return field(text("slide.source"), select);
}

function rowsOf(decision) {
  return [
    ["outcome", text(`outcome.${decision.decision}`)],
    ["amount", yuan(decision.amount_fen)],
    ["binding", decision.binding_cap ? capName(decision.binding_cap) : text("row.none")],
    ["rate", decision.apr_bp === null ? text("row.none") : percent(decision.apr_bp)],
    ["score", String(decision.score)],
    ["pd", percent(decision.pd_bp)],
    ["pd_upper", percent(decision.pd_upper_bp)],
    ["confidence", decision.confidence],
  ];
}

function comparison(before, after) {
  const then = rowsOf(after);
  const rows = rowsOf(before).map(([name, value], at) => [text(`row.${name}`), value, then[at][1]]);
  return compared(rows);
}

function spokenResult(decision) {
  return `${text("try.result")}: ${text(`outcome.${decision.decision}`)}, ${yuan(decision.amount_fen)}`;
}
