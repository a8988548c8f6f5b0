"""Least privilege: each role can do its work and nothing beside it."""

import psycopg
import pytest

from northstar import db

FORBIDDEN = [
    ("bi_reader", "select * from staging.events"),
    ("bi_reader", "select * from core.run_context"),
    ("bi_reader", "select * from marts_candidate.metric_values"),
    ("bi_reader", "select * from marts_history.metric_values"),
    ("bi_reader", "select * from quarantine.rows"),
    ("bi_reader", "select * from audit.runs"),
    ("bi_reader", "delete from marts.metric_values"),
    ("bi_reader", "create temp table t (x int)"),
    ("bi_reader", "create table marts.t (x int)"),
    ("bi_reader", "create table public.t (x int)"),
    ("bi_reader", "copy (select 1) to program 'cat'"),
    ("loader", "select * from marts.metric_values"),
    ("loader", "insert into marts.metrics (metric_id) values ('x')"),
    ("loader", "select * from core.run_context"),
    ("transformer", "delete from staging.charges"),
    ("transformer", "insert into quarantine.rows (source, entity, reasons) values ('x', 'y', '{}')"),
    ("transformer", "delete from marts.metric_values"),
    ("publisher", "select * from staging.charges"),
    ("publisher", "delete from marts_candidate.fct_payments"),
    ("publisher", "drop table core.periods"),
]


@pytest.mark.parametrize(("role", "statement"), FORBIDDEN)
def test_a_role_may_not(built, role, statement):
    with (
        db.connect(built, role) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("role", db.ROLES)
def test_no_job_role_is_a_superuser(built, role):
    with db.connect(built, "owner") as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = %s", [role]
        ).fetchone()
    assert not any(row.values())


def test_a_reader_cannot_turn_its_read_only_default_into_rights(built):
    with db.connect(built, "bi_reader", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from marts.metric_values")


def test_a_wrong_password_is_refused(built):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(db.uri(built, "bi_reader").replace(db.password(built, "bi_reader"), "wrong"))
