// The officer's way in: an API key, which only this tab's memory keeps.

import { client } from "./api.js";
import { card, field, h, troubleNote } from "./dom.js";
import { text } from "./language.js";

/** Shows the form in `root`; `enter(token, me)` is called with a key that the service knows. */
export function loginView(root, enter, note = null) {
  let problem = note;

  function redraw() {
    const result = h("div", { role: "status", class: "result" }, problem && problem());
    const key = h("input", { type: "password", autocomplete: "off", spellcheck: "false", name: "key" });

    async function submit(event) {
      event.preventDefault();
      const token = key.value.trim();
      problem = token ? null : () => h("p", { class: "notice" }, text("login.empty"));
      if (token) {
        try {
          const { data: me } = await client(token).get("/v1/me");
          enter(token, me);
          return;
        } catch (trouble) {
          problem = () => troubleNote(trouble);
        }
      }
      result.replaceChildren(problem());
      key.focus();
    }

    root.replaceChildren(h("div", { class: "login" },
      h("h1", {}, text("login.title")),
      card(2, text("login.go"), {},
        h("p", {}, text("login.lead")),
        h("form", { onsubmit: submit, novalidate: true },
          field(text("login.key"), key, text("login.note")),
          h("button", { type: "submit" }, text("login.go"))),
        result),
      h("p", { class: "notice" }, text("login.applicant"))));
  }

  redraw();
  return { redraw };
}
