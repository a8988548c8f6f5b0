// Saved views: a page with what is chosen on it, under a name. Each reader's are in his own browser; a colleague gets the link.
(function () {
  const KEY = "northstar-views", MOST = 100, CHARACTERS = 60;
  let dialog = null, list = null, name = null, state = null;
  function make(tag, attributes, text) {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(function (entry) { made.setAttribute(entry[0], entry[1]); });
    if (text) made.textContent = text;
    return made;
  }
  function isView(view) {
    return view && typeof view.name === "string" && typeof view.path === "string" && /^\/(?!\/)/.test(view.path);
  }
  function read() {
    try {
      const kept = JSON.parse(window.localStorage.getItem(KEY) || "[]");
      return Array.isArray(kept) ? kept.filter(isView) : [];
    } catch (error) { return []; }
  }
  function write(views) {
    try {
      window.localStorage.setItem(KEY, JSON.stringify(views));
      return true;
    } catch (error) {
      state.textContent = "This browser keeps nothing.";
      return false;
    }
  }
  // the page with its choices: neither a version of the past nor an open panel belongs to a view
  function shown() {
    const chosen = new URLSearchParams();
    new URLSearchParams(window.location.search).forEach(function (value, control) { if (value.startsWith("b64_")) chosen.set(control, value); });
    return window.location.pathname + (chosen.size ? "?" + chosen : "");
  }
  function pageTitle() {
    const title = document.getElementById("page-title");
    return title ? title.textContent.trim() : "";
  }
  function save(event) {
    event.preventDefault();
    const called = name.value.trim().slice(0, CHARACTERS), others = read().filter(function (view) { return view.name !== called; });
    if (!called) return;
    if (others.length >= MOST) {
      state.textContent = "There are " + MOST + " views; delete one first.";
      return;
    }
    const views = [...others, { name: called, path: shown(), page: pageTitle() }].sort(function (a, b) { return a.name.localeCompare(b.name); });
    if (write(views)) state.textContent = called + " is saved in this browser.";
    name.value = "";
    draw();
  }
  function remove(view) {
    if (write(read().filter(function (other) { return other.name !== view.name; }))) state.textContent = view.name + " is deleted.";
    draw();
    name.focus();
  }
  function draw() {
    const views = read();
    list.replaceChildren(...views.map(function (view) {
      const item = make("li", {}), link = make("a", { href: view.path }, view.name), button = make("button", { type: "button", "aria-label": "Delete " + view.name }, "Delete");
      button.addEventListener("click", function () { remove(view); });
      item.append(link, make("span", {}, typeof view.page === "string" ? view.page : ""), button);
      return item;
    }));
    if (!views.length) list.replaceChildren(make("li", {}, "No view is saved yet."));
  }
  function open() {
    if (!dialog) {
      dialog = make("dialog", { id: "northstar-views", "aria-labelledby": "northstar-views-title" });
      const form = make("form", {}), label = make("label", {}, "Save what this page shows now as "), close = make("button", { type: "button" }, "Close");
      name = make("input", { type: "text", required: "", maxlength: String(CHARACTERS), autocomplete: "off" });
      list = make("ul", {});
      state = make("p", { role: "status" });
      label.append(name);
      form.append(label, make("button", { type: "submit" }, "Save"));
      form.addEventListener("submit", save);
      close.addEventListener("click", function () { dialog.close(); });
      dialog.append(make("h2", { id: "northstar-views-title" }, "Saved views"), list, form, state, close);
      dialog.addEventListener("click", function (event) { if (event.target === dialog) dialog.close(); });
      dialog.addEventListener("keydown", function (event) { event.stopPropagation(); });
      document.body.append(dialog);
    }
    state.textContent = "";
    draw();
    dialog.showModal();
    name.focus();
  }
  function offer() {
    const head = document.getElementById("header-right");
    if (!head || head.querySelector(".northstar-views-open")) return;
    const button = make("button", { type: "button", class: "northstar-views-open", "aria-label": "Saved views", title: "Saved views" });
    button.append(make("span", { class: "material-symbols-outlined", "aria-hidden": "true" }, "bookmark"));
    button.addEventListener("click", open);
    head.append(button);
  }
  let waits = false;
  new MutationObserver(function () {
    if (waits) return;
    waits = true;
    window.requestAnimationFrame(function () { waits = false; offer(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
