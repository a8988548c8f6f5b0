"""The contract files that the books follow: the metric catalogue and the targets."""

import pandas as pd

from northstar.base.settings import ROOT


def read_seed(name: str) -> list[dict]:
    """The rows of a contract file, empty fields as None."""
    table = pd.read_csv(ROOT / "dbt_project" / "seeds" / f"{name}.csv", dtype=str)
    return table.astype(object).where(table.notna(), None).to_dict("records")
