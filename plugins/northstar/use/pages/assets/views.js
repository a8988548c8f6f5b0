// Saved views: a page with what is chosen on it, under a name. Each reader's are in his own browser; a colleague gets the link.
// A view can also be sent, by what the server offers (pages/subscribing.py).
(function () {
  const KEY = "northstar-views", MOST = 100, CHARACTERS = 60;
  const CADENCES = { daily: "every day", weekly: "every week", change: "when it changes" };
  let dialog = null, list = null, name = null, state = null, sending = null;
  const make = window.northstarHead.make;
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
  function choice(label, options) {
    const named = make("label", {}, label), select = make("select", {});
    options.forEach(function (option) { select.append(make("option", { value: option[0] }, option[1])); });
    named.append(select);
    return [named, select];
  }
  // {domains, slack, webhook} of the server, as a form
  function offerSending(ways) {
    const targets = [];
    if (ways.domains.length) targets.push(["mail", "mail"]);
    ways.slack.forEach(function (target) { targets.push(["slack " + target, "Slack: " + target]); });
    ways.webhook.forEach(function (target) { targets.push(["webhook " + target, "webhook: " + target]); });
    if (!targets.length) {
      sending.replaceChildren(make("p", {}, "Views can be sent once notify.yml names domains in `subscribers`, or a Slack or webhook route."));
      return;
    }
    const form = make("form", {}), mail = make("input", { type: "email", autocomplete: "email", maxlength: "254" }), label = make("label", {}, "Mail address ");
    const [way, how] = choice("By ", targets), [often, cadence] = choice("Send it ", Object.entries(CADENCES)), called = make("label", {}, "As ");
    const title = make("input", { type: "text", required: "", maxlength: String(CHARACTERS), autocomplete: "off", value: pageTitle() });
    if (ways.domains.length) mail.setAttribute("placeholder", "you@" + ways.domains[0]);
    label.append(mail);
    called.append(title);
    function follow() { label.hidden = how.value !== "mail"; mail.required = how.value === "mail"; }
    how.addEventListener("change", follow);
    follow();
    form.append(called, often, way, label, make("button", { type: "submit" }, "Subscribe"));
    form.addEventListener("submit", function (event) {
      event.preventDefault();
      const [kind, target] = how.value.split(" ");
      const asked = { name: title.value, path: shown(), cadence: cadence.value, kind: kind, target: kind === "mail" ? mail.value.trim() : target };
      fetch("/subscriptions", { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) }).then(function (answer) {
        return answer.ok ? "It is sent from the next time on. Each message has a link that ends it." : answer.text();
      }).then(function (words) { state.textContent = words.slice(0, 200); }).catch(function () { state.textContent = "The pages do not answer."; });
    });
    sending.replaceChildren(form);
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
      sending = make("div", {});
      dialog.append(make("h2", { id: "northstar-views-title" }, "Saved views"), list, form, make("h3", {}, "Have what this page shows sent"), sending, state, close);
      dialog.addEventListener("click", function (event) { if (event.target === dialog) dialog.close(); });
      dialog.addEventListener("keydown", function (event) { event.stopPropagation(); });
      document.body.append(dialog);
    }
    state.textContent = "";
    draw();
    fetch("/subscriptions/ways", { credentials: "same-origin" }).then(function (answer) { return answer.json(); }).then(offerSending)
      .catch(function () { sending.replaceChildren(make("p", {}, "The pages do not answer.")); });
    dialog.showModal();
    name.focus();
  }
  window.northstarHead.offerButton({ class: "northstar-views-open", "aria-label": "Saved views", title: "Saved views" }, "bookmark", open);
})();
