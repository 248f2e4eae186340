// The applicant's rights, and the form that asks for a person to look at the decision.

import { card, code, field, h, instant, moveTo, troubleNote } from "./dom.js";
import { text } from "./language.js";

const MAX_LENGTH = 500; // the service takes as many characters, on one line

/** `rights` is what the service tells of them; what was written and received is kept in `state.appeal`. */
export function rightsCard(state, api, rights) {
  const appeal = state.appeal;
  const result = h("div", { role: "status", class: "result" });
  const grounds = h("textarea", {
    rows: "4", maxlength: String(MAX_LENGTH), value: appeal.grounds,
    oninput: (event) => { appeal.grounds = event.target.value; },
  });

  async function send(event) {
    event.preventDefault();
    const said = appeal.grounds.trim().replace(/\s+/g, " ");
    if (!said) {
      result.replaceChildren(h("p", { class: "notice" }, text("appeal.empty")));
      grounds.focus();
      return;
    }
    try {
      const { data } = await api.post("/v1/appeals", { decision_id: state.id, grounds: said });
      appeal.received = data;
      form.replaceWith(received(data));
      moveTo(document.getElementById("appeal-received"));
    } catch (trouble) {
      result.replaceChildren(troubleNote(trouble));
    }
  }

  const form = h("form", { onsubmit: send, novalidate: true },
    h("p", {}, text("appeal.lead")),
    field(text("appeal.grounds"), grounds),
    h("button", { type: "submit" }, text("appeal.go")),
    result);
  const told = h("ul", {}, [rights ?? []].flat().map((right) => h("li", {}, right)));
  if (state.envelope.decision.decision === "REFER") {
    const already = h("p", { class: "notice" }, text("appeal.person"));
    return card(2, text("appeal.title"), { class: "rights wide" }, told, already);
  }
  return card(2, text("appeal.title"), { class: "rights" }, told, appeal.received ? received(appeal.received) : form);
}

function received({ appeal_id: number, due_at: due }) {
  return h("div", { class: "notice", role: "status", id: "appeal-received" },
    h("p", {}, text("appeal.done"), " ", instant(due)),
    h("p", {}, text("appeal.number"), " ", code(number)));
}
