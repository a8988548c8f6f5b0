"""`python -m benchmarks.anomalies [N]`: how many faults of N simulated companies (2) show as anomalies, how soon, and how many anomalies are none.

Each company is landed, built and published twice: as it is, and with faults in its source rows (`anomaly_faults`). Then each past value of its
level 1 and 2 metrics is judged as on the day it was complete. An anomaly of the company without faults is a false alarm. The plain way, the mean
of the eight values before +- 3 standard deviations, judges the same values, once as it is and once with as many deviations as make it
raise no more false alarms. `--keep DIR` keeps the values that were read, and reads them again if they are there.
"""

import argparse
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from benchmarks.anomaly_faults import Fault, plant_faults
from northstar.base.settings import Settings, load_settings
from northstar.build.needs import metric_entities
from northstar.demo.company import CompanyOptions, generate_company
from northstar.demo.writing import write_entity
from northstar.runs import job
from northstar.use.anomalies.find import GRAINS, Series, as_matrix, find_anomalies, read_series
from northstar.use.anomalies.interval import YEARS, judge
from northstar.use.anomalies.reasons import find_reason
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

END = datetime(2026, 3, 3, tzinfo=UTC)
LENGTHS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}
# so many deviations are said to be of what differs from eight values that are alike
ALIKE = 1000.0
# an anomaly that becomes known so long after a fault's end is none of it
AFTER = timedelta(days=2)


@dataclass
class Life:
    """A company as it was published: its series, its faults, and what was found when each first showed."""

    series: list[Series]
    faults: list[Fault] = field(default_factory=list)
    # by fault: (application, segment, segment value, reason, metrics) of each anomaly on the day after it began, and the day after that, ...
    causes: list[list[tuple[str, str, str, str, list[str]]]] = field(default_factory=list)


def life_of(seed: int) -> CompanyOptions:
    """A company whose machines were watched all its life."""
    return {
        "seed": seed,
        "months": 8,
        "accounts": 1500,
        "applications": ("coaching", "tutoring", "web"),
        "end": END,
        "monitored_days": 240,
    }


def live(seed: int, is_faulty: bool, work: Path) -> Life:
    """Publish a company and read its series; with faults, also what is found of each."""
    company = generate_company(**life_of(seed))
    faults = plant_faults(company, seed) if is_faulty else []
    settings = load_settings(work / "home")
    bootstrap(settings)
    try:
        for entity, table in company.tables.items():
            write_entity(work / "source" / entity, entity, table)
        job.run(settings, "nightly", END, str(work / "source"), lambda _: None)
        with db.connect(settings, "transformer") as connection:
            life = Life(read_series(connection, END, "v.segment = ''", times=100), faults)
        life.causes = [causes_of(settings, fault) for fault in faults]
        return life
    finally:
        embedded.stop(settings)
        shutil.rmtree(work, ignore_errors=True)


def causes_of(settings: Settings, fault: Fault) -> list[tuple[str, str, str, str, list[str]]]:
    """What is told on the first day on which something is told of the fault's application, once its first day is over."""
    stands_on = metric_entities(settings.root)
    with db.connect(settings, "transformer") as connection:
        at = fault.began_at.replace(hour=3) + timedelta(days=1)
        while at <= fault.ended_at + AFTER and at <= END:
            found = [
                (a.application, a.segment, a.segment_value, find_reason(connection, a, at).kind, a.metrics)
                for a in find_anomalies(connection, at, stands_on, "USD") if a.application in (fault.application, "all")
            ]  # fmt: skip
            if any(set(metrics) & set(fault.metrics) for *_, metrics in found):
                return found
            at += timedelta(days=1)
    return []


def judged_values(series: list[Series]) -> pd.DataFrame:
    """Each value of a company's past that is judged: metric, application, grain, start, known_at, times_a_year, deviations (by the plain way)."""
    rows = []
    for grain in GRAINS:
        of_grain = [s for s in series if s["grain"] == grain]
        if not of_grain:
            continue
        matrix = as_matrix(grain, of_grain)
        result = judge(matrix, 1)
        for n, one in enumerate(of_grain):
            values = pd.Series(matrix.values[n])
            known = values.dropna()
            mean, deviation = known.rolling(8).mean().shift(1), known.rolling(8).std().shift(1)
            off = (known - mean).abs()
            plain = (off / deviation).where(deviation > 0, np.where(off > 0, ALIKE, 0.0)).where(deviation.notna())
            plain = plain.reindex(values.index)
            begin = matrix.begins[n]
            for place, start in enumerate(one["starts"]):
                column = begin + place
                if column and not np.isnan(result.times_a_year[n, column - 1]):
                    # a value that is not there is none to the plain way
                    rows.append(
                        (
                            one["metric_id"],
                            one["application"],
                            grain,
                            start,
                            start + LENGTHS[grain],
                            result.times_a_year[n, column - 1],
                            plain[column],
                        )
                    )
    frame = pd.DataFrame(
        rows, columns=["metric", "application", "grain", "start", "known_at", "times_a_year", "deviations"]
    )
    frame["deviations"] = frame["deviations"].fillna(0.0)
    # a metric is judged at the finest grain at which that was possible
    place = frame["grain"].map(GRAINS.index)
    finest = place.groupby([frame["metric"], frame["application"]]).transform("min")
    return frame[place == finest].reset_index(drop=True)


def alarms(frame: pd.DataFrame, is_beyond: pd.Series) -> pd.DataFrame:
    """The first periods of each stretch that is beyond a bound."""
    ordered = frame.assign(is_beyond=is_beyond).sort_values(["metric", "application", "start"])
    before = ordered.groupby(["metric", "application"])["is_beyond"].shift(1, fill_value=False)
    return ordered[ordered["is_beyond"] & ~before]


def detected(frame: pd.DataFrame, is_beyond: pd.Series, faults: list[Fault]) -> Iterator[tuple[Fault, float | None]]:
    """Each fault, and how many days after its beginning it was known; None for one that was missed."""
    beyond = frame[is_beyond]
    for fault in faults:
        own = beyond[
            beyond["metric"].isin(fault.metrics) & (beyond["application"] == fault.application)
            & (beyond["known_at"] > fault.began_at) & (beyond["start"] < fault.ended_at)
        ]  # fmt: skip
        first = own["known_at"].min()
        yield fault, None if pd.isna(first) else (first - fault.began_at) / timedelta(days=1)


def report(
    name: str, quiet: pd.DataFrame, faulty: list[tuple[pd.DataFrame, list[Fault]]], column: str, bound: float
) -> None:
    """Print what a way of judging finds, with values beyond a bound."""

    def beyond(frame: pd.DataFrame) -> pd.Series:
        if column == "times_a_year":
            return frame["times_a_year"] < bound
        # with more than three deviations it says nothing where eight values were alike, or no number of them would do
        return (frame["deviations"] > bound) & ((bound == 3) | (frame["deviations"] < ALIKE))

    years = sum((LENGTHS[g] / timedelta(days=365)) * n for g, n in quiet.groupby("grain").size().items())
    series = quiet.groupby(["metric", "application"]).ngroups
    per_metric = len(alarms(quiet, beyond(quiet))) / years * series / quiet["metric"].nunique()
    found = [one for frame, faults in faulty for one in detected(frame, beyond(frame), faults)]
    days = [delay for _, delay in found if delay is not None]
    planted = Counter(fault.kind for fault, _ in found)
    right = Counter(fault.kind for fault, delay in found if delay is not None)
    kinds = ", ".join(f"{kind} {right[kind]} of {planted[kind]}" for kind in sorted(planted))
    print(f"{name:44} {len(alarms(quiet, beyond(quiet))):5} false alarms, {per_metric:6.2f} per metric and year; recall {len(days) / max(1, len(found)):.0%} "
          f"({kinds}), known after {median(days) if days else float('nan'):.1f} days (mean {np.mean(days) if days else float('nan'):.1f})", flush=True)  # fmt: skip


def report_causes(lives: list[Life]) -> None:
    """Print how often the notice named the right part and the right cause, and how many notices there were of one fault."""
    told = [(fault, found) for life in lives for fault, found in zip(life.faults, life.causes, strict=True) if found]
    own = [
        (fault, next((f for f in found if f[0] == fault.application and set(f[4]) & set(fault.metrics)), None), found)
        for fault, found in told
    ]
    with_part = [(fault, one) for fault, one, _ in own if fault.segment]
    parts = sum(one is not None and one[1:3] == (fault.segment, fault.segment_value) for fault, one in with_part)
    reasons = {"stop": "late_data", "price": "price_change"}
    with_reason = [(fault, one) for fault, one, _ in own if fault.kind in reasons]
    right = sum(one is not None and one[3] == reasons[fault.kind] for fault, one in with_reason)
    print(f"notices of {len(told)} faults, {np.mean([len(f) for _, f in told]) if told else 0:.1f} each (one is right): the part of {parts} of {len(with_part)} "
          f"and the reason of {right} of {len(with_reason)} right")  # fmt: skip
    for fault, one, found in own:
        print(
            f"    {fault.kind} of {fault.application} {fault.entity} {fault.segment_value} {fault.began_at:%Y-%m-%d}: {one[1:] if one else found}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("companies", type=int, nargs="?", default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="northstar-bench-"))
    work.chmod(0o755)
    lives: dict[bool, list[Life]] = {False: [], True: []}
    try:
        for seed in range(arguments.seed, arguments.seed + arguments.companies):
            for is_faulty in (True, False):
                kept = arguments.keep and arguments.keep / f"{seed}-{'faulty' if is_faulty else 'quiet'}.pickle"
                if kept and kept.exists():
                    life: Life = pickle.loads(kept.read_bytes())
                else:
                    life = live(seed, is_faulty, work / f"{seed}-{is_faulty}")
                    if kept:
                        kept.parent.mkdir(parents=True, exist_ok=True)
                        kept.write_bytes(pickle.dumps(life))
                lives[is_faulty].append(life)
                print(
                    f"company {seed}{' with ' + str(len(life.faults)) + ' faults' if is_faulty else ''}: {len(life.series)} series",
                    flush=True,
                )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    quiet = pd.concat(
        [
            judged_values(life.series).assign(metric=lambda f, n=n: f["metric"] + f"|{n}")
            for n, life in enumerate(lives[False])
        ],
        ignore_index=True,
    )
    faulty = [(judged_values(life.series), life.faults) for life in lives[True]]
    own = len(alarms(quiet, quiet["times_a_year"] < 1 / YEARS))
    report("anomalies", quiet, faulty, "times_a_year", 1 / YEARS)
    report("the plain way, 3 deviations", quiet, faulty, "deviations", 3)
    bounds = np.arange(3.1, ALIKE + 1, 0.1)
    varied = quiet["deviations"] < ALIKE
    same = next(b for b in bounds if len(alarms(quiet, varied & (quiet["deviations"] > b))) <= own)
    report(f"the plain way, {same:.1f} deviations", quiet, faulty, "deviations", same)
    report_causes(lives[True])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
