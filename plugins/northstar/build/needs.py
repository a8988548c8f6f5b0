"""What each metric stands on, as the dbt project's macros say it, without dbt."""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import NoReturn

import jinja2

FOLDER = Path("dbt_project") / "macros" / "metrics"


class _Returned(Exception):
    """What a macro returned: dbt's `return` leaves the macro with a value that is no text."""

    def __init__(self, value: object):
        super().__init__()
        self.value = value


def metric_entities(root: Path) -> dict[str, frozenset[str]]:
    """{metric: the landed entities that it stands on}. root: settings.root."""
    return _metric_entities(root)


def alert_causes(root: Path) -> dict[str, str]:
    """{metric: what a missed target of it is a sign of}, for the metrics that share a cause. root: settings.root."""
    causes = _call(root, "targets.sql", "alert_causes", {})
    return {str(metric): str(cause) for cause, metrics in _items(causes) for metric in _words(metrics)}


@lru_cache(maxsize=2)
def _metric_entities(root: Path) -> dict[str, frozenset[str]]:
    known = {
        name: partial(_call, root, "declared_metrics.sql", name, {}) for name in ("counted_metrics", "composed_metrics")
    }
    needs = _call(root, "needs.sql", "metric_needs", known)
    return {
        str(metric): frozenset(need.split(" ")[0].split(".")[0] for need in _words(words))
        for metric, words in _items(needs)
    }


def _items(value: object) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _call(root: Path, file: str, macro: str, known: Mapping[str, object]) -> object:
    """What a macro returns. known: the macros of other files that it calls."""

    def returning(value: object) -> NoReturn:
        raise _Returned(value)

    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    environment.globals |= {**known, "return": returning}
    module = environment.from_string((root / FOLDER / file).read_text()).module
    try:
        vars(module)[macro]()
    except _Returned as returned:
        return returned.value
    raise ValueError(f"the macro {macro} of {file} returns nothing")
