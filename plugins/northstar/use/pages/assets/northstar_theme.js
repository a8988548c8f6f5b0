// Dark or light: as the reader chose in this browser, else as the browser asks. Vizro keeps the choice for one tab only, in the store that is filled here before Dash reads it.
(function () {
  const KEY = "northstar-theme", STORE = "theme-selector";
  function chosen() {
    try { return window.localStorage.getItem(KEY); } catch (error) { return null; }
  }
  const isDark = (chosen() || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const root = document.documentElement;
  root.setAttribute("data-bs-theme", isDark ? "dark" : "light");
  root.setAttribute("data-mantine-color-scheme", isDark ? "dark" : "light");
  try {
    window.sessionStorage.setItem(STORE, JSON.stringify(!isDark));
    window.sessionStorage.setItem(STORE + "-timestamp", String(Date.now()));
  } catch (error) { /* this browser keeps nothing: the page is light */ }
  function keep(theme) {
    try { window.localStorage.setItem(KEY, theme); } catch (error) { /* for this page only */ }
  }
  document.addEventListener("click", function (event) {
    const toggle = event.target.closest && event.target.closest("#theme-toggle, .northstar-theme-toggle");
    if (!toggle) return;
    const theme = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
    keep(theme);
    // on our own pages there is no Vizro that switches
    if (toggle.matches(".northstar-theme-toggle")) root.setAttribute("data-bs-theme", theme);
  }, true);
})();
