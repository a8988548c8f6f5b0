"""The home's own funnels.csv and targets.csv, which replace the seeds of the release (docs/decisions.md, D160).

`load_settings` has read their texts. They are checked when a run opens, and copied into a dbt project of the home when dbt runs: everything else in it is
a link to the release's project.
"""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from northstar.base.clock import GRAINS, Grain
from northstar.base.config_files import ConfigError, Section, nearest_name, read_rows
from northstar.base.files import write_private
from northstar.base.settings import Settings
from northstar.warehouse.rows import Connection

EVENT = r"[^#]+(#[1-9][0-9]*)?"
DUE = r"(month|week) [1-9][0-9]{0,3}|phase \S.*"
ALL_METRICS = '`northstar sql "select metric_id from metrics"` lists all'
Number = Annotated[Decimal | None, Field(description="give a number, such as 99.5")]


class FunnelStage(Section):
    """A row of funnels.csv: one stage of a funnel."""

    funnel: str = Field(description="the funnel's name, such as signup_to_order")
    stage_number: int = Field(ge=1, description="give the stage's place in its funnel: 1, 2, 3, ...")
    stage: str = Field(description="the stage's name")
    event_name: str = Field(
        pattern=f"^{EVENT}$", description="give the event that reaches the stage; `name#2` is the second of that name"
    )
    target_conversion_percent: Decimal | None = Field(
        None, ge=0, le=100, description="give the percentage of the stage before that should reach this one, 0 to 100"
    )
    window_days: int = Field(ge=1, le=3650, description="give the days from the first stage to the last, such as 30")
    application: str = Field(description="the application whose events are counted")
    requirement_ref: str | None = Field(None, description="give a reference of your own, such as a document's line")


class Target(Section):
    """A row of targets.csv: what a metric of an application should be."""

    metric_id: str = Field(description="the metric")
    application: str = Field(description="the application that set the target; `all` is the whole company")
    segment: str | None = None
    segment_value: str | None = None
    grain: Grain = Field(description=f"give one of {', '.join(GRAINS)}")
    operator: Literal[">", ">=", "<", "<="] | None = Field(None, description="give the good side: >, >=, < or <=")
    target: Number = None
    trend: Literal["rise", "drop", "spike"] | None = Field(None, description="give the bad trend: rise, drop or spike")
    warning: Number = None
    critical: Number = None
    green: Number = None
    red: Number = None
    alert_latency: Literal["immediate", "2m", "5m", "15m", "30m", "hourly", "daily"] = Field(
        "daily", description="give how soon somebody is told: immediate, 2m, 5m, 15m, 30m, hourly or daily"
    )
    action: str | None = None
    due: str | None = Field(
        None, pattern=f"^({DUE})$", description="give when it must be met: month 6, week 12, phase beta; or nothing"
    )
    requirement_ref: str | None = Field(None, description="give a reference of your own, such as a document's line")
    currency: str | None = Field(
        None, description="give the currency of the amounts, or nothing: the reporting currency"
    )


def check_own_seeds(settings: Settings) -> None:
    """Raise ConfigError with file, line and column for the first thing in the home's funnels.csv and targets.csv that cannot be used."""
    for name in settings.own_seeds:
        _seed_rows(settings, name)


def project_directory(settings: Settings) -> Path:
    """The dbt project that this home builds: the release's, or one of the home's own in which its seeds lie."""
    return settings.home / "dbt" / "project" if settings.own_seeds else settings.root / "dbt_project"


def write_project(settings: Settings, project: Path | None = None) -> None:
    """Write the home's own dbt project, if it has seeds of its own. project: where to write it, if not where its runs build it."""
    if not settings.own_seeds:
        return
    project, released = project or project_directory(settings), settings.root / "dbt_project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "seeds").mkdir(parents=True)
    for name in ("dbt_project.yml", "profiles.yml", "models", "macros"):
        (project / name).symlink_to(released / name)
    for file in (released / "seeds").iterdir():
        if file.stem not in settings.own_seeds:
            (project / "seeds" / file.name).symlink_to(file)
    for name in settings.own_seeds:
        write_private(project / "seeds" / f"{name}.csv", _seed_text(name, _seed_rows(settings, name)))


def own_funnels(settings: Settings) -> list[str] | None:
    """The names of the home's own funnels, in their order; None if it has the release's."""
    if "funnels" not in settings.own_seeds:
        return None
    stages = read_rows(settings.own_seeds["funnels"], _where(settings, "funnels"), FunnelStage)
    return list(dict.fromkeys(stage.funnel for _, stage in stages))


def unknown_names(settings: Settings, connection: Connection) -> Iterator[str]:
    """A warning for each event of the home's own funnels, and each application of its own targets, that nothing has come from, as far as it was built."""
    if "funnels" in settings.own_seeds:
        names_by_application: dict[str, set[str]] = {}
        for row in connection.execute("select distinct application, event_name from core.event_hours").fetchall():
            names_by_application.setdefault(row["application"], set()).add(row["event_name"])
        where = _where(settings, "funnels")
        for line, stage in read_rows(settings.own_seeds["funnels"], where, FunnelStage):
            name, known = stage.event_name.partition("#")[0], names_by_application.get(stage.application, set())
            if name not in known:
                problem = f"{stage.application} has no event {name!r} so far"
                yield f"{where}, line {line}, event_name: {problem}{_suggestion(name, known)}"
    if "targets" in settings.own_seeds:
        rows = connection.execute("select distinct application from core.series_states").fetchall()
        applications, where = {row["application"] for row in rows}, _where(settings, "targets")
        for line, target in read_rows(settings.own_seeds["targets"], where, Target):
            if target.application not in applications:
                problem = f"no metric has a value of {target.application!r} so far"
                yield f"{where}, line {line}, application: {problem}{_suggestion(target.application, applications)}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = nearest_name(name, known)
    return f"; did you mean {nearest!r}?" if nearest else ""


def _where(settings: Settings, name: str) -> str:
    return str(settings.config / f"{name}.csv")


def _seed_rows(settings: Settings, name: str) -> list[FunnelStage] | list[Target]:
    text, where = settings.own_seeds[name], _where(settings, name)
    if name == "funnels":
        stages = read_rows(text, where, FunnelStage)
        _check_funnels(stages, where)
        return [stage for _, stage in stages]
    targets = read_rows(text, where, Target)
    _check_targets(targets, where, settings)
    return [target for _, target in targets]


def _seed_text(name: str, rows: list[FunnelStage] | list[Target]) -> str:
    """The rows as CSV with all columns of the seed, in its order."""
    model: type[Section] = FunnelStage if name == "funnels" else Target
    out = io.StringIO()
    writer = csv.DictWriter(out, list(model.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return out.getvalue()


def _check_funnels(stages: list[tuple[int, FunnelStage]], where: str) -> None:
    seen: dict[str, list[FunnelStage]] = {}
    for line, stage in stages:
        before = seen.setdefault(stage.funnel, [])
        if stage.stage_number != len(before) + 1:
            problem = f"the stages of {stage.funnel} are numbered 1, 2, 3, ... in their order; here {len(before) + 1} comes next"
            raise ConfigError(where, line, "stage_number", problem)
        if not before and "#" in stage.event_name:
            raise ConfigError(
                where, line, "event_name", "the first stage is the first event of its name: leave the # out"
            )
        for column in ("application", "window_days"):
            first = getattr((before or [stage])[0], column)
            if getattr(stage, column) != first:
                raise ConfigError(where, line, column, f"a funnel has one {column}; the first stage has {first}")
        if stage.stage in [earlier.stage for earlier in before]:
            raise ConfigError(where, line, "stage", f"{stage.funnel} has a stage {stage.stage!r} already")
        before.append(stage)


def _check_targets(targets: list[tuple[int, Target]], where: str, settings: Settings) -> None:
    reporting_currency = settings.rules.reporting_currency
    with (settings.root / "dbt_project" / "seeds" / "metric_catalogue.csv").open() as file:
        catalogue = {row["metric_id"]: row for row in csv.DictReader(file)}
    for row in catalogue.values():
        if "country" in row["segments"].split(";"):
            row["segments"] = ";".join([row["segments"], *settings.rules.derived_segments])
    line_by_target: dict[tuple[str | None, ...], int] = {}
    for line, target in targets:
        for column, check in TARGET_CHECKS.items():
            if problem := check(target, catalogue):
                raise ConfigError(where, line, column, problem)
        if target.currency not in (None, reporting_currency):
            problem = f"amounts are published in {reporting_currency} (reporting_currency in northstar.yml): write the amounts in it"
            raise ConfigError(where, line, "currency", f"{target.currency!r} is another currency; {problem}")
        # the parts of target_id (dbt_project/models/core/targets/judged_targets.sql)
        reference = (target.requirement_ref or "").replace(":", ".")
        key = (target.metric_id, target.application, target.grain, target.segment, target.segment_value, reference)
        if key in line_by_target:
            problem = f"the same target as in line {line_by_target[key]}; give each a requirement_ref of its own"
            raise ConfigError(where, line, "requirement_ref", problem)
        line_by_target[key] = line


# {metric_id: its row of the catalogue}
Catalogue = dict[str, dict[str, str]]


def _metric_problem(target: Target, catalogue: Catalogue) -> str | None:
    if target.metric_id in catalogue:
        return None
    return f"unknown metric {target.metric_id!r}{_suggestion(target.metric_id, catalogue)}; {ALL_METRICS}"


def _grain_problem(target: Target, catalogue: Catalogue) -> str | None:
    grains = re.findall(r"\w+", catalogue[target.metric_id]["grains"])
    return None if target.grain in grains else f"{target.metric_id} is published by {', '.join(grains)}"


def _segment_problem(target: Target, catalogue: Catalogue) -> str | None:
    segments = [name for name in catalogue[target.metric_id]["segments"].split(";") if name]
    if target.segment is None or target.segment in segments:
        return None
    return f"{target.metric_id} has {'the segments ' + ', '.join(segments) if segments else 'no segments'}"


def _segment_value_problem(target: Target, _: Catalogue) -> str | None:
    if (target.segment is None) == (target.segment_value is None):
        return None
    return "a segment and its value belong together: give both or neither"


def _operator_problem(target: Target, _: Catalogue) -> str | None:
    thresholds = (target.target, target.warning, target.critical, target.green, target.red)
    has_threshold = any(value is not None for value in thresholds)
    if has_threshold and target.operator is None:
        return "give the good side of the number: >, >=, < or <="
    return None if has_threshold or target.trend else "give a target, a threshold or a trend"


# by column, in the order in which they are checked
TARGET_CHECKS: dict[str, Callable[[Target, Catalogue], str | None]] = {
    "metric_id": _metric_problem,
    "grain": _grain_problem,
    "segment": _segment_problem,
    "segment_value": _segment_value_problem,
    "operator": _operator_problem,
}
