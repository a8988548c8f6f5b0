"""The sources that a home declares, in its `sources.yml` (northstar.base.settings, `config`) or the file that NORTHSTAR_SOURCES names.

production: true                # a production home, which accepts no play money from any source (default: false)
sources:
  billing:
    system: stripe              # a module of northstar.extract.sources
    connection: stripe_main     # an Airflow connection, which has the address and the secret
    entities: [accounts, charges]   # what to read (default: all that the system has)
    schedule: hourly            # read in all runs (hourly, the default) or in nightly runs only (nightly)
    required: true              # a run stops while this source is down (default: false: it goes on without the source, marked late)
    application: suite          # the application of rows from a system without applications
    per_second: 5               # the most requests to its API in a second (default: what the system allows)
    options: {test_mode: false} # the system's own options, which its module describes
"""

import hashlib
import importlib
import json
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, cast, runtime_checkable

import pyarrow as pa
from psycopg import sql
from pydantic import Field, field_validator, model_validator

from northstar.base.config_files import ConfigError, Section, read_config_file, suggest_name
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.connections.find import Connection, find_connection
from northstar.contract import entities
from northstar.extract import sources
from northstar.warehouse import db
from northstar.warehouse.rows import Row

if TYPE_CHECKING:
    # for the type checker alone: files.py imports this module
    from northstar.extract.sources.files import FileStore

# the source that is a run's directory
FILES = "files"
HELPERS = ("archives", "declared", "foreign", "http", "packed")
# a row as a connector gives it: values by contract column. They may be of any type, since landing checks them against the contract
ContractRow = Mapping[str, object]
# a connector's state: JSON that says where its next reading starts. Nobody but the connector interprets it
State = dict[str, Any]
# figures to reconcile: {measure: (the system's own figure, SQL over the landed rows)}
Totals = Mapping[str, tuple[object, str]]
# a function that gives a source's landed rows: (entity, column, values) -> the rows that have one of the values in the column
FindLanded = Callable[[str, str, list[str]], list[Row]]
# a connector's options as people wrote them; each connector checks its own when it is opened
Options = dict[str, Any]


class SourceSpec(Section):
    """An entry of `sources:`."""

    system: str = Field(description="name the system that it is, such as stripe")
    connection: str | None = Field(None, description="name an Airflow connection")
    entities: list[str] | None = Field(None, description="give a list of the contract's entities")
    schedule: Literal["hourly", "nightly"] = Field("hourly", description="hourly or nightly")
    required: bool = Field(False, strict=True, description="give true or false")
    application: str | None = Field(None, description="name an application")
    per_second: float | None = Field(None, strict=True, gt=0, description="give a number above 0")
    options: Options = Field({}, description="give names with values")

    @field_validator("options", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("system")
    @classmethod
    def _check_system(cls, name: str) -> str:
        if name not in systems():
            raise ValueError(f"unknown system {name!r}; {suggest_name(name, systems())}")
        return name

    @model_validator(mode="after")
    def _check_entities(self) -> Self:
        connector_entities = _module(self.system).ENTITIES
        for entity in self.entities or ():
            if entity not in entities() or (connector_entities and entity not in connector_entities):
                raise ValueError(
                    f"{self.system} has no entity {entity!r}; {suggest_name(entity, connector_entities or entities())}"
                )
        return self


class SourcesFile(Section):
    """sources.yml."""

    production: bool = Field(False, strict=True, description="give true or false")
    sources: dict[str, SourceSpec] = Field({}, description="give an entry for each source, by its name")

    @field_validator("sources")
    @classmethod
    def _check_names(cls, sources: dict[str, SourceSpec]) -> dict[str, SourceSpec]:
        for name in sources:
            if name == FILES or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(
                    f"{name!r} is not a valid name for a source: use letters, digits, - and _, and not `files`"
                )
        return sources


@dataclass(frozen=True)
class Source:
    """One declared source."""

    name: str
    system: str
    connection: str | None = None
    entities: tuple[str, ...] = ()
    schedule: str = "hourly"
    required: bool = False
    application: str | None = None
    options: Options = field(default_factory=dict)
    per_second: float | None = None
    is_production: bool = False

    def is_due(self, mode: str) -> bool:
        """Whether a run of this mode reads the source. A nightly run reads all sources."""
        return mode == "nightly" or self.schedule == "hourly"


@dataclass
class Page:
    """Some rows of one entity, and the state from which reading goes on once they are stored.

    rows: mappings by contract column, or a record batch of such columns. state: JSON that `read` gets next time. None means that
    reading cannot go on from here; it then goes on from the last page before that has a state.
    """

    rows: Sequence[ContractRow] | pa.RecordBatch
    state: State | None = None


class Connector(Protocol):
    """An open source that gives rows.

    Every source is one, but for a directory of files (northstar.extract.sources.files.FileStore), which landing reads itself.
    """

    def check(self) -> str:
        """Say in one line what the connection may read. Raises NorthstarError when it does not work."""

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The entity's rows that are new since `state` (None: all of them), oldest first where the system can."""

    def totals(self, entity: str, state: State | None) -> Totals:
        """Figures to reconcile: {measure: (the system's own figure for what was read up to `state`, SQL over the landed rows)}; {} where it has none."""


@runtime_checkable
class ReadsLanded(Protocol):
    """A connector that gives changes only, and needs landed rows for that: landing sets `find_landed` before it reads."""

    find_landed: FindLanded


class System(Protocol):
    """What every module of northstar.extract.sources has; the type checker checks each of them (SYSTEMS below).

    A module may also have READING, a number that is 1 by default. It goes up when the module makes other rows of the same answers; then
    everything is read again. STATE_BY_ENTRY names an option whose entries each have their own place in the state, so that nothing is
    read again because an entry was added.
    """

    @property
    def ENTITIES(self) -> tuple[str, ...]:
        """The entities that it gives; () where its options decide which."""

    @property
    def OPTIONS(self) -> set[str]:
        """The names of its options."""

    def connect(self, source: Source, connection: Connection) -> "Connector | FileStore":
        """An open source. Raises NorthstarError when its options are wrong."""


if TYPE_CHECKING:
    from northstar.extract.sources import files, github, packages, prometheus, sentry, stripe, umami, webhooks, zendesk
    from northstar.extract.sources import sql as sql_databases

    SYSTEMS: list[System] = [
        files,
        github,
        packages,
        prometheus,
        sentry,
        sql_databases,
        stripe,
        umami,
        webhooks,
        zendesk,
    ]


def read_sources(settings: Settings) -> dict[str, Source]:
    """The declared sources by name; {} where the home declares none.

    Raises NorthstarError naming the file, the source and what is wrong.
    """
    path = Path(os.environ.get("NORTHSTAR_SOURCES") or settings.config / "sources.yml")
    file = read_config_file(path, SourcesFile)
    for promised in settings.operations.freshness.sources:
        name, _, entity = promised.partition(".")
        if name not in {FILES, *file.sources}:
            raise ConfigError(
                str(settings.config / "operations.yml"), None, f"freshness.sources.{promised}",
                f"no source {name!r} is declared; {suggest_name(name, {FILES, *file.sources})}",
            )  # fmt: skip
        if entity and entity not in entities():
            raise ConfigError(
                str(settings.config / "operations.yml"), None, f"freshness.sources.{promised}",
                f"the contract has no entity {entity!r}; {suggest_name(entity, entities())}",
            )  # fmt: skip
    return {
        name: Source(
            name, spec.system, spec.connection, tuple(spec.entities or _module(spec.system).ENTITIES), spec.schedule, spec.required,
            spec.application, spec.options, spec.per_second, file.production,
        )
        for name, spec in file.sources.items()
    }  # fmt: skip


def open_source(settings: Settings, source: Source) -> "Connector | FileStore":
    """The connector of a source. Raises NorthstarError when its connection is unknown or its options are wrong."""
    connection = find_connection(settings, source.connection) if source.connection else Connection(source.name)
    connector = _module(source.system).connect(source, connection)
    if isinstance(connector, ReadsLanded):
        connector.find_landed = partial(_find_landed, settings, source.name)
    return connector


def _find_landed(settings: Settings, source: str, entity: str, column: str, values: list[str]) -> list[Row]:
    with db.connect(settings, "loader") as connection:
        return connection.execute(
            sql.SQL(
                "select * from {} where {} = any(%s) and _batch_id in "
                "(select batch_id from audit.landing_batches where source = %s and entity = %s)"
            ).format(sql.Identifier("staging", entity), sql.Identifier(column)),
            [values, source, entity],
        ).fetchall()


def reading_digest(source: Source, entity: str, contract: list[object]) -> str:
    """A digest of what decides which rows a system's answers become: the connector's READING, the source's options and application.

    contract: the part of the contract that decides it, too. Options about other entities are left out.
    """
    options = dict(source.options)
    if isinstance(options.get("entities"), dict):
        options["entities"] = options["entities"].get(entity)
    entries = options.pop(getattr(_module(source.system), "STATE_BY_ENTRY", ""), None)
    decides = [source.system, reading_number(source.system), source.application, options, contract]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return digest if entries is None else f"{digest} {json.dumps(entries, sort_keys=True)}"


def can_read_on(stored: str, current: str) -> bool:
    """Whether two digests of `reading_digest` allow reading to go on: they are the same, or differ only in entries that were added or removed."""
    (old_digest, _, old_entries), (new_digest, _, new_entries) = stored.partition(" "), current.partition(" ")
    old_entries, new_entries = json.loads(old_entries or "{}"), json.loads(new_entries or "{}")
    return old_digest == new_digest and all(
        new_entries[name] == value for name, value in old_entries.items() if name in new_entries
    )


def reading_number(system: str) -> int:
    """The connector's READING; 1 where its module has none."""
    number: int = getattr(_module(system), "READING", 1)
    return number


def check_options(source: Source, known_options: set[str]) -> None:
    """Raise NorthstarError when the source's declaration has an option that its system does not know."""
    unknown = set(source.options) - known_options
    if unknown:
        raise NorthstarError(
            f"source {source.name}: unknown option {min(unknown)!r}; {suggest_name(min(unknown), known_options)}"
        )


def systems() -> list[str]:
    """The systems that have a connector: the modules of this package, without the helpers."""
    names = [module.name for module in pkgutil.iter_modules(sources.__path__)]
    return sorted(name for name in names if name not in HELPERS)


def _module(system: str) -> System:
    # cast: the type checker does not know which module a name means; each of them is among SYSTEMS
    return cast(System, importlib.import_module(f"northstar.extract.sources.{system}"))
