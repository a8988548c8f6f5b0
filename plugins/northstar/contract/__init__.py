"""The source contract: the entities that can be landed, read once from entities.yml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import yaml

# the loader is seven times as fast where PyYAML was built with libyaml; the contract is the release's own file and needs no bounds
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OWN_TIMES = (
    "created_at",
    "occurred_at",
    "valid_from",
    "requested_at",
    "started_at",
    "purchased_at",
    "applied_at",
    "sent_at",
    "checked_at",
    "changed_at",
    "committed_at",
    "sampled_at",
    "window_start",
    "opened_at",
    "rate_date",
    "spend_date",
    "as_of",
    "earned_on",
    "captured_on",
    "downloaded_on",
)
# columns with texts of any length that people and programs write; every other text column names something, and rows are looked up by it
FREE_TEXT_COLUMNS = {"cancel_reason", "comment", "fingerprint", "page", "question", "reason", "route", "subject"}
# bytes of a name: an index entry of Postgres holds 2,704 bytes, and a key has up to four names
MAX_NAME_BYTES = 500
# rows are grouped by this many characters of a written text
MAX_GROUP_CHARACTERS = 200
POSTGRES_TYPES = {
    "text": "text",
    "int": "bigint",
    "decimal": "numeric",
    "bool": "boolean",
    "timestamp": "timestamptz",
    "date": "date",
    "json": "json",
}


class _Spec(TypedDict):
    """An entity as entities.yml describes it. columns: {name: the arguments of a Column}."""

    about: str
    key: list[str]
    cursor: str
    # Any: an option of a column is a text, a number, a yes or a no, or a list
    columns: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Column:
    """One column of an entity. type: a contract type; pii: None, 'hash' or 'drop'.

    above: what a number has to be more than. code: the standard whose codes it holds (northstar.contract.codes). ranges: (value, least, most)
    by the value of the column `by`; whole: the values of that column for which only whole numbers will do. exact: whether a number with more
    digits than are kept is refused, instead of being rounded to them.
    """

    name: str
    type: str
    required: bool = False
    values: tuple[str, ...] | None = None
    min: float | None = None
    max: float | None = None
    above: float | None = None
    by: str | None = None
    ranges: tuple[tuple[str, float, float], ...] = ()
    whole: tuple[str, ...] = ()
    exact: bool = False
    code: str | None = None
    pii: str | None = None
    note: str | None = None

    @property
    def is_name(self) -> bool:
        """Whether its text is a name, which may have at most MAX_NAME_BYTES bytes."""
        return self.type == "text" and self.pii is None and self.name not in FREE_TEXT_COLUMNS

    @property
    def postgres_type(self) -> str:
        return POSTGRES_TYPES[self.type]


@dataclass(frozen=True)
class Entity:
    """One entity of the contract, with its key, cursor and columns by name."""

    name: str
    about: str
    key: tuple[str, ...]
    cursor: str
    columns: dict[str, Column]

    @property
    def own_time(self) -> str:
        """The column that says when a row came into being (docs/semantics.md, Time)."""
        return next(name for name in OWN_TIMES if name in self.columns)

    @property
    def later_times(self) -> tuple[str, ...]:
        """The timestamps that models read as null while they are at or after `as_of`."""
        skip = {self.own_time, self.cursor, "updated_at", "received_at", "due_at"}
        return tuple(c.name for c in self.columns.values() if c.type == "timestamp" and c.name not in skip)

    @property
    def following_times(self) -> tuple[str, ...]:
        """The later times that read as null where they lie before the row's own time. An interval that ends before it begins never lands."""
        return tuple(name for name in self.later_times if name != "valid_to")

    @property
    def stored_columns(self) -> dict[str, Column]:
        """The columns that are stored in the warehouse: all but the personal ones that are dropped."""
        return {name: column for name, column in self.columns.items() if column.pii != "drop"}


@cache
def entities() -> dict[str, Entity]:
    """All entities of the contract by name, in the contract's order."""
    raw = yaml.load((Path(__file__).parent / "entities.yml").read_text(), Loader=LOADER)
    return {name: _entity(name, spec) for name, spec in raw.items()}


def _entity(name: str, spec: _Spec) -> Entity:
    columns = {}
    for column_name, column in spec["columns"].items():
        options = {k: v for k, v in column.items() if k != "type"}
        for listed in options.keys() & {"values", "whole"}:
            options[listed] = tuple(options[listed])
        if "ranges" in options:
            options["ranges"] = tuple((value, *bounds) for value, bounds in options["ranges"].items())
        columns[column_name] = Column(column_name, column["type"], **options)
    columns.setdefault("application", Column("application", "text"))
    return Entity(name, spec["about"], tuple(spec["key"]), spec["cursor"], columns)
