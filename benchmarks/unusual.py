"""`python -m benchmarks.unusual [N]`: how many warnings about unusual values are right in N simulated companies (25), and how many corruptions are missed.

Each company, whose customers come from ever more countries, delivers its history and then DAYS days, one delivery each, through the same reading, checking and judging as a run, without a
warehouse. Nothing is wrong with it, so every finding is a false alarm. Then it delivers a last day into which a corruption of each kind was
planted, in columns that chance picks; a finding of that column and kind is right, any other wrong. `--real DIR` adds the folders of mapped
files below DIR (each with a `_mapping.yml`), whose findings are listed for somebody to judge.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from northstar.contract import Entity, entities
from northstar.contract.codes import CODES
from northstar.demo.company import ACCOUNT_TYPES, CompanyOptions, generate_company
from northstar.demo.writing import write_entity
from northstar.extract.landing.directory import listed_files, units
from northstar.extract.landing.mapped import Mapped
from northstar.extract.landing.mapping import Input, contract_inputs, read_mapping
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.profile import Profile, amount_columns, has_names
from northstar.extract.landing.settled import NOTHING_SETTLED
from northstar.extract.landing.unusual import (
    ENOUGH_ROWS,
    GONE,
    MISSING,
    NEW,
    SIZE,
    SPELLING,
    AllLearned,
    Finding,
    is_spelt_freely,
    judge,
    learn,
)
from northstar.privacy.guard import Guard

END = datetime(2026, 3, 3, tzinfo=UTC)
DAYS = 21
# (entity, application, column, kind)
Place = tuple[str, str, str, str]
# by entity
Company = dict[str, AllLearned]


@dataclass
class Tally:
    """Of one company or of all. quiet: findings where nothing was planted; planted: (kind, whether it was found)."""

    days: int = 0
    quiet: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)


def life_of(seed: int) -> CompanyOptions:
    """A company's size, age and applications."""
    chance = random.Random(seed)
    applications = sorted(chance.sample(sorted(ACCOUNT_TYPES), chance.randint(3, 5)))
    return {
        "seed": seed, "months": chance.randint(3, 12), "accounts": chance.randint(300, 3000), "applications": tuple(applications),
        "end": END, "monitored_days": chance.choice((14, 30, 60)),
    }  # fmt: skip


def profile_of(directory: Path, own_input: Input, work: Path) -> Profile:
    """What the files of an input below a directory hold."""
    entity, profile = entities()[own_input.entity], Profile()
    mapped = Mapped(own_input, work, 512, 10)
    try:
        for unit in units(mapped, listed_files(str(directory), own_input, None)):
            for piece in mapped.pieces(unit):
                if piece.batch.num_rows:
                    done = normalise(entity, piece.batch, Guard("a key of the benchmark"))
                    profile.add(entity, done.rows, done.lines, unit.path, piece.place)
    finally:
        mapped.close()
    return profile


def deliver(company: Company, directory: Path, inputs: list[Input], work: Path) -> list[tuple[Entity, Finding]]:
    """Judge what lies below a directory and learn it."""
    found: list[tuple[Entity, Finding]] = []
    for own_input in inputs:
        profile = profile_of(directory, own_input, work)
        if not profile.rows:
            continue
        entity, learned = entities()[own_input.entity], company.setdefault(own_input.entity, {})
        findings = judge(entity, learned, profile, NOTHING_SETTLED)
        learned |= learn(learned, profile, findings)
        found += [(entity, finding) for finding in findings]
    return found


def day_of(tables: dict[str, pd.DataFrame], start: datetime, end: datetime) -> dict[str, pd.DataFrame]:
    """The rows that came into being in a span of time."""
    days = {}
    for name, table in tables.items():
        times = pd.to_datetime(table[entities()[name].own_time], utc=True)
        own = table[(times >= start) & (times < end)]
        if len(own):
            days[name] = own.copy()
    return days


def spread_over_countries(tables: dict[str, pd.DataFrame], seed: int) -> None:
    """Have the company's rows come from ever more countries, most of them few: the simulated ones have six, of equal weight."""
    chance = np.random.default_rng(seed)
    codes = np.array(sorted(CODES["country"]))
    order = chance.permutation(codes)
    for name in ("accounts", "events", "charges", "bookings"):
        table = tables.get(name)
        if table is not None and "country" in table:
            ranks = np.minimum(chance.zipf(1.7, len(table)), len(codes)) - 1
            table["country"] = order[ranks]


def write(tables: dict[str, pd.DataFrame], directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    for name, table in tables.items():
        write_entity(directory / name, name, table)
    return directory


def plant(day: dict[str, pd.DataFrame], company: Company, chance: random.Random) -> set[Place]:
    """Corrupt a day: for each kind up to three columns that are learned well enough to know better."""
    planted: set[Place] = set()
    for kind in (SPELLING, NEW, MISSING, SIZE, GONE):
        places = [p for p in _possible(day, company, kind) if p[:3] not in {q[:3] for q in planted}]
        # one corruption of a file: a value that has gone leaves few rows for others
        for place in chance.sample(places, min(3, len(places))):
            if _corrupt(day, company, place, chance):
                planted.add(place)
    return planted


def _possible(day: dict[str, pd.DataFrame], company: Company, kind: str) -> Iterator[Place]:
    for name, table in sorted(day.items()):
        entity = entities()[name]
        for (application, column_name), learned in sorted(company.get(name, {}).items()):
            column = entity.columns[column_name]
            rows = _rows_of(table, application)
            if column_name not in table or not len(rows) or column_name == "application":
                continue
            named = has_names(column) and bool(learned.values)
            fits = {
                SPELLING: named and is_spelt_freely(column) and _common(learned.values or {}) is not None,
                # whether or not the rules take its values for all that there are
                NEW: named and is_spelt_freely(column) and learned.rows >= ENOUGH_ROWS and len(learned.values or {}) <= 20,
                MISSING: not column.required and learned.all_rows >= ENOUGH_ROWS and 20 * learned.nulls <= learned.all_rows and len(rows) >= 20,
                SIZE: column in amount_columns(entity) and len(rows) >= 5
                and max((s.total() for s in learned.sizes.values()), default=0) >= ENOUGH_ROWS,
                GONE: named and _steady(learned.values or {}, learned.rows, table.loc[rows, column_name].notna().sum()) is not None,
            }  # fmt: skip
            if fits[kind]:
                yield name, application, column_name, kind


def _rows_of(table: pd.DataFrame, application: str) -> pd.Index:
    own = table["application"].fillna("default") if "application" in table else pd.Series("default", index=table.index)
    return table.index[own == application]


def _common(values: dict) -> str | None:
    """A value that a slip of one letter can be told from."""
    return next((v for v, k in sorted(values.items()) if k.rows >= 200 and len(v) >= 6 and v[:5].isalpha()), None)


def _steady(values: dict, rows: int, in_day: int) -> str | None:
    return next(
        (v for v, k in sorted(values.items()) if k.deliveries >= 6 and not k.absences and in_day * k.rows >= 60 * rows),
        None,
    )


def _corrupt(day: dict[str, pd.DataFrame], company: Company, place: Place, chance: random.Random) -> bool:
    name, application, column, kind = place
    table, learned = day[name], company[name][application, column]
    rows = _rows_of(table, application)
    some = rows[: chance.randint(1, 3)]
    if kind == SPELLING:
        value = _common(learned.values or {}) or ""
        at = chance.randrange(1, 3)
        slips = (
            value[:at] + value[at + 1 :], value[:at] + value[at + 1] + value[at] + value[at + 2 :], value.upper() if value.islower() else value.lower(), f"{value[0]}x{value[1:]}",
        )  # fmt: skip
        table.loc[some, column] = next(
            s for s in chance.sample(slips, 4) if s != value and s not in (learned.values or {})
        )
    elif kind == NEW:
        table.loc[some, column] = chance.choice(("quarterly offer", "reseller", "harbour"))
    elif kind == MISSING:
        table[column] = table[column].astype(object)
        table.loc[rows[:: chance.choice((1, 2, 3))], column] = None
    elif kind == SIZE:
        biggest = pd.to_numeric(table.loc[rows, column]).max()
        usual = max(learned.sizes.values(), key=lambda s: s.total())
        if not biggest > 0:
            return False
        factor = 2.0 ** ((max(usual) + 1) / 4) * 1000 / float(biggest)
        at_most = pd.to_numeric(table.loc[rows, column]).idxmax()
        table.loc[at_most, column] = int(float(biggest) * max(1000.0, factor))
        currencies = [c for c, s in learned.sizes.items() if s.total() >= ENOUGH_ROWS]
        table.loc[at_most, "currency"] = chance.choice(currencies)
    else:
        value = _steady(learned.values or {}, learned.rows, table.loc[rows, column].notna().sum())
        others = sorted(v for v in (learned.values or {}) if v != value)
        if not others:
            return False
        table.loc[table.index.isin(rows) & (table[column] == value), column] = others[0]
    return True


def measure(seed: int, work: Path) -> Tally:
    """One company: its quiet days, and the day with corruptions."""
    tables = generate_company(**life_of(seed)).tables
    spread_over_countries(tables, seed)
    # a company without accounts of an application delivers no such files
    company: Company = {}
    inputs = contract_inputs()
    tally, begin = Tally(days=DAYS), END - timedelta(days=DAYS + 1)
    spans = [(END - timedelta(days=4000), begin)]
    spans += [(begin + timedelta(days=n), begin + timedelta(days=n + 1)) for n in range(DAYS)]
    for start, end in spans:
        findings = deliver(company, write(day_of(tables, start, end), work / "day"), inputs, work)
        tally.quiet += [
            f"{entity.name}.{f.column} {f.kind}: {f.what} ({f.rows} of {f.of_rows})" for entity, f in findings
        ]
    last = day_of(tables, END - timedelta(days=1), END)
    planted = plant(last, company, random.Random(seed))
    findings = deliver(company, write(last, work / "day"), inputs, work)
    found = {(entity.name, f.application, f.column, f.kind) for entity, f in findings}
    for place in sorted(planted):
        tally.planted[place[3]] += 1
        if place in found:
            tally.found[place[3]] += 1
        else:
            tally.missed.append(" ".join(place))
    tally.wrong = [" ".join(place) for place in sorted(found - planted)]
    return tally


def real(directory: Path, work: Path) -> list[str]:
    """The findings of mapped files, all of them landed at once."""
    found = deliver({}, directory, read_mapping(str(directory), None, None), work)
    return [f"{entity.name}.{f.column} {f.kind}: {f.what} ({f.rows:,} of {f.of_rows:,})" for entity, f in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("companies", type=int, nargs="?", default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="northstar-bench-"))
    total = Tally()
    try:
        for seed in range(arguments.seed, arguments.seed + arguments.companies):
            own = measure(seed, work)
            total.days += own.days
            total.quiet += own.quiet
            total.wrong += [f"{w} (seed {seed})" for w in own.wrong]
            total.missed += [f"{m} (seed {seed})" for m in own.missed]
            total.found += own.found
            total.planted += own.planted
            print(f"company {seed:3}: {own.days} quiet days with {len(own.quiet)} findings; {own.found.total()} of {own.planted.total()} "
                  f"corruptions found, {len(own.wrong)} other findings", flush=True)  # fmt: skip
            for line in own.quiet:
                print(f"    {line}")
        for folder in sorted(arguments.real.iterdir()) if arguments.real else ():
            if (folder / "_mapping.yml").exists():
                lines = real(folder, work)
                print(f"{folder.name}: {len(lines)} findings", *lines, sep="\n    ")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    said = total.found.total() + len(total.wrong)
    by_kind = ", ".join(f"{kind} {total.found[kind]} of {total.planted[kind]}" for kind in sorted(total.planted))
    print(f"{arguments.companies} companies, {total.days} quiet deliveries: {len(total.quiet)} false alarms")
    print(f"corruptions found: {by_kind}; recall {total.found.total() / max(1, total.planted.total()):.1%}, "
          f"precision {total.found.total() / max(1, said):.1%}")  # fmt: skip
    print(f"wrong: {', '.join(total.wrong) or 'none'}; missed: {', '.join(total.missed) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
