// The search box of every page: "/" or Ctrl-K opens it, arrows choose, Enter goes there. What it finds comes from the server (pages/search.py).
(function () {
  // milliseconds without a key before the server is asked
  const WAIT = 120;
  let dialog = null, input = null, list = null, state = null, hits = [], chosen = 0, asked = 0, timer = 0;
  const make = window.northstarHead.make;
  function box() {
    if (dialog) return;
    dialog = make("dialog", { id: "northstar-search", "aria-label": "Search" });
    input = make("input", {
      type: "text", role: "combobox", "aria-label": "Search metrics, pages, customers and docs", "aria-controls": "northstar-found", "aria-expanded": "false",
      "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", placeholder: "Metrics, pages, customers, docs", maxlength: "100",
    });
    list = make("ul", { id: "northstar-found", role: "listbox", "aria-label": "What was found" });
    state = make("p", { role: "status" });
    dialog.append(input, state, list);
    document.body.append(dialog);
    input.addEventListener("input", function () { window.clearTimeout(timer); timer = window.setTimeout(ask, WAIT); });
    input.addEventListener("keydown", function (event) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
      } else if (event.key === "Enter" && hits[chosen]) {
        event.preventDefault();
        go(hits[chosen].path);
      }
    });
    // a click beside the box closes it
    dialog.addEventListener("click", function (event) { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", function (event) { event.stopPropagation(); });
  }
  function open() {
    box();
    if (!dialog.open) dialog.showModal();
    input.select();
  }
  function ask() {
    const query = input.value.trim(), number = ++asked;
    if (!query) return show([], "");
    fetch("/search?q=" + encodeURIComponent(query), { credentials: "same-origin" }).then(function (answer) {
      if (!answer.ok) throw new Error("" + answer.status);
      return answer.json();
    }).then(function (found) {
      // an answer that was overtaken by a later one
      if (number === asked) show(found, found.length ? found.length + " found" : "Nothing was found.");
    }).catch(function () { if (number === asked) show([], "The pages do not answer."); });
  }
  function show(found, words) {
    hits = found;
    state.textContent = words;
    list.replaceChildren(...found.map(function (hit, number) {
      const item = make("li", { role: "option", id: "northstar-found-" + number });
      item.append(make("span", { class: "northstar-found-kind" }, hit.kind), make("strong", {}, hit.title), make("span", { class: "northstar-found-detail" }, hit.detail));
      item.addEventListener("click", function () { go(hit.path); });
      return item;
    }));
    input.setAttribute("aria-expanded", String(found.length > 0));
    choose(0);
  }
  function choose(number) {
    chosen = hits.length ? (number + hits.length) % hits.length : 0;
    list.querySelectorAll("[role=option]").forEach(function (item, place) {
      item.setAttribute("aria-selected", String(place === chosen));
      if (place === chosen) item.scrollIntoView({ block: "nearest" });
    });
    if (hits.length) input.setAttribute("aria-activedescendant", "northstar-found-" + chosen);
    else input.removeAttribute("aria-activedescendant");
  }
  function go(path) {
    const address = new URL(path, window.location.origin), asOf = new URLSearchParams(window.location.search).get("as_of");
    if (address.origin !== window.location.origin) return;
    if (asOf && !address.pathname.startsWith("/docs/")) address.searchParams.set("as_of", asOf);
    dialog.close();
    window.location.assign(address);
  }
  document.addEventListener("keydown", function (event) {
    const writes = event.target.closest && event.target.closest("input, textarea, select, [contenteditable=true]");
    if ((event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) || ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k")) {
      event.preventDefault();
      open();
    }
  });
  // for those who have no keyboard
  window.northstarHead.offerButton({ class: "northstar-search-open", "aria-label": "Search", title: "Search ( / or Ctrl-K )", "aria-keyshortcuts": "/ Control+K" }, "search", open);
})();
