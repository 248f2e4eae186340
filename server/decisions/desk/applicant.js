// The applicant's view: one decision, told to the person it is about. It never has a probability of default.

import { button, facts, h, icon, instant, moveTo, troubleNote } from "./dom.js";
import { currentLanguage, percent, text, yuan } from "./language.js";
import { causeOf, iconOf, threeChecks, toneOf } from "./outcome.js";
import { blocksCard, costsCard, ladderCard, stepsCard, whyCard } from "./parts.js";
import { rightsCard } from "./rights.js";
import { scoreCard } from "./score.js";
import { whatIfCard } from "./whatif.js";

/** Shows the view in `root`; the result's `redraw` says it all again in the language that now holds. */
export function applicantView(root, api, decisionId) {
  const state = { id: decisionId, envelope: null, newer: null, said: {}, asked: {}, appeal: { grounds: "" } };

  async function load() {
    root.replaceChildren(h("p", { role: "status" }, text("page.loading")));
    try {
      const { data, headers } = await api.get(`/v1/decisions/${encodeURIComponent(state.id)}`);
      Object.assign(state, { envelope: data, newer: headers.get("Fedscore-Superseded-By"), said: {} });
    } catch (trouble) {
      fail(trouble, load);
    }
    await redraw();
  }

  async function redraw() {
    if (!state.envelope) return;
    const lang = currentLanguage();
    const path = `/v1/decisions/${encodeURIComponent(state.id)}/explanation?lang=${lang}`;
    try {
      state.said[lang] ??= (await api.get(path)).data;
      root.replaceChildren(page(...drawn(state, api, showNewer)));
    } catch (trouble) {
      fail(trouble, redraw);
    }
  }

  function fail(trouble, again) {
    const retry = trouble.status === 401 ? null : again;
    root.replaceChildren(page(h("h1", {}, text("page.name")), troubleNote(trouble, retry)));
  }

  async function showNewer() {
    Object.assign(state, { id: state.newer, envelope: null, asked: {}, appeal: { grounds: "" } });
    await load();
    moveTo(root.querySelector("h1"));
  }

  load();
  return { redraw };
}

function page(...children) {
  return h("div", { class: "applicant" }, children);
}

function drawn(state, api, showNewer) {
  const { decision, rungs_fen: rungs } = state.envelope;
  const said = state.said[currentLanguage()];
  const cause = causeOf(decision);
  const waits = ["late", "checked"].includes(cause);
  const granted = decision.amount_fen > 0;
  return [
    state.newer && h("p", { class: "notice" }, icon("clock"), " ", text("hero.newer"), " ",
      button(text("hero.newer_show"), showNewer)),
    hero(state.envelope, cause),
    threeChecks(decision, cause),
    h("div", { class: "grid" },
      whyCard(2, decision),
      stepsCard(2, decision, cause),
      scoreCard(2, decision, waits),
      decision.ladder && ladderCard(2, decision, rungs),
      blocksCard(2, decision),
      granted && costsCard(2, decision, said.schedule),
      cause !== "person" && whatIfCard(state, api),
      rightsCard(state, api, said.rights)),
    h("p", { class: "hint" }, text("page.versions", versions(decision.versions))),
  ];
}

function figure(kind, name, value) {
  return h("p", { class: `amount ${kind}` }, h("span", {}, name), h("strong", {}, value));
}

function versions({ policy_id: policy, policy_version: version, bundle_id: bundle }) {
  return { policy, version, bundle };
}

function hero({ decision, inputs }, cause) {
  const asked = inputs?.requested_fen;
  const granted = decision.amount_fen > 0;
  const lapsed = new Date(decision.valid_until) < new Date();
  const waits = decision.defer_deadline;
  const free = decision.available_fen === decision.amount_fen ? null : yuan(decision.available_fen);
  return h("section", { class: `hero tone-${toneOf(cause)}`, "aria-labelledby": "outcome" },
    h("div", { class: "hero-said" },
      h("span", { class: "hero-icon" }, iconOf(cause)),
      h("div", {},
        h("h1", { id: "outcome" }, text(`title.${cause}`)),
        h("p", {}, text(`lead.${cause}`)))),
    h("div", { class: "hero-told" },
      granted && figure("", text("hero.limit"), yuan(decision.amount_fen)),
      waits && figure("words", text("hero.wait"), instant(waits)),
      !granted && !waits && figure("words", text("hero.limit"), text(cause === "person" ? "hero.open" : "hero.none")),
      facts([
        [text("hero.asked"), asked && asked !== decision.amount_fen ? yuan(asked) : null],
        [text("hero.available"), granted ? free : null],
        [text("hero.rate"), granted ? percent(decision.apr_bp) : null],
        [text("hero.term"), granted ? text("hero.months", { count: decision.term_months }) : null],
        [text("hero.again"), decision.retry_after && instant(decision.retry_after)],
        [text(lapsed ? "hero.lapsed" : "hero.valid"), waits ? null : instant(decision.valid_until)],
      ])));
}
