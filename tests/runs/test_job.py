"""The job as a user runs it: what it publishes, what stops it, what readers see meanwhile."""

import contextlib
import json
import random
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from northstar.base.errors import NorthstarError
from northstar.build import dbt_connections
from northstar.build.manifest import dbt_target
from northstar.build.results import record_build
from northstar.cli.main import main
from northstar.contract import entities
from northstar.extract.landing.set_aside import keep_aside
from northstar.publish.merge import rollback
from northstar.runs import job, turns
from northstar.runs.lifecycle import close_run, close_trigger, open_run
from northstar.runs.quarantine import set_aside
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from northstar.use.query import query
from northstar.warehouse import db
from tests.parsed_project import give_parse
from tests.support import WORKERS, Snapshot, empty, published, run, select, silent, utc, write_rows

AS_OF = utc("2025-04-01T00:00:00")


def charge(number, amount=1000, at="2025-03-05T00:00:00Z", **more):
    return {"charge_id": f"c{number}", "account_id": "a1", "application": "shop", "amount": amount, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at, **more}  # fmt: skip


def cash(settings):
    rows = select(
        settings,
        "select value from metric_values where metric_id = 'cash_collected' and grain = 'month' and application = 'shop' "
        "and segment = '' and period_start = '2025-03-01'",
    )
    return float(rows[0]["value"])


@pytest.fixture
def shop(warehouse, tmp_path):
    """An empty warehouse and a source with one charge of 10.00."""
    empty(warehouse)
    return warehouse, write_rows(tmp_path, {"charges": [charge(1)]}, "first")


@pytest.fixture(scope="module")
def first_version(warehouse, tmp_path_factory):
    """The warehouse and the source after the first run of the same shop, kept."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("shop"), {"charges": [charge(1)]}, "first")
    assert run(warehouse, source, AS_OF) == 1
    return Snapshot(warehouse, source, tmp_path_factory.mktemp("kept"))


@pytest.fixture
def published_shop(first_version):
    """The shop after its first run."""
    first_version.put_back()
    return first_version.settings, first_version.source


def test_versions_follow_each_other_and_rollback_restores_one_exactly(published_shop):
    settings, source = published_shop
    first = published(settings)
    write_rows(source, {"charges": [charge(2), charge(1, 500, updated_at="2025-03-06T00:00:00Z")]}, "second")
    assert run(settings, source, AS_OF, "hourly") == 2
    assert cash(settings) == 15
    assert rollback(settings) == (3, 1)
    restored = published(settings)
    # what was restated once stays on record
    assert restored.pop("metric_restatements") and not first.pop("metric_restatements")
    assert restored == first and cash(settings) == 10
    with pytest.raises(NorthstarError, match="version 3 puts version 1 back, and the rows in core are newer"):
        explain(settings, "cash_collected")
    assert rollback(settings, 2) == (4, 2)
    assert cash(settings) == 15
    with pytest.raises(NorthstarError, match="version 9 was never published"):
        rollback(settings, 9)
    # the next run publishes current numbers again, whatever was put back
    rollback(settings, 1)
    assert run(settings, source, AS_OF, "hourly") == 6
    assert cash(settings) == 15


def test_the_replaced_rows_are_kept_with_the_versions_between_which_they_were_true(published_shop):
    settings, source = published_shop
    write_rows(source, {"charges": [charge(1, 500, updated_at="2025-03-06T00:00:00Z")]}, "second")
    run(settings, source, AS_OF, "hourly")
    with db.connect(settings, "publisher") as connection:
        old = connection.execute(
            "select amount_minor, _from_version, _to_version from marts_history.fct_payments"
        ).fetchall()
    assert old == [{"amount_minor": 1000, "_from_version": 1, "_to_version": 2}]


def test_a_failed_check_stops_the_publish_names_itself_and_the_next_run_publishes_all(published_shop):
    settings, source = published_shop
    write_rows(source, {"charges": [charge(2), charge(3, currency="CHF")]}, "second")
    with pytest.raises(NorthstarError, match=r"fx_rates.every_currency_in_use_has_a_rate.*no rate for CHF"):
        run(settings, source, AS_OF, "hourly")
    assert cash(settings) == 10 and len(select(settings, "select * from publications")) == 1
    write_rows(source, {"fx_rates": [{"rate_date": "2025-01-01", "currency": "CHF", "rate_to_reporting": 2}]}, "rates")
    run(settings, source, AS_OF, "hourly")
    assert cash(settings) == 40


def test_a_run_without_new_rows_changes_nothing_but_the_version(published_shop):
    settings, source = published_shop
    run(settings, source, AS_OF, "hourly")
    run(settings, source, AS_OF)
    changes = select(settings, "select rows_changed from publications where published_version > 1")
    assert [c["rows_changed"] for c in changes] == [0, 0]


def test_an_earlier_as_of_gives_what_was_known_then(shop):
    settings, source = shop
    write_rows(source, {"charges": [charge(2, at="2025-03-20T00:00:00Z")]}, "second")
    run(settings, source, AS_OF)
    assert cash(settings) == 20
    run(settings, source, utc("2025-03-20T00:00:00"), "hourly")
    assert cash(settings) == 10


def test_readers_see_whole_versions_and_never_wait(published_shop):
    settings, source = published_shop
    seen, errors, stop = set(), [], threading.Event()

    def read():
        try:
            with db.connect(settings, "bi_reader", autocommit=True) as connection:
                # who waits for a publish waits for its locks; what a busy machine costs is no lock
                connection.execute("set lock_timeout = '100ms'")
                while not stop.is_set():
                    row = connection.execute(
                        "select (select max(published_version) from publications) as version, "
                        "(select sum(amount_minor) from fct_payments) as payments, "
                        "(select numerator * 100 from metric_values where metric_id = 'cash_collected' and grain = 'month' "
                        "and application = 'shop' and segment = '' and period_start = '2025-03-01') as cash"
                    ).fetchone()
                    seen.add((row["version"], int(row["payments"]), int(row["cash"])))
        except Exception as exc:
            errors.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(2, 4):
        write_rows(source, {"charges": [charge(number)]}, f"part{number}")
        run(settings, source, AS_OF, "hourly")
    for _ in range(26):
        rollback(settings)
    stop.set()
    reader.join()
    assert not errors
    assert all(payments == money for _, payments, money in seen), seen
    assert len({version for version, _, _ in seen}) > 5


def test_a_mart_takes_another_form_without_readers_queueing_behind_one_that_reads_long(published_shop):
    settings, source = published_shop
    before = select(settings, "select charge_id, amount_minor, currency from fct_payments order by 1")
    # as another version of the models made it
    with db.connect(settings, "owner") as connection:
        connection.execute("alter table marts.fct_payments drop column amount_minor cascade")
        connection.execute("alter table marts.fct_payments add column of_old text default 'x'")
        connection.execute("drop view if exists marts_at_version.fct_payments")
        connection.execute("alter table marts.fct_payments alter column currency type varchar(10)")
        connection.execute("alter table marts.publications drop column code_version cascade")
    said, failed = [], []

    def publish():
        try:
            job.run(settings, "nightly", AS_OF, str(source), said.append, worker=WORKERS[settings.home])
        except Exception as exc:
            failed.append(exc)

    with db.connect(settings, "bi_reader") as long, db.connect(settings, "owner", autocommit=True) as watching:
        long.execute("select count(*) from fct_payments, publications").fetchone()
        runner = threading.Thread(target=publish)
        runner.start()
        deadline = time.monotonic() + 600
        while not watching.execute(
            "select 1 from pg_locks where not granted and mode = 'AccessExclusiveLock' and relation = 'marts.fct_payments'::regclass"
        ).fetchone():
            assert runner.is_alive() and time.monotonic() < deadline, failed
            if watching.execute(
                "select 1 from pg_locks where not granted and relation = 'marts.publications'::regclass"
            ).fetchone():
                # our own tables come first
                long.rollback()
                long.execute("select count(*) from fct_payments").fetchone()
            time.sleep(0.02)
        with db.connect(settings, "bi_reader") as short:
            short.execute("set statement_timeout = '60s'")
            for _ in range(5):
                assert short.execute("select count(*) as n from fct_payments").fetchone()["n"] == len(before)
                short.rollback()
        long.rollback()
        runner.join()
    assert not failed and any("fct_payments has no of_old any more" in line for line in said)
    assert select(settings, "select charge_id, amount_minor, currency from fct_payments order by 1") == before
    assert "of_old" not in select(settings, "select * from fct_payments limit 1")[0]
    assert query(settings, "select count(*) from fct_payments", 1)[1] == [(len(before),)]
    assert select(
        settings, "select code_version is not null as is_there from publications order by published_version desc"
    )[0]["is_there"]


def test_two_runs_at_once_are_refused_and_a_dead_one_is_forgotten(shop):
    settings, source = shop
    held = open_run(settings, "hourly", AS_OF, str(source))
    with pytest.raises(NorthstarError, match=f"run {held} .* is writing to this warehouse"):
        run(settings, source, AS_OF)
    # as the server sees it when the process of the run has ended
    turns._OWN.pop(held).close()
    assert run(settings, source, AS_OF) == 1
    with db.connect(settings, "owner") as connection:
        assert (
            connection.execute("select state from audit.runs where run_id = %s", [held]).fetchone()["state"] == "failed"
        )


def test_a_build_takes_a_connection_for_each_thread_and_leaves_nothing_in_one_for_the_next_node(
    published_shop, monkeypatch
):
    settings, source = published_shop
    import dbt.adapters.postgres.connections as adapter

    opened, left = [], []
    connect, discard = adapter.psycopg2.connect, dbt_connections.reset

    def reset(handle, zone) -> None:
        discard(handle, zone)
        with handle.cursor() as cursor:
            cursor.execute("select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)")
            left.append(cursor.fetchone()[0])
        handle.rollback()

    monkeypatch.setattr(adapter.psycopg2, "connect", lambda *a, **k: opened.append(1) or connect(*a, **k))
    monkeypatch.setattr(dbt_connections, "reset", reset)
    run(settings, source, AS_OF)
    # one for each of dbt's four threads, and what it asks before and after
    assert 4 <= len(opened) <= 12
    # every node gave its own back, with no temporary table in it
    assert len(left) > 100 and set(left) == {0}
    with db.connect(settings, "transformer") as connection:
        own = connection.execute(
            "select count(*) as n from pg_stat_activity where usename = 'transformer' and application_name = 'dbt'"
        )
        assert own.fetchone()["n"] == 0


def test_while_publishing_is_held_runs_do_all_but_publish_and_the_next_one_after_it_publishes_all(
    published_shop, capsys
):
    settings, source = published_shop
    home = ["--home", str(settings.home)]
    run(settings, source, AS_OF)
    assert main(["rollback", "--hold", "  ", *home]) == 1
    assert main(["rollback", "--to", "99", "--hold", "wrong rates", *home]) == 1
    assert main(["rollback", "--hold", "wrong rates", *home]) == 0
    assert "version 3 is published" in capsys.readouterr().out
    write_rows(source, {"charges": [charge("held")]}, "more")
    with pytest.raises(NorthstarError, match=r"publishing is held since .*: wrong rates; `northstar release` ends it"):
        run(settings, source, AS_OF, "hourly")
    assert max(r["published_version"] for r in select(settings, "select published_version from publications")) == 3
    main(["status", *home])
    assert "held        publishing is held since" in capsys.readouterr().out
    assert main(["hold", "--why", "again", *home]) == 1
    assert main(["release", *home]) == 0
    assert main(["release", *home]) == 1
    assert "publishing is not held" in capsys.readouterr().err
    assert run(settings, source, AS_OF, "hourly") == 4
    assert select(settings, "select count(*) as n from fct_payments where charge_id = 'cheld'") == [{"n": 1}]


def test_a_build_that_built_nothing_is_a_failed_run(published_shop):
    settings, source = published_shop
    run_id = open_run(settings, "hourly", AS_OF, str(source))
    try:
        (dbt_target(settings) / "run_results.json").write_text('{"results": []}')
        with pytest.raises(NorthstarError, match=r"the build is not complete: \d+ of \d+ nodes were not built"):
            record_build(settings, run_id, silent)
    finally:
        close_run(settings, run_id)


def test_explain_says_whether_it_has_to_wait_for_a_run_or_needs_one(published_shop):
    settings, source = published_shop
    run_id = open_run(settings, "hourly", AS_OF, str(source))
    with pytest.raises(
        NorthstarError, match=f"run {run_id} is building what comes after version 1; ask again when it has ended"
    ):
        explain(settings, "cash_collected")
    close_run(settings, run_id)
    with pytest.raises(NorthstarError, match="a later run began and was not published"):
        explain(settings, "cash_collected")


def test_runs_leave_the_manifest_of_their_code_and_replace_any_other(published_shop):
    settings, source = published_shop
    give_parse(settings)
    path = dbt_target(settings) / "manifest.json"
    written, whole = path.stat().st_mtime_ns, json.loads(path.read_text())

    def go():
        # as it is run, without the tests' parse
        job.run(settings, "hourly", AS_OF, str(source), silent, worker=WORKERS[settings.home])

    go()
    assert path.stat().st_mtime_ns == written
    # as other code leaves it, whoever called dbt
    path.write_text('{"nodes": {}}')
    go()
    assert json.loads(path.read_text())["nodes"].keys() == whole["nodes"].keys()


@pytest.mark.parametrize(
    ("trigger", "is_taken_over"), [("hourly_refresh run 1", True), ("hourly_refresh run 2", False)]
)
def test_a_later_try_of_the_same_dag_run_takes_over_what_the_first_left(shop, trigger, is_taken_over):
    settings, source = shop
    held = open_run(settings, "hourly", AS_OF, str(source), "hourly_refresh run 1")
    try:
        if is_taken_over:
            assert open_run(settings, "hourly", AS_OF, str(source), trigger) > held
        else:
            with pytest.raises(NorthstarError, match=f"run {held} .hourly_refresh run 1. is writing"):
                open_run(settings, "hourly", AS_OF, str(source), trigger)
    finally:
        close_trigger(settings, "hourly_refresh run 1")
    with db.connect(settings, "transformer") as connection:
        assert connection.execute("select * from audit.writer_lease").fetchone() is None


def test_postgres_killed_in_mid_run_is_one_line_and_the_next_run_succeeds(shop):
    settings, source = shop
    command = [sys.executable, "-m", "northstar.cli", "run", "--home", str(settings.home), "--source-dir", str(source)]
    job_process = subprocess.Popen([*command, "--as-of", "2025-04-01"], stderr=subprocess.PIPE, text=True)
    while not any("build" in line for line in iter(job_process.stderr.readline, "")):
        assert job_process.poll() is None
    # dbt reads the project first, for which it needs no Postgres
    asked = "select 1 from pg_stat_activity where usename = 'transformer' and application_name = 'dbt'"
    while not select(settings, asked):
        assert job_process.poll() is None
        time.sleep(0.05)
    postmaster = psutil.Process(int((settings.home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=20)
    said = job_process.stderr.read()
    assert job_process.wait(120) == 1
    assert "Traceback" not in said and said.strip().splitlines()[-1].startswith("northstar: "), said
    assert run(settings, source, AS_OF) == 1 and cash(settings) == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--source-dir", "/nowhere"], "no source directory /nowhere"),
        (["run", "--source-dir", "SOURCE", "--as-of", "2099-01-01T00:00:00Z"], "is in the future"),
        (["run", "--source-dir", "SOURCE", "--as-of", "2001-01-01T00:00:00Z"], "no landed row is older"),
        (["run", "--source-dir", "SOURCE", "--as-of", "yesterday"], "is not a time"),
        (["run", "--source-dir", "SOURCE", "--as-of", "2025-01-01T00:00:00"], "has no time zone"),
        (["sql", "selec 1"], "syntax error"),
        (["sql", "select * from staging.events"], "permission denied"),
        (["quarantine", "show", "999999"], "no row 999999 in quarantine"),
        (["quarantine", "show"], "which row"),
        (["quarantine", "replay", "--entity", "cats"], "no entity 'cats'"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(shop, capsys, arguments, words):
    settings, source = shop
    arguments = [str(source) if a == "SOURCE" else a for a in arguments]
    assert main([*arguments, "--home", str(settings.home)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("northstar:")]
    assert len(lines) == 1 and words in lines[0]


def test_a_home_of_another_version_is_refused(tmp_path, capsys):
    (tmp_path / "VERSION").write_text("0\n")
    assert main(["status", "--home", str(tmp_path)]) == 1
    assert "was made by version 0" in capsys.readouterr().err


def test_csv_is_a_header_line_and_nothing_else(built, capsys):
    query = "select metric_id, null as nothing from metrics where metric_id = 'mrr'"
    assert main(["sql", query, "--format", "csv", "--home", str(built.home)]) == 0
    assert capsys.readouterr().out == "metric_id,nothing\nmrr,\n"


def test_status_tells_what_is_published_and_what_waits(shop, capsys):
    settings, source = shop
    write_rows(source, {"charges": [charge(9, amount=-5)] + [charge(n) for n in range(10, 40)]}, "second")
    run(settings, source, AS_OF)
    main(["status", "--home", str(settings.home)])
    out = capsys.readouterr().out
    assert "version 1" in out and "quarantine  1 rows (charges 1)" in out and "nobody" in out


def test_as_of_defaults_to_the_hour(shop):
    settings, source = shop
    run(settings, source, datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1))
    assert cash(settings) == 10


def test_texts_of_any_length_are_published(warehouse, tmp_path):
    """An index holds 2,704 bytes, and a segment's value is part of a key."""
    empty(warehouse)
    words = random.Random(1)

    def text(length: int = 20_000) -> str:
        return "".join(words.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    at, name = "2025-03-05T00:00:00Z", text(500)
    event = {
        "occurred_at": at,
        "received_at": at,
        "application": name,
        "country": "DE",
        "account_id": name,
        "session_id": name,
    }
    given = {"experiment": text(), "variant": text(), "goal": text(), "feature": text(), "tool": text()}
    kinds = ("experiment.exposed", "feature.used", "tool.invoked", text(500))
    write_rows(tmp_path, {
        "events": [{**event, "event_id": f"{number}", "event_name": kind, "properties": given} for number, kind in enumerate(kinds)],
        "charges": [charge(1, application=name, country="DE", failure_code=name)],
        "refunds": [{"refund_id": "r1", "charge_id": "c1", "amount": 10, "currency": "USD", "status": "succeeded", "reason": text(),
                     "created_at": at, "updated_at": at}],
        "subscriptions": [{"subscription_item_id": name, "subscription_id": name, "account_id": name, "application": name, "plan_id": name,
                           "plan_tier": name, "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 1900,
                           "currency": "USD", "status": "active", "cancel_reason": text(), "valid_from": "2025-01-05T00:00:00Z", "valid_to": at,
                           "updated_at": at}],
        "survey_responses": [{"response_id": "s1", "survey": "csat", "account_id": name, "application": name, "question": text(), "score": 4,
                              "sent_at": at, "responded_at": at, "updated_at": at}],
        "api_requests": [{"request_id": "q1", "application": name, "service": name, "route": text(), "status_code": 200, "duration_ms": 5,
                          "occurred_at": at}],
        "web_vitals": [{"vital_id": "v1", "application": name, "page": text(), "device": "desktop", "page_load_ms": 900, "occurred_at": at}],
    })  # fmt: skip
    run(warehouse, tmp_path, AS_OF)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select reasons, entity from quarantine.rows").fetchall() == []
    told = select(
        warehouse,
        "select segment, max(length(segment_value)) as n from metric_values where segment_value <> '' group by 1 order by 1",
    )
    assert {"feature": 100, "tool": 100, "page": 200}.items() <= {row["segment"]: row["n"] for row in told}.items(), (
        told
    )
    assert [
        len(row["cancel_reason"]) for row in select(warehouse, "select distinct cancel_reason from churn_reasons")
    ] == [200]


def test_a_charge_without_a_rate_is_set_aside_by_name_until_there_is_one(published_shop):
    settings, source = published_shop
    write_rows(source, {"charges": [charge(2), charge(3, currency="CHF")]}, "second")
    with pytest.raises(NorthstarError, match="`northstar quarantine set-aside c3 --entity charges --because"):
        run(settings, source, AS_OF, "hourly")
    for row_id, entity, problem in (
        ("c2", "charges", "c2 has a rate"),
        ("c9", "charges", "no landed row of charges has the charge_id 'c9'"),
        ("c3", "charge", "did you mean 'charges'?"),
    ):
        with pytest.raises(NorthstarError, match=re.escape(problem)):
            set_aside(settings, entity, row_id, "the bank asks", "ann")
    with pytest.raises(NorthstarError, match="needs a reason"):
        set_aside(settings, "charges", "c3", " ")
    assert "c3 waits in quarantine for a rate of CHF" in set_aside(settings, "charges", "c3", "the bank asks", "ann")
    version = run(settings, source, AS_OF, "hourly")
    assert cash(settings) == 20
    (certificate,) = select(settings, "select left_out from certificates where published_version = %s", version)
    (accepted,) = certificate["left_out"]["accepted"]
    assert (accepted["entity"], accepted["by"], accepted["because"], accepted["rows"]) == (
        "charges",
        "ann",
        "the bank asks",
        1,
    )
    # it stays aside when its source delivers it again as it was, and another amount of it would not
    with db.connect(settings, "loader") as connection:
        waiting = connection.execute("select * from quarantine.rows where entity = 'charges'").fetchone()
        connection.execute(
            "insert into staging.charges select r.* from quarantine.rows as q, jsonb_populate_record(null::staging.charges, q.row || "
            "jsonb_build_object('amount', 7, '_batch_id', q.batch_id, '_loaded_at', now())) as r where q.entity = 'charges'"
        )
        assert not keep_aside(connection, version, entities()["charges"], waiting)
        connection.rollback()
    write_rows(source, {"charges": [charge(3, currency="CHF")]}, "third")
    # a full build is the same, and the version can be made again from the rows that had landed
    run(settings, source, AS_OF)
    assert cash(settings) == 20
    write_rows(source, {"fx_rates": [{"rate_date": "2025-01-01", "currency": "CHF", "rate_to_reporting": 2}]}, "rates")
    version = run(settings, source, AS_OF, "hourly")
    assert cash(settings) == 40
    (certificate,) = select(settings, "select left_out from certificates where published_version = %s", version)
    assert certificate["left_out"]["accepted"] == []
    assert all(comparison.is_same for comparison in verify(settings, version - 1, silent))
