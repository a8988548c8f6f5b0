"""Configuration files that people write: YAML of limited size, checked against a model, with one form of error message."""

import csv
import difflib
import io
import typing
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from northstar.base.errors import NorthstarError

# bounds of characters, levels and values: a few hundred bytes of YAML can expand to more than a machine's memory
MAX_CHARACTERS, MAX_LEVELS, MAX_VALUES = 1 << 20, 40, 100_000
Model = typing.TypeVar("Model", bound=BaseModel)
# the loader for files of the release; it is seven times as fast where PyYAML was built with libyaml
OWN_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Section(BaseModel):
    """A part of a configuration file. Other keys than its fields are errors; a field's description says what to write, for error messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ConfigError(NorthstarError):
    """A configuration file that cannot be used. where: the file; line: the line, from 1, or None; key: the place in it, such as `sources.crm.system`."""

    def __init__(self, where: str, line: int | None, key: str, problem: str):
        place = ", ".join(part for part in (where, f"line {line}" if line else "", key) if part)
        super().__init__(f"{place}: {problem}")
        self.where, self.line, self.key = where, line, key


class Misplaced(ValueError):
    """What a validator says of a place below the value that it checks. place: the keys that lead there."""

    def __init__(self, problem: str, *place: int | str):
        super().__init__(problem)
        self.place = place


class _ValidationDetail(typing.TypedDict):
    """An error of pydantic: the fields of it that are read here."""

    type: str
    loc: tuple[int | str, ...]
    msg: str
    ctx: typing.NotRequired[dict[str, object]]


class _Loader(yaml.SafeLoader):
    """A loader for YAML's plain types within the bounds. A value counts again for each alias, because readers of the result meet it each time."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0
        # {id of a node: how many values it expands to}
        self._values: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_LEVELS:
            raise yaml.YAMLError(f"nested deeper than {MAX_LEVELS} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if id(node) not in self._values:
            if is_alias:
                raise yaml.YAMLError("a value that contains itself")
            within = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = (part for item in within for part in (item if isinstance(item, tuple) else (item,)))
            self._values[id(node)] = 1 + sum(self._values[id(part)] for part in parts)
        if self._values[id(node)] > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES:,} values")
        return node


class _TextLoader(_Loader):
    """A loader for which every value is the text that is written there, but for null and nothing at all: NO is a country, 01 an id, 1.10 a version."""

    # YAML's own rules for plain values are left out, but for null and merges (<<)
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern) for tag, pattern in rules if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises NorthstarError when it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise NorthstarError(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}") from exc


# Any: YAML holds what its author wrote, and the caller checks it
def read_yaml(text: str, where: str) -> typing.Any:
    """The value of a YAML text; None for an empty one.

    where: the text's name for messages. Raises NorthstarError for text that is no YAML, and for text beyond the bounds.
    """
    return _parse(text, where)[0]


# Any: as in read_yaml
def read_texts(text: str, where: str) -> typing.Any:
    """`read_yaml`, with every value but null as the text that is written."""
    return _parse(text, where, _TextLoader)[0]


def read_config(text: str, where: str, model: type[Model], as_texts: bool = False) -> Model:
    """A configuration file's text as its model.

    where: the file's name for messages. as_texts: values are the texts that are written, whatever YAML makes of yes, NO or 01. Raises NorthstarError for text that is no YAML; ConfigError with line and key for the first thing that
    the model does not allow.
    """
    value, node = _parse(text, where, _TextLoader if as_texts else _Loader)
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as exc:
        errors = [
            (_path_to(node, _place_of(error)), error) for error in exc.errors(include_url=False, include_input=False)
        ]
        # of several alternatives of a model, the one that the file matches furthest is the one that was meant
        steps, error = max(errors, key=lambda e: len(e[0]))
        error_node = steps[-1][1] if steps else node
        line = error_node.start_mark.line + 1 if error_node is not None else None
        raise ConfigError(where, line, ".".join(part for part, _ in steps), _describe_problem(model, error)) from exc


def read_config_file(path: Path, model: type[Model]) -> Model:
    """`read_config` of a file; the model's defaults if the file does not exist."""
    return read_config(read_text(path), str(path), model) if path.exists() else model()


def read_own_config(path: Path, model: type[Model]) -> Model:
    """`read_config` of a file of the release."""
    try:
        return model.model_validate(read_own_yaml(path))
    except (yaml.YAMLError, ValidationError):
        # read again by the loader that gives lines in its errors
        return read_config_file(path, model)


def read_rows(text: str, where: str, model: type[Model]) -> list[tuple[int, Model]]:
    """The rows of a CSV file that people write, each as (its line, the model). Columns that are not written, and empty values, are the model's defaults.

    where: the file's name for messages. Raises NorthstarError for text that is no CSV; ConfigError with line and column for the first thing that the
    model does not allow.
    """
    if len(text) > MAX_CHARACTERS:
        raise NorthstarError(f"{where} is longer than {MAX_CHARACTERS:,} characters")
    # spreadsheets begin their files with a mark
    reader, rows, line = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True), [], 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, where, model)
        line = reader.line_num + 1
        for values in reader:
            if any(value.strip() for value in values):
                rows.append((line, _read_row(header, values, where, line, model)))
            line = reader.line_num + 1
    except csv.Error as exc:
        raise ConfigError(where, line, "", f"not valid CSV ({exc})") from exc
    return rows


def _check_header(header: list[str], where: str, model: type[BaseModel]) -> None:
    columns = model.model_fields
    for name in header:
        if name not in columns:
            raise ConfigError(where, 1, name, f"unknown column; {suggest_name(name, columns)}")
        if header.count(name) > 1:
            raise ConfigError(where, 1, name, "the column is there twice")
    for name, field in columns.items():
        if field.is_required() and name not in header:
            raise ConfigError(where, 1, "", f"the column `{name}` is missing: {field.description}")


def _read_row(header: list[str], values: list[str], where: str, line: int, model: type[Model]) -> Model:
    if len(values) != len(header):
        raise ConfigError(where, line, "", f"{len(values)} values for {len(header)} columns")
    row = {name: value.strip() for name, value in zip(header, values, strict=True)}
    try:
        return model.model_validate({name: value for name, value in row.items() if value})
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        column = ".".join(map(str, error["loc"]))
        written = row.get(column)
        problem = _describe_problem(model, error)
        raise ConfigError(where, line, column, f"{written!r}: {problem}" if written else problem) from exc


def suggest_name(name: str, known: typing.Iterable[str]) -> str:
    """A phrase that lists the known names, first the one that was probably meant: `did you mean 'system'? known are ...`."""
    known = sorted(known)
    nearest = nearest_name(name, known)
    return (f"did you mean {nearest!r}? " if nearest else "") + f"known are {', '.join(known)}"


def nearest_name(name: str, known: typing.Iterable[str]) -> str | None:
    """The known name that was probably meant, or None."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)


# Any: as in read_yaml
def read_own_yaml(path: Path) -> typing.Any:
    """The value of a YAML file of the release, which needs no bounds. Raises yaml.YAMLError when it is no YAML."""
    return yaml.load(path.read_text(), Loader=OWN_LOADER)


# Any: as in read_yaml
def _parse(text: str, where: str, kind: type["_Loader"] = _Loader) -> tuple[typing.Any, yaml.Node | None]:
    try:
        if len(text) > MAX_CHARACTERS:
            raise yaml.YAMLError(f"longer than {MAX_CHARACTERS:,} characters")
        loader = kind(text)
        try:
            node = loader.get_single_node()
            return (None if node is None else loader.construct_document(node)), node
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise NorthstarError(
            f"{where} is not valid YAML ({' '.join(str(exc).split())[:160]}); correct or remove it"
        ) from exc


def _place_of(error: _ValidationDetail) -> tuple[int | str, ...]:
    cause = error.get("ctx", {}).get("error")
    return error["loc"] + (cause.place if isinstance(cause, Misplaced) else ())


def _path_to(node: yaml.Node | None, place: tuple[int | str, ...]) -> list[tuple[str, yaml.Node]]:
    """The path to a place: each part with its node. Parts that are not in the file, such as the names of alternatives, are left out."""
    steps = []
    for part in place:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is not None:
                steps.append((str(part), entry[0]))
                node = entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            steps.append((str(part), node))
    return steps


def _models_in(kind: object) -> list[type[BaseModel]]:
    """The models that a field's type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in typing.get_args(kind) for model in _models_in(part)]


def _find_field(models: list[type[BaseModel]], name: int | str) -> FieldInfo | None:
    for model in models:
        for field_name, field in model.model_fields.items():
            if name in (field_name, field.alias):
                return field
    return None


def _resolve(model: type[BaseModel], place: tuple[int | str, ...]) -> tuple[list[type[BaseModel]], FieldInfo | None]:
    """The models that the last part of a place belongs to, and the last field on the path to it."""
    models, last = [model], None
    for part in place[:-1]:
        field = _find_field(models, part)
        if field is not None:
            models, last = _models_in(field.annotation) or models, field
    return models, (_find_field(models, place[-1]) if place else None) or last


# what to write where a value is of another type, by the beginning of pydantic's name for the mistake
ADVICE_BY_TYPE = {
    "model": "give names with values",
    "dict": "give names with values",
    "list": "give a list",
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "string": "give text",
    "date": "give a date, such as 2026-04-01",
}


def _describe_problem(model: type[BaseModel], error: _ValidationDetail) -> str:
    models, field = _resolve(model, error["loc"])
    if error["type"] == "extra_forbidden":
        names = [f.alias or name for m in models for name, f in m.model_fields.items()]
        return f"unknown key; {suggest_name(str(error['loc'][-1]), dict.fromkeys(names))}"
    if error["type"] == "value_error":
        # raised by a validator of ours
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"`{error['loc'][-1]}` is missing" + (
            f": {field.description}" if field is not None and field.description else ""
        )
    if field is not None and field.description:
        return field.description
    return next(
        (advice for kind, advice in ADVICE_BY_TYPE.items() if error["type"].startswith(kind)),
        error["msg"][:1].lower() + error["msg"][1:],
    )
