// Asking back.

import { $ } from "./dom.js";

/** Whether the person says yes. `doing` is what the button says. */
export function confirmed(words, doing) {
  const dialog = $("confirm-dialog");
  $("confirm-words").textContent = words;
  $("confirm-yes").textContent = doing;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
  });
}
