// The page: its language, who is using it, and which of the views they see.

import { applicantView } from "./applicant.js";
import { client } from "./api.js";
import { button, h, moveTo, troubleNote } from "./dom.js";
import { currentLanguage, loadTexts, setLanguage, text } from "./language.js";
import { loginView } from "./login.js";
import { forget, recall, remember } from "./memory.js";
import { officerView } from "./officer.js";

const TOKEN = "fedscore.token";
const LINK = "fa_"; // how an applicant's token begins
const OFFICERS = ["officer", "reviewer", "auditor"];
const root = document.getElementById("main");
const who = document.getElementById("who");
let view = null;
let me = null;

/** Takes token and language out of the address, where they would stay in the browser's history. */
function readAddress() {
  const told = new URLSearchParams(window.location.hash.slice(1));
  if (told.has("lang")) setLanguage(told.get("lang"));
  if (told.has("t")) remember(TOKEN, told.get("t"));
  const found = { token: told.has("t"), lang: told.has("lang") };
  if (found.token || found.lang) window.history.replaceState(null, "", window.location.pathname);
  return found;
}

/** A fresh place for a view: one that was left behind still writes to its own, which is no longer shown. */
function stage() {
  const place = h("div");
  root.replaceChildren(place);
  return place;
}

function drawFrame() {
  document.title = text("page.title");
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  const group = document.getElementById("languages");
  group.setAttribute("aria-label", text("page.language"));
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  }
  const officer = me && OFFICERS.includes(me.role);
  who.replaceChildren(...(me ? [
    officer ? h("span", {}, h("code", {}, me.name), " · ", text(`role.${me.role}`)) : "",
    button(text(officer ? "page.logout" : "page.leave"), leave),
  ] : []));
}

async function speak(name) {
  setLanguage(name);
  drawFrame();
  await view?.redraw();
}

function enter(token, found) {
  const officer = OFFICERS.includes(found.role);
  if (!officer && found.role !== "applicant") {
    login(() => h("p", { class: "notice" }, text("trouble.view", { role: found.role })));
    return;
  }
  me = found;
  remember(TOKEN, token);
  drawFrame();
  const api = client(token);
  view = officer ? officerView(stage(), api, found.role) : applicantView(stage(), api, found.decision_id);
  if (officer) moveTo(root.querySelector("h1"));
}

function login(note = null) {
  me = null;
  forget(TOKEN);
  drawFrame();
  view = loginView(stage(), enter, note);
}

function leave() {
  const officer = OFFICERS.includes(me.role);
  const note = () => h("p", { class: "notice" }, text(officer ? "page.loggedout" : "page.left"));
  if (officer) login(note);
  else close(note);
  moveTo(root.querySelector("h1"));
}

/** The applicant's page without its token: no way in but a new link. */
function close(note) {
  me = null;
  forget(TOKEN);
  drawFrame();
  const place = stage();
  const redraw = () => place.replaceChildren(h("div", { class: "login" },
    h("h1", {}, text("closed.title")),
    note(),
    h("p", {}, button(text("closed.officer"), () => login()))));
  view = { redraw };
  redraw();
}

/** Shows the view that the kept token opens, or the way in. */
async function open() {
  const token = recall(TOKEN);
  if (!token) {
    login();
    return;
  }
  try {
    enter(token, (await client(token).get("/v1/me")).data);
  } catch (trouble) {
    if (trouble.status === 401) {
      (token.startsWith(LINK) ? close : login)(() => troubleNote(trouble));
      return;
    }
    const place = stage();
    const redraw = () => place.replaceChildren(h("h1", {}, text("page.name")), troubleNote(trouble, open));
    view = { redraw };
    redraw();
  }
}

async function start() {
  await loadTexts();
  readAddress();
  for (const button of document.getElementById("languages").children) {
    button.addEventListener("click", () => speak(button.dataset.language));
  }
  window.addEventListener("hashchange", () => {
    const found = readAddress();
    if (found.token) open();
    else if (found.lang) speak(currentLanguage());
  });
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  drawFrame();
  await open();
}

start();
