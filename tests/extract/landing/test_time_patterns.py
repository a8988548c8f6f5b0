"""Which patterns a select reads times by."""

import pyarrow as pa
import pytest

from northstar.extract.landing.bad_values import Finder
from northstar.extract.landing.engine import Engine
from northstar.extract.landing.statement import parse
from northstar.extract.landing.time_patterns import PatternCounts, calls_of, count_patterns

DAYS = pa.table(
    {"day": ["05/03/2025", "25/03/2025", "03/03/2025", "2025-03-05", None], "kind": ["a", "a", "a", "a", "b"]}
)


@pytest.mark.parametrize(
    ("select", "rows", "ambiguous"),
    [
        ("strptime(day, '%d/%m/%Y') as at", {("at", "%d/%m/%Y"): 3}, {("at", "%d/%m/%Y"): 1}),
        # a row counts for the first pattern that reads it
        ("coalesce(try_strptime(day, '%m/%d/%Y'), strptime(day, '%d/%m/%Y')) as at", {("at", "%m/%d/%Y"): 2, ("at", "%d/%m/%Y"): 1}, {("at", "%m/%d/%Y"): 1, ("at", "%d/%m/%Y"): 0}),
        # a year that stands first is followed by the month
        ("strptime(day, '%Y-%m-%d') as at", {("at", "%Y-%m-%d"): 1}, {}),
        ("strptime(max(day), ['%d/%m/%Y']) as at", {("at", "%d/%m/%Y"): 3}, {("at", "%d/%m/%Y"): 1}),
        ("day as at", {}, {}),
        ("strptime(day, kind) as at", {}, {}),
    ],
)  # fmt: skip
def test_the_rows_of_each_pattern_are_counted(tmp_path, select, rows, ambiguous):
    with Engine(tmp_path) as engine:
        engine.show("input", DAYS)
        finder = Finder(
            engine, parse(engine, f"select {select} from input where kind = 'a'", ["input"]), "input", has_files=False
        )
        counts = PatternCounts()
        count_patterns(finder, calls_of(finder), counts)
    assert (dict(counts.rows), dict(counts.ambiguous)) == (rows, ambiguous)
