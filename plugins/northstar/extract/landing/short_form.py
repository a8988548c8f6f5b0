"""The short form of a mapping (rename, constant, value map) as a SELECT, and with it the expressions of mappings made before there was SQL.

Those expressions are a small part of Python's syntax over a file's columns: and, or, not, comparisons, `in [..]`, `is None`, + - * /,
`a if condition else b`, constants and the functions of FUNCTIONS. They go on to work; `northstar mapping convert` writes them as SQL.
"""

import ast
import string
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from northstar.base.errors import NorthstarError
from northstar.contract import Entity
from northstar.extract.landing.engine import literal, quoted

BETWEEN = ",\n  "
AGGREGATES = ("sum", "min", "max", "count", "first", "last")
# Any: an input of a mapping as it is written; northstar.extract.landing.mapping.InputSpec says what it may have
Spec = dict[str, Any]


def select_of(spec: Spec, entity: Entity, application: str | None) -> str:
    """The SELECT from `input` that an input in the short form stands for. Raises NorthstarError for an expression that is not understood."""
    columns = {name: column_sql(name, how, entity) for name, how in spec["columns"].items()}
    if application and "application" not in columns and "application" in entity.columns:
        columns["application"] = literal(application)
    is_grouped = bool(spec.get("group_by"))
    columns["_line"] = "min(_line)" if is_grouped else "_line"
    items = [sql if sql == quoted(name) else f"{sql} as {quoted(name)}" for name, sql in columns.items()]
    source, where = "input", _conditions(spec.get("where"))
    for name, expression in (spec.get("derive") or {}).items():
        value = f"{sql_of(expression)} as {quoted(name)}"
        # an expression may take the place of a column
        kept = f"columns(lambda c: c != {literal(name)})"
        source, where = f"(select {kept}, {value} from {source}{where})", ""
    if not is_grouped:
        both = " and ".join(f"({sql_of(spec[part])})" for part in ("having",) if part in spec)
        if both:
            source, where = (
                (f"(select * from {source}{where})", f" where {both}") if where else (source, f" where {both}")
            )
        return f"select\n  {BETWEEN.join(items)}\nfrom {source}{where}"
    keys = [quoted(str(key)) for key in spec["group_by"]]
    aggregated = [f"{_aggregate(str(text))} as {quoted(name)}" for name, text in (spec.get("aggregate") or {}).items()]
    inner = ", ".join([*keys, *aggregated, "min(_line) as _line"])
    columns["_line"] = "_line"
    items = [sql if sql == quoted(name) else f"{sql} as {quoted(name)}" for name, sql in columns.items()]
    having = f" where {sql_of(spec['having'])}" if "having" in spec else ""
    # the order of the groups is that of their first lines, as the file has them
    grouped = f"(select {inner} from {source}{where} group by {', '.join(keys)} order by min(_line))"
    return f"select\n  {BETWEEN.join(items)}\nfrom {grouped}{having}"


def _conditions(where: object) -> str:
    return f" where {sql_of(where)}" if where is not None else ""


def _aggregate(text: str) -> str:
    function, _, name = text.partition(" ")
    column = quoted(name.strip())
    if function in ("first", "last"):
        return f"{function}({column} order by _line) filter (where {column} is not null)"
    return f"{function}({column})"


def column_sql(name: str, how: object, entity: Entity) -> str:
    """The expression that makes a column of the contract."""
    if not isinstance(how, dict):
        return quoted(str(how))
    if "constant" in how:
        value = literal(how["constant"])
    elif "sql" in how:
        value = f"({how['sql']})"
    elif "expression" in how:
        value = sql_of(how["expression"])
    elif "template" in how:
        value = _template(str(how["template"]))
    elif "column" in how:
        value = quoted(str(how["column"]))
    else:
        raise NorthstarError(f"column {name}: say column, constant, sql or template")
    if how.get("parse"):
        value = _parsed(value, how["parse"], str(how.get("timezone") or "UTC"))
    elif how.get("timezone"):
        value = f"utc({value}, {literal(how['timezone'])})"
    if "map" in how:
        return _mapped(value, how)
    if how.get("default") is not None:
        return f"coalesce(cast({value} as varchar), {literal(how['default'])})"
    if entity.columns[name].type in ("int", "decimal") and "column" in how and "decimal" in how:
        return f"number({value})"
    return value


def _mapped(value: str, how: Spec) -> str:
    text = f"cast({value} as varchar)"
    other = literal(how["default"]) if "default" in how else text
    if not how["map"]:
        return other
    cases = " ".join(f"when {literal(key)} then {literal(target)}" for key, target in how["map"].items())
    return f"case {text} {cases} else {other} end"


def _parsed(value: str, patterns: object, zone: str) -> str:
    """A text with one of the patterns as a time; another text stays as it is, and landing says what is wrong with it."""
    text = f"trim(cast({value} as varchar))"
    tries = []
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        parsed = f"try_strptime({text}, {literal(pattern)})"
        tries.append(f"cast({parsed if '%z' in str(pattern) else f'utc({parsed}, {literal(zone)})'} as varchar)")
    return f"coalesce({', '.join(tries)}, {text})"


def _template(template: str) -> str:
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        if text:
            parts.append(literal(text))
        if name:
            parts.append(f"cast({quoted(name)} as varchar)")
    return " || ".join(parts) if parts else "''"


def sql_of(expression: object) -> str:
    """An expression in Python's syntax as SQL. Raises NorthstarError for syntax that is not part of the language."""
    if isinstance(expression, bool | None):
        raise NorthstarError(f"the expression {expression!r} is not understood: write it in quotes")
    try:
        tree = ast.parse(str(expression).strip(), mode="eval").body
        return _Writer(str(expression)).visit(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        why = getattr(exc, "msg", None) or "nested too deep, or with a null byte"
        raise NorthstarError(f"the expression {_quote(expression)} is not understood: {why}") from exc


def _quote(expression: object) -> str:
    return repr(str(expression)[:200])


class _Writer(ast.NodeVisitor):
    def __init__(self, text: str):
        self.text = text

    def visit(self, node: ast.AST) -> str:
        written: str = super().visit(node)
        return written

    def generic_visit(self, node: ast.AST) -> NoReturn:
        raise NorthstarError(
            f"the expression {_quote(self.text)} uses {type(node).__name__}, which is not part of the language"
        )

    def visit_Constant(self, node: ast.Constant) -> str:
        value = node.value
        if value is None or isinstance(value, str):
            return literal(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return f"cast({literal(Decimal(str(value)))} as decimal(38, 9))"
        if isinstance(value, int):
            return str(value)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> str:
        return quoted(node.id)

    def visit_BoolOp(self, node: ast.BoolOp) -> str:
        word = " and " if isinstance(node.op, ast.And) else " or "
        return f"({word.join(self.visit(v) for v in node.values)})"

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str:
        if isinstance(node.op, ast.Not):
            return f"(not {self.visit(node.operand)})"
        if isinstance(node.op, ast.USub):
            return f"(-{self.visit(node.operand)})"
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> str:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Div):
            return f"quotient({left}, {right})"
        signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
        if type(node.op) not in signs:
            return self.generic_visit(node.op)
        return f"({left} {signs[type(node.op)]} {right})"

    def visit_IfExp(self, node: ast.IfExp) -> str:
        return f"case when {self.visit(node.test)} then {self.visit(node.body)} else {self.visit(node.orelse)} end"

    def visit_Compare(self, node: ast.Compare) -> str:
        if len(node.ops) != 1:
            raise NorthstarError(f"the expression {_quote(self.text)} chains comparisons; join them with `and`")
        operator, left, other = node.ops[0], self.visit(node.left), node.comparators[0]
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(other, ast.List | ast.Tuple) or not other.elts:
                raise NorthstarError(f"the expression {_quote(self.text)}: `in` wants a list of constants")
            word = "in" if isinstance(operator, ast.In) else "not in"
            return f"({left} {word} ({', '.join(self.visit(e) for e in other.elts)}))"
        if isinstance(operator, ast.Is | ast.IsNot):
            return f"({left} is {'not ' if isinstance(operator, ast.IsNot) else ''}null)"
        signs = {ast.Eq: "=", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
        return f"({left} {signs[type(operator)]} {self.visit(other)})"

    def visit_Call(self, node: ast.Call) -> str:
        name = getattr(node.func, "id", None)
        if name not in FUNCTIONS or node.keywords:
            raise NorthstarError(
                f"the expression {_quote(self.text)}: no function {name}; there are {', '.join(sorted(FUNCTIONS))}"
            )
        try:
            return FUNCTIONS[name](*[self.visit(a) for a in node.args])
        except TypeError as exc:
            raise NorthstarError(f"the expression {_quote(self.text)}: {name} takes other arguments") from exc


def _substring(value: str, start: str, stop: str | None = None) -> str:
    """A part of a text. start and stop count from 0, as in Python, where SQL counts from 1 and includes the end."""
    first = (
        str(int(start) + 1)
        if start.lstrip("(-").rstrip(")").isdigit() and not start.startswith("(-")
        else start.strip("()")
    )
    last = "" if stop is None else stop if not stop.startswith("(-") else str(int(stop.strip("()")) - 1)
    return f"cast({value} as varchar)[{first}:{last}]"


FUNCTIONS: dict[str, Callable[..., str]] = {
    "decimal": lambda v: f"number({v})",
    "int": lambda v: f"whole({v})",
    "text": lambda v: f"cast({v} as varchar)",
    "time": lambda v, pattern=None: f"utc({v})" if pattern is None else f"utc({_parsed(v, pattern[1:-1], 'UTC')})",
    "add_days": lambda v, days: f"({v} + to_days(cast(whole({days}) as integer)))",
    "round": lambda v, digits="0": f"round({v}, {digits})",
    "abs": lambda v: f"abs({v})",
    "lower": lambda v: f"lower({v})",
    "upper": lambda v: f"upper({v})",
    "trim": lambda v: f"trim({v})",
    "length": lambda v: f"length({v})",
    "starts_with": lambda v, p: f"starts_with({v}, {p})",
    "ends_with": lambda v, p: f"ends_with({v}, {p})",
    "contains": lambda v, p: f"contains({v}, {p})",
    "replace": lambda v, a, b: f"replace({v}, {a}, {b})",
    "substring": _substring,
    "concat": lambda *values: "(" + " || ".join(f"cast({v} as varchar)" for v in values) + ")",
    "coalesce": lambda *values: f"coalesce({', '.join(values)})",
    "hash": lambda *values: "left(sha256(" + " || chr(31) || ".join(f"cast({v} as varchar)" for v in values) + "), 32)",
}
