"""What is unusual about the values of landed rows, and how a person settles it: by name, in the home's values.yml."""

from collections.abc import Callable

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.base.tables import table
from northstar.contract import Column
from northstar.extract.landing.learned import close_settled
from northstar.extract.landing.settled import (
    ColumnRules,
    Settled,
    find_column,
    read_settled,
    write_settled,
)
from northstar.runs.turns import command_turn
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import fetch_one
from northstar.warehouse.setup import bootstrap


def overview(settings: Settings, name: str | None = None) -> str:
    """The open findings for people. name: those of one ENTITY.COLUMN only."""
    if name:
        find_column(name)
    with db.connect(settings, "loader") as connection:
        findings = connection.execute(
            "select * from audit.unusual_values where closed_at is null and (%(name)s::text is null or entity || '.' || column_name = %(name)s) "
            "order by entity, column_name, kind, finding_id",
            {"name": name},
        ).fetchall()
    if not findings:
        return "no value is unusual, or all are settled"
    rows = [
        {
            "column": f"{f['entity']}.{f['column_name']}", "application": f["application"], "rows": f"{f['rows']:,}", "what": f["what"],
            "such as": ", ".join(_place(e) for e in f["examples"]), "found": f"{f['found_at']:%Y-%m-%d}",
        }
        for f in findings
    ]  # fmt: skip
    return "\n".join(
        [
            table(rows),
            "",
            "settle each by name: northstar values accept | map | refuse ENTITY.COLUMN VALUE (--help says how)",
        ]
    )


def _place(example: dict[str, object]) -> str:
    return f"{example['path']}" + (f" line {example['line']}" if example["line"] is not None else "")


def accept(
    settings: Settings, name: str, values: list[str], missing: bool = False, largest: dict[str, float] | None = None
) -> str:
    """Say that values of a column are right. missing: rows without one too. largest: amounts up to these, by currency."""

    def change(rules: ColumnRules) -> ColumnRules:
        free = _without(rules, values)
        return free.model_copy(update={
            "accept": [*free.accept, *values], "missing": "accept" if missing else free.missing,
            "largest": {**free.largest, **(largest or {})}, "above_largest": None if largest else free.above_largest,
        })  # fmt: skip

    _change(settings, name, change)
    return f"{_named(name, values, missing, largest)}: accepted; the next run warns no more"


def map_values(settings: Settings, name: str, values: list[str], other: str) -> str:
    """Have values of a column land as another one, and the rows that have landed follow with the next run. Returns a line that says how many these are."""
    _, column = find_column(name)
    _require_values(name, values)

    def change(rules: ColumnRules) -> ColumnRules:
        free = _without(rules, values)
        return free.model_copy(update={"map": {**free.map, **dict.fromkeys(values, other)}})

    _change(settings, name, change)
    rows = _count(settings, name, column, values)
    return f"{_named(name, values)}: lands as {other!r} from now on; the next run gives it to {rows:,} landed rows and restates what changes"


def refuse(
    settings: Settings, name: str, values: list[str], missing: bool = False, largest: dict[str, float] | None = None
) -> str:
    """Have rows with values of a column go to quarantine from now on. missing: rows without one too. largest: amounts above these, by currency."""
    _, column = find_column(name)

    def change(rules: ColumnRules) -> ColumnRules:
        free = _without(rules, values)
        return free.model_copy(update={
            "refuse": [*free.refuse, *values], "missing": "refuse" if missing else free.missing,
            "largest": {**free.largest, **(largest or {})}, "above_largest": "refuse" if largest else free.above_largest,
        })  # fmt: skip

    _change(settings, name, change)
    rows = _count(settings, name, column, values) if values else 0
    left = f"; {rows:,} rows with it have landed and stay" if rows else ""
    return f"{_named(name, values, missing, largest)}: rows with it go to quarantine from now on{left}"


def _without(rules: ColumnRules, values: list[str]) -> ColumnRules:
    """The rules of a column without what was settled about some values before."""
    return rules.model_copy(update={
        "accept": [v for v in rules.accept if v not in values], "refuse": [v for v in rules.refuse if v not in values],
        "map": {v: other for v, other in rules.map.items() if v not in values},
    })  # fmt: skip


def _require_values(name: str, values: list[str]) -> None:
    if not values:
        raise NorthstarError(f"which value of {name}? `northstar values list` shows the unusual ones")


def _change(settings: Settings, name: str, change: Callable[[ColumnRules], ColumnRules]) -> None:
    """Change what is settled about a column, and close the findings that this settles."""
    entity, column = find_column(name)
    bootstrap(settings)
    with command_turn(settings, "values") as number:
        settled = read_settled(settings)
        rules = change(settled.of(entity.name, column.name))
        if rules == settled.of(entity.name, column.name):
            raise NorthstarError(
                f"what about {name}? give values, --missing or --largest; `northstar values list` shows what is unusual"
            )
        after = Settled({**settled.rules, (entity.name, column.name): rules})
        write_settled(settings, after)
        with db.connect(settings, "loader") as connection:
            turn_lock.keep(connection, number)
            close_settled(connection, after)


def _count(settings: Settings, name: str, column: Column, values: list[str]) -> int:
    entity = name.partition(".")[0]
    with db.connect(settings, "loader") as connection:
        row = fetch_one(connection.execute(
            f'select count(*) as n from staging.{entity} where "{column.name}" = any(%s)', [values]
        ))  # fmt: skip
    return int(row["n"])


def _named(name: str, values: list[str], missing: bool = False, largest: dict[str, float] | None = None) -> str:
    parts = [", ".join(map(repr, values))] if values else []
    parts += ["rows without a value"] if missing else []
    parts += [f"amounts beyond {most:g} {currency}" for currency, most in (largest or {}).items()]
    return f"{name}, {', '.join(parts)}"
