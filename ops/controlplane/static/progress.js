// Installs and removals under way, and how the last ones ended.

import { post } from "./api.js";
import { $, announce, chip, fill, h } from "./dom.js";
import { bytes, percent, span } from "./format.js";
import { on, state } from "./live.js";

const SHOWN = 6;
const KINDS = { done: "good", failed: "bad", cancelled: "warn" };
const known = new Map();

on("install", (install) => {
  const before = known.get(install.id);
  known.set(install.id, install.state);
  if (before === "running" && install.state !== "running") say(install);
  draw();
});

function say(install) {
  const did = install.action === "install" ? "Install" : "Removal";
  const why = install.error ? `: ${install.error.message}` : "";
  announce(`${did} of ${install.model}: ${install.state}${why}`, install.state === "failed" ? "bad" : "");
}

function draw() {
  const all = [...state.installs.values()].sort((a, b) => b.created - a.created);
  const open = all.filter((one) => one.state === "running");
  const ended = all.filter((one) => one.state !== "running");
  const rows = [...open, ...ended].slice(0, Math.max(SHOWN, open.length));
  $("progress-card").hidden = !rows.length;
  fill($("progress"), rows.map(item));
}

function item(install) {
  const doing = install.action === "install" ? "Install" : "Remove";
  const running = install.state === "running";
  return h(
    "li",
    { "data-install": install.id, "data-state": install.state },
    h(
      "div",
      { class: "row" },
      h("span", {}, `${doing} `, h("strong", {}, install.model), ` on ${install.worker_id ?? "all hosts"}`),
      chip(running ? stage(install) : install.state, KINDS[install.state] ?? "full"),
      running && !install.cancelling ? cancelButton(install) : null,
    ),
    running ? bar(install, doing) : null,
    ...(running ? install.hosts.map(host) : []),
    install.error ? h("p", { class: "error" }, `${install.error.message} (${install.error.code})`) : null,
  );
}

/** Without a value it says "under way": nobody knows how much there is to come. */
function bar(install, doing) {
  const sized = install.hosts.some((one) => one.total);
  const label = `${doing} ${install.model}${sized ? `: ${percent(install.fraction)}` : ""}`;
  return h("progress", { max: 1, value: sized ? install.fraction : null, "aria-label": label });
}

function stage(install) {
  if (install.cancelling) return "cancelling";
  return install.connected ? install.stage : "bridge away; the host goes on";
}

function host(one) {
  const facts = [
    one.stage,
    one.total ? `${bytes(one.done)} of ${bytes(one.total)}` : one.done ? bytes(one.done) : "",
    one.rate ? `${bytes(one.rate)}/s` : "",
    one.eta ? `${span(one.eta)} left` : "",
  ].filter(Boolean);
  return h("small", { class: "soft block" }, `${one.node}: ${facts.join(" · ")}`);
}

function cancelButton(install) {
  const stop = async () => {
    try {
      await post(`/installs/${encodeURIComponent(install.id)}/cancel`);
    } catch (error) {
      announce(error.message, "bad");
    }
  };
  return h("button", { type: "button", class: "small", id: `cancel-${install.id}`, "aria-label": `Cancel ${install.model}`, onclick: stop }, "Cancel");
}
