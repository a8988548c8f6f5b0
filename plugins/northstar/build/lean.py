"""What dbt does in every build and no build here needs, left out: methods of dbt's are replaced for the time of a build (docs/decisions.md, D260).

None of it changes how anything is built. Only a project that dbt has parsed and checked before is spared the checks.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version as library_version
from pathlib import Path
from sys import implementation
from types import CodeType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from northstar.base.files import write_private

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

    from dbt.clients.jinja import MacroGenerator
    from dbt.contracts.graph.manifest import Manifest
    from dbt.contracts.graph.nodes import GraphMemberNode, Macro
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager
    from jinja2.nodes import Template

_MISSING = object()


def compile_classes_when_used() -> None:
    """Have the classes that dbt reads and writes compiled when they are first used, of which a build uses few. Without effect once dbt is imported."""
    from mashumaro.config import BaseConfig

    BaseConfig.lazy_compilation = True


@contextmanager
def without_checks() -> Iterator[None]:
    """Spare dbt the description of its classes as JSON schemas, with which it would check a project that it has parsed, and so has passed."""
    from dbt_common.dataclass_schema import dbtClassMixin

    with _replaced(dbtClassMixin, "validate", classmethod(lambda cls, data: None)):
        yield


@contextmanager
def without_sources_of_flags() -> Iterator[None]:
    """Spare dbt reading the sources of all that called it, for each flag of its behaviour, to say where the flag was declared."""
    from dbt_common.behavior_flags import BehaviorFlagRendered

    with _replaced(BehaviorFlagRendered, "_default_source", lambda flag: "dbt"):
        yield


@contextmanager
def without_what_nobody_reads(templates: Path, version: str, is_written: bool = True) -> Iterator[None]:
    """All that any command of dbt's may go without. templates, version, is_written: see `kept_templates`."""
    with (
        without_sources_of_flags(),
        without_copies_of_the_graph(),
        macros_when_called(),
        without_unread_events(()),
        with_one_empty_table(),
        kept_templates(templates, version, is_written),
    ):
        yield


@contextmanager
def without_nodes(left_out: Collection[str]) -> Iterator[None]:
    """Leave nodes out of what dbt selects, by their unique_id: given as arguments, each name is compared with each node three times."""
    from dbt.graph.selector import ResourceTypeSelector

    original: Callable[[ResourceTypeSelector, GraphMemberNode], bool] = ResourceTypeSelector.node_is_match

    def is_match(selector: ResourceTypeSelector, node: GraphMemberNode) -> bool:
        return node.unique_id not in left_out and original(selector, node)

    with _replaced(ResourceTypeSelector, "node_is_match", is_match):
        yield


def saved_parse(path: Path, database: str) -> Manifest | None:
    """The parse that dbt saved, to be given to dbt, which otherwise reads the whole project to see that nothing has changed.

    None if it cannot be read, or is of another database, whose name stands in each node: then dbt looks for itself.
    """
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    try:
        manifest = Manifest.from_msgpack(path.read_bytes(), decoder=extended_mashumuro_decoder)
    except Exception:
        # cut short, or of another version of dbt
        return None
    if any(node.database not in (database, None) for node in manifest.nodes.values()):
        return None
    # what else dbt does with a parse that it has read
    steps: list[Callable[[], object]] = [manifest.build_parent_and_child_maps, manifest.build_flat_graph]
    for step in steps:
        step()
    return manifest


class _Copies(Mapping[str, dict[str, object]]):
    """Nodes as dicts, each made when a macro asks for it."""

    def __init__(self, nodes: Mapping[str, GraphMemberNode]):
        self._nodes, self._copies = nodes, dict[str, dict[str, object]]()

    def __getitem__(self, unique_id: str) -> dict[str, object]:
        if unique_id not in self._copies:
            self._copies[unique_id] = self._nodes[unique_id].to_dict(omit_none=False)
        return self._copies[unique_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


@contextmanager
def without_copies_of_the_graph() -> Iterator[None]:
    """Copy of all nodes only those that a macro asks for (as `graph`), and write no summary of them, which dbt's authors read."""
    from dbt.compilation import Linker
    from dbt.contracts.graph.manifest import Manifest

    def build_flat_graph(manifest: Manifest) -> None:
        kinds = ("exposures", "functions", "groups", "metrics", "nodes", "sources", "semantic_models", "saved_queries")
        manifest.flat_graph = {kind: _Copies(getattr(manifest, kind)) for kind in kinds}

    with (
        _replaced(Manifest, "build_flat_graph", build_flat_graph),
        _replaced(Linker, "get_graph_summary", lambda linker, manifest: {}),
    ):
        yield


@contextmanager
def without_unread_events(is_read: Collection[str]) -> Iterator[None]:
    """Make an event's message only when somebody reads it. What is for debugging goes nowhere, but for the events named in `is_read`."""
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager

    make, fire = BaseEvent.__init__, EventManager.fire_event
    read: Callable[[BaseEvent, str], object] = BaseEvent.__getattr__

    def keep_arguments(event: BaseEvent, *arguments: object, **named: object) -> None:
        event.__dict__["_arguments"] = (arguments, named)

    def make_and_read(event: BaseEvent, name: str) -> object:
        if kept := event.__dict__.pop("_arguments", None):
            arguments, named = kept
            make(event, *arguments, **named)
        return read(event, name)

    def fire_what_is_read(
        manager: EventManager,
        e: BaseEvent,
        level: EventLevel | None = None,
        node: object = None,
        force_warn_or_error_handling: bool = False,
    ) -> None:
        if (level or e.level_tag()) != EventLevel.DEBUG or type(e).__name__ in is_read:
            fire(manager, e, level, node, force_warn_or_error_handling)

    with (
        _replaced(BaseEvent, "__init__", keep_arguments),
        _replaced(BaseEvent, "__getattr__", make_and_read),
        _replaced(EventManager, "fire_event", fire_what_is_read),
    ):
        yield


@contextmanager
def with_one_empty_table() -> Iterator[None]:
    """Give all statements that return no rows the same empty table, of which each would make one of its own, with everything that guesses types."""
    from dbt_common.clients import agate_helper

    make: Callable[[], object] = agate_helper.empty_table
    empty = make()
    with _replaced(agate_helper, "empty_table", lambda: empty):
        yield


class _Macros(Mapping[str, object]):
    """Macros as a node calls them, each made when it is asked for. make: the one of a macro, of which a node has one. A unit test may put another in."""

    def __init__(self, macros: Mapping[str, Macro], make: Callable[[Macro], MacroGenerator]):
        self._macros, self._make, self._replaced = macros, make, dict[str, object]()

    def __getitem__(self, name: str) -> object:
        return self._replaced[name] if name in self._replaced else self._make(self._macros[name])

    def __setitem__(self, name: str, value: object) -> None:
        self._replaced[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._macros

    def __iter__(self) -> Iterator[str]:
        return iter(self._macros)

    def __len__(self) -> int:
        return len(self._macros)


class _Context(dict[str, object]):
    """What a node's Jinja knows by name: a dict in which a macro is put when it is first looked up. Whoever wants all keys has all of them."""

    namespace: Mapping[str, object] = MappingProxyType({})
    names: frozenset[str] = frozenset()

    def __missing__(self, name: str) -> object:
        self[name] = value = self.namespace[name]
        return value

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in self.names

    def get(self, name: str, default: object = None) -> object:
        try:
            return self[name]
        except KeyError:
            return default

    def __bool__(self) -> bool:
        # asked for each macro that is called
        return True

    def known(self) -> list[str]:
        """The keys that are there without the macros that nobody looked up."""
        return list(super().__iter__())

    def _filled(self) -> dict[str, object]:
        for name in self.names:
            self[name]
        return self

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self._filled())

    def __len__(self) -> int:
        return dict.__len__(self._filled())

    def keys(self) -> dict_keys[str, object]:
        return dict.keys(self._filled())

    def items(self) -> dict_items[str, object]:
        return dict.items(self._filled())

    def values(self) -> dict_values[str, object]:
        return dict.values(self._filled())

    def copy(self) -> dict[str, object]:
        return dict.copy(self._filled())


@contextmanager
def macros_when_called() -> Iterator[None]:
    """Make of the 620 macros only those that a node calls, where dbt makes all of them, twice for each node."""
    from dbt.clients.jinja import MacroGenerator
    from dbt.context.macro_resolver import TestMacroNamespace
    from dbt.context.macros import MacroNamespace
    from dbt.context.manifest import ManifestContext

    # {(root package, the node's package): (the macros by package, how many, the names that a node sees)}; parsing adds to the macros
    known: dict[tuple[str, str], tuple[object, int, frozenset[str]]] = {}
    describe: Callable[[ManifestContext], dict[str, object]] = ManifestContext.to_dict

    def build_namespace(context: ManifestContext) -> MacroNamespace:
        builder, packages = context._get_namespace_builder(), context.manifest.get_macros_by_package()
        described, made = _Context(), dict[str, MacroGenerator]()
        context._ctx = described

        def make(macro: Macro) -> MacroGenerator:
            if macro.unique_id not in made:
                made[macro.unique_id] = MacroGenerator(macro, described, builder.node, builder.thread_ctx)
            return made[macro.unique_id]

        def macros_of(package: str) -> _Macros:
            is_own = package in packages and package not in builder.internal_package_names
            return _Macros(packages[package] if is_own else {}, make)

        internal: dict[str, Macro] = {}
        # the first of them wins
        for name in reversed(builder.internal_package_names_order):
            internal |= packages.get(name, {})
        is_root = builder.root_package != builder.search_package
        namespace = MacroNamespace({}, {}, {}, {})
        # dbt wants dicts here, and only reads them
        for part, macros in {
            "global_namespace": macros_of(builder.root_package if is_root else ""),
            "local_namespace": macros_of(builder.search_package),
            "global_project_namespace": _Macros(internal, make),
            "packages": {name: macros_of(name) for name in packages if name not in builder.internal_package_names},
        }.items():
            setattr(namespace, part, macros)
        place, count = (builder.root_package, builder.search_package), sum(map(len, packages.values()))
        if place not in known or known[place][0] is not packages or known[place][1] != count:
            known[place] = (packages, count, frozenset(namespace))
        described.namespace, described.names = namespace, known[place][2]
        return namespace

    def to_dict(context: ManifestContext) -> dict[str, object]:
        described = context._ctx
        if isinstance(context.namespace, TestMacroNamespace) or not isinstance(described, _Context):
            return describe(context)
        super(ManifestContext, context).to_dict()
        # a macro goes before what dbt gives by the same name
        for name in described.names.intersection(described.known()):
            described[name] = described.namespace[name]
        return described

    with (
        _replaced(ManifestContext, "_build_namespace", build_namespace),
        _replaced(ManifestContext, "to_dict", to_dict),
    ):
        yield


@contextmanager
def kept_templates(path: Path, version: str, is_written: bool = True) -> Iterator[None]:
    """Keep in a file what Jinja compiles a project's macros and models to, which is of use wherever libraries, Python and the text are the same.

    version: of the project; the file is begun anew with what another one has use for. is_written: whether what is missing in it is added.
    """
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    libraries = [f"{name} {library_version(name)}" for name in ("jinja2", "dbt-common")]
    origin = " ".join([implementation.cache_tag or "", *libraries])
    made_for, known = _read_templates(path, origin)
    kept = known if made_for == version else {}
    number = len(kept)
    compile_anew = MacroFuzzEnvironment.compile

    def compile_once(
        environment: MacroFuzzEnvironment, source: str | Template, name: str | None = None, filename: str | None = None
    ) -> CodeType:
        if not isinstance(source, str) or name or filename:
            return compile_anew(environment, source, name, filename)
        # what else the code depends on is the kind of environment: dbt gives all of a kind the same extensions
        key = f"{type(environment).__name__} {source}"
        if key not in kept:
            kept[key] = known[key] if key in known else marshal.dumps(compile_anew(environment, source))
        code: CodeType = marshal.loads(kept[key])
        return code

    with _replaced(MacroFuzzEnvironment, "compile", compile_once):
        yield
    if is_written and len(kept) > number:
        # a run that has built everything does not fail for what would only have saved time
        with suppress(OSError):
            write_private(path, marshal.dumps((origin, version, kept)))


def _read_templates(path: Path, origin: str) -> tuple[str, dict[str, bytes]]:
    """(the version of the project, the templates) in the file; none if there are none, or they are of another origin, or the file is cut short."""
    try:
        made_by, version, kept = marshal.loads(path.read_bytes())
    except (OSError, EOFError, ValueError, TypeError):
        return "", {}
    return (version, kept) if made_by == origin else ("", {})


@contextmanager
def _replaced(owner: type | ModuleType, name: str, replacement: object) -> Iterator[None]:
    """A class or module with another attribute inside."""
    original = owner.__dict__.get(name, _MISSING)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if original is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
