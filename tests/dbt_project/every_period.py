"""What a release that stored a row for every period published, told by hashes: `metric_values` has to read the same.

every_period.json.gz was recorded with 5e1421c, before values were stored as points and series: for each company and moment, by metric and
grain, the number of rows and the sum of their hashes. Metrics that came later are in no recording and are not compared. The rows of years were added to the recordings when
the grain came (tests/dbt_project/test_years.py compares them with their months). To record anew after a change of definitions: `record(settings, name)`.
"""

import gzip
import hashlib
import json
from pathlib import Path

from northstar.warehouse import db

RECORDED = Path(__file__).with_name("every_period.json.gz")
MODULUS = 2**64


def summed(lines) -> dict[str, str]:
    """'rows hash' by 'metric grain' of csv lines of metric_values in the order of its columns."""
    found: dict = {}
    for line in lines:
        metric, grain, _ = line.split(",", 2)
        rows, total = found.get((metric, grain), (0, 0))
        found[metric, grain] = rows + 1, total + int.from_bytes(hashlib.md5(line.encode()).digest()[:8], "big")
    return {f"{m} {g}": f"{rows} {total % MODULUS:x}" for (m, g), (rows, total) in sorted(found.items())}


def published_sums(settings) -> dict[str, str]:
    """`summed` of what is published."""
    with db.connect(settings, "bi_reader") as connection, connection.cursor().copy(
        "copy (select metric_id, grain, period_start, application, segment, segment_value, trim_scale(numerator), trim_scale(denominator), "
        "trim_scale(value), is_complete, null_reason from metric_values) to stdout (format csv)"
    ) as rows:  # fmt: skip
        return summed(b"".join(rows).decode().splitlines())


def differing(settings, name: str) -> list[str]:
    """The metrics and grains of which something else is published than was recorded under `name`."""
    recorded, found = json.loads(gzip.decompress(RECORDED.read_bytes()))[name], published_sums(settings)
    metrics = {key.split()[0] for key in recorded}
    found = {key: total for key, total in found.items() if key.split()[0] in metrics}
    return sorted(key for key in recorded.keys() | found.keys() if recorded.get(key) != found.get(key))


def record(settings, name: str) -> None:
    """Record what is published as `name`."""
    recorded = json.loads(gzip.decompress(RECORDED.read_bytes())) if RECORDED.exists() else {}
    text = json.dumps(recorded | {name: published_sums(settings)}, sort_keys=True)
    RECORDED.write_bytes(gzip.compress(text.encode(), mtime=0))
