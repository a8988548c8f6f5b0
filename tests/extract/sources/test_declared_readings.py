"""A connector whose code changed makes other rows of the same answers, or it does not: whoever changes one decides it, here."""

import ast
import dataclasses
import hashlib
import importlib
import json
from pathlib import Path

import pytest

from northstar.base.settings import ROOT
from northstar.contract import Column
from northstar.extract.landing import casts, engine, mapped, mapping, normalise, short_form
from northstar.extract.sources import files
from northstar.extract.sources.declared import reading_number, systems

RECORDED = Path(__file__).parent / "readings.json"


def code_of(system: str) -> str:
    """A digest of a connector's code, all files of a package, without what changes no row: see bare_code."""
    file = Path(importlib.import_module(f"northstar.extract.sources.{system}").__file__)
    return digest(sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file])


def digest(paths: list[Path]) -> str:
    code = "".join(ast.dump(bare_code(path.read_text())) for path in paths)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def bare_code(text: str) -> ast.Module:
    """A module's code without comments, docstrings, imports (where a module lies changes no row), and what is for the type checker alone."""
    tree = _WithoutTypes().visit(ast.parse(text))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        node.body = body = [part for part in body if not isinstance(part, ast.Import | ast.ImportFrom)]
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0].value.value = ""
    return tree


class _WithoutTypes(ast.NodeTransformer):
    """Annotations, casts, and classes that declare what something else has to look like."""

    def __init__(self):
        self.declaring = {"TypedDict", "Protocol"}

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        if any(isinstance(how, ast.Name) and how.id == "overload" for how in node.decorator_list):
            return None
        node.returns = None
        # a name that is declared before it has a value; in a class it may be a dataclass' field, and stays
        node.body = [part for part in node.body if not isinstance(part, ast.AnnAssign) or part.value is not None]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        node = self.generic_visit(node)
        if node.value is None:
            return ast.Expr(node.target)
        return ast.Assign([node.target], node.value)

    def visit_Call(self, node):
        node = self.generic_visit(node)
        return node.args[1] if isinstance(node.func, ast.Name) and node.func.id == "cast" else node

    def visit_ClassDef(self, node):
        if {base.id for base in node.bases if isinstance(base, ast.Name)} & self.declaring:
            self.declaring.add(node.name)
            return None
        return self.generic_visit(node)


@pytest.mark.parametrize(
    "typed",
    [
        "def rows(given: dict[str, Any], most: int = 3) -> list[Row]:\n    return given[:most]",
        "def rows(given, most=3):\n    return cast(list[Row], given[:most])",
        "class Row(TypedDict):\n    name: str\n\nclass Longer(Row):\n    more: str\n\ndef rows(given, most=3):\n    return given[:most]",
    ],
)
def test_types_are_no_part_of_the_code_that_makes_rows(typed):
    assert ast.dump(bare_code(typed)) == ast.dump(bare_code("def rows(given, most=3):\n    return given[:most]"))


def test_a_value_is_part_of_the_code_that_makes_rows_and_its_type_is_not():
    assert ast.dump(bare_code("seen: set[str] = set()")) == ast.dump(bare_code("seen = set()"))
    assert ast.dump(bare_code("seen: set[str] = set()")) != ast.dump(bare_code("seen: set[str] = {1}"))


# landing makes rows as well: of every file, and of those that a mapping is about
LANDING = {
    "landing": (files.READING, [casts, normalise]),
    "mappings": (engine.READING, [engine, mapped, short_form]),
}


def test_whoever_changes_a_connector_or_landing_says_whether_its_rows_are_read_again():
    now = {system: [reading_number(system), code_of(system)] for system in systems()}
    now |= {name: [number, digest([Path(m.__file__) for m in modules])] for name, (number, modules) in LANDING.items()}
    recorded = json.loads(RECORDED.read_text())
    changed = [name for name, state in now.items() if recorded.get(name) != state]
    assert not changed, (
        f"the code of {', '.join(changed)} is not the recorded one. Does it make other rows of the same answers? Then raise its READING (1 where it "
        f"has none; that of landing is in sources/files.py, that of mappings in landing/engine.py): everything is read again. Either way write "
        f"{ ({s: now[s] for s in changed}) } into {RECORDED.relative_to(ROOT)}"
    )


def test_what_the_contract_says_of_a_column_decides_whether_files_are_read_again():
    """A part that landing looks at, and that is not compared, would leave files as an older release read them."""
    decides = {"name", *mapping.READ, *mapping.READ_WHERE_SET}
    assert {field.name for field in dataclasses.fields(Column)} - decides == {"note"}
