// Runs before the first paint, so that the page never flashes in the wrong theme.
"use strict";
(() => {
  const kept = localStorage.getItem("pendra.theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
