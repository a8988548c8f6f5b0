"""Mapping: a small YAML file that lands a foreign layout without code.

    # shop.yml, given with --mapping, or as `mapping:` of a declared source
    application: shop                      # the default application of every entity (optional)
    entities:
      accounts:                            # an entity of the contract: one input, or a list of inputs. The short form:
        files: "*.csv.gz"                  # a glob below the source directory, or a list of globs
        csv: {delimiter: ";", encoding: latin-1, null_values: ["", "?"], decimal: ",", thousands: "."}
        keep: oldest by created_at         # which row of a key stays (default: the one with the newest cursor)
        columns:                           # contract column: how to get it
          account_id: Customer ID                                 # rename
          account_type: {constant: customer}
          country: {column: Country, map: {United Kingdom: GB, Norway: NO}, default: null}
          created_at: {column: First seen, parse: ["%d/%m/%Y %H:%M", "%d/%m/%Y"], timezone: Europe/London}
          updated_at: {sql: "utc(strptime(\"Changed\", '%d.%m.%Y'), 'Europe/London')"}
      charges:                             # or SQL, as DuckDB has it, over one input ...
        files: "*.csv.gz"
        each: file                         # a select that groups or orders does so in each file (default: in all of them together)
        select: |
          select InvoiceNo as charge_id, first("Customer ID") as account_id, sum(number(Price) * whole(Count)) * 100 as amount,
            'GBP' as currency, 'succeeded' as status, min(utc(Date, 'Europe/London')) as created_at, min(utc(Date, 'Europe/London')) as updated_at
          from input where not starts_with(InvoiceNo, 'C') group by InvoiceNo
      events:                              # ... or over several
        inputs:
          visits: {files: "access.log*", lines: {pattern: '^(?P<host>\\S+) \\S+ \\S+ \\[(?P<at>[^]]+)\\] "(?P<request>[^"]*)"'}}
          hosts: {files: hosts.xlsx, xlsx: {sheet: Hosts}}
        select: |
          select v._file || v._line as event_id, ..., v._file, v._line from visits as v left join hosts as h using (host)

A select has DuckDB's functions, and number(), whole(), utc(), quotient() and minor_units(amount, currency), which refuse what they cannot
read (northstar.extract.landing.engine). `optional: [Country]` of an input names columns that a file may lack: there they are null.
csv, jsonl, xml, xlsx and lines give texts. Every input has `_file`, `_line` (the number of its row) and `_loaded_at`. The first input is
the one whose rows become the entity's; where every row becomes one of its own, files are read one by one, and else all together. A value
that cannot be read puts its row into quarantine, with what is made of the row's group; the others land. Mappings with `where`, `derive`,
`group_by`, `aggregate`, `having` and `expression` are older than SQL and go on to work (northstar.extract.landing.short_form).
"""

import codecs
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import fsspec
import yaml
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from northstar.base.config_files import MAX_CHARACTERS, Misplaced, Section, read_config, read_texts, suggest_name
from northstar.base.errors import NorthstarError
from northstar.contract import Entity, entities
from northstar.extract.landing import engine
from northstar.extract.landing.batch import NEWEST_CURSOR, Keep
from northstar.extract.landing.short_form import AGGREGATES, Spec, select_of
from northstar.extract.sources.files import CsvOptions, Storage
from northstar.extract.sources.foreign import Format, Kind, check_pattern

MAPPING_FILE = "_mapping.yml"
# the parts of a contract column that decide how its values are read
READ = ("type", "required", "values", "min", "max", "pii")
# those that younger contracts have: where a column has none of them, its entity is read as before
READ_WHERE_SET = ("above", "by", "ranges", "whole", "code", "exact")
# the name of the input of a mapping that has one
INPUT = "input"


def contract_decides(entity: Entity) -> list[object]:
    """The part of the contract that decides which rows an entity's values become."""
    columns = [
        (
            c.name,
            *(getattr(c, name) for name in READ),
            *(value for name in READ_WHERE_SET if (value := getattr(c, name))),
        )
        for c in entity.columns.values()
    ]
    return [entity.key, entity.cursor, columns]


@dataclass(frozen=True)
class Part:
    """Files that a select reads under one name."""

    name: str
    patterns: tuple[str, ...]
    form: Format = field(default_factory=Format)
    # columns that a file may lack; they are null in it
    optional: tuple[str, ...] = ()

    @property
    def any_ending(self) -> bool:
        """Whether files count whose endings say no format, since the patterns name them."""
        return self.form.kind is not None or all(p.rpartition("/")[2].strip("*") for p in self.patterns)


@dataclass(frozen=True)
class Input:
    """Files that feed an entity, and how their rows become the contract's. `label` tells several inputs apart.

    parts: the first is the one whose rows become the entity's. select: None for files in the contract's own layout. per_file: whether the
    select is about one file of the first part at a time, whatever it does.
    """

    entity: str
    parts: tuple[Part, ...]
    select: str | None = None
    per_file: bool = False
    keep: Keep = NEWEST_CURSOR
    label: str = ""
    # the application of rows whose select does not say it
    application: str | None = None
    # what decides which rows the files become, besides the contract
    decides: str = ""
    # the SQL that the short form has for single columns: {column: expression}
    column_sql: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A digest of what decides which rows a file becomes: the mapping with the functions it calls, and the entity's columns in the contract."""
        decides = [self.decides, *contract_decides(entities()[self.entity])]
        if self.select is not None:
            decides.append(engine.READING)
        return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()[:16]


def contract_inputs() -> list[Input]:
    """The contract's own layout (docs/contract.md): a folder for each entity, columns as the contract names them."""
    return [Input(name, (Part(INPUT, (f"{name}/**",)),)) for name in entities()]


class CsvSpec(Section):
    """`csv:` of an input."""

    delimiter: str = Field(",", min_length=1, max_length=1, description="give one character, such as ';'")
    encoding: str = "utf-8"
    null_values: list[str] | None = Field(None, description="give a list")
    quote: str | None = Field('"', max_length=1, description="give one character, or null for none")
    skip_lines: int = Field(0, ge=0, description="give a number of lines")
    header: bool = Field(True, description="give true or false; without a header `names` names the columns")
    names: list[str] | None = Field(None, min_length=1, description="give a list of column names")
    decimal: str = Field(".", min_length=1, max_length=1, description="give one character, such as ','")
    thousands: str = Field("", max_length=1, description="give one character, such as '.'")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str) -> str:
        if not delimiter.isascii() or delimiter in '\r\n"\0':
            raise ValueError("a delimiter is one character, such as ';'")
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            codecs.lookup(encoding)
        except (LookupError, TypeError, ValueError) as exc:
            raise ValueError(f"unknown encoding {encoding[:40]!r}") from exc
        return encoding

    @model_validator(mode="after")
    def _names_for_a_header(self) -> "CsvSpec":
        if not self.header and not self.names:
            raise ValueError("without a header, give the columns' `names`")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands are different characters")
        return self

    @property
    def options(self) -> CsvOptions:
        """The options of the reader."""
        blanks = ("",) if self.null_values is None else tuple(self.null_values)
        # a header that `names` replaces is skipped
        skipped = self.skip_lines + (1 if self.names and self.header else 0)
        return CsvOptions(
            self.delimiter,
            self.encoding,
            blanks,
            self.quote,
            skipped,
            tuple(self.names or ()),
            self.decimal,
            self.thousands,
        )


class LinesSpec(Section):
    """`lines:` of an input: plain lines that a regular expression (RE2) takes apart."""

    pattern: str = Field(description="give a regular expression with a named group (?P<name>...) for each column")
    skip_lines: int = Field(0, ge=0, description="give a number of lines")

    @field_validator("pattern")
    @classmethod
    def _known_pattern(cls, pattern: str) -> str:
        check_pattern(pattern)
        return pattern


class FixedSpec(Section):
    """`fixed:` of an input: columns at fixed places."""

    columns: dict[str, tuple[int, int]] = Field(
        min_length=1, description="give {column: [first, last]}, in characters from 1"
    )
    skip_lines: int = Field(0, ge=0, description="give a number of lines")

    @field_validator("columns")
    @classmethod
    def _forward(cls, columns: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        for name, (first, last) in columns.items():
            if not 1 <= first <= last:
                raise ValueError(f"{name} is [{first}, {last}]; give its first and its last character, from 1")
        return columns


class BlanksSpec(Section):
    """`blanks:` of an input: values with runs of blanks between them."""

    names: list[str] | None = Field(None, min_length=1, description="give a list of column names")
    skip_lines: int = Field(0, ge=0, description="give a number of lines")


class XmlSpec(Section):
    """`xml:` of an input."""

    element: str = Field(description="name the element that is a row")


class XlsxSpec(Section):
    """`xlsx:` of an input."""

    sheet: str | None = None
    names: list[str] | None = Field(None, min_length=1, description="give a list of column names")
    skip_lines: int = Field(0, ge=0, description="give a number of rows")


class FormatSpec(Section):
    """How the files of an input are written."""

    csv: CsvSpec | None = Field(None, description="give names with values")
    lines: LinesSpec | None = Field(None, description="give names with values")
    fixed: FixedSpec | None = Field(None, description="give names with values")
    blanks: BlanksSpec | None = Field(None, description="give names with values")
    xml: XmlSpec | None = Field(None, description="give names with values")
    xlsx: XlsxSpec | None = Field(None, description="give names with values")
    format: Literal["csv", "jsonl", "parquet"] | None = Field(None, description="say csv, jsonl or parquet")
    optional: list[str] | None = Field(None, description="give a list of column names")

    def form_of(self, patterns: tuple[str, ...]) -> Format:
        """The format of the files that these patterns name."""
        csv = self.csv.options if self.csv else CsvOptions()
        if self.lines:
            return Format("lines", csv, pattern=self.lines.pattern, skip_lines=self.lines.skip_lines)
        if self.fixed:
            widths = tuple((name, first, last) for name, (first, last) in self.fixed.columns.items())
            return Format("fixed", csv, widths=widths, skip_lines=self.fixed.skip_lines)
        if self.blanks:
            return Format("blanks", csv, columns=tuple(self.blanks.names or ()), skip_lines=self.blanks.skip_lines)
        if self.xml:
            return Format("xml", csv, element=self.xml.element)
        if self.xlsx:
            names = tuple(self.xlsx.names or ())
            return Format("xlsx", csv, columns=names, sheet=self.xlsx.sheet, skip_lines=self.xlsx.skip_lines)
        kind: Kind | None = self.format or ("csv" if self.csv else None)
        return Format(
            kind if kind != "csv" or not all(p.lower().endswith((".csv", ".csv.gz", "*")) for p in patterns) else None,
            csv,
        )


class PartSpec(FormatSpec):
    """An input of a select: files, and how they are written."""

    files: str | list[str] = Field(description="give a glob below the source directory, or a list of them")


class ColumnSpec(Section):
    """How a column is made, where it is not only renamed."""

    column: str | None = None
    constant: str | None = None
    sql: str | None = None
    expression: str | None = None
    template: str | None = None
    parse: str | list[str] | None = None
    timezone: str | None = None
    map: dict[str, str | None] | None = Field(None, description="give names with values")
    default: str | None = None

    @field_validator("parse")
    @classmethod
    def _known_patterns(cls, parse: str | list[str] | None) -> str | list[str] | None:
        for pattern in [parse] if isinstance(parse, str) else parse or []:
            if "%" not in pattern:
                raise ValueError(
                    f"{pattern!r} is no pattern of a time; write it with percent signs, such as %d.%m.%Y %H:%M"
                )
        return parse


def _how_or_name(how: object) -> str:
    return "how" if isinstance(how, dict | ColumnSpec) else "name"


class InputSpec(FormatSpec):
    """An input of an entity."""

    files: str | list[str] | None = Field(None, description="give a glob below the source directory, or a list of them")
    columns: (
        dict[
            str, Annotated[Annotated[ColumnSpec, Tag("how")] | Annotated[str, Tag("name")], Discriminator(_how_or_name)]
        ]
        | None
    ) = Field(None, description="give names with values")
    inputs: dict[str, PartSpec] | None = Field(None, min_length=1, description="give {name: {files: ...}}")
    select: str | None = None
    each: Literal["file"] | None = Field(None, description="`each` can only be file")
    name: str | None = None
    where: str | None = None
    derive: dict[str, str] | None = Field(None, description="give names with values")
    group_by: list[str] | None = Field(None, description="give a list")
    aggregate: dict[str, str] | None = Field(None, description="give names with values")
    having: str | None = None
    keep: str | None = Field(None, description="say `oldest by COLUMN` or `newest by COLUMN`")

    @field_validator("aggregate")
    @classmethod
    def _known_aggregate(cls, aggregates: dict[str, str] | None) -> dict[str, str] | None:
        for text in (aggregates or {}).values():
            if text.partition(" ")[0] not in AGGREGATES:
                raise ValueError(f"unknown aggregate {text!r}; use one of {', '.join(AGGREGATES)}")
        return aggregates

    @field_validator("keep")
    @classmethod
    def _known_keep(cls, keep: str | None) -> str | None:
        if (
            keep is not None
            and keep != "first"
            and (keep.split()[:2] not in (["oldest", "by"], ["newest", "by"]) or len(keep.split()) != 3)
        ):
            raise ValueError("`keep` is `oldest by COLUMN` or `newest by COLUMN`")
        return keep

    @model_validator(mode="after")
    def _one_form(self) -> "InputSpec":
        if self.files is None and self.inputs is None:
            raise ValueError("`files` is missing: give a glob below the source directory, or a list of them")
        if self.inputs is not None and (self.files is not None or self.select is None):
            raise ValueError("`inputs` goes with `select`, in place of `files`")
        if (self.columns is None) == (self.select is None):
            raise ValueError("say `columns` or `select`, and one of them")
        older = [n for n in ("where", "derive", "group_by", "aggregate", "having") if getattr(self, n) is not None]
        if self.select is not None and older:
            raise ValueError(f"`{older[0]}` does not go with `select`; write it in SQL")
        if self.aggregate is not None and self.group_by is None:
            raise ValueError("`aggregate` wants `group_by`")
        return self


def _one_or_several(inputs: object) -> str:
    return "several" if isinstance(inputs, list) else "one"


Inputs = Annotated[
    Annotated[InputSpec, Tag("one")] | Annotated[list[InputSpec], Tag("several")], Discriminator(_one_or_several)
]


class MappingFile(Section):
    """A mapping."""

    entities: dict[str, Inputs] = Field(description="give an entry for each entity of the contract")
    application: str | None = None
    about: object = None

    @field_validator("entities")
    @classmethod
    def _of_the_contract(cls, given: dict[str, Inputs]) -> dict[str, Inputs]:
        for name, inputs in given.items():
            if name not in entities():
                raise Misplaced(f"no entity {name!r} in the contract; {suggest_name(name, entities())}", name)
            known = entities()[name].columns
            for number, spec in enumerate(inputs if isinstance(inputs, list) else [inputs]):
                place = (name, number) if isinstance(inputs, list) else (name,)
                for column in spec.columns or {}:
                    if column not in known:
                        problem = f"{name} has no column {column!r}; {suggest_name(column, known)}"
                        raise Misplaced(problem, *place, "columns", column)
                kept_by = spec.keep.split()[2] if spec.keep and spec.keep != "first" else None
                if kept_by is not None and kept_by not in known:
                    problem = f"{name} has no column {kept_by!r}; {suggest_name(kept_by, known)}"
                    raise Misplaced(problem, *place, "keep")
        return given


def read_mapping(source_dir: str, path: Path | None = None, storage: Storage | None = None) -> list[Input]:
    """The inputs of a mapping file. Raises NorthstarError naming the first thing in it that is not understood."""
    address = str(path) if path else f"{source_dir.rstrip('/')}/{MAPPING_FILE}"
    text = _text(address, {} if path else storage or {})
    mapping, inputs = read_config(text, address, MappingFile, as_texts=True), []
    for entity, declared in mapping.entities.items():
        specs = declared if isinstance(declared, list) else [declared]
        for number, spec in enumerate(specs):
            label = spec.name or str(number) if len(specs) > 1 else ""
            inputs.append(_input(entities()[entity], spec, mapping.application, label))
    return inputs


def converted(path: Path) -> str:
    """A mapping file with what is older than SQL written as SQL. Raises NorthstarError for what is not understood."""
    text = _text(str(path), {})
    mapping = read_config(text, str(path), MappingFile, as_texts=True)
    written = read_texts(text, str(path))
    for entity, declared in mapping.entities.items():
        specs = declared if isinstance(declared, list) else [declared]
        raw = written["entities"][entity]
        for spec, raw_spec in zip(specs, raw if isinstance(raw, list) else [raw], strict=True):
            if not _is_old(spec):
                continue
            if spec.group_by:
                raw_spec["each"] = "file"
            raw_spec["select"] = select_of(_plain(spec), entities()[entity], mapping.application) + "\n"
            for key in ("columns", "where", "derive", "group_by", "aggregate", "having"):
                raw_spec.pop(key, None)
    return yaml.dump(written, Dumper=_Dumper, sort_keys=False, width=150, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, without aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _written_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _written_text)


def _text(address: str, storage: Storage) -> str:
    try:
        with fsspec.open(address, "r", encoding="utf-8", **storage) as handle:
            text: str = handle.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as exc:
        raise NorthstarError(f"cannot read the mapping {address}: {getattr(exc, 'strerror', None) or exc}") from exc
    return text


def _is_old(spec: InputSpec) -> bool:
    return bool(spec.where or spec.derive or spec.group_by or spec.having) or any(
        isinstance(how, ColumnSpec) and how.expression is not None for how in (spec.columns or {}).values()
    )


def _plain(spec: InputSpec) -> Spec:
    """The input as it is written, without what is not."""
    return spec.model_dump(exclude_unset=True)


def _input(entity: Entity, spec: InputSpec, application: str | None, label: str) -> Input:
    if spec.inputs is not None:
        parts = tuple(_part(name, part, part.files) for name, part in spec.inputs.items())
    else:
        parts = (_part(INPUT, spec, spec.files or []),)
    select = spec.select or select_of(_plain(spec), entity, application)
    decides = json.dumps([_plain(spec), application], default=str)
    column_sql = {c: how.sql for c, how in (spec.columns or {}).items() if isinstance(how, ColumnSpec) and how.sql}
    return Input(
        entity.name,
        parts,
        select,
        bool(spec.each or spec.group_by),
        _keep(entity, spec.keep),
        label,
        application,
        decides,
        column_sql,
    )


def _part(name: str, form: FormatSpec, files: str | list[str]) -> Part:
    patterns = (files,) if isinstance(files, str) else tuple(files)
    return Part(name, patterns, form.form_of(patterns), tuple(form.optional or ()))


def _keep(entity: Entity, keep: str | None) -> Keep:
    if keep is None:
        return NEWEST_CURSOR
    # `first` was the form before the order of delivery stopped to matter
    direction, _, column = ("oldest", "by", entity.cursor) if keep == "first" else keep.split()
    return Keep(direction == "oldest", column)
