// Making elements. Text only ever goes in as text: nothing here, or anywhere in the console, parses HTML.

const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "max", "selected", "open"]);

/** An element. `props`: attributes, properties, or `onclick`-like handlers; null and false are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (AS_PROPERTY.has(name)) element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

export const $ = (id) => document.getElementById(id);

/** Replaces what is in `element`. Whoever had the focus keeps it, if there is an element of the same id again. */
export function fill(element, children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...[children].flat().filter(Boolean));
  if (focused) $(focused)?.focus({ preventScroll: true });
}

/** A table cell that says its column's name itself where the table is shown as cards (narrow screens). */
export const cell = (label, ...children) => h("td", { "data-label": label }, ...children);

export const chip = (text, kind = "") => h("span", { class: `chip ${kind}`.trim() }, text);

/** The row of an empty table, or the reason why nothing is there. */
export const emptyRow = (columns, ...words) => h("tr", { class: "empty" }, h("td", { colspan: columns }, ...words));

const NOTICE_MS = 8000;
let fading = 0;

/** Says something to everybody, screen readers included. `kind`: "" (goes by itself) or "bad" (stays). */
export function announce(text, kind = "") {
  const place = $("notice");
  clearTimeout(fading);
  if (!kind) fading = setTimeout(() => place.replaceChildren(), NOTICE_MS);
  fill(place, [
    h("span", {}, text),
    h("button", { type: "button", class: "plain", "aria-label": "Dismiss", onclick: () => place.replaceChildren() }, "✕"),
  ]);
  place.className = kind;
}
