"""What a run costs in which next to nothing happened, an hour of the demonstration company, and the first run of a small company of all entities.

Each is a `northstar run` of its own, imports included: seconds by the clock, which mean something on a machine with nothing else to do, and
processor seconds of the run, its auditor and the home's Postgres.
"""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.data import END, write_events, write_rest
from benchmarks.series import processor_seconds
from northstar.base.clock import parse_time
from northstar.base.settings import Settings, load_settings
from northstar.demo.company import generate_company, simulate
from northstar.demo.writing import write_entity
from northstar.warehouse import embedded

NEW_EVENTS = 20
SMALL_COMPANY = {"months": 16, "accounts": 30, "applications": ("web", "coaching"), "monitored_days": 1}


def cost(settings: Settings, source: Path, mode: str, as_of: datetime) -> tuple[float, float]:
    """(seconds by the clock, processor seconds) of `northstar run`."""
    before, started = processor_seconds(settings), time.monotonic()
    command = [sys.executable, "-m", "northstar.cli", "run", "--home", str(settings.home), "--source-dir", str(source)]
    subprocess.run([*command, "--mode", mode, "--as-of", as_of.isoformat()], check=True, capture_output=True)
    return time.monotonic() - started, processor_seconds(settings) - before


def note(results: list, name: str, costs: list[tuple[float, float]], goal: float) -> None:
    """Report the cheapest of several runs beside the goal for its seconds by the clock."""
    seconds, processor = (min(values) for values in zip(*costs, strict=True))
    load = os.getloadavg()[0]
    results.append({"name": name, "seconds": round(seconds, 1), "processor_seconds": round(processor, 1), "load": round(load, 1),
                    "goal": goal, "reached": seconds <= goal})  # fmt: skip
    print(f"{name:44} {seconds:6.1f} s   {processor:6.1f} s of processor time   load {load:4.1f}   goal {goal} s", flush=True)  # fmt: skip


def next_to_nothing(work: Path, results: list) -> None:
    """Nightly and hourly runs of a company of 200 rows, with 20 new events in each hour."""
    settings, source = load_settings(work / "floor"), work / "floor-source"
    write_events(source / "events", 100, days=30, until=1)
    write_rest(source, 10, 30, 10, accounts=20, days=300)
    cost(settings, source, "nightly", END)
    costs: dict[str, list[tuple[float, float]]] = {"nightly": [], "hourly": []}
    for number in range(1, 4):
        for mode, at in (("hourly", 2 * number - 1), ("nightly", 2 * number)):
            write_events(source / "events", NEW_EVENTS, 1_000 * at, days=1 / 24, until=-at / 24, name=f"h{at}_")
            costs[mode].append(cost(settings, source, mode, END + timedelta(hours=at)))
    embedded.stop(settings)
    note(results, "nightly run on next to nothing", costs["nightly"], 15)
    note(results, "hourly run on next to nothing", costs["hourly"], 8)


def demonstration(work: Path, results: list) -> None:
    """Hours of the demonstration company."""
    settings, source, end = load_settings(work / "floor-demo"), work / "floor-demo-source", parse_time(None)
    simulate(source, end=end)
    cost(settings, source, "nightly", end - timedelta(hours=3))
    hours = [cost(settings, source, "hourly", end - timedelta(hours=2 - number)) for number in range(3)]
    embedded.stop(settings)
    note(results, "hourly run of the demonstration company", hours, 10)


def first_run(work: Path, results: list) -> None:
    """The first run of a small company, which makes its home."""
    settings, source = load_settings(work / "floor-first"), work / "floor-first-source"
    tables = generate_company(seed=3, end=END, **SMALL_COMPANY).tables
    for entity, rows in tables.items():
        write_entity(source / entity, entity, rows, "rows")
    first = cost(settings, source, "nightly", END)
    embedded.stop(settings)
    note(results, f"first run, {sum(map(len, tables.values())):,} rows of {len(tables)} entities", [first], 30)


def floor(work: Path, results: list) -> None:
    """All of them."""
    next_to_nothing(work, results)
    first_run(work, results)
    demonstration(work, results)
