// API keys, bridges' identities, audit checkpoints.

import { get, post } from "./api.js";
import { confirmed } from "./dialogs.js";
import { $, announce, cell, chip, emptyRow, fill, h } from "./dom.js";
import { number, when } from "./format.js";
import { on, state } from "./live.js";

const KINDS = { live: "good", registered: "good", pending: "warn", revoked: "bad", expired: "bad" };
const DAY_S = 86_400;

export function open() {
  for (const [table, columns, path, row, none] of TABLES) load(table, columns, path, row, none);
}

async function load(table, columns, path, row, none) {
  try {
    const { data } = await get(path);
    fill($(table), data.length ? data.map(row) : emptyRow(columns, none));
  } catch (error) {
    fill($(table), emptyRow(columns, h("span", { class: "error" }, error.message)));
  }
}

const reload = (wanted) => load(...TABLES.find(([table]) => table === wanted));

/** Does it after the person has said yes, shows how it went, and puts the focus back to the table. */
async function change(table, { words, doing, path, done }) {
  if (words && !(await confirmed(words, doing))) return;
  try {
    await post(path);
    announce(done);
  } catch (error) {
    announce(error.message, "bad");
  }
  await reload(table);
}

// ---------------------------------------------------------------- keys

function keyRow(key) {
  const models = key.models.length ? key.models.join(", ") : "all models";
  const rate = key.rate ? `, ${number(key.rate)}/min` : "";
  const revoke = {
    words: `Revoke the key “${key.name}” (${key.id})? Whoever uses it is refused from now on. This cannot be undone.`,
    doing: "Revoke",
    path: `/admin/keys/${encodeURIComponent(key.id)}/revoke`,
    done: `The key “${key.name}” is revoked.`,
  };
  return h(
    "tr",
    { "data-key": key.id, class: key.state === "live" ? "" : "faded" },
    cell("Name", h("strong", {}, key.name), ...key.labels.map((label) => chip(label))),
    cell("Id", h("code", {}, key.id)),
    cell("May", key.admin ? chip("admin", "full") : null, ` ${models}${rate}`),
    cell("Made", when(key.created)),
    cell("Until", key.expires ? when(key.expires) : "no end"),
    cell("State", chip(key.state, KINDS[key.state])),
    h("td", { class: "right" }, key.state === "live" ? button("Revoke", key.id, key.name, () => change("keys", revoke)) : null),
  );
}

function button(doing, id, name, act) {
  return h("button", { type: "button", id: `${doing.toLowerCase()}-${id}`, "aria-label": `${doing} ${name}`, onclick: act }, doing);
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("key-error").textContent = "";
  const days = Number($("k-expires").value);
  const wanted = {
    name: $("k-name").value.trim(),
    admin: $("k-admin").checked,
    models: $("k-models").value.split(",").map((one) => one.trim()).filter(Boolean),
    ...($("k-rate").value && { rate: Number($("k-rate").value) }),
    ...(days && { expires: Date.now() / 1000 + days * DAY_S }),
  };
  try {
    const made = await post("/admin/keys", wanted);
    event.target.reset();
    showPlain(made.key);
  } catch (error) {
    $("key-error").textContent = error.message;
  }
  await reload("keys");
});

function showPlain(plain) {
  $("key-plain").textContent = plain;
  $("key-copied").textContent = "";
  $("key-dialog").showModal();
}

$("key-dialog").addEventListener("close", () => {
  $("key-plain").textContent = "";
});
$("key-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("key-plain").textContent);
    $("key-copied").textContent = "copied";
  } catch {
    getSelection().selectAllChildren($("key-plain")); // without TLS a browser lets nobody copy
    $("key-copied").textContent = "selected; copy it with Ctrl+C";
  }
});

// ---------------------------------------------------------------- identities, audit

function identityRow(row) {
  const path = `/admin/identities/${encodeURIComponent(row.id)}`;
  const approve = { path: `${path}/approve`, done: `${row.name} is let in.` };
  const revoke = {
    words: `Revoke “${row.name}” (${row.id})? Its bridge is cut off at once, and its requests end. That host needs a new key then.`,
    doing: "Revoke",
    path: `${path}/revoke`,
    done: `${row.name} is cut off.`,
  };
  return h(
    "tr",
    { "data-identity": row.id, class: row.state === "revoked" ? "faded" : "" },
    cell("Name", h("strong", {}, row.name)),
    cell("Id", h("code", {}, row.id)),
    cell("Worker id", row.worker_id ?? "–"),
    cell("Last seen", row.connected ? "connected" : when(row.last_seen)),
    cell("State", chip(row.state, KINDS[row.state])),
    h(
      "td",
      { class: "right" },
      row.state === "pending" ? button("Approve", row.id, row.name, () => change("identities", approve)) : null,
      row.state !== "revoked" ? button("Revoke", row.id, row.name, () => change("identities", revoke)) : null,
    ),
  );
}

function auditRow(row) {
  return h(
    "tr",
    {},
    cell("Log", h("code", {}, row.log)),
    cell("Line", row.line.toLocaleString()),
    cell("Head", h("code", { title: row.head }, `${row.head.slice(0, 16)}…`)),
    cell("Signed", when(row.time)),
  );
}

const TABLES = [
  ["keys", 7, "/admin/keys", keyRow, "There is no key."],
  ["identities", 6, "/admin/identities", identityRow, "No bridge was enrolled yet."],
  ["audit", 4, "/admin/audit", auditRow, "No bridge has sent a checkpoint yet."],
];

let seen = "";
on("fleet", () => {
  const { bridges, pending } = state.fleet;
  const now = JSON.stringify([bridges, pending]);
  if (now === seen) return;
  seen = now;
  $("pending").hidden = !pending.length;
  fill($("pending"), [`${pending.length}`, h("span", { class: "more" }, " to approve")]);
  reload("identities");
});
addEventListener("hashchange", () => {
  if (location.hash === "#access") open();
});
