// What is served, what could be, and the dialog that installs and removes.

import { get, post } from "./api.js";
import { $, announce, cell, chip, emptyRow, fill, h } from "./dom.js";
import { bytes } from "./format.js";
import { on, state } from "./live.js";

const BUILT_IN = "pendra";
const EVERYWHERE = "all hosts";
const NAMES = { pendra: "built-in engine", ollama: "Ollama", lmstudio: "LM Studio", speaches: "Speaches", vllm: "vLLM" };

let offers = [];
let drawn = "";

export async function open() {
  try {
    const { data, notice } = await get("/catalogue");
    offers = data;
    $("offer-notice").textContent = notice?.message ?? "";
    const kinds = [...new Set(data.map((model) => model.capability))];
    fill($("offer-for"), [h("option", { value: "" }, "everything"), ...kinds.map((kind) => h("option", {}, kind))]);
  } catch (error) {
    $("offer-notice").textContent = error.message;
  }
  draw();
}

on("fleet", () => {
  const now = JSON.stringify([state.fleet.models, state.fleet.hosts]);
  if (now === drawn) return;
  drawn = now;
  draw();
});
$("offer-find").addEventListener("input", drawOffers);
$("offer-for").addEventListener("change", drawOffers);

function draw() {
  const { models } = state.fleet;
  $("served-count").textContent = models.length || "";
  fill($("served"), models.length ? models.map(servedRow) : emptyRow(8, "No model is served. Install one from the catalogue below."));
  drawOffers();
}

function servedRow(model) {
  const about = [model.parameter_size, model.quantisation].filter(Boolean).join(" · ");
  return h(
    "tr",
    { "data-model": model.id },
    cell("Model", h("strong", {}, model.id), about && [h("br"), h("small", { class: "soft" }, about)]),
    cell("For", model.capability),
    cell("Backend", NAMES[model.backend] ?? model.backend),
    cell("Context", model.context_length?.toLocaleString() ?? "–"),
    cell("Size", bytes(model.size_bytes) || "–"),
    cell("In memory", model.loaded ? chip("yes", "full") : "no"),
    cell("Workers", String(model.workers.length)),
    h("td", { class: "right" }, removeButton(model.id, `served-${model.id}`)),
  );
}

function removeButton(id, place) {
  return h("button", { type: "button", id: `remove-${place}`, "aria-label": `Remove ${id}`, onclick: () => ask("uninstall", id) }, "Remove");
}

// ---------------------------------------------------------------- the catalogue

function drawOffers() {
  const words = $("offer-find").value.trim().toLowerCase();
  const kind = $("offer-for").value;
  const found = offers.filter(
    (one) => (!kind || one.capability === kind) && `${one.id} ${one.name} ${one.licence}`.toLowerCase().includes(words),
  );
  $("offer-count").textContent = offers.length ? `${found.length} of ${offers.length}` : "";
  fill($("offer"), found.length ? found.map(offer) : h("li", { class: "soft" }, offers.length ? "Nothing fits." : "The catalogue is empty."));
}

function offer(model) {
  const served = state.fleet.models.find((one) => one.id === model.id);
  const forms = model.variants.map((one) => one.quantisation + (one.size ? ` ${bytes(one.size)}` : ""));
  return h(
    "li",
    { class: "offer", "data-offer": model.id },
    h("div", {}, h("strong", {}, model.name), " ", served ? chip("installed", "good") : null),
    h("code", {}, model.id),
    h("small", { class: "soft" }, [model.capability, model.parameter_size, ...forms, model.licence].join(" · ")),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", id: `install-${model.id}`, "aria-label": `Install ${model.id}`, onclick: () => ask("install", model.id) }, "Install"),
      served ? removeButton(model.id, `offer-${model.id}`) : null,
    ),
  );
}

/** Backends that can have this form of the model, the built-in one first. */
function backendsOf(model, variant) {
  const named = Object.keys(variant.backends ?? {});
  const own = model.backend === "both" ? [] : [model.backend];
  return [...new Set([...(variant.gguf_url ? [BUILT_IN] : []), ...named, ...own.filter((one) => one !== BUILT_IN)])];
}

// ---------------------------------------------------------------- the dialog

let asked = null;

function ask(action, id) {
  const { hosts } = state.fleet;
  if (!hosts.length) return announce("No host is connected: there is nowhere to change models.", "bad");
  const model = offers.find((one) => one.id === id);
  asked = { action, id, model };
  const installing = action === "install";
  $("install-title").textContent = `${installing ? "Install" : "Remove"} ${id}`;
  $("i-go").textContent = installing ? "Install" : "Remove";
  $("i-go").className = installing ? "main" : "danger";
  $("i-variant-row").hidden = !installing;
  $("i-force-row").hidden = installing;
  $("i-force").checked = false;
  $("i-error").textContent = "";
  fill($("i-variant"), (model?.variants ?? []).map((one) => h("option", {}, one.quantisation)));
  const able = installing ? hosts : holders(id);
  const whole = able.length > 1 ? [h("option", { value: "" }, EVERYWHERE)] : [];
  fill($("i-host"), [...whole, ...able.map((host) => h("option", { value: host }, host))]);
  offerBackends();
  $("install-dialog").showModal();
}

/** Hosts that have the model; all of them where nobody says so. */
function holders(id) {
  const found = state.fleet.workers.filter((one) => one.models.includes(id)).map((one) => one.node);
  return found.length ? [...new Set(found)].sort() : state.fleet.hosts;
}

function offerBackends() {
  const { action, id, model } = asked;
  const served = state.fleet.models.find((one) => one.id === id);
  const variant = model?.variants.find((one) => one.quantisation === $("i-variant").value);
  const able = variant ? backendsOf(model, variant) : [];
  const all = action === "install" ? able : [...new Set([served?.backend ?? BUILT_IN, ...able])];
  fill($("i-backend"), all.map((one) => h("option", { value: one }, NAMES[one] ?? one)));
}

$("i-variant").addEventListener("change", offerBackends);
$("i-no").addEventListener("click", () => $("install-dialog").close());

$("install-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { action, id } = asked;
  const host = $("i-host").value;
  const body = { model: id, backend: $("i-backend").value, ...(host ? { worker_id: host } : { all: true }) };
  if (action === "install") body.variant = $("i-variant").value;
  else body.force = $("i-force").checked;
  $("i-go").disabled = true;
  try {
    await post(`/${action}s`, body);
    $("install-dialog").close();
    announce(`${action === "install" ? "Installing" : "Removing"} ${id}.`);
  } catch (error) {
    $("i-error").textContent = error.message;
  } finally {
    $("i-go").disabled = false;
  }
});
