"""Mapping: a small YAML file that lands a foreign layout without code.

    # shop.yml, given with --mapping, or as `mapping:` of a declared source
    application: shop                      # the default application of every entity (optional)
    entities:
      charges:                             # an entity of the contract: one input, or a list of inputs
        files: "*.csv.gz"                  # a glob below the source directory, or a list of globs
        csv: {delimiter: ",", encoding: utf-8, null_values: ["", "?"]}
        where: not starts_with(InvoiceNo, 'C') and CustomerID is not None
        derive:                            # new columns, one after the other, before grouping
          line_total: decimal(Quantity) * decimal(UnitPrice)
        group_by: [InvoiceNo]              # one row for each group (within a file) ...
        aggregate: {total: sum line_total, at: min InvoiceDate}   # sum, min, max, count, first, last
        having: total > 0                  # a condition after grouping
        keep: first                        # a key that is there already stays as it is (default: the newest cursor wins)
        columns:                           # contract column: how to get it
          charge_id: InvoiceNo                                    # rename
          currency: {constant: GBP}
          status: {constant: succeeded}
          amount: {expression: int(round(total * 100, 0))}
          created_at: {column: at, parse: "%Y-%m-%d %H:%M:%S"}    # UTC unless `timezone` says otherwise
          country: {column: Country, map: {United Kingdom: GB}, default: null}
          updated_at: {template: "{at}Z"}

Expressions are a small part of Python's syntax over the file's columns: and, or, not, comparisons, `in [..]`, `is None`,
+ - * /, `a if condition else b`, constants, and the functions of FUNCTIONS. They are compiled to Arrow compute: nothing of
the file is ever executed. csv and jsonl columns are text until decimal(), int() or time() makes something else of them.
"""

import ast
import codecs
import hashlib
import json
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias
from zoneinfo import ZoneInfo

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Field, Tag, field_validator

from northstar.base.config_files import MAX_CHARACTERS, Section, read_config, read_yaml, suggest_name
from northstar.base.errors import FileFailed, NorthstarError
from northstar.contract import Entity, entities
from northstar.extract.sources.files import CsvOptions, Reading, Storage

MAPPING_FILE = "_mapping.yml"
# the parts of a contract column that decide how its values are read
READ = ("type", "required", "values", "min", "max", "pii")
AGGREGATES = {"sum": "sum", "min": "min", "max": "max", "count": "count", "first": "first", "last": "last"}
# errors of expressions: types that do not fit, arguments that a function does not take, numbers that are too large
UNFIT = (
    pa.ArrowException,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    MemoryError,
)
DECIMAL = pa.decimal128(30, 9)
# products and quotients of the above fit into 76 digits
WIDE = pa.decimal256(30, 9)
# an input of a mapping as it is written: InputSpec says what it may have
Spec = dict[str, Any]
# the result of an expression
Value: TypeAlias = pa.Array | pa.Scalar


def contract_decides(entity: Entity) -> list[object]:
    """The part of the contract that decides which rows an entity's values become."""
    columns = [(c.name, *(getattr(c, name) for name in READ)) for c in entity.columns.values()]
    return [entity.key, entity.cursor, columns]


@dataclass
class Input:
    """Files that feed an entity, and how their columns become the contract's. `label` tells several inputs apart."""

    entity: str
    patterns: list[str]
    csv: CsvOptions = field(default_factory=CsvOptions)
    spec: Spec | None = None
    application: str | None = None
    label: str = ""

    @property
    def keeps_first(self) -> bool:
        """Whether a landed row is never replaced."""
        return bool(self.spec and self.spec.get("keep"))

    @property
    def digest(self) -> str:
        """A digest of what decides which rows a file becomes: the mapping, and the entity's columns in the contract."""
        decides = [self.spec, self.application, vars(self.csv), *contract_decides(entities()[self.entity])]
        return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()[:16]

    def apply(self, source: Reading) -> Iterator[pa.RecordBatch]:
        """The file's batches, mapped; each keeps `_line`. Raises NorthstarError naming the file for what cannot be mapped."""
        if self.spec is None:
            yield from source.batches()
            return
        batches: Iterable[pa.RecordBatch | pa.Table] = source.batches()
        if "group_by" in self.spec:
            # a group may have rows anywhere in a file, so the whole file is held
            held_batches = list(batches)
            batches = [pa.Table.from_batches(held_batches).combine_chunks()] if held_batches else []
        for batch in batches:
            try:
                mapped = self._map(self.spec, pa.table(batch) if isinstance(batch, pa.RecordBatch) else batch)
            except NorthstarError as exc:
                raise FileFailed(source.file.path, exc) from exc
            except UNFIT as exc:
                message = " ".join(str(exc).split())[:200] or type(exc).__name__
                raise FileFailed(source.file.path, f"the mapping of {self.entity} does not fit: {message}") from exc
            yield from mapped.combine_chunks().to_batches()

    def _map(self, spec: Spec, table: pa.Table) -> pa.Table:
        if "where" in spec:
            table = table.filter(_condition(spec["where"], table))
        for name, expression in (spec.get("derive") or {}).items():
            table = _with(table, name, evaluate(expression, table))
        if "group_by" in spec:
            table = self._grouped(spec, table)
        if "having" in spec:
            table = table.filter(_condition(spec["having"], table))
        columns = {name: _column(name, how, table) for name, how in spec["columns"].items()}
        if self.application and "application" not in columns:
            columns["application"] = pa.array([self.application] * table.num_rows, pa.string())
        return pa.table({**columns, "_line": table.column("_line")})

    def _grouped(self, spec: Spec, table: pa.Table) -> pa.Table:
        keys = spec["group_by"]
        aggregations = [("_line", "min", "_line")]
        for name, text in (spec.get("aggregate") or {}).items():
            function, _, column = text.partition(" ")
            aggregations.append((column, AGGREGATES[function], name))
        for column in [*keys, *(c for c, _, _ in aggregations)]:
            _lookup(table, column)
        grouped = table.group_by(keys, use_threads=False).aggregate([(c, f) for c, f, _ in aggregations])
        names = [f"{c}_{f}" for c, f, _ in aggregations]
        return pa.table({**{k: grouped.column(k) for k in keys},
                         **{name: grouped.column(n) for n, (_, _, name) in zip(names, aggregations, strict=True)}})  # fmt: skip


def contract_inputs() -> list[Input]:
    """The contract's own layout (docs/contract.md): a folder for each entity, columns as the contract names them."""
    return [Input(name, [f"{name}/**"]) for name in entities()]


class CsvSpec(Section):
    """`csv:` of an input."""

    delimiter: str = Field(",", min_length=1, max_length=1, description="give one character, such as ';'")
    encoding: str = "utf-8"
    null_values: list[object] | None = Field(None, description="give a list")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, given: str) -> str:
        if not given.isascii() or given in '\r\n"\0':
            raise ValueError("a delimiter is one character, such as ';'")
        return given

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, given: str) -> str:
        try:
            codecs.lookup(given)
        except (LookupError, TypeError, ValueError) as exc:
            raise ValueError(f"unknown encoding {given[:40]!r}") from exc
        return given


class ColumnSpec(Section):
    """How a column is made, where it is not only renamed."""

    column: object = None
    constant: object = None
    expression: object = None
    template: object = None
    parse: object = None
    timezone: object = None
    map: dict[object, object] | None = Field(None, description="give names with values")
    default: object = None


def _how_or_name(given: object) -> str:
    return "how" if isinstance(given, dict | ColumnSpec) else "name"


class InputSpec(Section):
    """An input of an entity."""

    files: str | list[object] = Field(description="give a glob below the source directory, or a list of them")
    columns: dict[
        str, Annotated[Annotated[ColumnSpec, Tag("how")] | Annotated[object, Tag("name")], Discriminator(_how_or_name)]
    ] = Field(description="give names with values")
    name: object = None
    csv: CsvSpec | None = Field(None, description="give names with values")
    where: object = None
    derive: dict[str, object] | None = Field(None, description="give names with values")
    group_by: list[str] | None = Field(None, description="give a list")
    aggregate: dict[str, object] | None = Field(None, description="give names with values")
    having: object = None
    keep: Literal["first"] | None = Field(None, description="`keep` can only be first")

    @field_validator("aggregate")
    @classmethod
    def _known_aggregate(cls, given: dict[str, object] | None) -> dict[str, object] | None:
        for text in (given or {}).values():
            if str(text).partition(" ")[0] not in AGGREGATES:
                raise ValueError(f"unknown aggregate {text!r}; use one of {', '.join(AGGREGATES)}")
        return given


def _one_or_several(given: object) -> str:
    return "several" if isinstance(given, list) else "one"


Inputs = Annotated[
    Annotated[InputSpec, Tag("one")] | Annotated[list[InputSpec], Tag("several")], Discriminator(_one_or_several)
]


class MappingFile(Section):
    """A mapping."""

    entities: dict[str, Inputs] = Field(description="give an entry for each entity of the contract")
    application: object = None
    about: object = None

    @field_validator("entities")
    @classmethod
    def _of_the_contract(cls, given: dict[str, Inputs]) -> dict[str, Inputs]:
        for name, inputs in given.items():
            if name not in entities():
                raise ValueError(f"no entity {name!r} in the contract; {suggest_name(name, entities())}")
            for spec in inputs if isinstance(inputs, list) else [inputs]:
                for column in spec.columns.keys() - entities()[name].columns.keys():
                    raise ValueError(
                        f"{name} has no column {column!r}; {suggest_name(column, entities()[name].columns)}"
                    )
        return given


def read_mapping(source_dir: str, path: Path | None = None, storage: Storage | None = None) -> list[Input]:
    """The inputs of a mapping file. Raises NorthstarError naming the first thing in it that is not understood."""
    address = str(path) if path else f"{source_dir.rstrip('/')}/{MAPPING_FILE}"
    try:
        with fsspec.open(address, "r", encoding="utf-8", **({} if path else storage or {})) as handle:
            text = handle.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as exc:
        raise NorthstarError(f"cannot read the mapping {address}: {getattr(exc, 'strerror', None) or exc}") from exc
    read_config(text, address, MappingFile)
    raw, inputs = read_yaml(text, address), []
    for entity, declaration in raw["entities"].items():
        specs = declaration if isinstance(declaration, list) else [declaration]
        for number, spec in enumerate(specs):
            label = str(spec.get("name") or number) if len(specs) > 1 else ""
            inputs.append(_input(entity, spec, raw.get("application"), label))
    return inputs


def _input(entity: str, spec: Spec, application: str | None, label: str) -> Input:
    options = dict(spec.get("csv") or {})
    if options.get("null_values") is not None:
        options["null_values"] = tuple(map(str, options["null_values"]))
    patterns = [str(p) for p in (spec["files"] if isinstance(spec["files"], list) else [spec["files"]])]
    return Input(entity, patterns, CsvOptions(**options), spec, application, label)


def _column(name: str, how: object, table: pa.Table) -> pa.Array:
    if not isinstance(how, dict):
        return _lookup(table, str(how))
    if "constant" in how:
        return pa.array([None if how["constant"] is None else str(how["constant"])] * table.num_rows, pa.string())
    if "expression" in how:
        value = _array(evaluate(how["expression"], table), table)
    elif "template" in how:
        value = _template(how["template"], table)
    elif "column" in how:
        value = _lookup(table, how["column"])
    else:
        raise NorthstarError(f"column {name}: say column, constant, template or expression")
    if "parse" in how:
        value = _parse_time(value, how["parse"], how.get("timezone", "UTC"))
    if "map" in how:
        value = _mapped(value, how["map"], how)
    elif "default" in how and how["default"] is not None:
        value = pc.fill_null(value, pa.scalar(how["default"]).cast(value.type))
    return value


def _mapped(value: pa.Array, mapping: Spec, how: Spec) -> pa.Array:
    keys = pa.array([str(k) for k in mapping], pa.string())
    targets = pa.array([None if v is None else str(v) for v in mapping.values()], pa.string())
    value = value.cast(pa.string())
    index = pc.index_in(value, keys)
    mapped = targets.take(index.combine_chunks() if isinstance(index, pa.ChunkedArray) else index)
    other = pa.scalar(how["default"], pa.string()) if "default" in how else value
    return pc.if_else(pc.is_valid(index), mapped, other)


def _parse_time(value: Value, pattern: str, zone: str) -> pa.Array:
    # Arrow's strptime needs two-digit days and months, and has no fractions: the distinct values are parsed in Python

    encoded = (
        value.cast(pa.string()).combine_chunks() if isinstance(value, pa.ChunkedArray) else value.cast(pa.string())
    )
    encoded = encoded.dictionary_encode()
    parsed = []
    for text in encoded.dictionary.to_pylist():
        try:
            moment = datetime.strptime(text, pattern)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
            parsed.append(moment.astimezone(ZoneInfo("UTC")).isoformat())
        except ValueError:
            # left as it is: `normalise` will say what is wrong with it
            parsed.append(text)
    return pa.array(parsed, pa.string()).take(encoded.indices)


def _template(template: str, table: pa.Table) -> pa.Array:
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        if literal:
            parts.append(pa.scalar(literal))
        if name:
            parts.append(_lookup(table, name).cast(pa.string()))
    return pc.binary_join_element_wise(*parts, "")


def _lookup(table: pa.Table, name: str) -> pa.Array:
    if name not in table.schema.names:
        raise NorthstarError(
            f"the mapped column {name!r} is not in the file; it has {', '.join(table.schema.names[:12])}"
        )
    column = table.column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _with(table: pa.Table, name: str, value: Value) -> pa.Table:
    array = _array(value, table)
    if name in table.schema.names:
        return table.set_column(table.schema.get_field_index(name), name, array)
    return table.append_column(name, array)


def _array(value: Value, table: pa.Table) -> pa.Array:
    return pa.array([value.as_py()] * table.num_rows, value.type) if isinstance(value, pa.Scalar) else value


def _condition(expression: str, table: pa.Table) -> pa.Array:
    return pc.fill_null(_array(evaluate(expression, table), table), False)


def evaluate(expression: object, table: pa.Table) -> Value:
    """The value of an expression over a table's columns: an Arrow array or scalar.

    Raises NorthstarError for syntax that is not part of the language.
    """
    try:
        tree = ast.parse(str(expression), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        why = getattr(exc, "msg", None) or "nested too deep, or with a null byte"
        raise NorthstarError(f"the expression {_shown(expression)} is not understood: {why}") from exc
    return _Evaluator(table, str(expression)).visit(tree)


def _shown(expression: object) -> str:
    return repr(str(expression)[:200])


class _Evaluator(ast.NodeVisitor):
    def __init__(self, table: pa.Table, text: str):
        self.table, self.text = table, text

    def generic_visit(self, node: ast.AST) -> NoReturn:
        raise NorthstarError(
            f"the expression {_shown(self.text)} uses {type(node).__name__}, which is not part of the language"
        )

    def visit_Constant(self, node: ast.Constant) -> Value:
        value = node.value
        return pa.scalar(Decimal(str(value))).cast(DECIMAL) if isinstance(value, float) else pa.scalar(value)

    def visit_Name(self, node: ast.Name) -> Value:
        return _lookup(self.table, node.id)

    def visit_BoolOp(self, node: ast.BoolOp) -> Value:
        combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        values = [self.visit(v) for v in node.values]
        result = values[0]
        for value in values[1:]:
            result = combine(result, value)
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Value:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return pc.invert(value)
        if isinstance(node.op, ast.USub):
            return pc.negate(value)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> Value:
        operations = {ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide}
        if type(node.op) not in operations:
            return self.generic_visit(node.op)
        left, right = self.visit(node.left), self.visit(node.right)
        if pa.types.is_decimal(left.type) or pa.types.is_decimal(right.type):
            result = operations[type(node.op)](left.cast(WIDE), right.cast(WIDE))
            return pc.round(result, 9, "half_towards_infinity").cast(DECIMAL)
        return operations[type(node.op)](left, right)

    def visit_IfExp(self, node: ast.IfExp) -> Value:
        return pc.if_else(pc.fill_null(self.visit(node.test), False), self.visit(node.body), self.visit(node.orelse))

    def visit_Compare(self, node: ast.Compare) -> Value:
        if len(node.ops) != 1:
            raise NorthstarError(f"the expression {_shown(self.text)} chains comparisons; join them with `and`")
        operator, left, other = node.ops[0], self.visit(node.left), node.comparators[0]
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(other, ast.List | ast.Tuple):
                raise NorthstarError(f"the expression {_shown(self.text)}: `in` wants a list of constants")
            is_in_list = pc.is_in(left, pa.array([ast.literal_eval(e) for e in other.elts]).cast(left.type))
            return is_in_list if isinstance(operator, ast.In) else pc.invert(is_in_list)
        if isinstance(operator, ast.Is | ast.IsNot):
            return pc.is_null(left) if isinstance(operator, ast.Is) else pc.is_valid(left)
        compare = {ast.Eq: pc.equal, ast.NotEq: pc.not_equal, ast.Lt: pc.less, ast.LtE: pc.less_equal,
                   ast.Gt: pc.greater, ast.GtE: pc.greater_equal}[type(operator)]  # fmt: skip
        return compare(left, self.visit(other))

    def visit_Call(self, node: ast.Call) -> Value:
        name = getattr(node.func, "id", None)
        if name not in FUNCTIONS or node.keywords:
            raise NorthstarError(
                f"the expression {_shown(self.text)}: no function {name}; there are {', '.join(sorted(FUNCTIONS))}"
            )
        return FUNCTIONS[name](*[self.visit(a) for a in node.args])


# Any: a constant as Python has it, of whatever type the function that takes it wants
def _constant(value: Value) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _to_decimal(value: Value) -> Value:
    text = value.cast(pa.string())
    valid = pc.fill_null(pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)$"), False)
    wide = pc.if_else(valid, text, pa.scalar(None, pa.string())).cast(pa.decimal256(60, 24))
    return pc.round(wide, 9, "half_towards_infinity").cast(DECIMAL)


def _add_days(moment: Value, days: Value) -> Value:
    span = pc.multiply(days.cast(pa.int64()), pa.scalar(86_400_000_000)).cast(pa.duration("us"))
    return pc.add(moment, span)


def _time(value: Value, pattern: Value | None = None) -> Value:
    if pattern is not None:
        value = _parse_time(value, _constant(pattern), "UTC")
    return value.cast(pa.timestamp("us", "UTC"))


def _hash(*values: Value) -> pa.Array:
    joined = pc.binary_join_element_wise(*[v.cast(pa.string()) for v in values], "\x1f").dictionary_encode()
    digests = [
        None if t is None else hashlib.sha256(t.encode()).hexdigest()[:32] for t in joined.dictionary.to_pylist()
    ]
    return pa.array(digests, pa.string()).take(joined.indices)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "decimal": _to_decimal,
    "int": lambda v: v.cast(pa.int64()),
    "text": lambda v: v.cast(pa.string()),
    "time": _time,
    "add_days": _add_days,
    "round": lambda v, digits=None: pc.round(
        v, _constant(digits) if digits is not None else 0, "half_towards_infinity"
    ),
    "abs": pc.abs,
    "lower": pc.utf8_lower,
    "upper": pc.utf8_upper,
    "trim": pc.utf8_trim_whitespace,
    "length": pc.utf8_length,
    "starts_with": lambda v, p: pc.starts_with(v, _constant(p)),
    "ends_with": lambda v, p: pc.ends_with(v, _constant(p)),
    "contains": lambda v, p: pc.match_substring(v, _constant(p)),
    "replace": lambda v, a, b: pc.replace_substring(v, _constant(a), _constant(b)),
    "substring": lambda v, start, stop=None: pc.utf8_slice_codeunits(
        v, _constant(start), None if stop is None else _constant(stop)
    ),
    "concat": lambda *values: pc.binary_join_element_wise(*[v.cast(pa.string()) for v in values], ""),
    "coalesce": pc.coalesce,
    "hash": _hash,
}
