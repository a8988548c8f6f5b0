// The numbers of a chart as a list of links, for who uses a keyboard or a screen reader, or whose finger is wider than a point: each opens what stands behind it.
(function () {
  let opener = null;
  function plain(text) {
    return (new DOMParser().parseFromString(String(text).replace(/<br>/g, " "), "text/html").body.textContent || "").replace(/\s+/g, " ").trim();
  }
  function shown(value) {
    return typeof value === "number" ? value.toLocaleString(window.northstarLocale || "en", { maximumFractionDigits: 2 }) : plain(value);
  }
  function place(value) {
    const text = String(value), day = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)/.exec(text);
    return day ? day[1] + (day[2] === "00:00" ? "" : " " + day[2]) : plain(text);
  }
  // [{name, numbers: [{label, path}]}] of a chart's traces
  function numbersOf(plot) {
    return Array.from(plot._fullData || []).map(function (trace) {
      const numbers = [];
      function add(label, written, x) {
        const path = window.northstar.pathOf(trace.meta, written, x);
        if (path) numbers.push({ label: label, path: path });
      }
      if (trace.type === "sankey") {
        const nodes = trace.node.label, link = trace.link;
        (trace.node.customdata || []).forEach(function (written, n) { add((link.source.includes(n) ? "all from " : "all to ") + plain(nodes[n]), written); });
        (link.customdata || []).forEach(function (written, n) { add(plain(written[0]) + ": " + shown(link.value[n]), written); });
      } else if (trace.type === "heatmap") {
        trace.z.forEach(function (row, r) {
          row.forEach(function (value, c) {
            const written = ((trace.customdata || [])[r] || [])[c];
            if (value !== null && value === value && written) add(plain(trace.y[r]) + ", month " + place(trace.x[c]) + ": " + shown(value), written);
          });
        });
      } else if (trace.x && trace.y) {
        const axis = plot._fullLayout[(trace.yaxis || "y").replace("y", "yaxis")] || {};
        const flat = trace.orientation === "h" || axis.type === "category", values = flat ? trace.x : trace.y, names = flat ? trace.y : trace.x;
        Array.from(values).forEach(function (value, n) {
          if (value === null || value === undefined || value !== value) return;
          const words = Array.isArray(trace.text) && trace.text[n] ? trace.text[n] : shown(value);
          add(place(names[n]) + ": " + plain(words), (trace.customdata || [])[n], trace.x[n]);
        });
      }
      // a long name is cut in the legend, and whole where it is pointed at
      const whole = /<extra>(.+)<\/extra>/.exec(typeof trace.hovertemplate === "string" ? trace.hovertemplate : "");
      return { name: plain(whole ? whole[1] : trace.name || ""), numbers: numbers };
    }).filter(function (line) { return line.numbers.length; });
  }
  function dialog() {
    let aside = document.getElementById("northstar-numbers");
    if (aside) return aside;
    aside = document.createElement("aside");
    aside.id = "northstar-numbers";
    aside.hidden = true;
    aside.setAttribute("role", "dialog");
    aside.setAttribute("aria-label", "The numbers of this chart");
    aside.setAttribute("tabindex", "-1");
    document.body.appendChild(aside);
    return aside;
  }
  function element(kind, text) {
    const made = document.createElement(kind);
    if (text) made.textContent = text;
    return made;
  }
  function open(plot, title, button) {
    window.northstarDraw.within(plot);
    const aside = dialog(), bar = element("div"), closing = element("button", "Close"), lines = numbersOf(plot);
    opener = button;
    bar.className = "northstar-why-bar";
    closing.type = "button";
    closing.addEventListener("click", close);
    bar.appendChild(closing);
    const content = element("div");
    content.className = "northstar-why";
    content.appendChild(element("h2", title));
    lines.forEach(function (line) {
      // Plotly names what has no name
      if (lines.length > 1 && !/^trace \d+$/.test(line.name)) content.appendChild(element("h3", line.name));
      const list = content.appendChild(element("ul"));
      line.numbers.forEach(function (number) {
        const link = element("a", number.label);
        link.className = "northstar-why-link";
        link.setAttribute("href", number.path);
        list.appendChild(element("li")).appendChild(link);
      });
    });
    aside.replaceChildren(bar, content);
    aside.hidden = false;
    aside.scrollTop = 0;
    aside.focus();
  }
  function close() {
    dialog().hidden = true;
    if (opener && opener.isConnected) opener.focus();
  }
  document.addEventListener("keydown", function (event) {
    const why = document.getElementById("northstar-why");
    // what lies above it is closed first
    if (event.key === "Escape" && !dialog().hidden && (!why || why.hidden)) { event.stopPropagation(); close(); }
  }, true);
  function offer() {
    document.querySelectorAll(".dash-graph .northstar-plot").forEach(function (plot) {
      const graph = plot.closest(".dash-graph"), place = graph.parentElement;
      const title = plain((place.querySelector(".figure-title") || {}).textContent || (graph.closest(".card, .page-component-container, .vizro-container, .flex-item") || place).querySelector("h2, h3, .container-title, .figure-title")?.textContent || "This chart");
      let button = place.querySelector(":scope > .northstar-numbers-button");
      const has = Array.from(window.northstarDraw.figureOf(plot).data || []).some(function (trace) { return trace.meta || trace.customdata || (trace.link || {}).customdata; });
      if (!has) { if (button) button.hidden = true; return; }
      if (!button) {
        button = element("button", "Numbers");
        button.type = "button";
        button.className = "northstar-numbers-button";
        button.addEventListener("click", function () { open(graph.querySelector(".northstar-plot"), button.dataset.title, button); });
        place.appendChild(button);
      }
      button.hidden = false;
      if (button.dataset.title !== title) {
        button.dataset.title = title;
        button.setAttribute("aria-label", "Numbers of " + title);
      }
    });
  }
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; offer(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
