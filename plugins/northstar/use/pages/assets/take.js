// A menu on each panel that takes it away: its rows as CSV or XLSX from the server (pages/downloads.py), and its picture as PNG or SVG, which is drawn here.
(function () {
  const PANEL = /^[a-z-]+-(\d+|about|history|restatements|catalogue|open|last)$/;
  const SVG = "http://www.w3.org/2000/svg";
  // a taller picture is cut: a canvas has a limit. Pixels of a PNG for one of the screen
  const TALLEST = 8000, SCALE = 2, EDGE = 16;
  function title(panel) {
    const found = panel.closest(".flex-item").querySelector(".figure-title, .container-title");
    return found ? found.textContent.trim() : panel.id;
  }
  function version() {
    const banner = document.querySelector("[data-version]");
    return { number: banner ? banner.dataset.version : "0", words: banner ? banner.textContent : "" };
  }
  // what the address says is chosen, in words
  function choices() {
    const words = [];
    new URLSearchParams(window.location.search).forEach(function (value, name) {
      if (!value.startsWith("b64_")) return;
      try {
        const bytes = Uint8Array.from(atob(value.slice(4).replace(/-/g, "+").replace(/_/g, "/")), function (c) { return c.charCodeAt(0); });
        const chosen = JSON.parse(new TextDecoder().decode(bytes)), control = name.split("-").pop();
        words.push(control + " " + (control !== "period" ? chosen : chosen ? chosen + " months" : "everything"));
      } catch (error) { /* no choice of ours */ }
    });
    return words.join(", ");
  }
  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(function (entry) { made.setAttribute(entry[0], entry[1]); });
    if (text !== undefined) made.textContent = text;
    return made;
  }
  // words of a text node where the page has them: a picture does not break lines by itself
  function words(node, origin, into) {
    const style = getComputedStyle(node.parentElement), range = document.createRange(), found = /\S+/g;
    let word;
    while ((word = found.exec(node.data))) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const box = range.getBoundingClientRect();
      if (!box.width) continue;
      into.append(element("text", {
        x: box.left - origin.left, y: box.top - origin.top + box.height / 2, "dominant-baseline": "central", "font-size": style.fontSize, "font-weight": style.fontWeight,
        "font-family": style.fontFamily + ", Arial, sans-serif", fill: style.color, textLength: box.width, lengthAdjust: "spacingAndGlyphs",
      }, style.textTransform === "uppercase" ? word[0].toUpperCase() : word[0]));
    }
  }
  function draw(node, origin, into) {
    if (node.nodeType === Node.TEXT_NODE) return words(node, origin, into);
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    if (style.display === "none" || style.visibility === "hidden" || !box.width || box.top - origin.top > TALLEST) return;
    const place = { x: box.left - origin.left, y: box.top - origin.top, width: box.width, height: box.height };
    if (style.backgroundColor !== "rgba(0, 0, 0, 0)") into.append(element("rect", { ...place, rx: parseFloat(style.borderTopLeftRadius) || 0, fill: style.backgroundColor }));
    if (parseFloat(style.borderTopWidth) && parseFloat(style.borderLeftWidth)) into.append(element("rect", { ...place, fill: "none", stroke: style.borderTopColor }));
    else if (parseFloat(style.borderBottomWidth)) {
      into.append(element("line", { x1: place.x, x2: place.x + place.width, y1: place.y + place.height, y2: place.y + place.height, stroke: style.borderBottomColor }));
    }
    node.childNodes.forEach(function (child) { draw(child, origin, into); });
  }
  // {node, width, height} of what is shown within a panel
  function content(panel) {
    window.northstarDraw.within(panel);
    const plot = panel.querySelector(".js-plotly-plot");
    if (plot) {
      const size = plot.getBoundingClientRect(), width = Math.round(size.width), height = Math.round(size.height);
      return window.Plotly.toImage(plot, { format: "svg", width: width, height: height }).then(function (address) {
        const text = decodeURIComponent(address.slice(address.indexOf(",") + 1));
        return { node: document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true), width: width, height: height };
      });
    }
    // what scrolls is drawn whole
    const scrolled = panel.querySelector(".northstar-scroll"), whole = scrolled ? scrolled.firstElementChild : panel;
    if (scrolled) scrolled.scrollTo(0, 0);
    const box = whole.getBoundingClientRect(), node = element("svg", { width: box.width, height: Math.min(box.height, TALLEST) });
    draw(whole, box, node);
    return Promise.resolve({ node: node, width: Math.ceil(box.width), height: Math.ceil(Math.min(box.height, TALLEST)), isCut: box.height > TALLEST });
  }
  // the panel with its title, its version and what is chosen, as the text of an SVG file
  function picture(panel) {
    return content(panel).then(function (shown) {
      const style = getComputedStyle(document.body), width = shown.width + 2 * EDGE, footer = [];
      const theme = panel.closest("[data-bs-theme]") || document.documentElement, ground = getComputedStyle(theme).getPropertyValue("--bs-body-bg").trim() || "#ffffff";
      const line = Math.max(30, Math.floor(shown.width / 5.6));
      [version().words, choices(), shown.isCut ? "Cut: the files CSV and XLSX have all rows." : ""].forEach(function (text) {
        let rest = text;
        while (rest) {
          const end = rest.length <= line ? rest.length : Math.max(rest.lastIndexOf(" ", line), 1);
          footer.push(rest.slice(0, end).trim());
          rest = rest.slice(end).trim();
        }
      });
      const top = 44, height = top + shown.height + 14 * footer.length + 2 * EDGE, font = { "font-family": "Inter, Arial, sans-serif", fill: style.color };
      const whole = element("svg", { xmlns: SVG, width: width, height: height, viewBox: "0 0 " + width + " " + height });
      whole.append(element("title", {}, title(panel)), element("rect", { width: width, height: height, fill: ground }));
      whole.append(element("text", { x: EDGE, y: 28, "font-size": 18, ...font }, title(panel)));
      shown.node.setAttribute("x", EDGE);
      shown.node.setAttribute("y", top);
      whole.append(shown.node);
      footer.forEach(function (text, number) {
        whole.append(element("text", { x: EDGE, y: top + shown.height + EDGE + 14 * number + 10, "font-size": 11, ...font }, text));
      });
      return { text: new XMLSerializer().serializeToString(whole), width: width, height: height };
    });
  }
  function paint(drawn) {
    return new Promise(function (resolve, reject) {
      const image = new Image(), address = URL.createObjectURL(new Blob([drawn.text], { type: "image/svg+xml" }));
      image.onload = function () {
        const canvas = document.createElement("canvas");
        canvas.width = SCALE * drawn.width;
        canvas.height = SCALE * drawn.height;
        canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
        URL.revokeObjectURL(address);
        canvas.toBlob(function (blob) { if (blob) resolve(blob); else reject(new Error("too large")); }, "image/png");
      };
      image.onerror = function () { URL.revokeObjectURL(address); reject(new Error("not drawn")); };
      image.src = address;
    });
  }
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    window.setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
  }
  function savePicture(id, kind, button) {
    // the element that was there when the menu was made may have been replaced
    const panel = document.getElementById(id);
    const page = panel.id.replace(/-[^-]*$/, ""), slug = title(panel).toLowerCase().replace(/[^a-z0-9_]+/g, "-");
    const name = "northstar_" + page + "_" + slug + "_v" + version().number + "." + kind;
    return picture(panel).then(function (drawn) {
      return kind === "svg" ? new Blob([drawn.text], { type: "image/svg+xml" }) : paint(drawn);
    }).then(function (blob) { save(blob, name); }).catch(function () { button.textContent = kind.toUpperCase() + " failed"; });
  }
  function menu(panel) {
    const details = document.createElement("details"), summary = document.createElement("summary"), list = document.createElement("div");
    details.className = "northstar-take";
    summary.setAttribute("aria-label", "Take " + title(panel) + " with you");
    summary.title = "Take it with you";
    summary.innerHTML = '<span class="material-symbols-outlined" aria-hidden="true">download</span>';
    ["csv", "xlsx"].forEach(function (kind) {
      const link = document.createElement("a");
      link.textContent = kind.toUpperCase();
      // the address of the page says what is chosen, and may have changed since
      const follow = function () { link.href = "/take/" + panel.id + "." + kind + window.location.search; };
      follow();
      details.addEventListener("toggle", follow);
      link.addEventListener("click", follow);
      list.append(link);
    });
    ["png", "svg"].forEach(function (kind) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind.toUpperCase();
      button.addEventListener("click", function () { savePicture(panel.id, kind, button); });
      list.append(button);
    });
    details.append(summary, list);
    return details;
  }
  function offer() {
    document.querySelectorAll("#page-components .dash-graph[id], #page-components .figure-container[id]").forEach(function (panel) {
      const item = PANEL.test(panel.id) && panel.closest(".flex-item");
      if (!item) return;
      const there = item.querySelector(":scope > .northstar-take");
      if (there && there.dataset.panel === panel.id) return;
      if (there) there.remove();
      const made = menu(panel);
      made.dataset.panel = panel.id;
      item.append(made);
    });
  }
  function closeOthers(target) {
    document.querySelectorAll(".northstar-take[open]").forEach(function (open) { if (!open.contains(target)) open.open = false; });
  }
  document.addEventListener("click", function (event) { closeOthers(event.target); });
  document.addEventListener("keydown", function (event) {
    const open = event.key === "Escape" && document.querySelector(".northstar-take[open]");
    if (!open) return;
    open.open = false;
    open.querySelector("summary").focus();
  });
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; offer(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
