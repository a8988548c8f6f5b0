"""The campaign of kills (tests/faults) at length: KILLS kills over a first night, hours with late rows, and a night of corrections."""

import os
import time
from collections import Counter
from pathlib import Path

from northstar.base.settings import load_settings
from northstar.warehouse import embedded
from northstar.warehouse.setup import bootstrap
from tests.faults.campaign import tell_in_peace, tell_with_kills
from tests.faults.story import story

KILLS, HOURS, SEED = 200, 6, 11


def faults(work: Path, scale: float, results: list) -> None:
    """Report how many kills of which kind, in which stage, led to the same marts; ends with an error where one did not."""
    os.environ["NORTHSTAR_SECRET_PII_KEY"] = "a key of the benchmarks"
    started = time.monotonic()
    steps = story(work / "faults-company", SEED, HOURS)
    homes = [load_settings(work / name) for name in ("faults-peace", "faults-disturbed")]
    for settings in homes:
        bootstrap(settings)
    peace = tell_in_peace(homes[0], steps, work / "faults-peace-source")
    embedded.stop(homes[0])
    survived = tell_with_kills(
        homes[1], steps, work / "faults-disturbed-source", peace, int(KILLS * scale), SEED,
        lambda text: print(f"    {text} ({time.monotonic() - started:.0f} s)", flush=True),
    )  # fmt: skip
    embedded.stop(homes[1])
    del os.environ["NORTHSTAR_SECRET_PII_KEY"]
    by_kind, by_stage = Counter(), Counter()
    for (kind, stage, place), count in survived.items():
        by_kind[kind] += count
        by_stage[f"{stage}, {place}"] += count
    results.append({"name": "kills that led to the same marts", "kills": survived.total(), "kinds": dict(by_kind),
                    "stages": dict(by_stage), "seconds": round(time.monotonic() - started)})  # fmt: skip
    print(
        f"{survived.total()} kills, the same marts after each of {len(steps)} steps: {dict(by_kind)}; {dict(by_stage)}",
        flush=True,
    )
