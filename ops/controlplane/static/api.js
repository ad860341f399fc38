// The API and the key. The key lives in this tab's sessionStorage, goes out in a header only, and is gone with the tab.

const KEPT = "pendra.key";
const API = "/api/v1";

export const key = () => sessionStorage.getItem(KEPT);
export const keepKey = (value) => sessionStorage.setItem(KEPT, value);
export const forgetKey = () => sessionStorage.removeItem(KEPT);

/** What the API answered instead of what was asked. `status` 0: it did not answer. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Another key is needed. */
  get denied() {
    return this.status === 401 || this.code === "admin_key_needed";
  }
}

/** The response, whose status is good. Throws ApiError, and AbortError when `signal` says so. */
export async function request(path, { method = "GET", body, signal, headers = {}, as = key() } = {}) {
  const sent = { Authorization: `Bearer ${as}`, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(API + path, {
      method,
      signal,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The control plane does not answer. Is it running?");
  }
  if (!response.ok) throw await problem(response);
  return response;
}

export const get = async (path, options) => (await request(path, options)).json();
export const post = async (path, body = {}) => (await request(path, { method: "POST", body })).json();

async function problem(response) {
  const said = await response.json().catch(() => ({}));
  const words = said.detail ?? `The API answered with status ${response.status}.`;
  return new ApiError(response.status, said.code ?? "", words);
}
