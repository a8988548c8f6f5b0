// What a screen reader is told beside what Vizro and Dash tell: the page's parts, what a chart says in words (layout.meta), and
// the names of the dropdowns, whose focus target Dash hides from it.
(function () {
  function set(element, name, value) {
    if (element && element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  function describe() {
    set(document.getElementById("right-side"), "role", "main");
    set(document.getElementById("left-side"), "role", "navigation");
    set(document.getElementById("left-side"), "aria-label", "Pages and filters");
    set(document.getElementById("dashboard-title"), "role", "presentation");
    set(document.getElementById("page-title"), "aria-level", "1");
    set(document.getElementById("page-title"), "role", "heading");
    const header = document.getElementById("header") || document.querySelector("header");
    set(header, "role", "banner");
    document.querySelectorAll(".dash-dropdown-focus-target").forEach(function (target) {
      target.removeAttribute("aria-hidden");
      const control = target.closest("[id$='-application'],[id$='-period'],[id$='-grain'],[id$='-segment'],[id$='-metric']");
      set(target, "aria-label", control ? control.id.split("-").pop() : "choice");
    });
    document.querySelectorAll(".dash-graph .js-plotly-plot").forEach(function (plot) {
      if (!plot.layout) return;
      const title = plot.closest(".dash-graph").parentElement.querySelector(".figure-title");
      set(plot, "role", "figure");
      set(plot, "aria-label", (title ? title.textContent + ". " : "") + (plot.layout.meta || ""));
    });
  }
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; describe(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.documentElement.setAttribute("lang", "en");
})();
