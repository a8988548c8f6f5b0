// When panels are drawn: first those in the window, the others when the browser has nothing else to do, and at once who is asked for (print, files, a list of numbers, a search).
// Dash asks for each chart two or three times (empty, as the server sent it, in the colours of the theme), and draws each time; here only what was asked for last is drawn.
// What has no script comes as HTML in an attribute (markup.py).
window.northstarDraw = (function () {
  // pixels around the window within which a panel is near; milliseconds after which one that is not is drawn although the browser is busy; characters of HTML that do not wait
  const NEAR = 150, PATIENCE = 4000, SHORT = 20000, MARKUP = "data-markup", HOLDER = "[" + MARKUP + "]";
  // an element, and what draws it
  const waiting = new Map();
  let isAsked = false, isIdleAsked = false;
  function panelOf(element) { return element.closest(".dash-graph") || element; }
  // pixels between a panel and the window, 0 for one within it
  function away(element) {
    const box = panelOf(element).getBoundingClientRect();
    return Math.max(0, box.top - window.innerHeight, -box.bottom);
  }
  // Vizro hides a chart until it has the colours of the theme
  function isHidden(element) { return panelOf(element).style.visibility === "hidden"; }
  function wait(element, draw) {
    waiting.set(element, draw);
    panelOf(element).classList.add("northstar-waits");
    panelOf(element).setAttribute("aria-busy", "true");
    ask();
  }
  function now(element) {
    const draw = waiting.get(element);
    waiting.delete(element);
    if (!draw || !element.isConnected) return;
    draw();
    panelOf(element).classList.remove("northstar-waits");
    panelOf(element).removeAttribute("aria-busy");
  }
  // everything within an element, at once
  function within(place) { Array.from(waiting.keys()).forEach(function (element) { if (place.contains(element)) now(element); }); }
  function nearest() {
    return Array.from(waiting.keys()).map(function (element) { return { element: element, away: away(element) }; }).sort(function (a, b) { return a.away - b.away; });
  }
  // one panel in each task, so that the browser answers in between
  function ask() {
    if (isAsked) return;
    isAsked = true;
    window.setTimeout(function () {
      isAsked = false;
      waiting.forEach(function (_, element) { if (!element.isConnected) waiting.delete(element); });
      const near = nearest().filter(function (panel) { return panel.away <= NEAR && !isHidden(panel.element); });
      if (near.length) now(near[0].element);
      if (near.length > 1) ask();
      else if (waiting.size) askIdle();
    }, 0);
  }
  function askIdle() {
    if (isIdleAsked) return;
    isIdleAsked = true;
    const rest = function () {
      isIdleAsked = false;
      if (waiting.size) now(nearest()[0].element);
      if (waiting.size) askIdle();
    };
    if (window.requestIdleCallback) window.requestIdleCallback(rest, { timeout: PATIENCE });
    else window.setTimeout(rest, 50);
  }
  // charts, of which Dash asks Plotly
  const figures = new WeakMap(), heard = new WeakMap();
  function take(plotly) {
    const react = plotly.react, resize = plotly.Plots.resize;
    plotly.react = function (plot, figure) {
      if (!(plot instanceof Element) || !plot.closest(".dash-graph")) return react.apply(plotly, arguments);
      plot.classList.add("northstar-plot");
      if (!plot.on) {
        // Dash listens to a chart as soon as it has asked for it
        heard.set(plot, []);
        plot.on = function () { heard.get(plot).push(arguments); };
      }
      // an empty one stands where the first answer is awaited
      if (!(figure.layout || {}).meta && !(figure.data || []).length) return Promise.resolve(plot);
      figures.set(plot, figure);
      wait(plot, function () {
        react.call(plotly, plot, figure);
        (heard.get(plot) || []).forEach(function (told) { plot.on.apply(plot, told); });
        heard.delete(plot);
      });
      return Promise.resolve(plot);
    };
    // Dash has each new chart fitted to its place, which draws it again; one that waits is fitted when it is drawn
    plotly.Plots.resize = function (plot) { return !plot._fullLayout || waiting.has(plot) ? Promise.resolve(plot) : resize.apply(plotly.Plots, arguments); };
  }
  if (window.Plotly) take(window.Plotly);
  else {
    let loaded;
    Object.defineProperty(window, "Plotly", { configurable: true, get: function () { return loaded; }, set: function (plotly) { loaded = plotly; take(plotly); } });
  }
  // what a chart shows, or is about to show: {data, layout}
  function figureOf(plot) { return waiting.has(plot) ? figures.get(plot) : plot; }
  // HTML
  function fill(holder) {
    if (holder.northstarIsFilled) return;
    holder.northstarIsFilled = true;
    const text = holder.getAttribute(MARKUP), draw = function () { holder.innerHTML = text; };
    if (text.length > SHORT) wait(holder, draw);
    else { waiting.delete(holder); draw(); }
  }
  new MutationObserver(function (changes) {
    changes.forEach(function (change) { if (change.type === "attributes") change.target.northstarIsFilled = false; });
    document.querySelectorAll(HOLDER).forEach(fill);
  }).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: [MARKUP] });
  // what comes near, wherever it is scrolled
  document.addEventListener("scroll", function () { if (waiting.size) ask(); }, { capture: true, passive: true });
  window.addEventListener("resize", function () { if (waiting.size) ask(); });
  return { within: within, figureOf: figureOf };
})();
