// The officer's view: search by reference, then one person's decisions, account and data.

import { actions } from "./actions.js";
import { capsCard, summaryCard } from "./case.js";
import { button, code, field, h, icon, moveTo, troubleNote } from "./dom.js";
import { text } from "./language.js";
import { causeOf, iconOf, threeChecks, toneOf } from "./outcome.js";
import { ladderCard, stepsCard, whyCard } from "./parts.js";
import { accountCard, appealsCard, eventsCard, feedCard, historyCard } from "./person.js";
import { scoreCard } from "./score.js";
import { slidersCard } from "./sliders.js";

/** Shows the view in `root`; what is typed, found and moved is kept in `state` and survives a change of language. */
export function officerView(root, api, role) {
  const state = { role, query: "", empty: false, subject: null, envelope: null, trouble: null };
  let latest = 0;

  /** Shows what `work` finds, unless something else was asked for meanwhile; then moves the reader to it. */
  async function turn(work, place) {
    const mine = ++latest;
    let found;
    try {
      found = { ...(await work()), trouble: null };
    } catch (trouble) {
      found = { trouble: { note: trouble, again: () => turn(work, place) } };
    }
    if (mine !== latest) return;
    Object.assign(state, found);
    redraw();
    moveTo(root.querySelector(found.trouble ? "#reference" : place));
  }

  function search(event) {
    event.preventDefault();
    const query = state.query.trim();
    Object.assign(state, { subject: null, envelope: null, empty: !query });
    if (query) return turn(() => personOf(query), "#found");
    return turn(async () => ({}), "#reference");
  }

  async function personOf(query) {
    const { subject_ref: ref, decision_id: meant } = (await api.get(`/v1/search?q=${encodeURIComponent(query)}`)).data;
    const subject = (await api.get(`/v1/subjects/${encodeURIComponent(ref)}`)).data;
    const id = meant ?? subject.decisions[0]?.decision_id;
    return { subject, ...(id ? await decisionOf(id) : {}) };
  }

  async function decisionOf(id) {
    const { data, headers } = await api.get(`/v1/decisions/${encodeURIComponent(id)}`);
    return { envelope: data, newer: headers.get("Fedscore-Superseded-By"), moved: {}, after: null, did: {} };
  }

  const show = (id) => turn(() => decisionOf(id), "#decision");

  function redraw() {
    root.replaceChildren(h("div", { class: "officer" },
      h("h1", {}, text("search.title")),
      searchForm(state, search),
      state.trouble && troubleNote(state.trouble.note, state.trouble.again),
      state.subject ? person(state, api, show) : !state.trouble && h("p", { class: "hint" }, text("search.none"))));
  }

  redraw();
  return { redraw };
}

function searchForm(state, search) {
  const input = h("input", {
    type: "search", id: "reference", autocomplete: "off", spellcheck: "false", value: state.query,
    oninput: (event) => { state.query = event.target.value; },
  });
  return h("form", { class: "search", role: "search", onsubmit: search, novalidate: true },
    field(text("search.label"), input),
    h("button", { type: "submit" }, text("search.go")),
    h("div", { role: "status" }, state.empty && h("p", { class: "notice" }, text("search.empty"))));
}

function person(state, api, show) {
  const { subject, envelope } = state;
  return h("div", {},
    h("h2", { id: "found" }, text("case.subject"), " ", code(subject.subject_ref)),
    envelope && decisionPart(state, api, show),
    h("section", { class: "person", "aria-labelledby": "person" },
      h("h2", { id: "person" }, text("case.person")),
      h("div", { class: "grid" },
        historyCard(subject.decisions, envelope?.decision_id, show),
        accountCard(subject.account),
        eventsCard(subject.events),
        appealsCard(subject.appeals))));
}

function decisionPart(state, api, show) {
  const { envelope, newer, subject } = state;
  const { decision } = envelope;
  const cause = causeOf(decision);
  return h("section", { class: "decision", "aria-labelledby": "decision" },
    h("div", { class: `headline tone-${toneOf(cause)}` },
      h("span", { class: "hero-icon" }, iconOf(cause)),
      h("div", {},
        h("h2", { id: "decision" }, text(`title.${cause}`)),
        h("p", {}, text("case.decision"), " ", code(envelope.decision_id))),
      actions(state, api)),
    newer && h("p", { class: "notice" }, icon("clock"), " ", text("case.newer"), " ",
      button(text("hero.newer_show"), () => show(newer))),
    threeChecks(decision, cause),
    h("div", { class: "grid" },
      summaryCard(envelope),
      capsCard(decision),
      whyCard(3, decision, true),
      stepsCard(3, decision, cause),
      decision.ladder && [scoreCard(3, decision), ladderCard(3, decision, envelope.rungs_fen)],
      feedCard(envelope, subject.blocks),
      state.role !== "auditor" && slidersCard(state, api)));
}
