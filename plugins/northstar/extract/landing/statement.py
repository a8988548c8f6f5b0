"""What a mapping's SELECT is made of: the tables it reads, whether it makes its rows one by one, and variants of it.

DuckDB parses a statement to JSON and writes JSON as a statement again. What is not allowed is refused here, before anything runs: other
statements, tables that the mapping does not name, functions that read settings or files, and those whose value differs from run to run.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from northstar.base.errors import NorthstarError
from northstar.extract.landing.engine import Engine, Error, message

# Any: a node of DuckDB's syntax tree, whose keys depend on its type
Node = dict[str, Any]
TABLE_FUNCTIONS = {"unnest", "range", "generate_series", "json_each", "json_tree"}
FROM = {"BASE_TABLE", "JOIN", "SUBQUERY", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST", "PIVOT", "COLUMN_DATA"}
# functions that read settings or the state of the process
READS_STATE = {
    "current_connection_id", "current_database", "current_query", "current_query_id", "current_schema", "current_schemas",
    "current_setting", "current_transaction_id", "current_user", "currval", "getenv", "getvariable", "in_search_path", "nextval", "query",
    "query_table", "session_user", "setval", "sleep_ms", "stats", "txid_current", "user", "vector_type", "version", "write_log",
}  # fmt: skip
# functions whose value differs from run to run: the same files would not give the same rows
UNSTEADY = {
    "current_date", "current_localtime", "current_localtimestamp", "current_time", "current_timestamp", "gen_random_uuid",
    "get_current_time", "get_current_timestamp", "localtime", "localtimestamp", "now", "random", "setseed", "today",
    "transaction_timestamp", "uuid", "uuidv4", "uuidv7",
}  # fmt: skip
# those that SQL lets one call without brackets, so that they look like columns
WITHOUT_BRACKETS = {
    "current_date", "current_localtime", "current_localtimestamp", "current_time", "current_timestamp", "current_user", "localtime",
    "localtimestamp", "session_user",
}  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """A SELECT that is allowed.

    text: the statement. tree: DuckDB's JSON of it. driver: the table whose rows it turns into others. is_rowwise: whether each of its rows is
    made of one row of the driver, so that it can run over a part of them.
    """

    text: str
    tree: Node
    driver: str
    is_rowwise: bool
    aggregates: frozenset[str]

    @property
    def node(self) -> Node:
        """The outermost SELECT."""
        node: Node = self.tree["statements"][0]["node"]
        return node

    def keys(self, columns: list[str]) -> list[Node]:
        """The expressions that say which rows of the driver make a row together: GROUP BY, or else PARTITION BY.

        columns: the driver's; another name in GROUP BY is the alias of an item.
        """
        node = combining(self.tree, self.aggregates)
        if node is None:
            return []
        items = node["select_list"]
        if node.get("aggregate_handling", "STANDARD_HANDLING") != "STANDARD_HANDLING":
            return [item for item in items if not any(is_aggregate(n, self.aggregates) for n in nodes(item))]
        if node.get("group_expressions"):
            return [_resolved(key, items, columns) for key in node["group_expressions"]]
        partitions = [n.get("partitions") or [] for n in nodes(items) if n.get("class") == "WINDOW"]
        return partitions[0] if partitions and all(_same(p, partitions[0]) for p in partitions) else []

    @property
    def combines(self) -> bool:
        """Whether a row may be made of several rows of the driver: then a row without one of them would be wrong."""
        return any(_combines(n, self.aggregates) for n in nodes(self.tree))


def combining(tree: Node, aggregates: frozenset[str]) -> Node | None:
    """The outermost SELECT that makes one row of several: the statement's own, or one that it selects from."""
    node: Node | None = tree["statements"][0]["node"]
    common = {e["key"].lower(): e["value"] for e in ((node or {}).get("cte_map") or {}).get("map") or ()}
    while node is not None and node["type"] == "SELECT_NODE":
        parts = [node["select_list"], node.get("where_clause"), node.get("having"), node.get("qualify")]
        if node.get("group_expressions") or any(_combines(n, aggregates) for n in nodes(parts)):
            return node
        source = node["from_table"]
        if source["type"] == "SUBQUERY":
            node = source["subquery"]["node"]
        elif source["type"] == "BASE_TABLE" and source["table_name"].lower() in common:
            node = query_of(common.pop(source["table_name"].lower()))
        else:
            node = None
    return None


def query_of(entry: Node) -> Node | None:
    """The SELECT of a common table expression."""
    inner = entry.get("query_node") or (entry.get("query") or {}).get("node")
    return inner if isinstance(inner, dict) else None


def _combines(node: Node, aggregates: frozenset[str]) -> bool:
    return node.get("class") == "WINDOW" or is_aggregate(node, aggregates) or bool(node.get("group_expressions"))


def parse(engine: Engine, text: str, tables: list[str]) -> Statement:
    """The statement of a text. tables: the names that it may read, the driver first.

    Raises NorthstarError for text that is not one SELECT, and for what a mapping may not do.
    """
    text = text.strip().rstrip(";")
    try:
        tree = json.loads(engine.rows("select json_serialize_sql($1)", [text])[0][0])
    except Error as exc:
        raise NorthstarError(f"the select is not understood: {message(exc)}") from exc
    if tree["error"]:
        why = str(tree.get("error_message") or "").split("\n")[0]
        raise NorthstarError(f"the select is not understood: {why[:200]}")
    if len(tree["statements"]) != 1:
        raise NorthstarError("the select is not understood: give one statement")
    _check(tree, tables)
    statement = Statement(text, tree, tables[0], False, engine.aggregates)
    if not _is_rowwise(statement.node, tables[0], engine.aggregates):
        return statement
    if statement.node["from_table"]["type"] != "SUBQUERY":
        tree = with_line(tree, tables[0])
        text = written(engine, tree)
    elif "_line" not in [output_name(item) for item in statement.node["select_list"]]:
        # where the row comes from is lost on the way, so the rows have to be looked at together
        return statement
    return Statement(text, tree, tables[0], True, engine.aggregates)


def misread(engine: Engine, expression: str) -> str | None:
    """Why a text is no expression; None where it is one."""
    try:
        tree = json.loads(engine.rows("select json_serialize_sql($1)", [f"select ({expression})"])[0][0])
    except Error as exc:
        return message(exc)
    if tree["error"]:
        return str(tree.get("error_message") or "").split("\n")[0][:200]
    is_one = len(tree["statements"]) == 1 and len(tree["statements"][0]["node"].get("select_list") or ()) == 1
    return None if is_one else "more than one expression"


def written(engine: Engine, tree: Node) -> str:
    """The tree as a statement."""
    text: str = engine.rows("select json_deserialize_sql($1::json)", [json.dumps(tree)])[0][0]
    return text


def nodes(tree: object) -> Iterator[Node]:
    """All nodes of a tree."""
    if isinstance(tree, dict):
        yield tree
        for part in tree.values():
            yield from nodes(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from nodes(part)


def is_aggregate(node: Node, aggregates: frozenset[str]) -> bool:
    return node.get("class") == "FUNCTION" and str(node.get("function_name")).lower() in aggregates


def arguments(call: Node) -> list[Node]:
    """The arguments of a function."""
    given = call.get("arguments") or call.get("children") or []
    return [a["expression"] if isinstance(a, dict) and "expression" in a else a for a in given]


def output_name(item: Node) -> str:
    """The name that an item of a select list gives its column; "" where DuckDB makes one up."""
    if item.get("alias"):
        return str(item["alias"])
    return str(item["column_names"][-1]) if item.get("class") == "COLUMN_REF" else ""


def table_name(node: Node) -> str:
    """The name by which a statement refers to a base table."""
    return str(node.get("alias") or node["table_name"])


def leftmost(source: Node) -> Node:
    """The first table of a FROM."""
    while source["type"] == "JOIN":
        source = source["left"]
    return source


def with_line(tree: Node, driver: str) -> Node:
    """The tree of a statement that reads the driver directly, passing `_line` on."""
    node = tree["statements"][0]["node"]
    if any(output_name(item) == "_line" for item in node["select_list"]):
        return tree
    tree = copy.deepcopy(tree)
    node = tree["statements"][0]["node"]
    node["select_list"].append(column("_line", table_name(leftmost(node["from_table"]))))
    return tree


def column(name: str, table: str | None = None) -> Node:
    """A reference to a column."""
    names = [name] if table is None else [table, name]
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": names}


def _resolved(key: Node, items: list[Node], columns: list[str]) -> Node:
    """What a key of GROUP BY stands for: an item by its number or its alias, or the expression itself."""
    if key.get("class") == "CONSTANT":
        value = key.get("literal", key.get("value")) or {}
        text = str(value.get("text", value.get("value", "")))
        if text.isdigit() and 1 <= int(text) <= len(items):
            return items[int(text) - 1]
    if key.get("class") == "COLUMN_REF" and len(key["column_names"]) == 1 and key["column_names"][0] not in columns:
        return next((item for item in items if item.get("alias") == key["column_names"][0]), key)
    return key


def _same(one: object, other: object) -> bool:
    def bare(part: object) -> object:
        if isinstance(part, dict):
            return {k: bare(v) for k, v in part.items() if not k.startswith("query_location")}
        return [bare(p) for p in part] if isinstance(part, list) else part

    return bare(one) == bare(other)


def _check(tree: Node, tables: list[str]) -> None:
    common = {entry["key"].lower() for n in nodes(tree) for entry in (n.get("cte_map") or {}).get("map") or ()}
    known = {name.lower() for name in tables} | common
    for node in nodes(tree):
        if node.get("type") == "BASE_TABLE":
            path = (node.get("qualified_name") or {}).get("path") or [node["table_name"]]
            if len(path) > 1 or node.get("schema_name") or path[0].lower() not in known:
                raise NorthstarError(
                    f"the select reads {'.'.join(path)!r}, which is no input; it has {', '.join(tables)}"
                )
        if node.get("sample"):
            raise NorthstarError("the select takes a sample: the same files would not give the same rows")
        if node.get("type") in ("SHOW_REF",) or (
            node.get("type") == "TABLE_FUNCTION" and _function(node) not in TABLE_FUNCTIONS
        ):
            raise NorthstarError(
                f"the select reads {_function(node) or 'the catalogue'}(); a mapping reads its inputs alone"
            )
        name = str(node.get("function_name") or "").lower() if node.get("class") == "FUNCTION" else ""
        if (
            node.get("class") == "COLUMN_REF"
            and len(node["column_names"]) == 1
            and node["column_names"][0].lower() in WITHOUT_BRACKETS
        ):
            name = node["column_names"][0].lower()
        if name in READS_STATE:
            raise NorthstarError(f"the select calls {name}(), which reads what is not in its inputs")
        if name in UNSTEADY:
            raise NorthstarError(
                f"the select calls {name}(): the same files would not give the same rows; use _loaded_at"
            )


def _function(node: Node) -> str:
    return str((node.get("function") or {}).get("function_name") or "").lower()


def _is_rowwise(node: Node, driver: str, aggregates: frozenset[str]) -> bool:
    if node["type"] != "SELECT_NODE" or node.get("group_expressions") or node.get("having") or node.get("qualify"):
        return False
    if node.get("modifiers") or (node.get("cte_map") or {}).get("map"):
        return False
    source = node["from_table"]
    if source["type"] == "SUBQUERY":
        return _is_plain(node, aggregates) and _is_rowwise(source["subquery"]["node"], driver, aggregates)
    if not _is_plain(node, aggregates):
        return False
    drivers = [n for n in nodes(node) if n.get("type") == "BASE_TABLE" and n["table_name"].lower() == driver.lower()]
    while source["type"] == "JOIN":
        if source["join_type"] not in ("INNER", "LEFT") or source["ref_type"] not in ("REGULAR", "CROSS"):
            return False
        source = source["left"]
    return len(drivers) == 1 and source["type"] == "BASE_TABLE" and source["table_name"].lower() == driver.lower()


def _is_plain(node: Node, aggregates: frozenset[str]) -> bool:
    """Whether nothing in a SELECT's own expressions looks at more than one row."""
    parts = [node["select_list"], node.get("where_clause")]
    return not any(
        n.get("class") in ("WINDOW", "SUBQUERY")
        or is_aggregate(n, aggregates)
        or _function({"function": n}) == "unnest"
        for part in parts
        for n in nodes(part)
    )
