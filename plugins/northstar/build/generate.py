"""Generate the parts of the dbt project that follow from the contract, and from its own files: `python -m northstar.build.generate`.

These are one staging view for each entity (typed columns; rows that exist at `as_of`; later timestamps that are not known yet, or that lie before the
row's own time and so cannot be, read as null),
the source definitions and their documentation; what follows from metrics.yml (northstar.build.declared_metrics); and the lists of metric models. A test fails when the files and the contract differ, and a run stops when the
lists and the models do (northstar.build.structure).
"""

import re
from pathlib import Path

import yaml

from northstar.base.settings import ROOT
from northstar.contract import FREE_TEXT_COLUMNS, MAX_GROUP_CHARACTERS, Column, Entity, entities

PROJECT = ROOT / "dbt_project"
# the file that lists the metric models, relative to the project
METRIC_MODELS = Path("macros", "metrics", "metric_models.sql")
# the metrics that need no SQL, and all metrics, relative to the project
DECLARED = Path("metrics.yml")
CATALOGUE = Path("seeds", "metric_catalogue.csv")
# the models of the metrics that need no SQL: made of others, and counted
DECLARED_MODELS = ("metrics_composed", "metrics_counted")
# a model whose rows are values of metrics, by its config; this one judges the others' values
IS_METRIC_MODEL = re.compile(r"'mart'\s*:\s*'metric_points'")
TARGETS_MET = "metrics_targets"


def staging_view(entity: Entity) -> str:
    """The SQL of `stg_<entity>`."""
    later = set(entity.later_times)
    lines = []
    for column in entity.stored_columns.values():
        if column.name in FREE_TEXT_COLUMNS:
            lines.append(f"    left({column.name}, {MAX_GROUP_CHARACTERS}) as {column.name},")
        elif column.name in later:
            conditions = [f"{column.name} < {{{{ as_of() }}}}"]
            if column.name in entity.following_times:
                conditions.append(f"{column.name} >= {entity.own_time}")
            lines.append(f"    case when {' and '.join(conditions)} then {column.name} end as {column.name},")
        else:
            lines.append(f"    {column.name},")
    lines += ["    _extra,", "    _batch_id,", "    _loaded_at"]
    existing = [f"{entity.own_time} < {{{{ as_of() }}}}"]
    if entity.name == "subscriptions":
        existing += ["not _is_overlapping", "(valid_to is null or valid_to > valid_from)"]
    return "\n".join(
        [
            f"-- Grain: {', '.join(entity.key)}. Written by northstar.build.generate from the source contract.",
            "select",
            *lines,
            f"from {{{{ source('staging', '{entity.name}') }}}}",
            f"where {' and '.join(existing)}",
            "",
        ]
    )


def staging_docs() -> dict[str, object]:
    """The dbt source and model properties of the staging layer, ready for YAML."""
    tables, models = [], []
    for entity in entities().values():
        columns = [
            {"name": c.name, "description": _describe(c), "data_type": c.postgres_type}
            for c in entity.stored_columns.values()
        ] + [
            {"name": name, "description": f'{{{{ doc("{name}") }}}}'} for name in ("_extra", "_batch_id", "_loaded_at")
        ]
        tables.append({"name": entity.name, "description": entity.about, "columns": columns})
        about = f"{entity.about}; the rows that exist at as_of"
        models.append({"name": f"stg_{entity.name}", "description": about, "columns": columns})
    source = {
        "name": "staging",
        # on Spark the views of a session stand for the landed tables
        "schema": "{{ target.schema if target.type == 'spark' else 'staging' }}",
        "description": "Landed rows, one for each key, as the source contract types them",
        "tables": tables,
    }
    return {"version": 2, "sources": [source], "models": models}


def _describe(column: Column) -> str:
    parts = [column.note or column.name.replace("_", " ").strip()]
    if column.values:
        parts.append("one of " + ", ".join(column.values))
    if column.pii == "hash":
        parts.append("keyed hash of personal data")
    if column.name in FREE_TEXT_COLUMNS:
        parts.append(f"models have its first {MAX_GROUP_CHARACTERS} characters")
    return "; ".join(parts)


def generated_files(project: Path = PROJECT) -> dict[Path, str]:
    """{path: content} of every generated file of a dbt project."""
    # it brings the parser of SQL, which no hourly run needs
    from northstar.build.declared_files import declared_files

    staging = project / "models" / "staging"
    contents = {staging / f"stg_{name}.sql": staging_view(entity) for name, entity in entities().items()}
    contents[staging / "_staging.yml"] = (
        "# Written by northstar.build.generate from the source contract.\n"
        + yaml.safe_dump(staging_docs(), sort_keys=False, width=140)
    )
    contents[project / "macros" / "incremental" / "entity_times.sql"] = entity_times()
    contents |= {project / path: content for path, content in declared_files(project).items()}
    contents[project / METRIC_MODELS] = metric_models(project)
    return contents


def entity_times() -> str:
    """The text of the dbt macro that gives each entity's key, its own time and its later times."""
    rows = [
        f"        '{e.name}': {{'key': {list(e.key)}, 'own': '{e.own_time}', 'later': {list(e.later_times)}}},"
        for e in entities().values()
    ]
    return "\n".join(
        [
            "{# Written by northstar.build.generate from the source contract. #}",
            "{% macro entity_times() %}",
            "    {{ return({",
            *rows,
            "    }) }}",
            "{% endmacro %}",
            "",
        ]
    )


def metric_models(project: Path) -> str:
    """The text of the dbt macros that list the project's metric models and the models that say when their series begin.

    Only the names and configs of files say which they are, and dbt has to know them before it reads the project.
    """
    models = {path.stem: path.read_text() for path in (project / "models" / "core").rglob("*.sql")}
    parts = [name for name, text in sorted(models.items()) if IS_METRIC_MODEL.search(text) and name != TARGETS_MET]
    series = sorted({name for part in parts for name in re.findall(r"ref\('(series_\w+)'\)", models[part])})
    return "\n".join(
        [
            "{# Written by northstar.build.generate from the files in models/core. #}",
            "",
            "{# The models that make up metric_values, but for those that judge them. #}",
            "{% macro metric_parts() %}",
            *_returned_list(parts),
            "{% endmacro %}",
            "",
            "{# The models that say when series begin. #}",
            "{% macro metric_series_models() %}",
            *_returned_list(series),
            "{% endmacro %}",
            "",
        ]
    )


def _returned_list(names: list[str]) -> list[str]:
    return ["    {{ return([", *(f"        '{name}'," for name in names), "    ]) }}"]


def main(project: Path = PROJECT) -> None:
    """Write the generated files of a dbt project."""
    for path, content in generated_files(project).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
