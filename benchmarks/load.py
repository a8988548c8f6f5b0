"""Forty BI sessions on a history of 20 million events while hourly runs publish: what the pages' queries and the runs cost each other."""

import json
import random
import subprocess
import sys
import threading
import time
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.data import END, write_events, write_rest
from northstar.base.settings import Settings, load_settings
from northstar.runs import job
from northstar.use.marts import Marts
from northstar.use.pages.contents import read_pages
from northstar.use.pages.painter import Painter
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

EVENTS, DAYS, NEW_EVENTS = 20_000_000, 1_095, 20_000
SESSIONS = 40
# a page asks about eight things, and somebody who reads it opens the next one after half a minute
THINKING_SECONDS = 4.0
QUIET_SECONDS, HOURS = 120, 5


class Noting(Marts):
    """Reads the marts, and remembers what it asked."""

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.asked: dict[str, tuple] = {}

    def _rows(self, text: str, parameters: dict) -> list[dict]:
        self.asked[repr((text, parameters))] = (text, parameters)
        return super()._rows(text, parameters)


def page_queries(settings: Settings) -> list:
    """Every statement that the pages' panels ask, for all and one application, by month and day: [(SQL, parameters)]."""
    marts = Noting(settings)
    painter = Painter(marts)
    panels = [panel for page in read_pages() for panel in page["panels"] if panel["kind"] not in ("cards", "targets")]
    for application in marts.applications()[:2]:
        for grain, months in (("month", 12), ("day", 3)):
            for panel in panels:
                painter.draw(panel, application, grain, months, "")
    return list(marts.asked.values())


def read(address: str, queries_file: str, seconds_file: str) -> None:
    """The sessions: until standard input ends, each asks one thing after another; writes how long each answer took, and errors."""
    queries = json.loads(Path(queries_file).read_text())
    answers, errors, ended = [], [], threading.Event()
    # all the same number of times, or the percentile would tell which ones chance chose
    random.Random(0).shuffle(queries)
    asks = cycle(queries)

    def session(number: int) -> None:
        chance = random.Random(number)
        try:
            with psycopg.connect(address, autocommit=True, options="-c timezone=UTC") as connection:
                while not ended.wait(chance.expovariate(1 / THINKING_SECONDS)):
                    text, parameters = next(asks)
                    started = time.monotonic()
                    connection.execute(text, parameters or None).fetchall()
                    answers.append((started, time.monotonic() - started))
        except psycopg.Error as exc:
            errors.append(str(exc))

    threads = [threading.Thread(target=session, args=[number]) for number in range(SESSIONS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    Path(seconds_file).write_text(json.dumps({"answers": answers, "errors": errors}))


def load(work: Path, scale: float, results: list) -> None:
    """Report p95 of the pages' queries and the hourly run's time, each in quiet and beside the other."""
    settings = load_settings(work / "load")
    bootstrap(settings)
    source, count = work / "load-source", int(EVENTS * scale)
    write_events(source / "events", count, days=DAYS, until=0.5)
    write_rest(source, int(200_000 * scale), int(500_000 * scale), int(100_000 * scale), days=700)
    started = time.monotonic()
    job.run(settings, "nightly", END - timedelta(hours=12), str(source), lambda _: None)
    print(f"load: {count:,} events built in full in {time.monotonic() - started:.0f} s", flush=True)
    hours = iter(range(100))

    def hourly() -> float:
        number = next(hours)
        until = (11 - number) / 24
        write_events(
            source / "events",
            NEW_EVENTS,
            first_id=count + number * NEW_EVENTS,
            days=0.04,
            until=until,
            name=f"hour{number}_",
        )
        started = time.monotonic()
        job.run(settings, "hourly", END - timedelta(hours=11 - number), str(source), lambda _: None)
        return time.monotonic() - started

    hourly()
    quiet_run = float(np.median([hourly() for _ in range(HOURS)]))
    asked, told = work / "queries.json", work / "answers.json"
    asked.write_text(json.dumps(page_queries(settings), default=str))
    command = [sys.executable, "-m", "benchmarks.load", db.uri(settings, "bi_reader"), str(asked), str(told)]
    sessions = subprocess.Popen(command, stdin=subprocess.PIPE)
    time.sleep(5)
    quiet = time.monotonic()
    time.sleep(QUIET_SECONDS)
    busy = time.monotonic()
    loaded_run = float(np.median([hourly() for _ in range(HOURS)]))
    end = time.monotonic()
    sessions.communicate()
    embedded.stop(settings)
    found = json.loads(told.read_text())
    in_quiet = [seconds for at, seconds in found["answers"] if quiet <= at < busy]
    in_load = [seconds for at, seconds in found["answers"] if busy <= at < end]
    p95, p95_loaded = (float(np.percentile(times, 95)) for times in (in_quiet, in_load))
    for name, value, base, goal in (
        (
            f"p95 of {len(in_load):,} page queries of {SESSIONS} sessions while hourly runs publish",
            p95_loaded,
            p95,
            1.3,
        ),
        (f"hourly run, {NEW_EVENTS:,} new events on {count:,}, beside {SESSIONS} sessions", loaded_run, quiet_run, 1.3),
    ):
        results.append({"name": name, "seconds": round(value, 4), "peer": "in quiet", "peer_seconds": round(base, 4),
                        "ratio": round(value / base, 3), "goal": goal, "reached": value / base <= goal})  # fmt: skip
        print(
            f"{name:88} {value * 1000:8.0f} ms   in quiet {base * 1000:8.0f} ms   x {value / base:5.2f}   goal {goal}",
            flush=True,
        )
    results.append({"name": "errors of the sessions", "errors": found["errors"], "goal": 0})
    print(f"errors of the sessions: {len(found['errors'])}   goal 0   {found['errors'][:1] or ''}", flush=True)


if __name__ == "__main__":
    read(*sys.argv[1:])
