"""Decisions have numbers and dates, and what the code cites of them is there."""

import re
from datetime import date

from northstar.base.settings import ROOT

TEXT = (ROOT / "docs" / "decisions.md").read_text()
DECISIONS = re.findall(r"^## D(\d+) · (.+)\n+\*(\d{4}-\d{2}-\d{2})\.\* \S", TEXT, re.MULTILINE)


def test_each_has_its_number_and_its_date():
    assert len(DECISIONS) == TEXT.count("\n## ") > 100
    # branches that are open at the same time reserve numbers, so that some may never be used
    numbers = [int(number) for number, _, _ in DECISIONS]
    assert numbers == sorted(set(numbers))
    assert all(date.fromisoformat(day) for _, _, day in DECISIONS)


def test_what_is_cited_is_there():
    folders = ("plugins", "dbt_project", "dags", "docs", "tests")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".sql", ".md", ".yml")]
    cited = {
        (path.name, number)
        for path in files
        if "target" not in path.parts
        for number in re.findall(r"decisions\.md, D(\d+)", path.read_text())
    }
    assert {name for name, _ in cited} >= {"server.py", "collector.py"}
    assert sorted(c for c in cited if c[1] not in {number for number, _, _ in DECISIONS}) == []
