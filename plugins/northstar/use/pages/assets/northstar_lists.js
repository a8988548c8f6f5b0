// What many or long names need: a search field above a long table, and the whole of a name that a legend or a control cuts, where it is pointed at.
(function () {
  function rowsOf(field) {
    // a long list that is not near the window may not be drawn yet
    window.northstarDraw.within(document);
    let next = field.closest(".northstar-search-label") || field;
    while ((next = next.nextElementSibling)) {
      const body = next.matches("table") ? next.tBodies[0] : next.querySelector("table tbody");
      if (body) return Array.from(body.rows);
    }
    return [];
  }
  function filter(field) {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean), rows = rowsOf(field);
    let shown = 0;
    rows.forEach(function (row) {
      const text = row.textContent.toLowerCase(), fits = words.every(function (word) { return text.includes(word); });
      if (row.hidden === fits) row.hidden = !fits;
      if (fits) shown += 1;
    });
    // read aloud, and seen beside the field
    const told = words.length ? shown + " of " + rows.length + " rows" : "";
    if (field.title !== told) { field.title = told; field.setAttribute("aria-description", told); }
  }
  const FIELDS = "input.northstar-list-search, .northstar-search-label input";
  document.addEventListener("input", function (event) {
    if (event.target.matches && event.target.matches(FIELDS)) filter(event.target);
  });
  // the text as Plotly would show it
  function plain(text) { return new DOMParser().parseFromString(text, "text/html").body.textContent || ""; }
  function name() {
    document.querySelectorAll(FIELDS).forEach(function (field) { if (field.value) filter(field); });
    document.querySelectorAll(".dash-dropdown-value, .dash-dropdown-content [role=option]").forEach(function (shown) {
      const text = shown.textContent;
      if (text.length > 20 && shown.title !== text) shown.title = text;
    });
    document.querySelectorAll(".dash-graph .js-plotly-plot").forEach(function (plot) {
      const names = {};
      Array.from(plot._fullData || []).forEach(function (trace) {
        const whole = /<extra>(.+)<\/extra>/.exec(typeof trace.hovertemplate === "string" ? trace.hovertemplate : "");
        if (whole && whole[1] !== trace.name) names[trace.name] = plain(whole[1]);
      });
      const ticks = (plot.layout || {}).yaxis || {};
      (ticks.ticktext || []).forEach(function (shown, n) { if (shown !== ticks.tickvals[n]) names[shown] = plain(String(ticks.tickvals[n]).replace(/<br>/g, " ")); });
      plot.querySelectorAll(".legendtext, .ytick text").forEach(function (label) {
        const whole = names[label.dataset.unformatted];
        if (!whole || label.dataset.whole === whole) return;
        label.dataset.whole = whole;
        const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
        title.textContent = whole;
        // what lies above an entry of a legend is what is pointed at; the ticks of an axis let nothing be
        const above = label.parentNode.querySelector(".legendtoggle");
        (above || label).append(title);
        if (!above) label.style.pointerEvents = "all";
      });
    });
  }
  // on paper a chart is as wide as its column, and not as it was on the screen
  const PAPER = { width: 640, height: 260, autosize: false };
  let onPaper = null;
  function toPaper() {
    if (onPaper || !window.Plotly) return;
    window.northstarDraw.within(document);
    onPaper = Array.from(document.querySelectorAll(".dash-graph .js-plotly-plot")).filter(function (plot) { return plot._fullLayout; });
    onPaper.forEach(function (plot) {
      plot.northstarHeight = plot.layout.height;
      window.Plotly.relayout(plot, PAPER);
    });
  }
  function toScreen() {
    (onPaper || []).forEach(function (plot) { window.Plotly.relayout(plot, { width: null, height: plot.northstarHeight, autosize: true }); });
    onPaper = null;
  }
  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", toScreen);
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; name(); });
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
})();
