"""The patterns by which a mapping's SELECT reads times: how many rows each of them reads, and for how many day and month could change places."""

import re
from collections import Counter
from dataclasses import dataclass, field

from northstar.extract.landing.bad_values import Finder
from northstar.extract.landing.engine import Error, literal
from northstar.extract.landing.statement import Node, arguments, is_aggregate, nodes, output_name

PARSERS = {"strptime", "try_strptime"}
# a pattern in which a reader could take day and month for each other; one that begins with the year is ISO's order
EXCHANGEABLE = re.compile(r"^(?!%[Yy]).*(%-?d.*%-?m|%-?m.*%-?d)", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """A place where a column's text is read by a pattern. node: the SELECT. text: what is read."""

    node: Node
    column: str
    text: Node
    pattern: str


@dataclass
class PatternCounts:
    """{(column, pattern): rows}, of those that are read by a pattern, and of those that another order of day and month would read too."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    ambiguous: Counter[tuple[str, str]] = field(default_factory=Counter)


def calls_of(finder: Finder) -> list[Call]:
    """The calls of a statement, in the order in which they are tried."""
    statement = finder.statement
    found: list[Call] = []
    for node in nodes(statement.tree):
        if node.get("type") != "SELECT_NODE":
            continue
        for item in node["select_list"]:
            for call in nodes(item):
                if call.get("class") != "FUNCTION" or str(call.get("function_name")).lower() not in PARSERS:
                    continue
                text, *patterns = arguments(call)
                if is_aggregate(text, statement.aggregates):
                    # the first of a group's texts, or the like
                    text = arguments(text)[0]
                if any(is_aggregate(n, statement.aggregates) or n.get("class") == "WINDOW" for n in nodes(text)):
                    continue
                for pattern in (_constant(n) for part in patterns for n in nodes(part)):
                    one = Call(node, output_name(item), text, pattern or "")
                    if pattern and one not in found:
                        found.append(one)
    return found


def count_patterns(finder: Finder, calls: list[Call], counts: PatternCounts) -> None:
    """Add the rows that the driver's name shows now. A row counts for the first of its column's patterns that reads it."""
    for call in calls:
        earlier = [c for c in calls[: calls.index(call)] if c.node is call.node and c.column == call.column]
        items = [
            finder.template(f"try(try_strptime(trim(cast(x as varchar)), {literal(c.pattern)}))", c.text)
            for c in (call, *earlier)
        ]
        if where := call.node.get("where_clause"):
            items.append(finder.template("coalesce(try(x), false)", where))
        else:
            items.append(finder.template("true"))
        names = ["_at", *(f"_earlier{n}" for n in range(len(earlier))), "_where"]
        others = "".join(f" and {name} is null" for name in names[1:-1])
        try:
            [(rows, exchangeable)] = finder.engine.rows(
                "select count(*), count(*) filter (where day(_at) <= 12 and day(_at) != month(_at)) "
                f"from ({finder.select(call.node, items, names)}) where _where and _at is not null{others}"
            )
        except Error:
            # an expression that TRY does not take, or a table that only the whole statement has
            continue
        counts.rows[call.column, call.pattern] += rows
        if EXCHANGEABLE.match(call.pattern):
            counts.ambiguous[call.column, call.pattern] += exchangeable


def _constant(node: Node) -> str | None:
    """The text of a constant that has a pattern's mark."""
    if node.get("class") != "CONSTANT":
        return None
    value = node.get("literal", node.get("value")) or {}
    text = value.get("text", value.get("value"))
    return text if isinstance(text, str) and "%" in text else None
