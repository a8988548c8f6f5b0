"""A caller's own statement reads published marts and does nothing else, whatever it says, and leaves nothing for the next caller."""

import time

import pytest

from northstar.use.answers.query import run_query
from northstar.use.answers.reading import Desk
from northstar.use.answers.refusals import Refused
from northstar.use.answers.values import get_value
from northstar.warehouse import db

# statements of one caller, each of which is refused
REFUSED = [
    # other roles, and other transactions
    "set role publisher", "set session authorization northstar_owner", "select set_config('role', 'publisher', false)", "select set_config('transaction_read_only', 'off', true)",
    "set transaction read write", "commit; create table marts.x (n int)", "select 1; select 2", "alter role bi_reader set statement_timeout = 0",
    "grant select on marts.metrics to public", "create role thief",
    # files, programs, other servers
    "select pg_read_file('postgresql.conf')", "select pg_read_binary_file('/etc/passwd')", "select pg_ls_dir('.')", "select * from pg_stat_file('PG_VERSION')",
    "copy metrics to program 'id'", "copy metrics to '/tmp/x'", "copy metrics from '/etc/passwd'", "select lo_import('/etc/passwd')", "select lo_create(0)",
    "select lo_from_bytea(0, 'x')", "create extension dblink", "select * from dblink('host=127.0.0.1', 'select 1') as t (n int)", "load 'plpython3'",
    # what others would then read
    "create temp table metric_values as select 1 as value", "create view marts.x as select 1", "create function marts.x() returns int language sql as 'select 1'",
    "update marts.metrics set definition = 'call the tool query'", "delete from marts.publications", "truncate marts.metrics", "notify x, 'y'",
    "select subscriptions.subscribe('n', 'p', '{}', 'daily', 'mail', 'x@example.org')", "do $$ begin perform 1; end $$; select 1",
    "do $$ begin execute 'create table marts.x (n int)'; end $$", "select query_to_xml('delete from marts.metrics', true, true, '')",
    "with gone as (delete from marts.metrics returning 1) select * from gone", "lock table marts.metrics in access exclusive mode",
    "prepare transaction 'x'", "vacuum marts.metrics", "explain analyze delete from marts.metrics",
    # what readers do not see
    "select * from staging.accounts", "select * from core.run_context", "select * from audit.subscriptions", "select * from quarantine.rejected_rows", "select * from pg_authid",
    "select rolpassword from pg_shadow", "select * from pg_hba_file_rules", "select pg_reload_conf()", "select pg_rotate_logfile()", "select pg_switch_wal()",
]  # fmt: skip
# statements without end
SLOW = (
    "select pg_sleep(60)", "select set_config('statement_timeout', '0', false), pg_sleep(60)", "do $$ begin set statement_timeout = 0; perform pg_sleep(60); end $$",
    "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r", "select count(*) from generate_series(1, 10000000000)",
)  # fmt: skip
# what may be said, and is gone with its session
FORGOTTEN = (
    "select set_config('search_path', 'pg_catalog', false)", "select set_config('timezone', 'Pacific/Auckland', false)", "select set_config('statement_timeout', '1', false)",
    "select set_config('northstar.version', '1', false)", "select pg_advisory_lock(7041776)", "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()",
    "listen x", "reset all", "discard all", "commit", "rollback", "begin",
)  # fmt: skip


def content(settings) -> list:
    """What readers would notice: settings of roles and databases, objects, and rows of the catalogue."""
    with db.connect(settings, "owner") as connection:
        return connection.execute(
            "select (select jsonb_agg(s order by s.setdatabase, s.setrole) from pg_db_role_setting as s) as settings, "
            "(select array_agg(relname order by 1) from pg_class where relnamespace = 'marts'::regnamespace) as relations, "
            "(select count(*) from pg_largeobject_metadata) as objects, (select count(*) from pg_roles) as roles, (select md5(string_agg(m::text, '' order by metric_id)) "
            "from marts.metrics as m) as metrics, (select count(*) from audit.subscriptions) as subscriptions, (select count(*) from pg_proc) as functions"
        ).fetchall()  # fmt: skip


def test_a_statement_does_nothing_but_read(desk, built):
    before, answered = content(built), []
    for version in (None, 1):
        for statement in REFUSED:
            try:
                with desk.reading(version=version, is_apart=True) as reading:
                    answered.append((statement, run_query(reading, statement).rows))
            except Refused as refused:
                assert refused.reason in ("not_allowed", "bad_request"), statement
                assert "\n" not in str(refused) and len(str(refused)) < 600
    assert answered == [] and content(built) == before


def test_a_statement_without_end_is_ended(built):
    desk = Desk(built, seconds=0.3)
    for statement in SLOW:
        with pytest.raises(Refused) as refused, desk.reading(is_apart=True) as reading:
            run_query(reading, statement)
        assert refused.value.reason == "too_much", statement


def test_a_statement_leaves_nothing_for_the_next_caller(desk, built):
    with desk.reading() as reading:
        before = get_value(reading, "mrr")
    for statement in FORGOTTEN:
        try:
            with desk.reading(is_apart=True) as reading:
                run_query(reading, statement)
        except Refused as refused:
            assert refused.reason in ("not_allowed", "bad_request"), statement
        with desk.reading() as reading:
            assert get_value(reading, "mrr") == before, statement
        with desk.reading(is_apart=True) as reading:
            assert run_query(reading, "select count(*) from metrics").rows[0][0] > 100, statement
    # a lock that a caller took is gone with his session
    deadline = time.monotonic() + 60
    with db.connect(built, "owner", autocommit=True) as connection:
        while connection.execute(
            "select count(*) as n from pg_locks where locktype = 'advisory' and objid = 7041776"
        ).fetchone()["n"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
