"""The contract files that the books follow: the metric catalogue and the targets."""

from typing import Any

import pandas as pd

from northstar.base.settings import ROOT


# Any: the caller knows what the rows of a file have
def read_seed(name: str) -> list[Any]:
    """The rows of a contract file, empty fields as None."""
    table = pd.read_csv(ROOT / "dbt_project" / "seeds" / f"{name}.csv", dtype=str)
    rows: list[Any] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
