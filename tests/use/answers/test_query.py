"""Statements of callers: bi_reader's rights and limits, one statement, so many rows."""

import pytest

from northstar.use.answers.query import MOST_QUERY_ROWS, run_query
from northstar.use.answers.reading import Desk
from northstar.use.answers.refusals import Refused


def test_rows_come_up_to_the_limit(ask):
    found = ask(run_query, "select n, null as nothing, '100 %' as share from generate_series(1, 10) as n", 3, is_apart=True)  # fmt: skip
    assert found.columns == ["n", "nothing", "share"] and found.is_cut
    assert found.rows == [[1, None, "100 %"], [2, None, "100 %"], [3, None, "100 %"]]
    whole = ask(run_query, "select 1 as a where false", is_apart=True)
    assert (whole.columns, whole.rows, whole.is_cut) == (["a"], [], False)


@pytest.mark.parametrize(("sql", "words"), [
    ("delete from marts.metrics", "read-only transaction"), ("set transaction read write", "read-write mode"), ("select 1; select 2", "these are several statements"),
    ("select * from staging.accounts", "permission denied"), ("select * from core.run_context", "permission denied"), ("select * from audit.runs", "permission denied"),
    ("select pg_read_file('/etc/passwd')", "permission denied"), ("copy metrics to program 'id'", "permission denied"), ("copy metrics to '/tmp/x'", "permission denied"),
    ("select pg_advisory_lock(1)", "permission denied"), ("select nonsense from", "syntax error"), ("select 1 / 0", "division by zero"), ("  ", "give one statement"),
    ("select '" + "x" * 30_000 + "'", "at most 20,000 characters"), ("select 1\0", "no null characters"), ("-- nothing", ""),
])  # fmt: skip
def test_what_bi_reader_may_not_do_is_refused(ask, sql, words):
    with pytest.raises(Refused) as refused:
        ask(run_query, sql, is_apart=True)
    is_forbidden = "permission denied" in words or "read-only" in words
    assert refused.value.reason == ("not_allowed" if is_forbidden else "bad_request") and words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_answer_is_bounded_in_time_and_size(built, ask):
    desk = Desk(built, seconds=0.2)
    for sql in ("select pg_sleep(20)", "select set_config('statement_timeout', '0', false), pg_sleep(20)"):
        with pytest.raises(Refused) as refused, desk.reading(is_apart=True) as reading:
            run_query(reading, sql)
        assert refused.value.reason == "too_much"
    with pytest.raises(Refused, match="more than 16 MB"):
        ask(run_query, "select repeat('x', 1000000) from generate_series(1, 1000)", is_apart=True)
    for limit in (0, -1, MOST_QUERY_ROWS + 1):
        with pytest.raises(Refused, match="limit: give 1 to"):
            ask(run_query, "select 1", limit, is_apart=True)
