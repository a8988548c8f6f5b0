"""A first mapping for files of unknown make: a file with a recognised export's header gets that export's mapping, any other the entity that its
columns fit best, by their names (northstar.extract.landing.likeness) and by their values.
"""

import glob
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from northstar.base.errors import NorthstarError
from northstar.contract import entities
from northstar.extract.landing.column_guesses import (
    SURE,
    assigned_columns,
    fit_of,
    lines_of,
    named_value,
    one_line,
    written_yaml,
)
from northstar.extract.landing.likeness import words
from northstar.extract.landing.mapping import MAPPING_FILE, read_mapping
from northstar.extract.landing.recognised import recognise
from northstar.extract.landing.sample import Sample, sample
from northstar.extract.landing.short_form import Spec
from northstar.extract.sources.files import list_files

# an entity is taken from this share of its required columns on
FITTING = 0.5
# from this share of the best one's likeness on, the second entity is named as well
NEARLY = 0.9
# how many files of a folder are looked at before one pattern is taken for all; and endings that are no data
MANY_FILES, NO_DATA = 20, {".yml", ".yaml", ".md", ".pdf", ".py", ".sql"}


@dataclass
class _Group:
    """Files with the same columns, written in the same way."""

    sample: Sample
    paths: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)


def guess(directory: Path) -> str:
    """A first mapping for the files below a directory, as YAML. Raises NorthstarError where there are none, or none that fits anything."""
    if not directory.is_dir():
        raise NorthstarError(f"no directory {directory}")
    groups = _groups(directory)
    if not groups:
        raise NorthstarError(f"{directory}: no files; give a directory that holds some")
    inputs: dict[str, list[str]] = {}
    left_out = []
    for number, group in enumerate(groups, start=1):
        written = {} if group.sample.problem else _recognised(group, number) or _fitted(group, number)
        for entity, texts in written.items():
            inputs.setdefault(entity, []).extend(texts)
        if not written:
            why = (
                group.sample.problem
                or f"nothing in the contract fits its columns ({', '.join(group.sample.columns)[:300]})"
            )
            left_out.append(f"# {', '.join(group.paths)}: left out: {one_line(why)}")
    if not inputs:
        raise NorthstarError(f"{directory}: nothing could be guessed; {left_out[0].removeprefix('# ')}")
    lines = [
        "# A first mapping, made of the files' names, columns and first rows by `northstar mapping guess`. Read the comments, then look at",
        "# what it makes of a file with `northstar mapping preview FILE --mapping THIS`, before `northstar run --mapping THIS`.",
        *left_out,
        "entities:",
    ]
    for entity, texts in inputs.items():
        lines += [f"  {entity}:", *texts]
    text = "\n".join(lines) + "\n"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / MAPPING_FILE
        path.write_text(text, encoding="utf-8")
        read_mapping(place, path)
    return text


def _groups(directory: Path) -> list[_Group]:
    """The files below a directory, those together that have the same columns and are written in the same way."""
    folders: dict[tuple[Path, str], list[str]] = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        relative = path.relative_to(directory)
        if path.suffix not in NO_DATA and not any(part.startswith(("_", ".")) for part in relative.parts):
            folders.setdefault((relative.parent, "".join(path.suffixes[-2:])), []).append(str(relative))
    groups: dict[str, _Group] = {}
    for (folder, suffix), paths in folders.items():
        sampled: dict[str, _Group] = {}
        for path_text in paths if len(paths) <= MANY_FILES else paths[:MANY_FILES]:
            _add(sampled, directory, path_text)
        if len(paths) > MANY_FILES and len(sampled) == 1:
            # they are alike, and one pattern is about all of them
            [(key, group)] = sampled.items()
            alike = glob.escape(str(folder)) + "/" if folder.parts else ""
            group.patterns = [f"{alike}*{glob.escape(suffix)}"]
        else:
            for path_text in paths[MANY_FILES:]:
                _add(sampled, directory, path_text)
        for key, group in sampled.items():
            known = groups.setdefault(key, _Group(group.sample))
            known.paths += group.paths
            known.patterns += group.patterns
    return list(groups.values())


def _add(groups: dict[str, _Group], directory: Path, path: str) -> None:
    for file in list_files(str(directory), glob.escape(path), None, any_ending=True):
        found = sample(file)
        key = json.dumps(
            [sorted(found.columns), found.spec, Path(file.path).suffix, found.problem and file.path], default=str
        )
        group = groups.setdefault(key, _Group(found))
        group.paths.append(file.path)
        group.patterns.append(glob.escape(file.path))


def _recognised(group: _Group, number: int) -> dict[str, list[str]]:
    """{entity: inputs as YAML} of a recognised export; {} for other files."""
    found = recognise(list(group.sample.columns), Path(group.paths[0]).name)
    if found is None:
        return {}
    written: dict[str, list[str]] = {}
    for place, (entity, declared) in enumerate(found.inputs(), start=1):
        own = {"name": f"{found.name}_{number}_{place}", "files": _patterns(group)}
        spec: Spec = {**own, **group.sample.spec, **declared, **own}
        text = yaml.dump([spec], Dumper=_Readable, sort_keys=False, allow_unicode=True, width=1000)
        note = f"# {', '.join(group.paths)[:200]}: told by its header as the export {found.name}; mappings/{found.name}.yml says what it cannot give"
        written.setdefault(entity, []).extend(f"    {line}" for line in [one_line(note), *text.splitlines()])
    return written


class _Readable(yaml.SafeDumper):
    """Writes texts of several lines as they stand."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text_node)


def _fitted(group: _Group, number: int) -> dict[str, list[str]]:
    """{entity: an input as YAML} of the entity that the columns fit best; {} where none does."""
    about = words(Path(group.paths[0]).name.partition(".")[0]) | words(str(Path(group.paths[0]).parent))
    scored = []
    for entity in entities().values():
        columns = assigned_columns(entity, group.sample)
        is_named = words(entity.name) & about or any(named_value(c, about) for c in entity.columns.values())
        score = fit_of(entity, columns) + (0.4 if is_named else 0)
        scored.append((score, entity, columns))
    scored.sort(key=lambda one: -one[0])
    best_score, best, best_columns = scored[0]
    required = [c for c in best.columns.values() if c.required]
    has_time = any(best.columns[name].type == "timestamp" for name in best_columns)
    found = [
        c for c in required if c.name in best_columns or (c.type == "timestamp" and has_time) or named_value(c, about)
    ]
    if not best_columns or len(found) < FITTING * min(len(required), 3):
        return {}
    lines = lines_of(best, group.sample, best_columns, about)
    sure = sum(score >= SURE for _, score in best_columns.values())
    texts = [
        f"# {one_line(', '.join(group.paths))[:200]}: {best.name}; columns told by their names: {sure}, guessed: {len(best_columns) - sure}",
        *([f"# nearly as like: {scored[1][1].name}"] if scored[1][0] > NEARLY * best_score else []),
        *(f"# {note}" for note in group.sample.notes),
        f"- name: files_{number}",
        f"  files: {written_yaml(_patterns(group))}",
        *(f"  {key}: {written_yaml(value)}" for key, value in group.sample.spec.items()),
        "  columns:",
    ]
    for line in lines:
        note = f"  # {one_line(line.note)}" if line.note else ""
        texts.append(f"    # {line.column}:{note}" if line.how is None else f"    {line.column}: {line.how}{note}")
    used = {name for name, _ in best_columns.values()}
    unused = [name for name in group.sample.columns if name not in used]
    if unused:
        texts.append(f"    # not used: {one_line(', '.join(unused))}")
    return {best.name: [f"    {text}" for text in texts]}


def _patterns(group: _Group) -> str | list[str]:
    return group.patterns[0] if len(group.patterns) == 1 else group.patterns
