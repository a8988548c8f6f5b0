"""What people have settled about the values of columns: `values.yml` beside northstar.yml and operations.yml.

    bookings.tutor_id:
      accept: [Harbour Hotel]                   # values that are right, and values that may come no more
      map: {Reosrt Hotel: Resort Hotel}         # written in another way: they land, and have landed, as the other
      refuse: [Test Hotel]                      # rows with it go to quarantine from now on
    bookings.payment_state:
      missing: accept                           # rows without a value are as they should be; refuse: they go to quarantine
    charges.amount:
      largest: {EUR: 2500000}                   # amounts up to this are as usual
      above_largest: refuse                     # larger ones go to quarantine from now on

It is a file that people write, and not a table, because it says what the company's data means: it is reviewed like the business rules, and a
second machine follows the same one (NORTHSTAR_CONFIG).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import Field, RootModel

from northstar.base.config_files import Section, read_config, read_text, suggest_name
from northstar.base.errors import NorthstarError
from northstar.base.files import write_private
from northstar.base.settings import Settings
from northstar.contract import Column, Entity, entities

FILE = "values.yml"


class ColumnRules(Section):
    """What is settled about one column."""

    accept: list[str] = Field([], description="give a list of values")
    map: dict[str, str] = Field(
        {}, description="give values, each with the one that it is to be, such as {Reosrt: Resort}"
    )
    refuse: list[str] = Field([], description="give a list of values")
    missing: Literal["accept", "refuse"] | None = Field(None, description="give accept or refuse")
    largest: dict[str, float] = Field(
        {}, description="give the largest usual amount by currency, such as {EUR: 2500000}"
    )
    above_largest: Literal["refuse"] | None = Field(None, description="give refuse, or leave it out")


class _File(RootModel[dict[str, ColumnRules]]):
    """values.yml as a whole."""

    root: dict[str, ColumnRules] = {}


@dataclass(frozen=True)
class Settled:
    """What is settled, by (entity, column)."""

    rules: dict[tuple[str, str], ColumnRules] = field(default_factory=dict)

    def of(self, entity: str, column: str) -> ColumnRules:
        """What is settled about a column."""
        return self.rules.get((entity, column), NOTHING)

    def is_settled(self, entity: str, column: str, kind: str, value: str) -> bool:
        """Whether somebody has decided about a finding (northstar.extract.landing.unusual)."""
        rules = self.of(entity, column)
        if kind == "missing":
            return rules.missing is not None
        if kind == "size":
            return value in rules.largest
        return value in rules.accept or value in rules.map or value in rules.refuse

    def mapped(self, entity: Entity, column: Column, array: pa.Array) -> pa.Array:
        """The texts of a column, with others in place of those that are mapped."""
        rules = self.of(entity.name, column.name)
        if not rules.map:
            return array
        place = pc.index_in(array, pa.array(list(rules.map)))
        others = pa.array(list(rules.map.values())).take(place)
        return pc.if_else(pc.is_valid(place), others, array)

    def refused(self, entity: Entity, typed: dict[str, pa.Array]) -> list[tuple[pa.Array, str]]:
        """The rows that are refused: masks with reasons."""
        problems = []
        for (name, column), rules in self.rules.items():
            if name != entity.name or column not in typed:
                continue
            array = typed[column]
            if rules.refuse:
                problems.append((pc.is_in(array, pa.array(rules.refuse)), f"{column}: a value that {FILE} refuses"))
            if rules.missing == "refuse":
                problems.append((pc.is_null(array), f"{column}: missing, which {FILE} refuses"))
            if rules.above_largest and "currency" in typed:
                for currency, most in rules.largest.items():
                    is_larger = pc.and_(
                        pc.equal(typed["currency"], currency), pc.greater(array.cast(pa.float64()), most)
                    )
                    reason = f"{column}: more than {most:g} {currency}, which {FILE} refuses"
                    problems.append((pc.fill_null(is_larger, False), reason))
        return [(mask, reason) for mask, reason in problems if pc.any(mask).as_py()]


NOTHING = ColumnRules()
NOTHING_SETTLED = Settled()


def path_of(settings: Settings) -> Path:
    return settings.config / FILE


def read_settled(settings: Settings) -> Settled:
    """What is settled in a home. Raises NorthstarError for a file that cannot be used."""
    path = path_of(settings)
    if not path.exists():
        return NOTHING_SETTLED
    return parse_settled(read_text(path), str(path))


def parse_settled(text: str, where: str) -> Settled:
    """The text of values.yml. Raises NorthstarError for one that cannot be used."""
    written = read_config(text, where, _File, as_texts=True).root
    return Settled({_column_key(name, rules, where): rules for name, rules in written.items()})


def write_settled(settings: Settings, settled: Settled) -> None:
    """Write what is settled, in place of what was. Comments of the file are lost, but for those above its first key."""
    path = path_of(settings)
    before = read_text(path) if path.exists() else ""
    head = "".join(f"{line}\n" for line in before.splitlines() if line.startswith("#"))
    columns = {
        f"{entity}.{column}": rules.model_dump(exclude_defaults=True)
        for (entity, column), rules in sorted(settled.rules.items()) if rules != NOTHING
    }  # fmt: skip
    text = head + (yaml.safe_dump(columns, allow_unicode=True, sort_keys=False) if columns else "")
    # what cannot be read again is not written
    parse_settled(text, str(path))
    try:
        write_private(path, text)
    except OSError as exc:
        raise NorthstarError(f"cannot write {path} ({exc.strerror}); have it say:\n{text}") from exc


def find_column(name: str) -> tuple[Entity, Column]:
    """The column called ENTITY.COLUMN. Raises NorthstarError when there is none whose values can be settled."""
    entity_name, _, column_name = name.partition(".")
    entity = entities().get(entity_name)
    if entity is None:
        raise NorthstarError(f"{name}: give ENTITY.COLUMN; {suggest_name(entity_name, entities())}")
    column = entity.columns.get(column_name)
    if column is None:
        raise NorthstarError(f"{name}: {entity_name} has no such column; {suggest_name(column_name, entity.columns)}")
    if column.pii:
        raise NorthstarError(f"{name} is personal: its values are not settled")
    return entity, column


def _column_key(name: str, rules: ColumnRules, where: str) -> tuple[str, str]:
    try:
        entity, column = find_column(name)
    except NorthstarError as exc:
        raise NorthstarError(f"{where}: {exc}") from exc
    if column.type != "text" and (rules.accept or rules.map or rules.refuse):
        raise NorthstarError(f"{where}: {name} is no text: accept, map and refuse are about texts")
    if rules.map and column.name in entity.key:
        raise NorthstarError(
            f"{where}: {name} is part of the key of its rows, so its values cannot become others; map it where the source is mapped"
        )
    for value, other in rules.map.items():
        if other in rules.map or other in rules.refuse:
            raise NorthstarError(f"{where}: {name}: {value!r} is to be {other!r}, which is mapped or refused itself")
        if column.values and other not in column.values:
            raise NorthstarError(f"{where}: {name}: {other!r} is not one of {', '.join(column.values)}")
    several = (
        set(rules.accept) & set(rules.map) | set(rules.accept) & set(rules.refuse) | set(rules.map) & set(rules.refuse)
    )
    if several:
        raise NorthstarError(f"{where}: {name}: {min(several)!r} is settled twice; once accepted, mapped or refused")
    return entity.name, column.name
