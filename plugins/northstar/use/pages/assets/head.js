// What the other scripts share: elements, and buttons in the head of each page, which Vizro draws anew when a page is opened.
window.northstarHead = (function () {
  const buttons = [];
  function make(tag, attributes, text) {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(function (entry) { made.setAttribute(entry[0], entry[1]); });
    if (text) made.textContent = text;
    return made;
  }
  function offer() {
    const head = document.getElementById("header-right");
    if (!head) return;
    buttons.forEach(function (button) {
      if (head.querySelector("." + button.attributes.class)) return;
      const made = make("button", Object.assign({ type: "button" }, button.attributes));
      made.append(make("span", { class: "material-symbols-outlined", "aria-hidden": "true" }, button.icon));
      made.addEventListener("click", button.open);
      head.append(made);
    });
  }
  // attributes: of the button, with a class of its own. icon: its name in Material Symbols. open: what a click does
  function offerButton(attributes, icon, open) {
    buttons.push({ attributes: attributes, icon: icon, open: open });
    offer();
  }
  let waits = false;
  new MutationObserver(function () {
    if (waits) return;
    waits = true;
    window.requestAnimationFrame(function () { waits = false; offer(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
  return { make: make, offerButton: offerButton };
})();
