// A page as of an earlier version (?as_of=12): whatever it asks for is asked as of that version, and its links lead to pages as of that version. The version of
// a document never changes: another one is another document, so two tabs do not disturb each other.
(function () {
  const AS_OF = "as_of", HEADER = "X-Northstar-As-Of";
  function elsewhere(version) {
    const url = new URL(window.location.href);
    url.searchParams.delete(AS_OF);
    if (version) url.searchParams.set(AS_OF, version);
    url.hash = "";
    window.location.assign(url);
  }
  document.addEventListener("submit", function (event) {
    if (!event.target.matches("form.northstar-as-of")) return;
    event.preventDefault();
    elsewhere(event.target.querySelector("input").value.trim());
  });
  document.addEventListener("click", function (event) {
    const link = event.target.closest && event.target.closest("a.northstar-now");
    if (!link) return;
    event.preventDefault();
    elsewhere(null);
  });
  const shown = new URLSearchParams(window.location.search).get(AS_OF);
  if (!shown) return;
  function asOf(address) {
    const url = new URL(address, window.location.href);
    if (url.origin !== window.location.origin) return address;
    url.searchParams.set(AS_OF, shown);
    return url.pathname + url.search + url.hash;
  }
  const plainFetch = window.fetch;
  window.fetch = function (resource, options) {
    const url = new URL(resource instanceof Request ? resource.url : resource, window.location.href);
    if (url.origin !== window.location.origin) return plainFetch.call(window, resource, options);
    const headers = new Headers((options || {}).headers || (resource instanceof Request ? resource.headers : {}));
    headers.set(HEADER, shown);
    return plainFetch.call(window, resource, Object.assign({}, options, { headers: headers })).then(function (answer) {
      // the version can no longer be read: its page says why
      if (answer.status === 410) window.location.reload();
      return answer;
    });
  };
  ["pushState", "replaceState"].forEach(function (name) {
    const plain = window.history[name];
    window.history[name] = function (state, title, address) {
      return plain.call(window.history, state, title, address === undefined || address === null ? address : asOf(String(address)));
    };
  });
  // a link that is opened in another tab has to name the version itself
  function lead() {
    document.querySelectorAll('a[href^="/"]:not(.northstar-why-now)').forEach(function (link) {
      const address = link.getAttribute("href");
      if (new URL(address, window.location.href).searchParams.get(AS_OF) !== shown) link.setAttribute("href", asOf(address));
    });
  }
  let asked = false;
  new MutationObserver(function () {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(function () { asked = false; lead(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
