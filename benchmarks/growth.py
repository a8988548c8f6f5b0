"""The simulator's company at three sizes: what a full run and an hourly run cost, by stage, in time and memory."""

import threading
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psutil

from northstar.base.settings import Settings, load_settings
from northstar.demo.company import END, simulate
from northstar.demo.writing import write_entity
from northstar.runs import job
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

MONTHS = 12
NEW_EVENTS, NEW_CHARGES = 2_000, 100


class Memory:
    """The most memory that this process, its children and the home's Postgres held in each stage, in MB (shared pages once).

    From statm: to walk the page tables of a dozen backends twice a second (pss) took a fifth of the time of the run that was measured.
    """

    def __init__(self, settings: Settings):
        self.peaks: dict[str, float] = {}
        self._stage, self._ended = "start", threading.Event()
        lines = (settings.home / "postgres" / "postmaster.pid").read_text().splitlines()
        self._roots = [psutil.Process(), psutil.Process(int(lines[0]))]
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def progress(self, text: str) -> None:
        """The job's progress, which names the stages."""
        if text.endswith(" ..."):
            self._stage = text.removesuffix(" ...")

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            held = 0
            for root in self._roots:
                private, shared = 0, 0
                for process in (root, *root.children(recursive=True)):
                    try:
                        told = process.memory_info()
                    except psutil.Error:
                        continue
                    private, shared = private + told.rss - told.shared, max(shared, told.shared)
                held += private + shared
            self.peaks[self._stage] = max(self.peaks.get(self._stage, 0), held / 2**20)


def measured(settings: Settings, source: Path, mode: str, as_of) -> dict:
    """One run: seconds in all, and of each stage seconds and peak MB."""
    started = time.monotonic()
    with Memory(settings) as memory:
        job.run(settings, mode, as_of, str(source), memory.progress)
    total = time.monotonic() - started
    with db.connect(settings, "transformer") as connection:
        stages = connection.execute("select stage_seconds from audit.runs order by run_id desc limit 1").fetchone()
    return {"seconds": round(total, 1),
            "stages": {s: {"seconds": float(t), "megabytes": round(memory.peaks.get(s, 0))} for s, t in stages["stage_seconds"].items()}}  # fmt: skip


def next_hour(source: Path, number: int, as_of) -> None:
    """The same number of new rows whatever the company's size: of people it has, in the hour before `as_of`."""
    for entity, count, key, time_column in (
        ("events", NEW_EVENTS, "event_id", "occurred_at"),
        ("charges", NEW_CHARGES, "charge_id", "created_at"),
    ):
        path = sorted((source / entity).glob(f"{entity}_*"))[0]
        rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        rows = (
            rows.dropna(subset=["account_id"]).sample(count, replace=True, random_state=number).reset_index(drop=True)
        )
        rows[key] = [f"new_{number}_{i}" for i in range(count)]
        moments = pd.date_range(as_of - timedelta(minutes=55), as_of - timedelta(minutes=5), count).as_unit("us")
        rows[time_column] = moments
        rows["received_at" if entity == "events" else "updated_at"] = moments
        if entity == "events":
            rows["session_id"] = [f"new_{number}_{i // 8}" for i in range(count)]
        write_entity(source / entity, entity, rows, f"hour{number}")


def growth(work: Path, scale: float, results: list) -> None:
    """Report full and hourly runs over 10 k, 100 k and 1 M account-months."""
    told = []
    for account_months in (10_000, 100_000, 1_000_000):
        settings = load_settings(work / f"growth-{account_months}")
        bootstrap(settings)
        source = work / f"growth-source-{account_months}"
        started = time.monotonic()
        simulate(source, months=MONTHS, accounts=int(account_months * scale / MONTHS), end=END)
        written = time.monotonic() - started
        full = measured(settings, source, "nightly", END)
        hours = []
        for number in range(2):
            as_of = END + timedelta(hours=number + 1)
            next_hour(source, number, as_of)
            hours.append(measured(settings, source, "hourly", as_of))
        with db.connect(settings, "transformer") as connection:
            events = connection.execute("select count(*) as n from staging.events").fetchone()["n"]
        embedded.stop(settings)
        hour = min(hours, key=lambda h: h["seconds"])
        told.append((full["seconds"], hour["seconds"]))
        results.append({"name": f"{account_months:,} account-months", "events": events, "simulate_seconds": round(written, 1),
                        "full": full, "hourly": hour})  # fmt: skip
        print(f"{account_months:>9,} account-months, {events:,} events (simulated in {written:.0f} s)")
        for name, run in (("full", full), ("hourly", hour)):
            stages = "   ".join(f"{s} {v['seconds']:.1f} s {v['megabytes']} MB" for s, v in run["stages"].items())
            print(f"    {name:7} {run['seconds']:7.1f} s   {stages}", flush=True)
    for name, ratio, goal in (
        ("full run, 1 M to 100 k account-months, over ten times", told[2][0] / told[1][0] / 10, 1.0),
        ("hourly run, 1 M to 10 k account-months", told[2][1] / told[0][1], 1.25),
    ):
        results.append({"name": name, "ratio": round(ratio, 3), "goal": goal, "reached": ratio <= goal})
        print(f"{name:60} x {ratio:6.2f}   goal {goal}", flush=True)
