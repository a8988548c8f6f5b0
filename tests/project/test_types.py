"""Where the type checker is told to look away: every `Any`, `cast` and `type: ignore` says why, and there are no more of them than there were.

`make lint` runs mypy, strict for every room. What it cannot see is said in a comment: on the line, above its statement (or above a run of
such statements), or above the function or the class.
"""

import ast
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from northstar.base.settings import ROOT

SOURCE = ROOT / "plugins" / "northstar"
# the most that there may be; who takes one away writes the smaller number
MOST = {"Any": 55, "cast": 14, "ignore": 2}
LOOKS_AWAY = re.compile(r"\b(Any|cast)\b|\bignore\b")
IGNORE = re.compile(r"#\s*type:\s*ignore(\[[\w, -]+\])?(.*)")


@dataclass(frozen=True)
class Excuse:
    """One place where the checker is told to look away. kind: Any, cast or ignore."""

    kind: str
    place: str
    has_reason: bool


def excuses(path: Path, text: str) -> Iterator[Excuse]:
    """The excuses of a file of source, in which comments are told from texts by the tokenizer."""
    if not LOOKS_AWAY.search(text):
        return
    tree, lines = ast.parse(text), text.splitlines()
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)
        if token.type == tokenize.COMMENT
    }
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names = {number: kind for number, kind in _named(tree, parents)}
    marked = {line for node in names for line in range(node.lineno, node.end_lineno + 1)}
    for line, comment in comments.items():
        if found := IGNORE.match(comment):
            reason = found[2].strip(" #") or _above(lines, comments, line, set())
            yield Excuse("ignore", f"{path.name}:{line}", bool(found[1] and reason))
    for node, kind in names.items():
        yield Excuse(kind, f"{path.name}:{node.lineno}", _is_explained(node, lines, comments, parents, marked))


def _named(tree: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[tuple[ast.expr, str]]:
    """Every use of typing's Any and cast, however they were imported."""
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "typing"):
            continue
        if name == "Any":
            yield node, "Any"
        elif name == "cast" and isinstance(parents[node], ast.Call):
            yield node, "cast"


def _is_explained(
    node: ast.AST, lines: list[str], comments: dict[int, str], parents: dict[ast.AST, ast.AST], marked: set[int]
) -> bool:
    own = node.lineno
    while not isinstance(node, ast.stmt):
        node = parents[node]
    around = node
    while around is not None and not isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        around = parents.get(around)
    return any(line in comments for line in range(node.lineno, own + 1)) or any(
        _above(lines, comments, _first_line(statement), marked) for statement in (node, around) if statement is not None
    )


def _first_line(statement: ast.stmt) -> int:
    return min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])


def _above(lines: list[str], comments: dict[int, str], line: int, marked: set[int]) -> bool:
    """Whether a comment of its own line stands above a line, or above the lines before it that need the same one."""
    above = line - 1
    while above in marked and above not in comments:
        above -= 1
    return above in comments and lines[above - 1].lstrip().startswith("#")


@cache
def all_excuses() -> list[tuple[str, Excuse]]:
    """(room, excuse) of the whole source."""
    return [
        (path.relative_to(SOURCE).parts[0], excuse)
        for path in sorted(SOURCE.rglob("*.py"))
        for excuse in excuses(path.relative_to(SOURCE), path.read_text())
    ]


def test_every_place_where_the_checker_looks_away_says_why():
    assert [f"{excuse.kind} in {excuse.place}" for _, excuse in all_excuses() if not excuse.has_reason] == []


@pytest.mark.parametrize("kind", MOST)
def test_there_are_no_more_of_them_than_there_were(kind):
    found = Counter(room for room, excuse in all_excuses() if excuse.kind == kind)
    print(f"{kind}: {found.total()} ({', '.join(f'{room} {n}' for room, n in found.most_common())})")
    assert found.total() <= MOST[kind]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from typing import Any\nx: Any = 1\n", [("Any", False)]),
        ("from typing import Any\n# whatever it is\nx: Any = 1\n", [("Any", True)]),
        ("from typing import Any\nx: Any = 1  # whatever it is\n", [("Any", True)]),
        ("import typing\n# two of a kind\nx: typing.Any\ny: typing.Any\n\nz: typing.Any\n", [("Any", True), ("Any", True), ("Any", False)]),
        ("# JSON\ndef f(x: Any) -> None:\n    y: Any = x\n", [("Any", True), ("Any", True)]),
        ("# JSON\nclass A:\n    x: Any\n\n    def f(self) -> Any: ...\n", [("Any", True), ("Any", False)]),
        ("y = cast(int, x)\nz = column.cast(int)\n", [("cast", False)]),
        ("# said of '# type: ignore'\nx = '# type: ignore'\n", []),
        ("x = f()  # type: ignore\n", [("ignore", False)]),
        ("x = f()  # type: ignore[misc]\n", [("ignore", False)]),
        ("x = f()  # type: ignore[misc]  # theirs has no types\n", [("ignore", True)]),
        ("# theirs has no types\nx = f()  # type: ignore[misc]\n", [("ignore", True)]),
    ],
)  # fmt: skip
def test_an_excuse_is_found_and_so_is_its_reason(text, expected):
    assert [(e.kind, e.has_reason) for e in excuses(Path("x.py"), text)] == expected
