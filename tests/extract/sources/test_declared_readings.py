"""A connector whose code changed makes other rows of the same answers, or it does not: whoever changes one decides it, here."""

import ast
import hashlib
import importlib
import json
from pathlib import Path

from northstar.base.settings import ROOT
from northstar.extract.sources.declared import reading_of, systems

RECORDED = Path(__file__).parent / "readings.json"


def code_of(system: str) -> str:
    """A digest of a connector's code, all files of a package, without comments, docstrings and imports: where a module lies changes no row."""
    file = Path(importlib.import_module(f"northstar.extract.sources.{system}").__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return hashlib.sha256("".join(ast.dump(bare_code(file)) for file in files).encode()).hexdigest()[:16]


def bare_code(file: Path) -> ast.Module:
    """A module's code without comments, docstrings and imports."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [part for part in node.body if not isinstance(part, ast.Import | ast.ImportFrom)]
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return tree


def test_whoever_changes_a_connector_says_whether_its_rows_are_read_again():
    now = {system: [reading_of(system), code_of(system)] for system in systems()}
    changed = [system for system, state in now.items() if json.loads(RECORDED.read_text()).get(system) != state]
    assert not changed, (
        f"the code of {', '.join(changed)} is not the recorded one. Does it make other rows of the same answers? Then raise its READING (1 where it "
        f"has none): everything is read again. Either way write { ({s: now[s] for s in changed}) } into {RECORDED.relative_to(ROOT)}"
    )
