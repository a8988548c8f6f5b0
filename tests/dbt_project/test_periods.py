"""Periods begin where one macro says."""

import re

from northstar.base.settings import ROOT

# it asks the engines what `date_trunc` does
ASKS_THE_ENGINES = "macros/engine/facts.sql"


def test_only_one_macro_cuts_an_instant_down_to_its_period():
    project = ROOT / "dbt_project"
    cutting = {
        path.relative_to(project).as_posix()
        for folder in ("models", "macros")
        for path in (project / folder).rglob("*.sql")
        if re.search(r"\bdate_(trunc|bin)\b", path.read_text())
    }
    assert cutting == {"macros/engine/periods.sql", ASKS_THE_ENGINES}
