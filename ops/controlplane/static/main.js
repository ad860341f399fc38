// Signing in and out, which section shows, the theme.

import { forgetKey, get, keepKey, key } from "./api.js";
import { $, announce } from "./dom.js";
import { on, stop, watch } from "./live.js";
import * as access from "./access.js";
import * as catalogue from "./catalogue.js";
import * as fleet from "./fleet.js";
import "./progress.js";
import "./tester.js";

const SECTIONS = ["fleet", "catalogue", "tester", "access"];
const VIEWS = [fleet, catalogue, access];
const WHY = "pendra.why";

// ---------------------------------------------------------------- signing in

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const tried = $("key").value.trim();
  $("sign-in-error").textContent = "";
  try {
    if (!/^[\x21-\x7e]+$/.test(tried)) throw new Error("An API key has no spaces and no special letters.");
    await get("/admin/keys", { as: tried });
  } catch (error) {
    $("sign-in-error").textContent = error.message;
    $("key").select();
    $("key").focus();
    return;
  }
  $("key").value = "";
  keepKey(tried);
  enter();
});

function enter() {
  shown(true);
  for (const view of VIEWS) view.open();
  watch(leave);
  route();
}

/** `words`: why, when it was not the person who wanted to. The page starts anew: nothing that it knew stays. */
function leave(words = "") {
  stop();
  forgetKey();
  if (words) sessionStorage.setItem(WHY, words);
  location.reload();
}

function ask() {
  shown(false);
  $("sign-in-error").textContent = sessionStorage.getItem(WHY) ?? "";
  sessionStorage.removeItem(WHY);
  $("key").focus();
}

function shown(signedIn) {
  $("sign-in").hidden = signedIn;
  for (const id of ["nav", "sign-out", "link"]) $(id).hidden = !signedIn;
}

$("sign-out").addEventListener("click", () => leave());

// ---------------------------------------------------------------- sections

function route() {
  if (!key()) return;
  const wanted = location.hash.slice(1);
  const name = SECTIONS.includes(wanted) ? wanted : "fleet";
  for (const id of SECTIONS) $(id).hidden = id !== name;
  for (const link of $("nav").querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`${name}-title`).textContent} · Pendra console`;
  scrollTo(0, 0);
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  route();
});

// ---------------------------------------------------------------- theme, link

const THEMES = { "": "dark", dark: "light", light: "" };

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  const name = theme || "system";
  $("theme").textContent = { "": "◐", dark: "☾", light: "☀" }[theme];
  $("theme").setAttribute("aria-label", `Theme: ${name}; switch to ${THEMES[theme] || "system"}`);
  $("theme").title = `Theme: ${name}`;
}

$("theme").addEventListener("click", () => {
  const next = THEMES[document.documentElement.dataset.theme ?? ""];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("pendra.theme", next);
  showTheme();
});

on("link", (now) => {
  const live = now === "live";
  if ($("link").textContent === (live ? "live" : "reconnecting")) return;
  $("link").textContent = live ? "live" : "reconnecting";
  $("link").className = `chip ${live ? "good" : "warn"}`;
});

addEventListener("unhandledrejection", (event) => announce(event.reason?.message ?? "Something failed.", "bad"));

showTheme();
if (key()) enter();
else ask();
