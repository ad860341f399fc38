// A conversation with a model, streamed.

import { request } from "./api.js";
import { $, fill, h } from "./dom.js";
import { number } from "./format.js";
import { on, state } from "./live.js";
import { events } from "./sse.js";

let said = [];
let running = null;

on("fleet", offer);

function offer() {
  const able = state.fleet.models.filter((one) => one.capability === "chat").map((one) => one.id);
  choices($("t-model"), able, able.length ? null : "no chat model is served");
  choices($("t-worker"), state.fleet.workers.map((one) => one.id), "any");
}

/** Offers these, keeps what was chosen. `first`: what "" means. Unchanged lists are left alone: one may be open. */
function choices(select, values, first) {
  const now = JSON.stringify([first, values]);
  if (select.dataset.now === now) return;
  select.dataset.now = now;
  const kept = select.value;
  fill(select, [first && h("option", { value: "" }, first), ...values.map((one) => h("option", { value: one }, one))]);
  if (values.includes(kept)) select.value = kept;
}

// ---------------------------------------------------------------- saying something

$("t-prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("talk-form").requestSubmit();
});
$("tester-options").addEventListener("submit", (event) => event.preventDefault());
$("t-stop").addEventListener("click", () => running?.abort());
$("t-clear").addEventListener("click", () => {
  running?.abort();
  clear();
  $("t-prompt").focus();
});

function clear() {
  said = [];
  $("talk-facts").textContent = "";
  fill($("talk"), h("p", { class: "soft" }, "Nothing said yet."));
}

$("talk-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = $("t-prompt").value.trim();
  if (!words || running) return;
  if (!said.length) $("talk").replaceChildren();
  said.push({ role: "user", content: words });
  bubble("user", words);
  $("t-prompt").value = "";
  await answer();
  $("t-prompt").focus();
});

async function answer() {
  const reply = bubble("assistant", "");
  const mine = (running = new AbortController());
  busy(true);
  try {
    await stream(reply, mine.signal);
  } catch (error) {
    if (error.name !== "AbortError") reply.box.append(h("p", { class: "error" }, error.message));
    else reply.box.append(h("p", { class: "soft" }, "stopped"));
  }
  reply.box.setAttribute("aria-busy", "false");
  running = null;
  busy(false);
  if (reply.text.textContent) said.push({ role: "assistant", content: reply.text.textContent });
}

async function stream(reply, signal) {
  const began = performance.now();
  const worker = $("t-worker").value;
  const response = await request("/chat/completions", {
    method: "POST",
    signal,
    headers: worker ? { "X-Pendra-Worker-Id": worker } : {},
    body: body(),
  });
  let first = null;
  let facts = {};
  for await (const { data } of events(response)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    const delta = chunk.choices?.[0]?.delta ?? {};
    if (first === null && (delta.content || delta.reasoning_content)) first = performance.now() - began;
    reply.think(delta.reasoning_content ?? "");
    reply.say(delta.content ?? "");
    facts = { ...facts, ...chunk.pendra, ...(chunk.usage && { usage: chunk.usage }) };
  }
  tell(facts, first, response.headers.get("x-request-id"));
}

function body() {
  const system = $("t-system").value.trim();
  return {
    model: $("t-model").value,
    stream: true,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said],
    temperature: Number($("t-temperature").value || 0.8),
    max_tokens: Math.max(1, Number($("t-tokens").value || 256)),
  };
}

function tell({ usage, timing, worker }, first, id) {
  const facts = [
    first !== null && `first token after ${Math.round(first)} ms`,
    timing?.tokens_per_second && `${number(timing.tokens_per_second)} tokens/s`,
    usage && `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
    worker?.id,
    id,
  ].filter(Boolean);
  $("talk-facts").textContent = facts.join(" · ");
}

function busy(now) {
  $("t-send").disabled = now;
  $("t-stop").disabled = !now;
}

function bubble(role, words) {
  const text = h("p", { class: "words" }, words);
  const box = h("div", { class: `said ${role}`, "aria-busy": role === "assistant" ? "true" : null }, h("small", { class: "soft" }, role === "user" ? "you" : "model"), text);
  $("talk").append(box);
  follow();
  let thoughts = null;
  const say = (more) => {
    if (!more) return;
    text.append(more);
    follow();
  };
  const think = (more) => {
    if (!more) return;
    thoughts ??= box.insertBefore(h("details", {}, h("summary", {}, "thinking"), h("p", { class: "words soft" })), text);
    thoughts.lastChild.append(more);
  };
  return { box, text, say, think };
}

function follow() {
  $("talk").scrollTop = $("talk").scrollHeight;
}
