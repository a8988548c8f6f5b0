"""The map of the README is the tree, and the tests lie where what they test lies."""

import re
from fnmatch import fnmatch

import pytest

from northstar.base.settings import PACKAGE, ROOT

README = (ROOT / "README.md").read_text()
# what crosses rooms, or is about what is no room
ACROSS = {
    "browser",
    "containers",
    "dags",
    "dbt_project",
    "end_to_end",
    "faults",
    "machines",
    "project",
    "real_data",
    "spark",
}
# what a page has its reader write, what `make docs` makes
EXAMPLE = re.compile(r"acme_desk|^desk/|^home/|NNNN|^metrics/")
# what commands leave, and git does not keep
MADE = {"build", "dist", "logs", "site", "__pycache__"}
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}


def test_the_map_of_the_readme_is_the_tree():
    tree = re.search(r"## Where things are\n\n((?: {4}.*\n)+)", README)[1]
    rooms = re.findall(r"^ {6}(\w+)/ ", tree, re.MULTILINE)
    assert sorted(rooms) == sorted(ROOMS)
    folders = {name.rstrip("/") for name in re.findall(r"^ {4}([\w/]+)/ ", tree, re.MULTILINE)}
    there = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")} - MADE
    assert folders == (there - {"plugins"}) | {"plugins/northstar"}


def test_every_page_of_the_docs_is_linked():
    assert {p.name for p in (ROOT / "docs").glob("*.md")} - set(re.findall(r"docs/(\w+\.md)", README)) == {"index.md"}


@pytest.mark.parametrize("room", sorted(p.name for p in (ROOT / "tests").iterdir() if (p / "__init__.py").exists()))
def test_a_test_lies_where_its_module_lies(room):
    if room in ACROSS:
        return
    for path in (ROOT / "tests" / room).rglob("test_*.py"):
        folder, name = PACKAGE / path.parent.relative_to(ROOT / "tests"), path.stem.removeprefix("test_")
        modules = {p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        assert any(name == module or name.startswith(f"{module}_") for module in modules), (
            f"{path.relative_to(ROOT)} is named after no module of {folder.relative_to(ROOT)}"
        )


def test_files_that_the_docs_name_are_there():
    places = (ROOT, ROOT / "plugins", PACKAGE, ROOT / "dbt_project", ROOT / "tests", ROOT / "docs")
    missing = [
        f"{page.name}: {name}"
        for page in [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
        if page.name not in ("decisions.md", "CHANGELOG.md")
        for name in re.findall(r"[`(]((?:\.\./)?[a-z_]+/[\w/]+\.(?:py|sql|yml|csv|md))[`):,#]", page.read_text())
        if not any((place / name.removeprefix("../")).exists() for place in places) and not EXAMPLE.search(name)
    ]
    assert missing == []


def test_every_folder_of_tests_is_collected(pytestconfig):
    """pytest leaves out folders by their names: once `build` was one of them, and its tests ran nowhere."""
    left_out = pytestconfig.getini("norecursedirs")
    folders = {path.name for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name != "__pycache__"}
    assert not [f for f in folders for pattern in left_out if fnmatch(f, pattern)]
