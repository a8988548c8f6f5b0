"""A home's own funnels.csv and targets.csv: what is refused, where it is replaced, and that it is a definition like any other."""

import csv
from dataclasses import replace

import pytest

from northstar.base.config_files import ConfigError
from northstar.base.settings import ROOT, load_settings
from northstar.build.code_version import code_version
from northstar.build.own_seeds import check_own_seeds, own_funnels, project_directory, unknown_names, write_project
from northstar.runs.lifecycle import open_run
from northstar.runs.verify import verify
from northstar.use.pages.contents import pages_of
from northstar.warehouse import db
from tests.support import empty, published, run, select, silent, utc, write_rows

STAGES = "funnel,stage_number,stage,event_name,window_days,application\n"
TARGETS = "metric_id,application,grain,operator,target\n"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("targets", TARGETS + "\nmrrr,shop,month,>=,10\n", "targets.csv, line 3, metric_id: unknown metric 'mrrr'; did you mean 'mrr'?"),
        ("targets", TARGETS + "mrr,,month,>=,10\n", "line 2, application: `application` is missing: the application that set the target"),
        ("targets", TARGETS + "mrr,shop,decade,>=,10\n", "line 2, grain: 'decade': give one of hour, day, week, month, quarter, year"),
        ("targets", TARGETS + "mrr,shop,hour,>=,10\n", "line 2, grain: mrr is published by day, week, month, quarter, year"),
        ("targets", TARGETS + "mrr,shop,month,=>,10\n", "line 2, operator: '=>': give the good side: >, >=, < or <="),
        ("targets", TARGETS + "mrr,shop,month,>=,NaN\n", "line 2, target: 'NaN': give a number"),
        ("targets", TARGETS + "mrr,shop,month,>=,\n", "line 2, operator: give a target, a threshold or a trend"),
        ("targets", TARGETS + "mrr,shop,month,,10\n", "line 2, operator: give the good side of the number"),
        ("targets", TARGETS + "mrr,shop,month,>=,10\nmrr,shop,month,>=,20\n", "line 3, requirement_ref: the same target as in line 2"),
        ("targets", "metric_id,application,grain,operator,target,currency\nmrr,shop,month,>=,9,USD\ncac,shop,month,<,9,EUR\n",
         "line 3, currency: 'EUR' is another currency; amounts are published in USD (reporting_currency in northstar.yml)"),
        ("targets", TARGETS + "mrr,shop,month,>=\n", "line 2: 4 values for 5 columns"),
        ("targets", 'metric_id,application,grain,action\nmrr,shop,month,"one\ntwo"\nmrr,shop,month,"three\n', "line 4: not valid CSV"),
        ("targets", TARGETS.replace("grain", "grains"), "line 1, grains: unknown column; did you mean 'grain'?"),
        ("targets", "metric_id,grain\n", "line 1: the column `application` is missing"),
        ("targets", "metric_id,application,grain,trend,segment\nmrr,shop,month,drop,plan\n", "line 2, segment: mrr has the segments plan_tier, country, account_type"),
        ("targets", "metric_id,application,grain,trend,segment\nmrr,shop,month,drop,country\n", "line 2, segment_value: a segment and its value belong together"),
        ("targets", "metric_id,application,grain,trend,due\nmrr,shop,month,drop,soon\n", "line 2, due: 'soon': give when it must be met: month 6"),
        ("funnels", STAGES + "a,1,one,x,30,shop\na,3,two,y,30,shop\n", "funnels.csv, line 3, stage_number: the stages of a are numbered 1, 2, 3"),
        ("funnels", STAGES + "a,1,one,x#2,30,shop\n", "line 2, event_name: the first stage is the first event of its name"),
        ("funnels", STAGES + "a,1,one,x#,30,shop\n", "line 2, event_name: 'x#': give the event that reaches the stage"),
        ("funnels", STAGES + "a,1,one,x,30,shop\na,2,two,y,14,shop\n", "line 3, window_days: a funnel has one window_days; the first stage has 30"),
        ("funnels", STAGES + "a,1,one,x,30,shop\na,2,two,y,30,web\n", "line 3, application: a funnel has one application"),
        ("funnels", STAGES + "a,1,one,x,30,shop\na,2,one,y,30,shop\n", "line 3, stage: a has a stage 'one' already"),
        ("funnels", STAGES + "a,1,one,x,0,shop\n", "line 2, window_days: '0': give the days from the first stage to the last"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_file_line_and_column(tmp_path, name, text, problem):
    (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(ConfigError) as refused:
        check_own_seeds(load_settings(tmp_path))
    assert problem in str(refused.value)


def test_no_run_begins_with_a_file_that_cannot_be_used(tmp_path):
    (tmp_path / "targets.csv").write_text(TARGETS + "mrrr,shop,month,>=,10\n")
    with pytest.raises(ConfigError, match="unknown metric 'mrrr'"):
        open_run(load_settings(tmp_path), "hourly", utc("2026-02-01T00:00:00"))
    # before a server is started or a turn is taken
    assert not (tmp_path / "postgres").exists()


def test_the_files_of_the_release_can_be_copied_and_changed(tmp_path):
    seeds = ROOT / "dbt_project" / "seeds"
    for name in ("funnels", "targets"):
        # as a spreadsheet writes it
        (tmp_path / f"{name}.csv").write_text("\ufeff" + (seeds / f"{name}.csv").read_text())
    settings = load_settings(tmp_path)
    check_own_seeds(settings)
    write_project(settings)
    for name in ("funnels", "targets"):
        own, released = project_directory(settings) / "seeds" / f"{name}.csv", seeds / f"{name}.csv"
        with own.open() as a, released.open() as b:
            assert list(csv.DictReader(a)) == list(csv.DictReader(b))


def test_a_file_is_a_definition_and_lies_where_the_configuration_lies(tmp_path, monkeypatch):
    home, config = tmp_path / "home", tmp_path / "config"
    config.mkdir()
    released = load_settings(home)
    (config / "targets.csv").write_text(TARGETS + "mrr,shop,month,>=,10\n")
    assert code_version(load_settings(home)) == code_version(released)
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(config))
    first = load_settings(home)
    (config / "targets.csv").write_text(TARGETS + "mrr,shop,month,>=,11\n")
    second = load_settings(home)
    # another machine with the same configuration has the same definitions
    assert code_version(load_settings(tmp_path / "worker")) == code_version(second)
    assert len({code_version(s) for s in (released, first, second)}) == 3


def test_a_home_without_files_builds_the_release(tmp_path):
    settings = load_settings(tmp_path)
    assert project_directory(settings) == ROOT / "dbt_project" and own_funnels(settings) is None


def test_pages_show_the_homes_funnels(tmp_path):
    (tmp_path / "funnels.csv").write_text(STAGES + "first_order,1,visit,page.landing,30,shop\n")
    panels = {
        (page["title"], panel["funnel"])
        for page in pages_of(load_settings(tmp_path))
        for panel in page["panels"]
        if panel["kind"] == "funnel"
    }
    assert panels == {("Journeys", "first_order")}


def events(*rows):
    return [
        {"event_id": f"{visitor}-{name}-{at}", "event_name": name, "anonymous_id": visitor, "occurred_at": f"{at}T10:00:00Z", "received_at": f"{at}T10:00:00Z", "application": "shop"}
        for visitor, name, at in rows
    ]  # fmt: skip


def test_an_own_funnel_is_complete_after_its_own_window(warehouse, tmp_path):
    empty(warehouse)
    rows = events(
        ("v", "page.landing", "2026-02-02"), ("v", "order.placed", "2026-02-05"), ("w", "page.landing", "2026-02-02")
    )
    source = write_rows(tmp_path, {"events": rows})
    text = (
        STAGES
        + "first_order,1,visit,page.landing,10,shop\nfirst_order,2,order,order.placed,10,shop\nfirst_order,3,again,order.plcaed#2,10,shop\n"
    )
    own = replace(warehouse, own_seeds={"funnels": text, "targets": TARGETS})
    query = "select stage, visitors, is_complete from funnel_stages where grain = 'day' and period_start = '2026-02-02' order by stage_number"
    run(own, source, utc("2026-02-12T12:00:00"))
    assert [tuple(r.values()) for r in select(own, query)] == [
        ("visit", 2, False),
        ("order", 1, False),
        # nobody sends such an event
        ("again", None, False),
    ]
    assert select(own, "select * from metric_status") == []
    # the day's window ends ten days after the day itself; nothing new has landed
    run(own, source, utc("2026-02-13T12:00:00"), mode="hourly")
    assert [r["is_complete"] for r in select(own, query)] == [True, True, True]
    hourly = published(own)["funnel_stages"]
    run(own, source, utc("2026-02-13T12:00:00"))
    assert published(own)["funnel_stages"] == hourly
    # the version is made again from the files that made it
    assert all(comparison.is_same for comparison in verify(own, progress=silent))
    misspelt = replace(own, own_seeds={"funnels": text, "targets": TARGETS + "dau,shop,day,>,1\ndau,shopp,day,>,1\n"})
    with db.connect(own, "transformer") as connection:
        warnings = list(unknown_names(misspelt, connection))
    assert len(warnings) == 2
    assert (
        "targets.csv, line 3, application: no metric has a value of 'shopp' so far; did you mean 'shop'?" in warnings[1]
    )
    assert (
        "funnels.csv, line 4, event_name: shop has no event 'order.plcaed' so far; did you mean 'order.placed'?"
        in warnings[0]
    )
