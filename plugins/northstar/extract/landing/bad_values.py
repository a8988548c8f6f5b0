"""Which rows of an input a mapping's SELECT cannot process, and why: each of them goes to quarantine, and the others land.

DuckDB stops at the first value that it cannot cast. So every expression over the input's own columns is evaluated once more inside TRY,
which gives null for a row instead of stopping. Where that does not find the row, halves of the input are tried.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from northstar.base.errors import NorthstarError
from northstar.extract.landing.engine import VALUE_ERRORS, Engine, Error, message, quoted
from northstar.extract.landing.statement import (
    Node,
    Statement,
    arguments,
    column,
    combining,
    is_aggregate,
    leftmost,
    nodes,
    output_name,
    query_of,
    table_name,
    written,
)

# the table with the keys of the groups that a unit leaves out
LEFT_OUT = "_left_out"
# the names by which the driver's file and line pass through a statement
FILE_OF, LINE_OF = "_file_of_driver", "_line_of_driver"
# how many rows get the message of their own value, and how many are found by halving
EXPLAINED, MOST_BY_HALVES = 1_000, 500


@dataclass(frozen=True)
class BadValue:
    """A row of the driver that cannot be processed. file: None where the driver is a part of one file."""

    file: str | None
    line: int
    reason: str


@dataclass(frozen=True)
class _Check:
    """An expression that some row may make fail. conditions: it is evaluated for the rows that they hold for."""

    label: str
    expression: Node
    conditions: tuple[Node, ...] = ()


class Finder:
    """Finds the bad rows of a statement. rows: the relation with the driver's rows, which the statement reads by the driver's name."""

    def __init__(self, engine: Engine, statement: Statement, rows: str, has_files: bool):
        self.engine, self.statement, self.rows, self.has_files = engine, statement, rows, has_files

    def find(self) -> list[BadValue]:
        """The bad rows, in the order of the input."""
        bad: dict[tuple[str | None, int], list[str]] = {}
        for node in nodes(self.statement.tree):
            if node.get("type") == "SELECT_NODE" and self._reads_driver(node):
                for file, line, reason in self._of_node(node):
                    bad.setdefault((file, line), []).append(reason)
        if not bad:
            bad = self._by_groups() or self._by_halves()
        return [BadValue(file, line, "; ".join(dict.fromkeys(why))) for (file, line), why in bad.items()]

    def _reads_driver(self, node: Node) -> bool:
        first = leftmost(node["from_table"])
        return first["type"] == "BASE_TABLE" and str(first["table_name"]).lower() == self.statement.driver.lower()

    def _of_node(self, node: Node) -> list[tuple[str | None, int, str]]:
        checks = _checks(node, self.statement.aggregates)
        name = table_name(leftmost(node["from_table"]))
        origin = [column("_line", name), *([column("_file", name)] if self.has_files else [])]
        where = node.get("where_clause")
        items = [*origin, self.template("try(coalesce(x, false))", where) if where else self.template("true")]
        for check in checks:
            failed = self.template("try(struct_pack(v := x)) is null", check.expression)
            for condition in check.conditions:
                failed = self.template("coalesce(try(x), true) and y", condition, failed)
            items.append(failed)
        names = [*("_line", "_file")[: len(origin)], "_where", *(f"_{n}" for n in range(len(checks)))]
        flags = " or ".join(f"_{n}" for n in range(len(checks))) or "false"
        try:
            found = self.engine.rows(
                f"select * from ({self.select(node, items, names)}) where _where is null or (_where and ({flags}))"
            )
        except Error:
            # an expression that TRY does not take, or a table that only the whole statement has
            return []
        results = []
        for place, row in enumerate(found):
            line, file = row[0], row[1] if self.has_files else None
            labels = (
                [_Check("where", where)] if where and row[len(origin)] is None else
                [check for check, failed in zip(checks, row[len(origin) + 1 :], strict=True) if failed]
            )  # fmt: skip
            for check in labels:
                why = (
                    self._explain(node, check, name, file, line)
                    if place < EXPLAINED
                    else "the mapping cannot make it of this row"
                )
                results.append((file, line, f"{check.label}: {why}"))
        return results

    def _explain(self, node: Node, check: _Check, name: str, file: str | None, line: int) -> str:
        text = self.select(node, [column("_line", name), *([column("_file", name)] if self.has_files else []), check.expression],
                            ["_line", *(["_file"] if self.has_files else []), "_value"])  # fmt: skip
        try:
            self.engine.rows(
                f"select _value from ({text}) where _line = $1" + (" and _file = $2" if self.has_files else ""),
                [line, *([file] if self.has_files else [])],
            )
        except Error as exc:
            return message(exc)
        return "the mapping cannot make it of this row"

    def select(self, node: Node, items: list[Node], names: list[str]) -> str:
        """A SELECT of other items from what a node reads."""
        items = [{**copy.deepcopy(item), "alias": name} for item, name in zip(items, names, strict=True)]
        return written(self.engine, _with_node(self.statement, bare(node, items)))

    def template(self, text: str, *parts: Node) -> Node:
        """An expression, with x and y replaced by nodes."""
        tree = json.loads(self.engine.rows("select json_serialize_sql($1)", [f"select {text}"])[0][0])
        by_name = dict(zip("xy", parts, strict=False))

        def filled(part: object) -> object:
            if isinstance(part, dict):
                if part.get("class") == "COLUMN_REF" and part["column_names"][0] in by_name:
                    # an argument's name stays, as in struct_pack(v := x)
                    return {**copy.deepcopy(by_name[part["column_names"][0]]), "alias": part.get("alias", "")}
                return {name: filled(value) for name, value in part.items()}
            return [filled(value) for value in part] if isinstance(part, list) else part

        node = filled(tree["statements"][0]["node"]["select_list"][0])
        assert isinstance(node, dict)
        return node

    def _by_groups(self) -> dict[tuple[str | None, int], list[str]]:
        """The rows of the groups whose own values fail, such as a sum that is not whole; none where rows are not made of groups.

        A half of a group would be another group: one that fails on its own need not be wrong with the rest, nor the reverse.
        """
        members = _members(self.engine, self.statement, self.engine.columns(self.rows)) if self.has_files else None
        if members is None:
            return {}
        text, names = members
        try:
            self.engine.execute(
                f"create or replace temp table _groups as select distinct {FILE_OF}, {LINE_OF}, dense_rank() over (order by {', '.join(names)}) as _n "
                f"from ({text})"
            )
        except Error:
            return {}
        count = self.engine.rows("select coalesce(max(_n), 0) from _groups")[0][0]
        of_groups = (
            f"select r.* from {self.rows} as r where exists (select 1 from _groups as g "
            f"where g.{FILE_OF} = r._file and g.{LINE_OF} = r._line and g._n > {{begin}} and g._n <= {{end}})"
        )
        bad: dict[tuple[str | None, int], list[str]] = {}
        for number, why in self._failing(count, of_groups):
            for file, line in self.engine.rows(f"select {FILE_OF}, {LINE_OF} from _groups where _n = {number + 1}"):
                bad[file, line] = [why]
        return bad

    def _by_halves(self) -> dict[tuple[str | None, int], list[str]]:
        """The rows that fail on their own, found by trying parts of the input."""
        columns = "_line, _file" if self.has_files else "_line"
        rows = self.engine.rows(f"select row_number() over (), {columns} from {self.rows}")
        of_rows = (
            f"select * exclude (_n) from (select *, row_number() over () as _n from {self.rows}) "
            "where _n > {begin} and _n <= {end}"
        )
        return {
            (rows[place][2] if self.has_files else None, rows[place][1]): [why]
            for place, why in self._failing(len(rows), of_rows)
        }

    def _failing(self, count: int, selection: str) -> Iterator[tuple[int, str]]:
        """(place, why) of the parts of the input that fail on their own, of MOST_BY_HALVES at most. selection: those from {begin} to {end}."""
        parts, found = [(0, count)] if count else [], 0
        while parts and found < MOST_BY_HALVES:
            begin, end = parts.pop()
            why = self._error_of_part(selection.format(begin=begin, end=end))
            if why is None:
                continue
            if end - begin == 1:
                found += 1
                yield begin, why
            else:
                middle = (begin + end) // 2
                parts += [(middle, end), (begin, middle)]

    def _error_of_part(self, selection: str) -> str | None:
        with selected_rows(self.engine, self.statement.driver, self.rows, selection):
            return _failure(
                lambda: self.engine.execute(f"create or replace temp table _probe as {self.statement.text}")
            )


@contextlib.contextmanager
def selected_rows(engine: Engine, name: str, rows: str, selection: str) -> Iterator[None]:
    """A context in which a table's name shows another selection of its rows."""
    engine.execute(f"create or replace temp view {quoted(name)} as {selection}")
    try:
        yield
    finally:
        engine.execute(f"create or replace temp view {quoted(name)} as select * from {rows}")


def exclude_groups(finder: Finder, columns: list[str], first: str) -> str:
    """The statement without the rows that bad ones belong to; call it while the driver's name shows the bad rows alone.

    columns: the driver's. first: the message of the first failure. Raises NorthstarError where it cannot be said which rows those are.
    """
    engine, statement = finder.engine, finder.statement
    keys = statement.keys(columns)
    if not statement.combines:
        return statement.text
    if not keys:
        raise NorthstarError(
            f"{first}; the select makes one row of many, so it cannot leave this one out: write what is to become of it"
        )
    names = _key_names(keys)
    items = [{**finder.template("try(x)", key), "alias": name} for key, name in zip(keys, names, strict=True)]
    # of a row whose own key cannot be read nobody can say which group it belongs to
    items += [{**finder.template("try(struct_pack(v := x)) is null", key), "alias": f"{name}_failed"}
              for key, name in zip(keys, names, strict=True)]  # fmt: skip
    tree = copy.deepcopy(statement.tree)
    whole, combined = tree["statements"][0]["node"], combining(tree, statement.aggregates)
    assert combined is not None, "it has keys"
    tree["statements"][0]["node"] = {**bare(combined, items), "cte_map": whole["cte_map"]}
    try:
        failed = " or ".join(f"{name}_failed" for name in names)
        groups = f"select distinct {', '.join(names)} from ({written(engine, tree)}) where not ({failed})"
        engine.execute(f"create temp table if not exists {LEFT_OUT} as {groups} limit 0")
        # those of earlier rounds stay left out: their bad rows are gone, and what is left of them would be wrong
        engine.execute(f"insert into {LEFT_OUT} {groups}")
    except Error as exc:
        raise NorthstarError(f"{first}; which rows it belongs to cannot be said: {message(exc)}") from exc
    same = " and ".join(f"l.{name} is not distinct from {name}" for name in names)
    template = json.loads(
        engine.rows(
            "select json_serialize_sql($1)", [f"select not exists (select 1 from {LEFT_OUT} as l where {same})"]
        )[0][0]
    )
    condition = template["statements"][0]["node"]["select_list"][0]
    by_name = dict(zip(names, keys, strict=True))
    _replace_columns(condition, by_name)
    tree = copy.deepcopy(statement.tree)
    node = combining(tree, statement.aggregates)
    assert node is not None
    where = node.get("where_clause")
    if where:
        both = json.loads(engine.rows("select json_serialize_sql('select a and b')")[0][0])["statements"][0]["node"][
            "select_list"
        ][0]
        both["children"] = [where, condition]
        condition = both
    node["where_clause"] = condition
    return written(engine, tree)


def select_left_out(engine: Engine, statement: Statement, columns: list[str]) -> str | None:
    """A SELECT of `_file` and `_line` of the driver's rows that belong to groups which are left out; None where it cannot be said.

    Call it when the bad rows themselves are out of the driver's table.
    """
    members = _members(engine, statement, columns)
    if members is None:
        return None
    text, names = members
    same = " and ".join(f"l.{name} is not distinct from m.{name}" for name in names)
    return f"select distinct {FILE_OF}, {LINE_OF} from ({text}) as m where exists (select 1 from {LEFT_OUT} as l where {same})"


def _members(engine: Engine, statement: Statement, columns: list[str]) -> tuple[str, list[str]] | None:
    """A SELECT of the keys, `_file` and `_line` of the driver's rows in groups, and the names of the keys; None where it cannot be said."""
    keys = statement.keys(columns)
    tree = copy.deepcopy(statement.tree)
    whole, combined = tree["statements"][0]["node"], combining(tree, statement.aggregates)
    if combined is None or not keys:
        return None
    origin = _passed_on(combined, whole, statement)
    if origin is None:
        return None
    names = _key_names(keys)
    items = [{**copy.deepcopy(key), "alias": name} for key, name in zip(keys, names, strict=True)]
    tree["statements"][0]["node"] = {
        **bare(combined, [*items, *origin]), "cte_map": whole["cte_map"], "where_clause": combined.get("where_clause"),
    }  # fmt: skip
    return written(engine, tree), names


def _key_names(keys: list[Node]) -> list[str]:
    return [f"k{n}" for n in range(len(keys))]


def _passed_on(node: Node, whole: Node, statement: Statement) -> list[Node] | None:
    """The columns by which a node can say the driver's file and line, once the nodes that it selects from pass them on (they are changed).

    None where one of them makes a row of several.
    """
    first = leftmost(node["from_table"])
    common = {e["key"].lower(): e["value"] for e in ((whole or {}).get("cte_map") or {}).get("map") or ()}
    inner: Node | None = None
    if first["type"] == "SUBQUERY":
        inner, name = first["subquery"]["node"], str(first.get("alias") or "") or None
    elif first["type"] == "BASE_TABLE":
        name = table_name(first)
        if str(first["table_name"]).lower() in common:
            inner = query_of(common[str(first["table_name"]).lower()])
        elif str(first["table_name"]).lower() == statement.driver.lower():
            return [{**column("_file", name), "alias": FILE_OF}, {**column("_line", name), "alias": LINE_OF}]
    if inner is None or inner["type"] != "SELECT_NODE" or inner.get("group_expressions"):
        return None
    origin = _passed_on(inner, whole, statement)
    if origin is None or any(is_aggregate(n, statement.aggregates) for n in nodes(inner["select_list"])):
        return None
    inner["select_list"] += origin
    return [{**column(part, name), "alias": part} for part in (FILE_OF, LINE_OF)]


def bare(node: Node, items: list[Node]) -> Node:
    """A SELECT of other items from a node's FROM, without its conditions and common table expressions."""
    changed = copy.deepcopy(node)
    changed.update(
        select_list=items, where_clause=None, group_expressions=[], group_sets=[], having=None, qualify=None, modifiers=[],
        aggregate_handling="STANDARD_HANDLING", cte_map={"map": []},
    )  # fmt: skip
    return changed


def _replace_columns(tree: object, by_name: dict[str, Node]) -> None:
    if isinstance(tree, dict):
        for name, part in tree.items():
            if (
                isinstance(part, dict)
                and part.get("class") == "COLUMN_REF"
                and len(part["column_names"]) == 1
                and part["column_names"][0] in by_name
            ):
                tree[name] = {**copy.deepcopy(by_name[part["column_names"][0]]), "alias": ""}
            else:
                _replace_columns(part, by_name)
    elif isinstance(tree, list):
        for part in tree:
            _replace_columns(part, by_name)


def _with_node(statement: Statement, node: Node) -> Node:
    tree = {**statement.tree, "statements": [{**statement.tree["statements"][0], "node": node}]}
    return tree


def _failure(run: Callable[[], object]) -> str | None:
    try:
        run()
    except VALUE_ERRORS as exc:
        return message(exc)
    return None


def _checks(node: Node, aggregates: frozenset[str]) -> list[_Check]:
    checks: list[_Check] = []
    for item in node["select_list"]:
        checks += _parts(output_name(item) or "a column", item, aggregates)
    for key in node.get("group_expressions") or []:
        checks += _parts("group by", key, aggregates)
    return [c for c in checks if c.expression.get("class") not in ("COLUMN_REF", "CONSTANT", "STAR")]


def _parts(label: str, item: Node, aggregates: frozenset[str]) -> list[_Check]:
    """The largest parts of an expression that look at one row only."""
    own = [n for n in nodes(item) if n.get("class") == "WINDOW" or is_aggregate(n, aggregates)]
    if not own:
        return [_Check(label, item)]
    checks: list[_Check] = []
    for call in own:
        conditions = (call["filter"],) if call.get("filter") else ()
        inner = arguments(call)
        inner += call.get("partitions") or []
        inner += [o["expression"] for o in call.get("orders") or []]
        checks += [
            _Check(label, part, conditions)
            for part in inner
            if isinstance(part, dict)
            and not any(n.get("class") == "WINDOW" or is_aggregate(n, aggregates) for n in nodes(part))
        ]
    return checks
