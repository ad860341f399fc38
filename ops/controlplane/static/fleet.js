// Workers, their GPUs, bridges, and the charts.

import { Chart } from "./chart.js";
import { $, cell, chip, emptyRow, fill, h } from "./dom.js";
import { bytes, number, percent, plural } from "./format.js";
import { on, state } from "./live.js";

const charts = [
  new Chart($("chart-tokens"), {
    read: (one) => one.tokens_per_second,
    say: (one) => number(one.tokens_per_second),
  }),
  new Chart($("chart-waiting"), { read: (one) => one.waiting, say: (one) => number(one.waiting) }),
  new Chart($("chart-slots"), {
    read: (one) => one.slots_busy,
    top: (all) => Math.max(...all.map((one) => one.slots_total)),
    say: (one) => `${one.slots_busy} of ${one.slots_total}`,
  }),
];

export function open() {
  drawFleet();
}

on("samples", () => charts.forEach((chart) => chart.draw(state.samples)));
on("fleet", drawFleet);

function drawFleet() {
  const { workers, bridges, hosts } = state.fleet;
  $("workers-count").textContent = workers.length ? `${workers.length} on ${plural(hosts.length, "host")}` : "";
  const none = bridges.length
    ? ["No worker is there. Start one on a host: ", h("code", {}, "pendra worker")]
    : ["No bridge is connected. Start everything here with ", h("code", {}, "pendra up"), ", or a bridge with ", h("code", {}, "pendra bridge")];
  fill($("workers"), workers.length ? workers.map(workerRow) : emptyRow(7, ...none));
  fill($("bridges"), bridges.length ? bridges.map(bridgeRow) : emptyRow(3, "None is connected."));
}

function workerRow(worker) {
  return h(
    "tr",
    { "data-worker": worker.id },
    cell("Worker", h("strong", {}, worker.id), h("br"), h("small", { class: "soft" }, `${worker.name} · ${worker.version}`)),
    cell("Host", worker.node),
    cell("Device", worker.device, ...worker.gpu.map(gpu)),
    cell("Slots", slots(worker)),
    h("td", { "data-label": "Tokens/s", class: "right" }, number(worker.tokens_per_second)),
    cell("Models", h("span", { class: "chips" }, models(worker))),
    cell("State", worker.draining ? chip("draining", "warn") : chip("serving", "good"), worker.labels.map((label) => chip(label))),
  );
}

function slots({ slots_busy: busy, slots_total: total }) {
  const words = `${busy} of ${total}`;
  return h("span", { class: "meter" }, h("meter", { min: 0, max: total || 1, value: busy, "aria-label": `Slots in use: ${words}` }), ` ${words}`);
}

function models(worker) {
  const loaded = new Set(worker.loaded);
  if (!worker.models.length) return [h("span", { class: "soft" }, "none")];
  return worker.models.map((id) => (loaded.has(id) ? chip(id, "full") : h("span", { class: "chip", title: "installed, not in memory" }, id)));
}

function gpu(one) {
  const facts = [
    one.memory_used !== null && one.memory_total ? `${bytes(one.memory_used)} of ${bytes(one.memory_total)}` : "",
    one.utilisation !== null ? percent(one.utilisation) : "",
    one.temperature_c !== null ? `${Math.round(one.temperature_c)} °C` : "",
    one.power_w !== null ? `${Math.round(one.power_w)} W` : "",
    one.ecc_errors ? plural(one.ecc_errors, "ECC error") : "",
  ].filter(Boolean);
  return h("small", { class: "soft block", title: one.uuid }, [one.name, ...facts].filter(Boolean).join(" · "));
}

function bridgeRow(bridge) {
  return h(
    "tr",
    {},
    cell("Bridge", h("strong", {}, bridge.id)),
    cell("Version", bridge.version),
    cell("State", bridge.connected ? chip("connected", "good") : chip("away", "warn")),
  );
}
