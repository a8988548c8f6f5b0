"""The pages over three years of history, in a real Chromium: how long a page and a filter take; and how soon somebody hears of what landed."""

import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from northstar.base.settings import Settings, load_settings
from northstar.demo.company import END, simulate
from northstar.extract.landing.directory import land_directory
from northstar.runs import job
from northstar.use.alerts.evaluate import evaluate
from northstar.use.pages import serve
from northstar.use.pages.contents import read_pages
from northstar.warehouse import embedded
from northstar.warehouse.setup import bootstrap

MONTHS, ACCOUNTS = 36, 3_000
OPEN_SECONDS, FILTER_SECONDS, TOLD_SECONDS = 1.5, 0.5, 60
TRIALS = 5
# when what is in the window is there (and, of the first, everything), drawn from an answer (a figure says in layout.meta what it shows) and to be seen: what a reader waits for
DRAWN = """everything => {
  const isShown = panel => { const box = panel.getBoundingClientRect(); return everything || (box.top < window.innerHeight && box.bottom > 0); };
  const charts = [...document.querySelectorAll('#page-components .dash-graph')], figures = [...document.querySelectorAll('#page-components .figure-container[id]')];
  const isDrawn = chart => { const plot = chart.querySelector('.js-plotly-plot'); return plot && plot.layout && plot.layout.meta && chart.style.visibility !== 'hidden'; };
  return document.querySelector('[data-version]') && charts.length && charts.filter(isShown).every(isDrawn) && !document.querySelector('.dash-spinner-container')
    && figures.filter(isShown).every(figure => figure.textContent) && ![...document.querySelectorAll('.northstar-waits')].some(isShown) && performance.now();
}"""
# from the click on a choice: which charts are in the window, and when each chart was drawn anew so that it is seen
WATCH = """() => {
  window.drawn = [];
  document.querySelectorAll('.dash-graph .js-plotly-plot').forEach(plot => plot.on('plotly_react', () => {
    const chart = plot.closest('.dash-graph');
    if (chart.style.visibility !== 'hidden') window.drawn.push([chart.id, performance.now()]);
  }));
  document.addEventListener('click', () => {
    window.clicked = performance.now();
    window.inWindow = [...document.querySelectorAll('.dash-graph')].filter(chart => { const box = chart.getBoundingClientRect(); return box.top < window.innerHeight && box.bottom > 0; }).map(chart => chart.id);
  }, { capture: true });
}"""
# seconds from the click to what is in the window (to the first chart, where that is none), and to everything
ANSWERED = """() => {
  const first = id => (window.drawn.find(drawn => drawn[0] === id) || window.drawn.at(-1))[1];
  const near = window.inWindow.length ? Math.max(...window.inWindow.map(first)) : window.drawn[0][1];
  return [near - window.clicked, window.drawn.at(-1)[1] - window.clicked];
}"""


def pages(work: Path, scale: float, results: list) -> None:
    """A home with three years of history (or the one that BENCH_PAGES_HOME names); its pages opened and filtered, the slowest median counts."""
    chromium = find_chromium()
    if chromium is None:
        return
    given = os.environ.get("BENCH_PAGES_HOME")
    settings = load_settings(given or work / "pages")
    if given:
        embedded.ensure_running(settings)
    else:
        bootstrap(settings)
        simulate(work / "pages-source", months=MONTHS, accounts=max(50, int(ACCOUNTS * scale)))
        job.run(settings, "nightly", END, str(work / "pages-source"), _silent)
    with serving(settings):
        found = measure(settings, chromium, ("web", "tutoring", "coaching"))
    tell(found, results, "a page")
    if not given:
        results.append(telling(work, settings))
        embedded.stop(settings)


def find_chromium() -> str | None:
    """The browser; None, and a line that says so, where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("pages: no chromium on this machine (apt-get install chromium)", flush=True)
    return chromium


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """The pages of a home, served meanwhile."""
    server = subprocess.Popen(serve.command(settings), env=serve.environment(settings), cwd=settings.home,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while not serve.is_answering(settings):
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()


def tell(found: tuple[dict[str, float], ...], results: list, page: str) -> None:
    """Note the figures of `measure`, and print them. page: what the pages are called."""
    goals = (
        (f"{page} opens: what is in the window is drawn", OPEN_SECONDS),
        (f"{page} opens: everything is drawn", None),
        (f"a filter of {page} answers: what is in the window is drawn anew", FILTER_SECONDS),
        (f"a filter of {page} answers: all charts are drawn anew", None),
        (f"processor of the browser for {page} that opens", None),
    )
    for (what, goal), times in zip(goals, found, strict=True):
        slowest = max(times, key=times.get)
        row = {"name": f"{what}, slowest page's median of {TRIALS}", "seconds": round(times[slowest], 2),
               "pages": {title: round(seconds, 2) for title, seconds in times.items()}}  # fmt: skip
        results.append(row if goal is None else row | {"goal": goal, "reached": times[slowest] <= goal})
        print(
            f"{what}: {min(times.values()):.2f} to {times[slowest]:.2f} s, slowest {slowest}"
            + (f"   goal {goal}" if goal else ""),
            flush=True,
        )


def measure(
    settings: Settings, chromium: str, applications: Sequence[str], chosen: dict[str, str] | None = None
) -> tuple[dict[str, float], ...]:
    """Median seconds by page: from navigating to what is in the window, and to the last panel; from choosing an application to what is in the window, and to the last chart;
    and of the processor that the browser needs to open it.

    applications: what is chosen in turn. chosen: {title of a page: what its address chooses}; those pages only.
    """
    from playwright.sync_api import sync_playwright

    paths = {p["title"]: "/" if p["title"] == "Executive" else f"/{p['title'].lower().replace(' ', '-')}" for p in read_pages()}  # fmt: skip
    paths["Metrics"] = "/metrics"
    opened, whole, answered, redrawn, busy = {}, {}, {}, {}, {}
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # one context: the browser keeps the scripts, as a reader's does
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        page.goto(serve.link(settings))
        for title, path in paths.items():
            if chosen is not None and title not in chosen:
                continue
            slug = path.strip("/") or "executive"
            times = []
            for _ in range(TRIALS + 1):
                before = browser_seconds()
                page.goto(serve.url(settings) + path + (chosen or {}).get(title, ""))
                seconds = [
                    page.wait_for_function(DRAWN, arg=everything, polling="raf", timeout=60_000).json_value() / 1000
                    for everything in (False, True)
                ]
                times.append((*seconds, browser_seconds() - before))
            # the first one warms the marts
            opened[title], whole[title], busy[title] = (statistics.median(t[n] for t in times[1:]) for n in range(3))
            answers = []
            page.evaluate(WATCH)
            for option in (*applications, *applications):
                page.locator(f"#{slug}-application .dash-dropdown").first.click()
                choice = page.locator("div.dash-dropdown-content [role=option]").get_by_text(option, exact=True).first
                choice.wait_for()
                page.evaluate("() => { window.drawn = []; }")
                choice.click()
                page.wait_for_function(
                    "() => window.drawn.length && performance.now() - window.drawn.at(-1)[1] > 500 && !document.querySelector('.northstar-waits')",
                    timeout=60_000,
                )
                answers.append(page.evaluate(ANSWERED))
            answered[title], redrawn[title] = (statistics.median(a[n] / 1000 for a in answers[1:]) for n in (0, 1))
        browser.close()
    return opened, whole, answered, redrawn, busy


def browser_seconds() -> float:
    """Seconds of the processor that this process's browsers have had."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "--type=renderer" in process.cmdline():
                times = process.cpu_times()
                seconds += times.user + times.system
    return seconds


def telling(work: Path, settings: Settings) -> dict:
    """Seconds from the moment a breach is landed to the moment that a webhook on loopback hears of it."""
    heard = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            if b"breach" in self.rfile.read(int(self.headers["Content-Length"])):
                heard.set()
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    os.environ["AIRFLOW_CONN_BENCH_PAGER"] = f'{{"conn_type": "http", "host": "http://127.0.0.1:{receiver.server_port}", "password": "key"}}'  # fmt: skip
    (settings.home / "notify.yml").write_text("routes: {default: [{webhook: bench_pager}]}\n")
    rows = work / "breach" / "security_events"
    rows.mkdir(parents=True)
    now = datetime.now(UTC)
    (rows / "one.jsonl").write_text(
        f'{{"security_event_id": "bench", "application": "web", "kind": "breach", "severity": "critical", "occurred_at": "{now:%Y-%m-%dT%H:%M:%SZ}"}}\n'
    )
    started = time.monotonic()
    land_directory(settings, None, str(rows.parent), progress=_silent)
    evaluate(settings, progress=_silent)
    assert heard.wait(TOLD_SECONDS), "nobody was told"
    seconds = time.monotonic() - started
    receiver.shutdown()
    print(f"from landing a row to telling of it: {seconds:.1f} s   goal {TOLD_SECONDS}", flush=True)
    return {"name": "from landing a row to telling of it", "seconds": round(seconds, 1), "goal": TOLD_SECONDS, "reached": seconds < TOLD_SECONDS}  # fmt: skip


def _silent(_: str) -> None:
    pass
