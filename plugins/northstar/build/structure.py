"""What every model and metric must bring with it, checked before a run builds new code and once its models are compiled.

dbt accepts a mart without a description, a metric that the catalogue does not have, and a segment that no cube splits by. Readers would get an undescribed
table, or miss values that they had; so a run stops, with the file and line.
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Required, TypedDict

import yaml
from pydantic import Field

from northstar.base.config_files import OWN_LOADER, Section, nearest_name, read_config_file
from northstar.base.errors import NorthstarError
from northstar.base.settings import DERIVED_SEGMENTS
from northstar.build.definitions import Measure, Metric, parents, read_notes
from northstar.build.generate import CATALOGUE, DECLARED, IS_METRIC_MODEL, METRIC_MODELS, metric_models
from northstar.warehouse.rows import Connection

RETIRED = Path("retired_metrics.yml")
OWNERS = Path("seeds", "metric_owners.csv")
# how a model's config says what makes its rows unique
KEY = re.compile(r"unique_key\s*=|'key'\s*:|metric_key\(\)")
IS_VIEW = re.compile(r"materialized\s*=\s*'view'")
TODO = re.compile(r"\bTODO\b")
WORD = re.compile(r"[a-z_][a-z0-9_]*")


class ModelEntry(TypedDict, total=False):
    """What a YAML file of the project says about a model: the parts that are read here."""

    name: Required[str]
    description: str
    config: dict[str, dict[str, bool]]
    columns: list[dict[str, str]]
    data_tests: list[object]


class Expected(TypedDict):
    """What a unit test expects: rows, of which values are read by their column."""

    rows: list[dict[str, str]]


class UnitTestEntry(TypedDict):
    """What a YAML file of the project says about a unit test: the part that is read here."""

    expect: Expected


class ProjectFile(TypedDict, total=False):
    """A YAML file of the project: the parts that are read here."""

    models: list[ModelEntry]
    unit_tests: list[UnitTestEntry]


class Retired(Section):
    """An entry of retired_metrics.yml: what is published no longer, on purpose."""

    metric_id: str = Field(description="the metric")
    segment: str | None = Field(None, description="only this segment of it")
    grain: str | None = Field(None, description="only this grain of it")
    because: str = Field(min_length=1, description="say why, for those who miss it")


class RetiredMetrics(Section):
    """The file retired_metrics.yml."""

    retired: tuple[Retired, ...] = ()


class Finding(NamedTuple):
    """A mistake in the dbt project. path: the file, relative to the project; line: from 1."""

    path: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{os.path.normpath(Path('dbt_project', self.path))}:{self.line}: {self.problem}"


def raise_for(findings: list[Finding]) -> None:
    """Raise NorthstarError with the first of the findings, and how many more there are."""
    if findings:
        more = f" (and {len(findings) - 1} more: `northstar dev check` lists all)" if len(findings) > 1 else ""
        raise NorthstarError(f"{findings[0]}{more}")


def find_unfinished(project: Path) -> list[Finding]:
    """The lines that say TODO, in all places that `northstar new` writes into."""
    root = project.parent
    patterns = (
        "models/**/*.sql",
        "models/**/*.yml",
        "metrics.yml",
        "seeds/metric_catalogue.csv",
        "macros/metrics/needs.sql",
    )
    paths = [path for pattern in patterns for path in sorted(project.glob(pattern))]
    for folder, pattern in (("expectations", "**/*.yml"), ("plugins/northstar/extract/sources", "*.py"), ("tests/extract/sources", "*.py")):  # fmt: skip
        paths += sorted((root / folder).glob(pattern))
    return [
        Finding(os.path.relpath(path, project), number, f"still to be written: {line.strip()}")
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if TODO.search(line)
    ]


def check_files(project: Path) -> list[Finding]:
    """What is missing in the project's files: grains, descriptions, keys, contracts and checks of models. Reads no warehouse.

    While something is still to be written (TODO), that is all that is said.
    Raises NorthstarError for a YAML file that cannot be read, and for a metrics.yml that declares what cannot be.
    """
    # it brings the parser of SQL, which no hourly run needs
    from northstar.build.declared_files import declared_files

    if unfinished := find_unfinished(project):
        return unfinished
    documented = _documented_models(project)
    findings = list[Finding]()
    for path in sorted((project / "models").rglob("*.sql")):
        relative = path.relative_to(project)
        if relative.parts[1] not in ("core", "marts"):
            continue
        findings += _check_model(project, relative, path.read_text(), documented.get(path.stem))
    findings += _check_catalogue(project)
    for file, content in declared_files(project).items():
        if not (project / file).exists() or (project / file).read_text() != content:
            problem = f"this is not what {DECLARED} declares: change it there, then `northstar dev generate` writes the file anew"
            findings.append(Finding(str(file), 1, problem))
    if (project / METRIC_MODELS).read_text() != metric_models(project):
        problem = "these are not the metric models of models/core, so values would be missing: `northstar dev generate` writes the file anew"
        findings.append(Finding(str(METRIC_MODELS), 1, problem))
    return findings


def _check_catalogue(project: Path) -> Iterator[Finding]:
    """Metrics whose domain has no owner, and metrics that no unit test expects a result of."""
    with open(project / OWNERS, newline="") as handle:
        owned = {row["domain"] for row in csv.DictReader(handle) if row["owner"]}
    tested = set()
    for path in (project / "models").rglob("_unit_tests.yml"):
        for test in _read_yaml(path).get("unit_tests") or []:
            tested |= {row.get("metric_id") for row in test["expect"]["rows"]}
    for metric_id, (line, row) in _read_catalogue(project).items():
        if row["domain"] not in owned:
            yield Finding(str(CATALOGUE), line, f"{metric_id}: the domain {row['domain']!r} has no owner in {OWNERS}")
        if metric_id not in tested:
            problem = f"{metric_id} has no unit test: add the result that you worked out by hand to the _unit_tests.yml beside its model"
            yield Finding(str(CATALOGUE), line, problem)


def check_metrics(project: Path, compiled: Mapping[str, str]) -> list[Finding]:
    """Where the catalogue and the metric models disagree: metrics, grains and segments that only one of them has.

    compiled: {model: its compiled SQL}, of all models that `metric_model_names` lists and of those above them.
    """
    catalogue = _read_catalogue(project)
    paths = {path.stem: path.relative_to(project) for path in (project / "models").rglob("*.sql")}
    findings: list[Finding] = []
    made_by: dict[str, str] = {}
    for model in metric_model_names(project):
        text = (project / paths[model]).read_text()
        _, metrics = read_notes(model, compiled[model])
        for metric_id, metric in metrics.items():
            line = line_of(text, f"'{metric_id}'")
            if metric_id in made_by:
                findings.append(
                    Finding(str(paths[model]), line, f"{metric_id} is a metric of {made_by[metric_id]} too")
                )
            made_by[metric_id] = model
            if metric_id not in catalogue:
                near = nearest_name(metric_id, catalogue)
                hint = f" (did you mean {near!r}?)" if near and near not in metrics else ""
                findings.append(
                    Finding(str(paths[model]), line, f"{metric_id} has no row in {CATALOGUE}, so its values would vanish{hint}")
                )  # fmt: skip
            else:
                findings += _check_shape(metric_id, *catalogue[metric_id], model, metric, compiled)
    for metric_id, (line, _) in catalogue.items():
        if metric_id not in made_by:
            near = nearest_name(metric_id, made_by)
            hint = f" (did you mean {near!r}?)" if near and near not in catalogue else ""
            findings.append(Finding(str(CATALOGUE), line, f"{metric_id} is a metric of no model{hint}"))
    return findings


def check_removals(project: Path, connection: Connection) -> list[Finding]:
    """Published metrics, segments and grains that the catalogue does not have any more, and that retired_metrics.yml does not name either.

    Readers would miss their values. Raises ConfigError for a file retired_metrics.yml that cannot be used.
    """
    if connection.execute("select to_regclass('marts.metrics') as published").fetchone() == {"published": None}:
        return []
    catalogue = _read_catalogue(project)
    path = project / RETIRED
    retired = {(r.metric_id, r.segment, r.grain) for r in read_config_file(path, RetiredMetrics).retired}
    findings = []
    for metric in connection.execute(
        "select metric_id, grains, segments from marts.metrics order by metric_id"
    ).fetchall():
        metric_id = metric["metric_id"]
        if (metric_id, None, None) in retired:
            continue
        line, row = catalogue.get(metric_id, (1, None))
        if row is None:
            removed = [("", (metric_id, None, None), f"metric_id: {metric_id}")]
        else:
            removed = [
                (f", {column}: {name}", (metric_id, *((name, None) if column == "segments" else (None, name))), f"metric_id: {metric_id}, {column[:-1]}: {name}")
                for column in ("segments", "grains")
                # what follows from a home's rules is the home's to take away
                for name in sorted(_names(metric[column]) - _names(row[column]) - DERIVED_SEGMENTS.keys())
            ]  # fmt: skip
        findings += [
            Finding(
                str(CATALOGUE), line,
                f"{metric_id}{place} is published and no longer here, so readers would miss its values: put it back, "
                f"or name it in {RETIRED}: - {{{entry}, because: ...}}",
            )
            for place, key, entry in removed if key not in retired
        ]  # fmt: skip
    return findings


def _names(listed: str | None) -> set[str]:
    """The names in a list of the catalogue."""
    return {name.strip() for name in re.split("[,;]", listed or "") if name.strip()}


def metric_model_names(project: Path) -> list[str]:
    """The models whose rows are values of metrics, by their config."""
    return sorted(path.stem for path in (project / "models").rglob("*.sql") if IS_METRIC_MODEL.search(path.read_text()))


def _check_model(project: Path, path: Path, text: str, entry: tuple[Path, ModelEntry] | None) -> Iterator[Finding]:
    """path: of the model, relative to the project; entry: the YAML file that describes it, and what is there."""
    if not text.startswith("-- Grain:"):
        yield Finding(str(path), 1, "the first line has to say what a row is: `-- Grain: account, month. ...`")
    if entry is None:
        beside = next((file.name for file in sorted((project / path.parent).glob("_*.yml")) if file.name != "_unit_tests.yml"), "a _<folder>.yml")  # fmt: skip
        yield Finding(str(path), 1, f"the model is not described: add it to {path.parent / beside}")
        return
    file, model = entry
    yaml_text = (project / file).read_text()
    line = line_of(yaml_text, f"name: {path.stem}")
    if not model.get("description"):
        yield Finding(str(file), line, f"{path.stem} has no description")
    if path.parts[1] != "marts":
        return
    if not (model.get("config") or {}).get("contract", {}).get("enforced"):
        yield Finding(
            str(file), line, f"{path.stem} is a mart without a contract: `config: {{contract: {{enforced: true}}}}`"
        )
    if not model.get("columns"):
        yield Finding(str(file), line, f"{path.stem} describes no column")
    for column in model.get("columns") or []:
        for key in ("description", "data_type"):
            if not column.get(key):
                yield Finding(str(file), line_of(yaml_text, f"name: {column['name']}", line), f"the column {path.stem}.{column['name']} has no {key}")  # fmt: skip
    if IS_VIEW.search(text):
        return
    if not KEY.search(text):
        yield Finding(str(path), 1, "a mart needs the key of its rows: `{{ config(unique_key=[...]) }}`")
    if not model.get("data_tests") and "'key'" not in text:
        yield Finding(str(file), line, f"{path.stem} has no test of its key: `data_tests: [unique_key: {{arguments: {{columns: [...]}}}}]`")  # fmt: skip


def _check_shape(
    metric_id: str, line: int, row: dict[str, str], model: str, metric: Metric, compiled: Mapping[str, str]
) -> Iterator[Finding]:
    """Grains and segments of a row of the catalogue that nothing which the metric is made of has."""
    words = set(WORD.findall(f"{metric.numerator} {metric.denominator or ''}"))
    measures = _measures_above(model, words, compiled)
    if not measures:
        return
    for column, known in (
        ("grains", {grain for m in measures for grain in m.grains}),
        ("segments", {segment for m in measures for segment in m.segments}),
    ):
        for name in sorted(_names(row[column])):
            if name not in known:
                near = nearest_name(name, known)
                hint = f"did you mean {near!r}? " if near else ""
                listed = ", ".join(sorted(known)) or "none"
                yield Finding(
                    str(CATALOGUE), line,
                    f"{metric_id}, {column}: {name!r} is measured by nothing that {model} reads; {hint}it has {listed}",
                )  # fmt: skip


def _measures_above(model: str, words: set[str], compiled: Mapping[str, str]) -> list[Measure]:
    """The measures that the words name, of the nearest models that have any of them; if none has, all measures of the nearest that have some."""
    level, seen, others = [model], {model}, list[Measure]()
    while level:
        measures = [m for name in level for m in read_notes(name, compiled[name])[0]]
        if named := [m for m in measures if words & set(m.measures)]:
            return named
        others = others or measures
        level = sorted({parent for name in level for parent in parents(compiled[name])} & set(compiled) - seen)
        seen.update(level)
    return others


def _documented_models(project: Path) -> dict[str, tuple[Path, ModelEntry]]:
    """{model: (the YAML file that describes it, relative to the project; what is there)}."""
    documented = {}
    for path in sorted((project / "models").rglob("*.yml")):
        if path.name == "_unit_tests.yml":
            continue
        for model in _read_yaml(path).get("models") or []:
            documented[model["name"]] = (path.relative_to(project), model)
    return documented


def _read_yaml(path: Path) -> ProjectFile:
    """The content of a YAML file of the project, which all who ask share: do not change it. Raises NorthstarError for one that is none."""
    try:
        return parse_project_file(path.read_text())
    except yaml.YAMLError as exc:
        raise NorthstarError(f"{path} is not valid YAML ({' '.join(str(exc).split())[:200]})") from exc


@lru_cache(maxsize=256)
def parse_project_file(text: str) -> ProjectFile:
    """The content of a YAML file of the project by its text. All who ask for the same text share it. Raises yaml.YAMLError when it is no YAML."""
    content: ProjectFile | None = yaml.load(text, Loader=OWN_LOADER)
    return content or ProjectFile()


def _read_catalogue(project: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """{metric_id: (its line, its row)}."""
    reader = csv.DictReader(io.StringIO((project / CATALOGUE).read_text()))
    catalogue = {}
    for row in reader:
        catalogue[row["metric_id"]] = (reader.line_num, row)
    return catalogue


def line_of(text: str, phrase: str, after: int = 1) -> int:
    """The first line, from line `after` on, that has the phrase; `after` if none has."""
    lines = text.splitlines()
    return next((n for n in range(after, len(lines) + 1) if phrase in lines[n - 1]), after)
