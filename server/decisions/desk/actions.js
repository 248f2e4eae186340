// What an officer can do with a decision: replay it, and make a link to the applicant's page.

import { button, code, h, icon, instant, moveTo, shown, troubleNote } from "./dom.js";
import { text } from "./language.js";

/** Two buttons and the place of their results; what they gave is kept in `state.did`. */
export function actions(state, api) {
  const path = `/v1/decisions/${encodeURIComponent(state.envelope.decision_id)}`;
  const did = state.did;
  const results = () => shown([did.replay && replayed(did.replay), did.link && linked(did.link)]);
  const result = h("div", { class: "result", role: "status" }, results());

  async function act(name, place) {
    try {
      did[name] = (await api.post(`${path}/${name}`)).data;
      result.replaceChildren(...results());
      moveTo(result.querySelector(place));
    } catch (trouble) {
      result.replaceChildren(troubleNote(trouble));
    }
  }

  return h("div", { class: "actions" },
    h("p", { class: "buttons" },
      button(text("case.replay"), () => act("replay", ".replayed"), { id: "replay", class: "main" }),
      state.role === "officer" && button(text("case.link"), () => act("link", ".linked"), { id: "link" })),
    result);
}

function replayed({ identical, sha256 }) {
  return h("div", { class: `replayed ${identical ? "notice" : "trouble"}` },
    h("p", {},
      icon(identical ? "check" : "warn"), " ",
      h("strong", {}, text(identical ? "case.identical" : "case.different"))),
    h("p", {}, h("span", { class: "hint" }, code("SHA-256")), " ", code(sha256)));
}

function linked({ token, expires_at: until }) {
  const address = new URL(`/desk/#t=${token}`, window.location.href).href;
  const field = h("input", { type: "text", readonly: true, value: address, "aria-label": text("case.link_label") });
  const open = h("a", { href: address, target: "_blank", rel: "noopener" }, text("case.link_open"));
  const copy = button(text("case.link_copy"), async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(address);
      copy.textContent = text("case.link_copied");
    } catch {
      field.focus(); // the browser forbids it: the link is selected, ready to be copied by hand
    }
  });
  return h("div", { class: "linked notice" },
    h("p", {}, text("case.link_ready"), " ", instant(until)),
    field,
    h("p", { class: "buttons" }, copy, open));
}
