"""The dbt project as a whole: unit tests pass, everything is described, the catalogue is covered."""

import csv
import json
import os
import re
import shutil

import jinja2
import pytest
import yaml

from benchmarks.mutations import lost
from northstar.base.collector import uncollected
from northstar.base.settings import ROOT, Settings
from northstar.build.code_version import code_version
from northstar.build.dbt import dbt_env
from northstar.build.lean import without_what_nobody_reads
from northstar.build.manifest import TEMPLATES, dbt_target
from northstar.warehouse import db
from tests.support import select


@pytest.fixture(scope="module")
def catalogue(built):
    with open(built.root / "dbt_project" / "seeds" / "metric_catalogue.csv") as handle:
        return {m["metric_id"]: m for m in csv.DictReader(handle)}


@pytest.fixture(scope="module")
def manifest(built):
    return json.loads((dbt_target(built) / "manifest.json").read_text())


def test_the_metrics_worked_by_hand_come_out(built):
    os.environ.update(dbt_env(built))
    from dbt.cli.main import dbtRunner

    with uncollected(), without_what_nobody_reads(dbt_target(built) / TEMPLATES, "", is_written=False):
        result = dbtRunner().invoke(["test", "--select", "test_type:unit", "--quiet"])
    assert result.success, [r.message for r in getattr(result.result, "results", []) if r.status != "pass"]


def test_every_rule_that_the_mutations_break_is_still_where_they_look_for_it():
    assert not lost()


def test_hooks_and_settings_of_the_project_are_part_of_the_code(tmp_path):
    project = tmp_path / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    settings = Settings(home=tmp_path, root=tmp_path)
    before = code_version(settings)
    text = (project / "dbt_project.yml").read_text()
    (project / "dbt_project.yml").write_text(text.replace("+schema: core", "+schema: kernel"))
    assert code_version(settings) != before


def test_what_does_not_depend_on_time_reads_nothing_that_does(manifest):
    """But for the periods and the days' rates: what they add as time passes is of no row that was there."""
    nodes = manifest["nodes"]

    def above(unique_id: str) -> set[str]:
        parents = [i for i in nodes[unique_id]["depends_on"].get("nodes", []) if i in nodes]
        return set(parents).union(*map(above, parents))

    resting = [i for i, node in nodes.items() if node["config"].get("time_dependent") is False]
    for unique_id in resting:
        timed = {
            nodes[i]["name"] for i in above(unique_id) if nodes[i]["config"]["materialized"] in ("table", "incremental")
        }
        timed -= {nodes[i]["name"] for i in resting}
        assert timed <= {"periods", "fx_daily"}, unique_id
        # which items stop counting by time alone under `count_past_due: 3` is found where an hour looks for changes (macros/incremental)
        text = re.sub(r"{% if days %}.*?{% endif %}", "", nodes[unique_id]["raw_code"], flags=re.DOTALL)
        assert "as_of()" not in text and "run_context" not in text, unique_id
    assert len(resting) > 60


def declared_needs(root) -> dict[str, list[str]]:
    """What the macro metric_needs returns."""
    returned = []
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    macros = root / "dbt_project" / "macros" / "metrics"
    text = "".join((macros / name).read_text() for name in ("declared_metrics.sql", "needs.sql"))
    # a macro of dbt returns the value itself
    given = {"return": lambda value: returned.append(value) or "", "last": lambda _: returned.pop()}
    text = re.sub(r"(counted|composed)_metrics\(\)(?! %\})", r"last(\g<0>)", text)
    environment.from_string(text).make_module(given).metric_needs()
    return returned[0]


def test_every_metric_says_what_it_stands_on_and_nothing_that_its_model_does_not_read(built, catalogue, manifest):
    needs, nodes = declared_needs(built.root), manifest["nodes"]
    assert needs.keys() == catalogue.keys()
    # it stands on other metrics
    assert [metric for metric, names in needs.items() if not names] == ["targets_met_rate"]

    def entities_of(unique_id: str) -> set[str]:
        parents = nodes[unique_id]["depends_on"].get("nodes", [])
        return {i.rsplit(".", 1)[1] for i in parents if i.startswith("source.")}.union(
            *(entities_of(i) for i in parents if i in nodes)
        )

    models = [n for n in nodes.values() if n["name"].startswith("metrics_") and n["resource_type"] == "model"]
    for metric, names in needs.items():
        readers = [n["unique_id"] for n in models if f"'{metric}'" in n["raw_code"]]
        read = set().union(*map(entities_of, readers))
        assert {re.split("[. ]", name)[0] for name in names} <= read, metric


def test_every_metric_has_a_unit_test(built, catalogue):
    tested = set()
    for path in (built.root / "dbt_project" / "models").rglob("*.yml"):
        for test in (yaml.safe_load(path.read_text()) or {}).get("unit_tests", []):
            tested |= {row.get("metric_id") for row in test["expect"]["rows"]}
    assert set(catalogue) <= tested, sorted(set(catalogue) - tested)


def test_every_metric_has_values_in_all_its_grains_and_segments(built, catalogue):
    found = {
        (r["metric_id"], r["grain"], r["segment"])
        for r in select(built, "select distinct metric_id, grain, segment from metric_values")
    }
    wanted = {
        (name, grain.strip(), segment)
        for name, m in catalogue.items()
        for grain in m["grains"].split(",")
        for segment in ["", *filter(None, m["segments"].split(";"))]
    }
    assert wanted <= found, sorted(wanted - found)


def test_every_metric_is_described_and_has_an_owner(built, catalogue):
    told = select(
        built, "select metric_id from metrics where coalesce(definition, '') != '' and coalesce(owner, '') != ''"
    )
    assert {r["metric_id"] for r in told} == set(catalogue)


def test_every_model_is_described_and_every_mart_column_typed(manifest):
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model":
            continue
        assert node["description"], node["name"]
        if node["schema"] == "marts_candidate":
            assert node["config"]["contract"]["enforced"], node["name"]
            assert all(
                c["description"] and c["description"] != "TODO" and c["data_type"] for c in node["columns"].values()
            ), node["name"]


def test_every_column_that_is_built_is_described(built, manifest):
    told = {
        (node["schema"], node["alias"], name)
        for node in manifest["nodes"].values()
        for name, column in node.get("columns", {}).items()
        if column["description"]
    }
    with db.connect(built, "owner") as connection:
        columns = connection.execute(
            "select relnamespace::regnamespace::text as schema, relname as relation, attname as name from pg_attribute "
            "join pg_class on pg_class.oid = attrelid where relnamespace::regnamespace::text in ('core', 'marts_candidate', "
            "'staging') and relkind in ('r', 'v') and attnum > 0 and not attisdropped"
        ).fetchall()
    relations = {
        (node["schema"], node["alias"]) for node in manifest["nodes"].values() if node["resource_type"] != "test"
    }
    bare = [
        tuple(c.values())
        for c in columns
        if (c["schema"], c["relation"]) in relations and tuple(c.values()) not in told
    ]
    assert len(columns) > 1000
    assert bare == []


def test_every_page_and_report_that_the_catalogue_names_is_an_exposure_of_marts(manifest, catalogue):
    exposures = {e["name"]: e for e in manifest["exposures"].values()}
    named = {n for m in catalogue.values() for n in [*m["dashboards"].split(";"), *m["reports"].split(";")] if n}
    assert named == set(exposures)
    for exposure in exposures.values():
        schemas = {manifest["nodes"][n]["schema"] for n in exposure["depends_on"]["nodes"]}
        assert schemas == {"marts_candidate"}, exposure["name"]


def test_metricflow_offers_every_metric_of_level_1_and_2_and_those_of_metrics_yml(manifest, catalogue):
    offered = {m["name"] for m in manifest["metrics"].values()}
    declared = yaml.safe_load((ROOT / "dbt_project" / "metrics.yml").read_text())
    assert declared["composed"].keys() | declared["counted"].keys() <= offered
    assert {name for name, m in catalogue.items() if m["level"] in "12"} <= offered
    models = {n for m in manifest["semantic_models"].values() for n in m["depends_on"]["nodes"]}
    assert {manifest["nodes"][n]["schema"] for n in models} == {"marts_candidate"}


def test_every_model_says_its_grain_and_reads_no_clock(built):
    for path in (built.root / "dbt_project" / "models").rglob("*.sql"):
        text = path.read_text()
        assert text.startswith("-- Grain: "), path
        assert not re.search(r"\b(now\(\)|current_date|current_timestamp|clock_timestamp|statement_timestamp)", text), (
            path
        )


def test_every_incremental_model_finds_its_scope_through_an_index(manifest):
    # replace_affected looks each key of the scope up: without an index each of them reads the whole table
    for node in manifest["nodes"].values():
        scope = node["config"].get("affected_by") if node["resource_type"] == "model" else None
        if scope:
            starts = [set(index["columns"][: len(scope)]) for index in node["config"].get("indexes") or []]
            assert set(scope) in starts, f"{node['name']} has no index that begins with {scope}"


def test_rows_that_are_looked_up_together_lie_together(built, manifest):
    ordered = {
        node["relation_name"]: node["config"]["ordered_by"]
        for node in manifest["nodes"].values()
        if node["config"].get("ordered_by")
    }
    assert len(ordered) > 10
    for table, columns in ordered.items():
        named = ", ".join(f"t.{c}" for c in columns)
        with db.connect(built, "transformer") as connection:
            rows = connection.execute(f"select count(*) as n from {table}").fetchone()["n"]
            back = connection.execute(
                f"select count(*) as n from (select row({named}) < lag(row({named})) over (order by t.ctid) as is_back from {table} as t) as x "
                "where is_back"
            ).fetchone()["n"]
        # other tests put rows back that they took out, wherever a page has room
        assert rows and back <= rows / 10, table


def test_published_tables_carry_their_descriptions(built):
    bare = select(
        built,
        "select relname, attname from pg_attribute join pg_class on pg_class.oid = attrelid "
        "where relnamespace = 'marts'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped "
        "and attname not like '\\_%%' and relname != 'publications' and coalesce(col_description(attrelid, attnum), '') = ''",
    )
    assert bare == []
