"""The audit's checks of landed rows, tried on the rows that a mapping would land (northstar.extract.landing.preview).

DuckDB runs them, on the rows alone. What needs the warehouse is left out: other rows than these, earlier deliveries, the moment of a run.
"""

import re
import string
import tempfile
from pathlib import Path

import pyarrow as pa

from northstar.audit.suites import Check, Suite, read_suites
from northstar.base.settings import ROOT
from northstar.contract import Entity, entities
from northstar.extract.landing.engine import Engine, quoted
from northstar.extract.landing.preview import Preview

# checks that no rows alone can answer, with what they need besides
NEED_A_RUN = {
    "events_are_fresh": "the moment of a run",
    "rates_are_recent": "the moment of a run",
    "every_currency_in_use_has_a_rate": "the company's own currency",
    "rates_are_in_the_stated_currency": "the currency that the rates are said to be worth in",
    "legal_entities_of_accounts_are_known": "the company's own entities",
    "legal_entities_of_charges_are_known": "the company's own entities",
    "charges_name_an_entity_where_their_accounts_do": "whether the company has entities",
}
# what Postgres has under other names
MACROS = (
    "create macro normalize(x) as nfc_normalize(x)",
    "create macro trim_scale(x) as cast(x as double)",
)


def tried_checks() -> list[tuple[Suite, Check]]:
    """The checks that are tried, each with its suite."""
    return [
        (suite, check)
        for suite in read_suites(ROOT, "staging")
        for check in suite.checks
        if suite.schema == "staging" and check.rows and check.name not in NEED_A_RUN
    ]


def add_warnings(previews: list[Preview]) -> None:
    """Add to previews what the audit would say of their rows. A check that looks at another entity is tried when all of its rows are there."""
    by_entity = {one.entity: one for one in previews}
    whole = {name for name in by_entity if not any(one.is_part for one in previews if one.entity == name)}
    with tempfile.TemporaryDirectory(prefix="northstar-preview-") as spill, Engine(Path(spill), minutes=1) as engine:
        for macro in MACROS:
            engine.execute(macro)
        engine.execute("create schema staging")
        for name in by_entity:
            batches = [batch for one in previews if one.entity == name for batch in one.landed]
            if batches:
                _store(engine, entities()[name], pa.Table.from_batches(batches))
                _add_contradictions(engine, entities()[name], by_entity[name])
        stored = {name for name, one in by_entity.items() if one.landed}
        for suite, check in tried_checks():
            others = set(re.findall(r"\bstaging\.(\w+)", check.rows or "")) - {suite.table}
            if suite.table in stored and others <= stored & whole:
                _try_check(engine, suite, check, by_entity[suite.table])


def _store(engine: Engine, entity: Entity, rows: pa.Table) -> None:
    """Rows as the audit sees them: landed, and one for each key."""
    engine.show("_landed", rows)
    key = ", ".join(map(quoted, entity.key))
    engine.execute(
        f"create table staging.{quoted(entity.name)} as select * exclude (_place) replace (cast(_extra as json) as _extra), "
        "false as _is_overlapping from (select *, row_number() over () as _place from _landed) "
        f"qualify row_number() over (partition by {key} order by {quoted(entity.cursor)} desc nulls last, _place desc) = 1"
    )


def _add_contradictions(engine: Engine, entity: Entity, one: Preview) -> None:
    """Rows with one key and time of change, and different content (docs/decisions.md, D150)."""
    if not one.keeps_newest:
        return
    same = ", ".join(map(quoted, dict.fromkeys((*entity.key, entity.cursor))))
    [(rows, key)] = engine.rows(
        f"select coalesce(sum(copies), 0), min(named) from (select count(*) as copies, concat_ws(', ', {', '.join(quoted(c) for c in entity.key)}) "
        f"as named from _landed group by {same} having count(*) > 1 and min(cast(_landed as varchar)) < max(cast(_landed as varchar)))"
    )
    if rows:
        one.warnings.append(
            f"rows_of_one_file_do_not_contradict_each_other: {rows:,} rows have the key and time of change of another and differ, such as {key}"
        )


def _try_check(engine: Engine, suite: Suite, check: Check, one: Preview) -> None:
    placeholders = {
        "batch": f"staging.{quoted(suite.table)}",
        "in_scope": "true",
        "as_of": "timestamptz 'infinity'",
    }
    statement = engine.execute(string.Template(check.rows or "").substitute(placeholders))
    names = [column[0] for column in statement.description or ()]
    rows = statement.fetchall()
    if rows:
        example = rows[0][names.index("message")] if "message" in names else rows[0][0]
        count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
        one.warnings.append(f"{check.name}: {count}, such as {example}; {check.reason}")
