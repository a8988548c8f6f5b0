// The panel that says what stands behind a number; and what a screen reader is told beside what Vizro and Dash tell: the page's parts, what a chart says in words (layout.meta), and
// the names of the dropdowns, whose focus target Dash hides from it.
(function () {
  const WHY = "/why/";
  // what stands behind a number opens beside the page, and has a link of its own: #why=... behind the page's address
  let opener = null, trail = [];
  function panel() {
    let aside = document.getElementById("northstar-why");
    if (aside) return aside;
    aside = document.createElement("aside");
    aside.id = "northstar-why";
    set(aside, "role", "dialog");
    set(aside, "aria-label", "What stands behind this number");
    set(aside, "tabindex", "-1");
    aside.hidden = true;
    const bar = document.createElement("div");
    bar.className = "northstar-why-bar";
    [["Back", back], ["Open alone", function () { window.open(trail[trail.length - 1], "_blank", "noopener"); }], ["Close", close]].forEach(function (entry) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = entry[0];
      button.addEventListener("click", entry[1]);
      bar.appendChild(button);
    });
    const content = document.createElement("div");
    content.className = "northstar-why-content";
    set(content, "aria-live", "polite");
    aside.append(bar, content);
    document.body.appendChild(aside);
    return aside;
  }
  // the element `main` of one of our own answers, in the place of `target`'s content
  function load(target, path) {
    return fetch(path, { credentials: "same-origin" }).then(function (answer) { return answer.text(); }).then(function (text) {
      const main = new DOMParser().parseFromString(text, "text/html").querySelector("main");
      const part = document.createElement("div");
      part.className = "northstar-why";
      part.append(...(main ? Array.from(main.childNodes).map(function (node) { return document.importNode(node, true); }) : [text.slice(0, 200)]));
      target.replaceChildren(part);
      part.querySelectorAll("[data-load]").forEach(function (place) {
        const rows = place.dataset.load;
        place.removeAttribute("data-load");
        place.textContent = "The rows are being added up ...";
        load(place, rows);
      });
    }).catch(function () { target.textContent = "The pages do not answer."; });
  }
  function show() {
    const aside = panel(), path = trail[trail.length - 1];
    aside.hidden = false;
    aside.querySelector("button").hidden = trail.length < 2;
    window.history.replaceState(window.history.state, "", window.location.pathname + window.location.search + "#why=" + encodeURIComponent(path));
    load(aside.querySelector(".northstar-why-content"), path).then(function () { aside.scrollTop = 0; aside.focus(); });
  }
  function open(path, from) {
    if (!path.startsWith(WHY)) return;
    if (panel().hidden) { opener = from; trail = []; }
    trail.push(path);
    show();
  }
  function back() { trail.pop(); show(); }
  function close() {
    panel().hidden = true;
    trail = [];
    window.history.replaceState(window.history.state, "", window.location.pathname + window.location.search);
    if (opener && opener.isConnected) opener.focus();
  }
  document.addEventListener("click", function (event) {
    // within a chart a link is one of SVG, with an address of its own kind
    const link = event.target.closest && event.target.closest("a.northstar-why-link, .js-plotly-plot a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const address = new URL(link.href.baseVal || link.href, window.location.href);
    if (address.origin !== window.location.origin || !address.pathname.startsWith(WHY)) return;
    event.preventDefault();
    open(address.pathname + address.search, link);
  });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape" && !panel().hidden) close();
  });
  // a point's address is written on it, or is its line's with what is written on it, or with its period
  function pathOf(line, written, x) {
    const own = String([].concat(written || "").pop()), base = typeof line === "string" && line.startsWith(WHY) ? line : null;
    if (own.startsWith(WHY)) return own;
    return !base ? null : base + (own.startsWith("&") ? own : "&period=" + encodeURIComponent(String(x).replace(" ", "T")));
  }
  window.northstar = { pathOf: pathOf };
  const heard = new WeakSet();
  function listen(plot) {
    // Plotly makes a new emitter when it draws anew
    if (!plot._ev || heard.has(plot._ev)) return;
    heard.add(plot._ev);
    plot.on("plotly_click", function (data) {
      const top = plot.getBoundingClientRect().top;
      const points = data.points.map(function (point) {
        const path = pathOf((point.data || {}).meta, point.customdata || (point.link || {}).customdata, point.x);
        const away = point.yaxis && point.yaxis.l2p ? Math.abs(point.yaxis._offset + point.yaxis.l2p(point.y) - (data.event.clientY - top)) : 0;
        return { path: path, away: away };
      }).filter(function (point) { return point.path; }).sort(function (a, b) { return a.away - b.away; });
      if (points.length) open(points[0].path, plot);
    });
  }
  function openLinked() {
    const linked = new URLSearchParams(window.location.hash.slice(1)).get("why");
    if (linked && linked.startsWith(WHY) && panel().hidden) open(linked, null);
  }
  window.addEventListener("hashchange", openLinked);
  document.addEventListener("DOMContentLoaded", openLinked);
  if (document.readyState !== "loading") openLinked();
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
    linkCustomers();
    const header = document.getElementById("header") || document.querySelector("header");
    set(header, "role", "banner");
    document.querySelectorAll(".dash-dropdown-focus-target").forEach(function (target) {
      target.removeAttribute("aria-hidden");
      const control = target.closest("[id$='-application'],[id$='-period'],[id$='-grain'],[id$='-segment'],[id$='-metric']");
      set(target, "aria-label", control ? control.id.split("-").pop() : "choice");
    });
    document.querySelectorAll(".dash-graph .northstar-plot").forEach(function (plot) {
      const layout = window.northstarDraw.figureOf(plot).layout;
      if (!layout) return;
      const title = plot.closest(".dash-graph").parentElement.querySelector(".figure-title");
      set(plot, "role", "figure");
      set(plot, "aria-label", (title ? title.textContent + ". " : "") + (layout.meta || ""));
      listen(plot);
    });
  }
  // the pages of customers are no pages of Vizro's, whose navigation lists its own only
  function linkCustomers() {
    const nav = document.getElementById("nav-panel");
    if (!nav || nav.querySelector(".northstar-customers-link")) return;
    const link = document.createElement("a");
    link.className = "northstar-customers-link";
    link.href = "/customers";
    link.textContent = "Customers";
    nav.appendChild(link);
  }
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; describe(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.documentElement.setAttribute("lang", "en");
})();
