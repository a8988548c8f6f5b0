"""What a run costs where there are many series and few values: a company of 5,000 event names and 240 countries, twice the series, ten times the history.

All are ratios of processor seconds (this process, those that it starts, and the home's Postgres), so that other work on the machine weighs little.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import END, write_events, write_rest
from benchmarks.growth import Memory
from northstar.base.settings import Settings, load_settings
from northstar.runs import job
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

NAMES, COUNTRIES, DAYS = 5_000, 240, 3 * 365
NEW_EVENTS = 2_000


def processor_seconds(settings: Settings) -> float:
    """The processor seconds so far of this process, of its children that ended, and of the home's Postgres with all its processes."""
    running = settings.home / "postgres" / "postmaster.pid"
    if not running.exists():
        return sum(os.times()[:4])
    server = psutil.Process(int(running.read_text().splitlines()[0]))
    used = server.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for process in server.children():
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total + sum(os.times()[:4])


def cost(settings: Settings, source: Path, mode: str, as_of, progress: Callable[[str], object]) -> float:
    """The processor seconds of one run."""
    before = processor_seconds(settings)
    job.run(settings, mode, as_of, str(source), progress)
    return processor_seconds(settings) - before


def write_named_events(folder: Path, days_before: np.ndarray, names: np.ndarray, countries: np.ndarray) -> None:
    """Events so many days before END, as one parquet file."""
    folder.mkdir(parents=True)
    count = len(days_before)
    end = np.datetime64(END.replace(tzinfo=None), "us").astype("int64")
    at = pa.array(end - (days_before * 86_400e6).astype("int64"), pa.int64()).cast(pa.timestamp("us", "UTC"))
    random = np.random.default_rng(17)
    pq.write_table(pa.table({
        "event_id": pa.array(np.char.add("e", np.arange(count).astype(str))), "event_name": pa.array(np.char.add("name.", names.astype(str))),
        "occurred_at": at, "received_at": at, "account_id": pa.array(np.char.add("a", random.integers(0, 500, count).astype(str))),
        "application": pa.array(np.full(count, "web")), "country": pa.array(countries),
    }), folder / "rows.parquet")  # fmt: skip


def make(work: Path, name: str, write: Callable[[Path], object]) -> tuple[Settings, Path]:
    """A new home and a source with the events that `write` writes."""
    settings, source = load_settings(work / name), work / f"{name}-source"
    bootstrap(settings)
    write(source / "events")
    return settings, source


def points(settings: Settings) -> int:
    with db.connect(settings, "bi_reader") as connection:
        return connection.execute("select count(*) as n from metric_points").fetchone()["n"]


def note(results: list, name: str, told: str, ratio: float, goal: float) -> None:
    results.append({"name": name, "told": told, "ratio": round(ratio, 3), "goal": goal, "reached": ratio <= goal})
    print(f"{name:52} {told}   x {ratio:5.2f}   goal {goal}", flush=True)


def many_names(work: Path, scale: float, results: list) -> None:
    """Half a million and a million events of many names: what an event costs in each, and the most memory."""
    each: list[tuple[float, float]] = []
    for count in (int(500_000 * scale), int(1_000_000 * scale)):

        def write(folder: Path, count: int = count) -> None:
            random = np.random.default_rng(17)
            codes = np.array([first + second for first in ascii_uppercase for second in ascii_uppercase])[:COUNTRIES]
            write_named_events(
                folder, np.sort(random.random(count) * DAYS), random.integers(0, NAMES, count), random.choice(codes, count)
            )  # fmt: skip

        settings, source = make(work, f"names-{count}", write)
        with Memory(settings) as memory:
            seconds = cost(settings, source, "nightly", END, memory.progress)
        peak, stored = max(memory.peaks.values()), points(settings)
        each.append((seconds / count, peak))
        embedded.stop(settings)
        print(f"{count:,} events of {NAMES:,} names: {seconds:.0f} s of processor time, {stored:,} points, {peak:,.0f} MB at most", flush=True)  # fmt: skip
        results.append({"name": f"{count:,} events of {NAMES:,} names", "processor_seconds": round(seconds, 1), "points": stored,
                        "megabytes": round(peak)})  # fmt: skip
    note(results, "an event of many, twice the events", f"{each[1][0] * 1e6:.0f} us of processor time", each[1][0] / each[0][0], 1.1)  # fmt: skip


def twice_the_series(work: Path, scale: float, results: list) -> None:
    """The same events, and as many points of them, under 1,000 names and under 2,000."""
    months = 36
    count = int(1_000 * scale) * months
    number = np.arange(count)
    days = (number % months) * 30 + 1 + (number // months) * 20 / (count / months)
    seconds: list[float] = []
    stored: list[int] = []
    for times in (1, 2):
        names = number // months * times + number % times

        def write(folder: Path, names: np.ndarray = names) -> None:
            write_named_events(folder, days, names, np.full(count, "DE"))

        settings, source = make(work, f"series-{times}", write)
        seconds.append(min(cost(settings, source, "nightly", END + timedelta(hours=hour), _nobody) for hour in range(2)))  # fmt: skip
        stored.append(points(settings))
        embedded.stop(settings)
    told = f"{seconds[1]:.1f} s after {seconds[0]:.1f} s, {stored[1]:,} points after {stored[0]:,}"
    note(results, "twice the series at as many points", told, seconds[1] / seconds[0], 1.1)


def ten_times_the_history(work: Path, scale: float, results: list) -> None:
    """Hours with the same new events on a history of 100 k events and of 1 M."""
    seconds: list[float] = []
    for count in (int(100_000 * scale), int(1_000_000 * scale)):
        settings, source = load_settings(work / f"history-{count}"), work / f"history-{count}-source"
        bootstrap(settings)
        days = count / (1_000 * scale)
        write_events(source / "events", count, days=days, until=0.2)
        write_rest(source, 1_000, 10_000, 2_000, days=days)
        cost(settings, source, "nightly", END - timedelta(hours=4), _nobody)
        hours = []
        for hour in range(3):
            write_events(source / "events", NEW_EVENTS, 20_000_000 + hour * NEW_EVENTS, days=1 / 24, until=(3 - hour) / 24, name=f"h{hour}_")  # fmt: skip
            hours.append(cost(settings, source, "hourly", END - timedelta(hours=3 - hour), _nobody))
        seconds.append(min(hours))
        embedded.stop(settings)
    note(results, "an hour on ten times the history", f"{seconds[1]:.1f} s after {seconds[0]:.1f} s", seconds[1] / seconds[0], 1.1)  # fmt: skip


def series(work: Path, scale: float, results: list) -> None:
    """All three."""
    twice_the_series(work, scale, results)
    ten_times_the_history(work, scale, results)
    many_names(work, scale, results)


def _nobody(_: str) -> None:
    """Progress that nobody reads."""
