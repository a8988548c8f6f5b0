"""What a system's module gives, and what its connector has to be."""

import ast
import importlib
import inspect
import typing
from pathlib import Path

import pytest

from northstar.extract.sources import declared
from northstar.extract.sources.declared import Connector, ReadsLanded, systems
from northstar.extract.sources.files import FileStore


def connectors(system: str) -> list[type]:
    """The classes that a system's `connect` may return."""
    given = typing.get_type_hints(importlib.import_module(f"northstar.extract.sources.{system}").connect)["return"]
    return list(typing.get_args(given) or [given])


@pytest.mark.parametrize("system", systems())
def test_each_systems_connector_has_what_a_connector_has(system):
    for connector in connectors(system):
        for name in ("check",) if connector is FileStore else ("check", "read", "totals"):
            theirs, ours = (inspect.signature(getattr(of, name)).parameters for of in (connector, Connector))
            assert list(theirs) == list(ours), f"{connector.__name__}.{name}"


@pytest.mark.parametrize("system", systems())
def test_each_systems_module_says_its_entities_and_options(system):
    module = importlib.import_module(f"northstar.extract.sources.{system}")
    assert isinstance(module.ENTITIES, tuple)
    assert module.OPTIONS and isinstance(module.OPTIONS, set)


def test_the_type_checker_holds_every_system_against_the_protocols():
    """SYSTEMS is there for the type checker alone: a system that is missing from it would be held against nothing."""
    tree = ast.parse(Path(declared.__file__).read_text())
    (systems_node,) = [n for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and n.target.id == "SYSTEMS"]
    named = {
        name.asname or name.name: name.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for name in n.names
    }
    assert sorted(named[element.id] for element in systems_node.value.elts) == systems()


def test_the_connectors_that_read_only_changes_can_find_landed_rows():
    """A class attribute of that name is what open_source looks for."""
    with_landed = {c.__name__ for system in systems() for c in connectors(system) if hasattr(c, "find_landed")}
    assert with_landed == {"Stripe", "Webhooks"}
    assert set(inspect.get_annotations(ReadsLanded)) == {"find_landed"}
