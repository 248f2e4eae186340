// The officer's view: search by reference, then one person's decisions, account and data.

import { button, code, field, h, icon, moveTo, troubleNote } from "./dom.js";
import { text } from "./language.js";
import { capsCard, summaryCard } from "./case.js";
import { appealsCard, accountCard, eventsCard, feedCard, historyCard } from "./person.js";
import { slidersCard } from "./sliders.js";
import { causeOf, iconOf, threeChecks, toneOf } from "./outcome.js";
import { ladderCard, stepsCard, whyCard } from "./parts.js";
import { scoreCard } from "./score.js";
import { actions } from "./actions.js";

/** Shows the view in `root`; what is typed, found and moved is kept in `state` and survives a change of language. */
export function officerView(root, api, role) {
  const state = { role, query: "", subject: null, envelope: null, newer: null, trouble: null };

  async function search(event) {
    event?.preventDefault();
    const query = state.query.trim();
    Object.assign(state, { subject: null, envelope: null, trouble: null, empty: !query });
    if (query) {
      await attempt(search, async () => {
        const found = (await api.get(`/v1/search?q=${encodeURIComponent(query)}`)).data;
        state.subject = (await api.get(`/v1/subjects/${encodeURIComponent(found.subject_ref)}`)).data;
        const meant = found.decision_id ?? state.subject.decisions[0]?.decision_id;
        if (meant) await fetchDecision(meant);
      });
    }
    redraw();
    moveTo(root.querySelector(state.subject ? "#found" : "#reference"));
  }

  async function show(id) {
    state.trouble = null;
    await attempt(() => show(id), () => fetchDecision(id));
    redraw();
    moveTo(root.querySelector("#decision"));
  }

  async function fetchDecision(id) {
    const { data, headers } = await api.get(`/v1/decisions/${encodeURIComponent(id)}`);
    const newer = headers.get("Fedscore-Superseded-By");
    Object.assign(state, { envelope: data, newer, moved: {}, after: null, did: {} });
  }

  async function attempt(again, work) {
    try {
      await work();
    } catch (trouble) {
      state.trouble = { note: trouble, again };
    }
  }

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
