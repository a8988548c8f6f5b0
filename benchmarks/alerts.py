"""`python -m benchmarks.alerts [N]`: how many alerts of N simulated companies (25) are right, and how many incidents they miss.

Each company is landed, built and published, and its alerts are evaluated at its end as on a first day. An alert is right where the
simulator's books list an incident of its application and cause (`northstar.demo.books.incidents`). `--seed` says where the seeds begin; the last
line says what alerts were wrong or missing, with the company's seed.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from northstar.base.settings import Settings, load_settings
from northstar.demo.company import ACCOUNT_TYPES, Company, CompanyOptions, generate_company
from northstar.demo.writing import write_entity
from northstar.runs import job
from northstar.use.alerts.evaluate import evaluate
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

END = datetime(2026, 3, 3, tzinfo=UTC)
# (application, cause)
Keys = set[tuple[str, str]]


@dataclass
class Tally:
    """Of one company or of all: alerts that were right and wrong, incidents that none was open for."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        told = self.right + len(self.wrong)
        return self.right / told if told else 1.0

    @property
    def recall(self) -> float:
        happened = self.right + len(self.missed)
        return self.right / happened if happened else 1.0


def life_of(seed: int) -> CompanyOptions:
    """A company's size, age, applications and number of incidents."""
    chance = random.Random(seed)
    applications = sorted(chance.sample(sorted(ACCOUNT_TYPES), chance.randint(3, 5)))
    return {
        "seed": seed, "months": chance.randint(3, 9), "accounts": chance.randint(300, 1500), "applications": tuple(applications), "end": END,
        "monitored_days": chance.choice((14, 30, 60)), "incidents": chance.randint(0, 6),
    }  # fmt: skip


def open_alerts(settings: Settings, company: Company, source: Path) -> Keys:
    """The alerts that are open after the company's first publication."""
    for entity, table in company.tables.items():
        write_entity(source / entity, entity, table)
    job.run(settings, "nightly", company.end, str(source), lambda _: None)
    now = company.end + timedelta(minutes=5)
    with db.connect(settings, "owner") as connection:
        # as if it had landed when it happened: the machine's clock is another
        for row in connection.execute(
            "select tablename from pg_tables where schemaname = 'staging' and tablename not like '\\_%'"
        ).fetchall():
            connection.execute(f"update staging.{row['tablename']} set _loaded_at = %s", [company.end])
    evaluate(settings, now, lambda _: None)
    with db.connect(settings, "publisher") as connection:
        # what is merely unusual is in no book; benchmarks.anomalies measures it
        rows = connection.execute(
            "select application, cause from audit.notices where closed_at is null and rule != 'anomaly'"
        ).fetchall()
    return {(r["application"], r["cause"]) for r in rows}


def compare(company: Company, alerts: Keys) -> Tally:
    """What the alerts got right."""
    happened = {(i.application, i.cause) for i in company.incidents}
    names = [f"{application} {cause}" for application, cause in sorted(alerts - happened)]
    missed = [f"{application} {cause}" for application, cause in sorted(happened - alerts)]
    return Tally(len(alerts & happened), names, missed)


def tallies(work: Path, first: int, count: int) -> Iterator[tuple[int, Company, Tally]]:
    """(seed, company, its tally) of each company, each in a home of its own."""
    for seed in range(first, first + count):
        company, home = generate_company(**life_of(seed)), work / str(seed)
        settings = load_settings(home / "home")
        bootstrap(settings)
        try:
            yield seed, company, compare(company, open_alerts(settings, company, home / "source"))
        finally:
            embedded.stop(settings)
            shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("companies", type=int, nargs="?", default=25)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="northstar-bench-"))
    work.chmod(0o755)
    total = Tally()
    try:
        for seed, company, tally in tallies(work, arguments.seed, arguments.companies):
            total.right += tally.right
            total.wrong += [f"{w} (seed {seed})" for w in tally.wrong]
            total.missed += [f"{m} (seed {seed})" for m in tally.missed]
            print(f"company {seed:3}: {len(company.people):5,} accounts, {len(company.incidents)} incidents; alerts: {tally.right} right, "
                  f"{len(tally.wrong)} wrong, {len(tally.missed)} missed", flush=True)  # fmt: skip
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(
        f"{arguments.companies} companies: precision {total.precision:.1%}, recall {total.recall:.1%} ({total.right} right)"
    )
    print(f"wrong: {', '.join(total.wrong) or 'none'}; missed: {', '.join(total.missed) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
