// What can be asked here, told once, at a browser's first visit.
(function () {
  const KEY = "northstar-hints";
  const HINTS = [
    ["Ask why", "Click a number, a point or a bar: what changed it, how it is made, and the rows behind it."],
    ["Ask for anything", "Press / or Ctrl-K: metrics, pages, customers and the docs are found by their names."],
    ["Ask what was known then", "Write a day into “As of”: every page shows what it showed then, and marks what was restated since."],
  ];
  // told in this document: it stays until it is closed, also when a page is drawn anew
  let isShown = false, isClosed = false;
  function isTold() {
    if (isClosed) return true;
    if (isShown) return false;
    try { return window.localStorage.getItem(KEY) !== null; } catch (error) { return true; }
  }
  function close() {
    const hints = document.getElementById("northstar-hints");
    isClosed = true;
    if (hints) hints.remove();
    // where a reader goes on who uses the keyboard
    const title = document.getElementById("page-title");
    if (title) { title.setAttribute("tabindex", "-1"); title.focus({ preventScroll: true }); }
  }
  function tell() {
    const place = document.getElementById("page-components");
    if (!place || isTold() || document.getElementById("northstar-hints")) return;
    const make = window.northstarHead.make, hints = make("section", { id: "northstar-hints", "aria-labelledby": "northstar-hints-title" });
    const list = make("ul", {}), button = make("button", { type: "button" }, "Got it");
    HINTS.forEach(function (hint) {
      const item = make("li", {});
      item.append(make("strong", {}, hint[0] + "."), " " + hint[1]);
      list.append(item);
    });
    button.addEventListener("click", close);
    hints.append(make("h2", { id: "northstar-hints-title" }, "What you can ask here"), list, button);
    place.parentElement.insertBefore(hints, place);
    isShown = true;
    try { window.localStorage.setItem(KEY, "told"); } catch (error) { /* a browser that keeps nothing is told nothing */ }
  }
  document.addEventListener("keydown", function (event) {
    const hints = document.getElementById("northstar-hints");
    if (event.key === "Escape" && hints && hints.contains(document.activeElement)) close();
  });
  let asked = false;
  new MutationObserver(function () {
    if (asked || isTold()) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; tell(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
