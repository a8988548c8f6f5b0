"""What happens to a company while its warehouse is killed: a first night, an hour with late and repeated rows, a night of corrections."""

import random
from datetime import timedelta
from pathlib import Path

from tests.deliveries import company_rows, corrections
from tests.faults.campaign import Step
from tests.support import utc

END = utc("2026-03-01T00:00:00")


def story(directory: Path, seed: int, hours: int = 1, **company) -> list[Step]:
    """A night, `hours` hourly runs of which some bring late and repeated rows, and a night after corrections."""
    company = {
        "months": 2,
        "accounts": 20,
        "applications": ("web", "coaching", "tutoring"),
        "monitored_days": 2,
        **company,
    }
    tables = company_rows(directory, seed=seed, end=END, **company)
    chance = random.Random(seed)
    arrivals: list[dict] = [{"fx_rates": tables["fx_rates"]}, *({} for _ in range(hours)), corrections(tables, chance)]
    for name, rows in tables.items():
        if name == "fx_rates":
            continue
        for row in rows:
            arrivals[chance.choice([0] * 8 + list(range(1, hours + 1)))].setdefault(name, []).append(row)
            if chance.random() < 0.02:
                arrivals[chance.randrange(hours + 1)].setdefault(name, []).append(row)
    modes = ["nightly", *("hourly" for _ in range(hours)), "nightly"]
    start = END - timedelta(hours=hours)
    return [
        Step(rows, start + timedelta(hours=number), mode)
        for number, (rows, mode) in enumerate(zip(arrivals, modes, strict=True))
    ]
