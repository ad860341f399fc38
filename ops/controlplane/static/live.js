// What is known of the fleet, kept fresh by one stream. Views ask `on(name, listener)`.

import { ApiError, request } from "./api.js";
import { events } from "./sse.js";

const SHOWN_S = 300;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;

export const state = { fleet: { bridges: [], workers: [], models: [], hosts: [], pending: [] }, samples: [], installs: new Map() };

const listeners = { fleet: [], samples: [], install: [], link: [] };
let running = null;

/** `fleet`, `samples`, `install` (with the install), `link` (with "live" or "away"). */
export function on(name, listener) {
  listeners[name].push(listener);
}

function tell(name, value) {
  for (const listener of listeners[name]) listener(value);
}

/** Watches until `stop`. `denied(words)` is called when the key is no longer good, and ends it. */
export async function watch(denied) {
  stop();
  const mine = (running = new AbortController());
  let wait = FIRST_RETRY_MS;
  while (!mine.signal.aborted) {
    try {
      const response = await request("/live", { signal: mine.signal });
      wait = FIRST_RETRY_MS;
      tell("link", "live");
      for await (const { event, data } of events(response)) {
        if (mine.signal.aborted) return;
        if (event === "denied") throw new ApiError(401, "denied", "This key was revoked or has expired.");
        take(event, JSON.parse(data));
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof ApiError && error.denied) return denied(error.message);
    }
    tell("link", "away");
    await new Promise((resume) => setTimeout(resume, wait));
    wait = Math.min(2 * wait, LONGEST_RETRY_MS);
  }
}

export function stop() {
  running?.abort();
  running = null;
}

function take(event, data) {
  if (event === "fleet") {
    state.fleet = data;
    tell("fleet");
  } else if (event === "history") {
    state.samples = data;
    tell("samples");
  } else if (event === "sample") {
    state.samples = [...state.samples.filter((one) => data.at - one.at <= SHOWN_S), data];
    tell("samples");
  } else if (event === "install") {
    state.installs.set(data.id, data);
    tell("install", data);
  }
}
