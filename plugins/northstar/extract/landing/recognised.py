"""Recognised exports: the mappings at the top of the repository (`mappings/`), and which of them a file's header belongs to.

Each says in `about: headers:` which columns tell its files, by their pattern; other columns and their order do not matter.
"""

from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from northstar.base.config_files import Section, read_config
from northstar.base.settings import ROOT
from northstar.extract.landing.short_form import Spec

FOLDER = ROOT / "mappings"


class About(Section):
    """`about:` of a recognised export. headers: {pattern of the files: the columns that tell them}."""

    export: str
    checked: list[str]
    gaps: list[str]
    headers: dict[str, list[str]]


class Export(Section):
    """The parts of a mapping file that recognition needs; the mapping itself is read by northstar.extract.landing.mapping."""

    about: About
    entities: dict[str, Spec | list[Spec]]
    application: str | None = None


@dataclass(frozen=True)
class Recognised:
    """An export's kind of file. pattern: of the files in its mapping."""

    path: Path
    pattern: str
    header: frozenset[str]

    @property
    def name(self) -> str:
        return self.path.stem

    def inputs(self) -> list[tuple[str, Spec]]:
        """(entity, input) of the mapping, of those that read such files."""
        found = []
        for entity, declared in exports()[self.path].entities.items():
            specs = declared if isinstance(declared, list) else [declared]
            found += [(entity, spec) for spec in specs if spec.get("files") == self.pattern]
        return found


@cache
def exports() -> dict[Path, Export]:
    """The mappings of recognised exports by their files."""
    paths = sorted(FOLDER.glob("*.yml"))
    return {path: read_config(path.read_text(), str(path), Export, as_texts=True) for path in paths}


def recognise(columns: list[str], name: str) -> Recognised | None:
    """The export whose columns a file has; of several, the one that is told by the most, and then the one whose pattern fits the file's name."""
    known = set(columns)
    candidates = [
        Recognised(path, pattern, frozenset(header))
        for path, export in exports().items()
        for pattern, header in export.about.headers.items()
        if known.issuperset(header)
    ]
    return max(candidates, key=lambda one: (len(one.header), fnmatch(name, one.pattern)), default=None)
