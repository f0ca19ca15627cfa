// Sets the chosen colours before the page is painted.
"use strict";
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("laneway-theme"); } catch { /* storage may be switched off */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
