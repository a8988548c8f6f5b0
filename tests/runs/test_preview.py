"""A preview shows what a change of the working tree would change, and leaves nothing behind."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import psycopg2
import pytest
import yaml

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, Rules
from northstar.cli import main as cli
from northstar.runs.preview import preview as preview_module
from northstar.runs.preview import scratch
from northstar.runs.preview.preview import Limits, preview
from northstar.runs.preview.scratch import SCHEMA, build_beside, drop_previews
from northstar.runs.preview.text import as_json, as_markdown, as_text, for_pages
from northstar.warehouse import db
from tests.support import changed_text, query_as, silent, utc

MUTATIONS = {m["rule"]: m for m in yaml.safe_load((ROOT / "benchmarks" / "mutations.yml").read_text())}
# what each broken rule has to change, at least
BROKEN = {
    "arr is twelve mrr": "arr",
    "losses are negative": "quick_ratio",
    "percentiles are continuous": "api_response_time_p95",
    "a failure rate is of all attempts": "payment_failure_rate",
    "first contact means no reopening": "first_contact_resolution_rate",
    "response time is a median": "first_response_time",
    "promoters give 9 or 10": "nps",
    "net revenue is the commission": "marketplace_net_revenue",
    "5xx begins at 500": "error_rate",
    "grave is high or critical": "security_incidents",
}


def working_tree(root: Path) -> Path:
    """A working tree to change: a copy of the dbt project, and the checks."""
    shutil.copytree(ROOT / "dbt_project", root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (root / "expectations").symlink_to(ROOT / "expectations")
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The working tree of this module's previews."""
    return working_tree(tmp_path_factory.mktemp("tree"))


def changed(tree: Path, file: str, was: str, now: str):
    """The tree with a text replaced in a file of its models."""
    return changed_text((tree / "dbt_project" / "models" / file).resolve(), was, now)


def broken(tree: Path, rule: str):
    """The tree with a rule broken."""
    mutation = MUTATIONS[rule]
    return changed(tree, mutation["file"], mutation["was"], mutation["now"])


def relations(settings) -> list[str]:
    """What is in the scratch schema."""
    return [
        row["relname"]
        for row in query_as(
            settings, "transformer", "select relname from pg_class where relnamespace = %s::regnamespace", SCHEMA
        )
    ]


def test_a_comment_and_a_layout_change_nothing_and_what_a_killed_preview_left_is_gone(built, tmp_path):
    # the first tree that the home sees is gone before the others are previewed
    tree = working_tree(tmp_path)
    with db.connect(built, "transformer", autocommit=True) as connection:
        connection.execute(f"create table {SCHEMA}.left_behind as select 1 as one")
    model = "core/support/metrics_support.sql"
    with changed(tree, model, "with tickets as (", "-- a comment\nwith   tickets\nas ("):
        shown = preview(replace(built, root=tree), progress=silent)
    assert not shown.is_different and not shown.changed and shown.status == 0
    assert as_text(shown).startswith("nothing would change (no model is compiled to other SQL; version 1")
    assert relations(built) == []
    shutil.rmtree(tree / "dbt_project")


@pytest.fixture(scope="module")
def all_broken(built, tree):
    """What a preview shows of the tree with all the rules broken at once: each is about a metric of its own."""
    with ExitStack() as stack:
        for rule in BROKEN:
            stack.enter_context(broken(tree, rule))
        shown = preview(replace(built, root=tree), progress=silent)
    assert relations(built) == []
    return shown


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_shows_as_a_difference_of_its_metric(built, all_broken, rule):
    assert all_broken.changed[Path(MUTATIONS[rule]["file"]).stem] == ["definition"]
    metrics = {m.counts["metric_id"]: m for m in all_broken.metrics}
    metric = metrics[BROKEN[rule]]
    value = metric.largest[0]
    assert metric.counts["values"] > 0 and value["old_value"] != value["new_value"]
    # the old value is the published one
    (published,) = query_as(
        built, "bi_reader", "select value from metric_values where metric_id = %s and grain = %s and period_start = %s and application = %s "
        "and segment = %s and segment_value = %s",
        *(value[name] for name in ("metric_id", "grain", "period_start", "application", "segment", "segment_value")),
    )  # fmt: skip
    assert published["value"] == value["old_value"]


def test_what_no_rule_is_about_shows_no_difference(all_broken):
    assert all_broken.changed.keys() == {Path(MUTATIONS[rule]["file"]).stem for rule in BROKEN}
    metrics = {m.counts["metric_id"] for m in all_broken.metrics}
    assert metrics >= set(BROKEN.values()) and not metrics & {"mrr", "dau", "ticket_volume"}


def test_the_difference_is_complete_and_has_its_readers_and_rows(built, tree):
    with broken(tree, "arr is twelve mrr"):
        shown = preview(replace(built, root=tree), ["arr"], progress=silent)
    arr = next(m for m in shown.metrics if m.counts["metric_id"] == "arr")
    (published,) = query_as(
        built, "bi_reader", "select count(*) as n from metric_values where metric_id = 'arr' and value != 0"
    )
    assert arr.counts["values"] == published["n"] and [m.counts["metric_id"] for m in shown.metrics] == ["arr"]
    # rounded to cents
    assert all(abs(v["new_value"] * 12 - v["old_value"] * 11) < 1 for v in arr.largest)
    assert "Revenue: Revenue" in shown.readers["pages"] and "arr" in shown.readers["metricflow"]
    behind = next(b for b in shown.behind if b.side == "numerator")
    assert behind.id_name == "account_id" and all(abs(row["now"] * 12 - row["before"] * 11) < 1 for row in behind.rows)
    told = json.loads(as_json(shown))
    assert told["is_different"] and told["metrics"][0]["counts"]["metric_id"] == "arr"
    comment = as_markdown(shown)
    assert comment.startswith("### Preview: 1 metric (") and "| arr |" in comment
    # the pages have neither the accounts nor values of segments, and where small groups are withheld no values
    kept = for_pages(shown, False, utc("2026-03-02T08:00:00"))
    largest = next(s for s in kept["sections"] if s["title"].startswith("The largest difference"))
    assert largest["rows"][0]["complete"] == "true"
    assert [row["segment"] for row in largest["rows"]] == ["total"] and kept["previewed_at"] == "2026-03-02 08:00"
    assert not any(row["id"] in str(kept) for row in behind.rows)
    withheld = for_pages(shown, True, utc("2026-03-02T08:00:00"))
    assert largest["rows"][0]["new"] in str(kept) and largest["rows"][0]["new"] not in str(withheld)
    assert "arr" in str(withheld)


def test_a_mart_shows_its_changed_columns(all_broken):
    bookings = next(m for m in all_broken.marts if m.mart == "fct_bookings")
    assert (
        bookings.rows_changed > 0 and bookings.rows_added == bookings.rows_removed == 0 and len(bookings.columns) == 1
    )
    # no panel and no measure names the column: those of the pages come from the metric that is made of it
    (column,) = [c for c in all_broken.columns if c.mart == "fct_bookings"]
    assert (column.column, column.rows) == ("commission_reporting", bookings.rows_changed)
    assert column.readers == {"exposures": ["owner"], "metricflow": ["marketplace_net_revenue"]}
    assert "| fct_bookings | commission_reporting |" in as_markdown(all_broken)


def test_a_mart_that_is_a_union_of_models_is_compared(built, tree, monkeypatch):
    said, compare = [], preview_module.compare_marts

    def undone_once(*values):
        monkeypatch.setattr(preview_module, "compare_marts", compare)
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    monkeypatch.setattr(preview_module, "compare_marts", undone_once)
    with broken(tree, "what enters a tier leaves another"):
        shown = preview(replace(built, root=tree), progress=said.append)
    # the server undid a step because of another session
    assert "another session was in the way; once more ..." in said
    (bridge,) = shown.marts
    assert bridge.mart == "mrr_bridge" and bridge.rows_changed > 0 and list(bridge.columns) == ["transferred_out_mrr"]


def test_a_setting_shows_as_the_cause_and_limits_are_exceeded(built):
    limits = Limits(max_values=1, unchanged_metrics=["international_revenue_share"])
    shown = preview(replace(built, rules=Rules(home_country={"default": "DE"})), limits=limits, progress=silent)
    assert shown.changed == {"mrr_by_period": ["setting"]} and shown.status == 3
    assert [line.split(":")[0] for line in shown.exceeded] == ["max_values", "unchanged_metrics"]


def test_a_changed_row_of_the_catalogue_rebuilds_the_model_of_its_metric_alone(built, tree):
    row = "nps,"
    path = tree / "dbt_project" / "seeds" / "metric_catalogue.csv"
    line = next(line for line in path.read_text().splitlines() if line.startswith(row))
    now = line.replace('"month,quarter,year"', "month")
    assert now != line
    with changed(tree, "../seeds/metric_catalogue.csv", line, now):
        shown = preview(replace(built, root=tree), progress=silent)
    assert list(shown.changed) == ["metric_catalogue"]
    assert [name for name in shown.built if name.startswith("metrics_")] == ["metrics_satisfaction", "metrics_targets"]
    nps = next(m for m in shown.metrics if m.counts["metric_id"] == "nps")
    assert nps.counts["grains"] == ["quarter", "year"] and nps.counts["vanished"] == nps.counts["values"] > 0


def test_the_command_ends_with_a_status_for_ci(built, capsys):
    assert cli.main(["preview", "--home", str(built.home)]) == 0
    assert capsys.readouterr().out.startswith("nothing would change")
    assert cli.main(["preview", "--home", str(built.home), "--against", "1"]) == 0
    assert capsys.readouterr().out.startswith("nothing would change")
    assert cli.main(["preview", "--home", str(built.home), "--select", "no_such"]) == 1
    assert "there is no model, seed or metric 'no_such' to preview" in capsys.readouterr().err


def test_no_reader_sees_what_is_built_and_a_second_preview_is_refused(built, tree):
    settings = replace(built, root=tree)
    with broken(tree, "promoters give 9 or 10"), build_beside(settings, select=["nps"], progress=silent):
        assert "metrics_satisfaction" in relations(built)
        with (
            pytest.raises(psycopg2.Error),
            psycopg2.connect(db.uri(built, "bi_reader")) as reader,
            reader.cursor() as cursor,
        ):
            cursor.execute(f"select 1 from {SCHEMA}.metrics_satisfaction")
        with pytest.raises(NorthstarError, match="another preview is at work"):
            preview(settings, progress=silent)
    assert relations(built) == []


def test_a_preview_gives_way_to_a_run(built):
    version = {"run_id": -1, "published_version": 1}
    with (
        pytest.raises(NorthstarError, match="a run began to rebuild core while the preview read it"),
        scratch._give_way(built, version) as handles,
    ):
        handles.append(psycopg2.connect(db.uri(built, "transformer")))
        with handles[0].cursor() as cursor, pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("select pg_sleep(600)")


@pytest.mark.parametrize(
    "failure", [psycopg.errors.DeadlockDetected("deadlock detected"), NorthstarError("metrics_revenue failed")]
)
def test_what_fails_because_a_run_began_is_told_as_that(built, monkeypatch, failure):
    monkeypatch.setattr(scratch, "_build", lambda *_: None)
    with db.connect(built, "transformer", autocommit=True) as run:
        try:
            with (
                pytest.raises(NorthstarError, match="a run began to rebuild core while the preview read it"),
                build_beside(built, progress=silent),
            ):
                run.execute("update core.run_context set run_id = run_id + 1")
                raise failure
        finally:
            run.execute("update core.run_context set run_id = run_id - 1")
    # with no run beside it, the failure is its own
    with pytest.raises(type(failure), match=str(failure)), build_beside(built, progress=silent):
        raise failure


def test_a_preview_is_refused_while_rows_wait_to_be_published(built):
    with db.connect(built, "loader", autocommit=True) as connection:
        batch = connection.execute(
            "insert into audit.landing_batches (run_id, source, entity, rows_inserted) values (0, 'late', 'charges', 1) returning batch_id"
        ).fetchone()["batch_id"]
        try:
            with pytest.raises(NorthstarError, match="rows have landed since version 1 was built"):
                preview(built, progress=silent)
        finally:
            connection.execute("delete from audit.landing_batches where batch_id = %s", [batch])


def test_an_erasure_drops_what_a_killed_preview_left(built):
    with db.connect(built, "transformer", autocommit=True) as connection:
        connection.execute(f"create table {SCHEMA}.left_behind as select 'a name' as account_id")
    with db.connect(built, "owner", database=db.DATABASE) as connection:
        drop_previews(connection)
    assert relations(built) == []
