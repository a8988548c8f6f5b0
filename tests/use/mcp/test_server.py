"""150 golden questions, asked by the official client: 100 whose answers the company's own books know, and 50 that have none, each for its reason."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from northstar.demo.books.truth import truth
from northstar.demo.company import generate_company
from northstar.use.answers.reading import Desk
from northstar.use.mcp.server import make_server
from tests.books import agree
from tests.support import select, utc
from tests.use.mcp.conftest import connected
from tests.withheld import withheld

END = utc("2026-03-01T00:00:00")
ANSWERED = 100
WITHHELD = "metric_id = any('{mrr,paying_accounts,dau,registered_accounts}') and application = 'all' and segment = 'country' and segment_value = 'US'"

# (reason, words, tool, arguments)
REFUSED = [
    # a week, a quarter and a year that are not over; windows that have not passed; what lies ahead
    *(("open", "no value, because the period is open", "get_value", {"metric": metric, "period": period})
      for metric, period in (("mrr", "2026-W09"), ("mrr", "2026-Q1"), ("mrr", "2026"), ("paying_accounts", "2026-Q1"), ("cash_collected", "2026-Q1"))),
    *(("open", "no value, because the period is open", "get_value", {"metric": metric, "period": "2026-02"})
      for metric in ("retention_d30", "activation_rate", "signup_to_paid_conversion_rate", "tutor_retention_30d")),
    ("open", "no value, because the period is open", "get_value", {"metric": "tracked_events", "period": "2026-W09"}),
    ("open", "has not begun", "get_value", {"metric": "mrr", "period": "2026-03"}),
    ("open", "has not begun", "get_value", {"metric": "dau", "period": "2026-03-02", "grain": "day"}),
    ("open", "no value, because the period is open", "compare_periods", {"metric": "retention_d30", "newer": "2026-02"}),
    ("open", "no value, because the period is open", "compare_periods", {"metric": "mrr", "newer": "2026-Q1", "older": "2025-Q4"}),
    # groups that are too small to be shown, for the time of the test
    *(("withheld", "it is withheld", tool, {"metric": metric, "period": "2026-02", "segment": "country", "segment_value": "US"})
      for tool in ("get_value", "explain") for metric in ("mrr", "paying_accounts", "registered_accounts")),
    ("withheld", "it is withheld", "get_value", {"metric": "mrr", "period": "2026-02-20", "grain": "day", "segment": "country", "segment_value": "US"}),
    ("withheld", "it is withheld", "compare_periods", {"metric": "mrr", "segment": "country", "segment_value": "US", "newer": "2026-02"}),
    # nothing of what the metric stands on was landed for the application
    *(("not_measured", "is not measured in", "get_value", {"metric": metric, "application": application})
      for metric in ("average_rating", "average_session_value", "booking_cancellation_rate", "booking_conversion_rate", "bookings")
      for application in ("web", "coaching")),
    ("not_measured", "is not measured in", "explain", {"metric": "bookings", "application": "web"}),
    ("not_measured", "is not measured in", "compare_periods", {"metric": "community_members", "application": "coaching"}),
    # what can mean several things
    ("ambiguous", "can be customer_churn_rate, user_churn_rate", "get_value", {"metric": "churn rate"}),
    ("ambiguous", "name one of them", "get_value", {"metric": "retention"}),
    ("ambiguous", "its day or its month first", "get_value", {"metric": "mrr", "period": "01/02/2026"}),
    ("ambiguous", "begins a", "get_value", {"metric": "mrr", "period": "2026-01-01"}),
    ("ambiguous", "has several values", "get_value", {"metric": "mrr", "segment": "country"}),
    ("ambiguous", "name one of them", "get_metric", {"metric": "response time"}),
    ("ambiguous", "of which segment", "get_value", {"metric": "mrr", "segment_value": "US"}),
    # what the caller may not see or do
    *(("not_allowed", words, "query", {"sql": sql}) for words, sql in (
        ("permission denied", "select email from staging.accounts"), ("permission denied", "select * from core.account_mrr"),
        ("permission denied", "select * from audit.runs"), ("permission denied", "select pg_read_file('/etc/passwd')"),
        ("permission denied", "copy metrics to program 'id'"), ("permission denied", "select * from staging.charges"),
        ("read-only", "update marts.metrics set unit = 'money'"), ("read-only", "delete from marts.metrics"), ("read-only", "create table marts.mine as select 1"),
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def books():
    """A line of the books for each metric: the month before the last, or the last where only that has one."""
    company = generate_company(
        seed=7, months=3, accounts=120, applications=("web", "coaching", "tutoring"), end=END, monitored_days=14
    )
    lines = truth(company.tables, END)
    chance = random.Random(150)
    return [chance.choice(part.to_dict("records")) for _, part in sorted(lines.groupby("metric_id"))]


def test_the_books_answers_are_given_exactly(ask, built, books):
    catalogue = {row["metric_id"]: row for row in select(built, "select * from metrics")}
    right, wrong = 0, []
    for line in books:
        if right + len(wrong) == ANSWERED:
            break
        metric = catalogue[line["metric_id"]]
        if metric["window_days"] and line["period_start"] >= utc("2026-02-01"):
            continue
        answer = ask("get_value", metric=line["metric_id"], period=f"{line['period_start']:%Y-%m}", application=line["application"],
                     segment=line["segment"], segment_value=line["segment_value"])  # fmt: skip
        numerator, denominator = (
            None if line[name] is None else Fraction(line[name]) for name in ("numerator", "denominator")
        )
        published = {
            key: None if number is None else Decimal(number)
            for key in ("value", "numerator", "denominator")
            for number in [answer.get("value", {}).get(key)]
        }
        if "refused" not in answer and agree(metric, numerator, denominator, published, 2):
            assert answer["provenance"]["version"] == 1 and answer["value"]["is_complete"]
            assert answer["definition"]["definition"] == metric["definition"]
            right += 1
        else:
            wrong.append((line, answer))
    assert right == ANSWERED and not wrong, wrong[:3]


def test_what_has_no_answer_is_refused_for_its_reason(ask, built):
    assert len(REFUSED) == 50
    with withheld(built, WITHHELD):
        answers = [ask(tool, **arguments) for _, _, tool, arguments in REFUSED]
    wrong = [
        (question, answer)
        for question, answer in zip(REFUSED, answers, strict=True)
        if answer.get("refused") != question[0] or question[1] not in answer["says"]
    ]
    assert not wrong, wrong


def test_a_model_is_told_what_the_tools_are_and_what_an_answer_is(ask):
    tools = {tool.name: tool for tool in ask.tools()}
    assert set(tools) == {
        "list_metrics", "get_metric", "get_value", "list_values", "compare_periods", "explain", "what_changed", "restatements", "targets", "marks", "status", "query",
    }  # fmt: skip
    for tool in tools.values():
        assert tool.annotations.read_only_hint and not tool.annotations.destructive_hint
        assert len(tool.description) > 60 and all(field.get("description") for field in tool.input_schema["properties"].values()), tool.name  # fmt: skip
    assert "do not put an estimate" in ask.instructions
    answers = [
        ask("list_metrics", search="churn"), ask("get_metric", metric="mrr"), ask("list_values", metric="mrr", limit=3), ask("compare_periods", metric="mrr"),
        ask("explain", metric="mrr"), ask("what_changed"), ask("restatements"), ask("targets", zone="red"), ask("status"), ask("query", sql="select 1"),
        ask("get_value", metric="mrr", version=1),
    ]  # fmt: skip
    assert {answer["provenance"]["version"] for answer in answers} == {1}
    # a long list is short for each of its rows, and get_metric has the rest
    assert {metric["metric"] for metric in answers[0]["metrics"]} >= {"customer_churn_rate", "churned_mrr"}
    assert all("definition" not in row for row in (*answers[0]["metrics"], *answers[7]["targets"]))
    (open_value,) = (
        value for value in ask("list_values", metric="mrr", grain="quarter")["values"] if not value["is_complete"]
    )
    assert open_value["value"] is None and open_value["state"].startswith("no value, because the period is open")


@pytest.mark.parametrize(("tool", "arguments", "words"), [
    ("get_value", {"metric": "mrr'; drop table marts.metrics; --"}, "there is no metric"), ("get_value", {"metric": "mrrr"}, "is it mrr"),
    ("get_value", {"metric": "mrr", "version": 99}, "99"), ("get_value", {"metric": "mrr", "application": "shop"}, "there is no application 'shop'"),
    ("get_value", {"metric": "mrr", "period": "soon"}, "names no period"), ("query", {"sql": "select 1; select 2"}, "several statements"),
])  # fmt: skip
def test_a_question_that_cannot_be_asked_is_told_so(ask, tool, arguments, words):
    answer = ask(tool, **arguments)
    assert answer["refused"] in ("unknown_metric", "bad_request", "not_published") and words in answer["says"]


def test_a_question_that_takes_too_long_is_given_up(built):
    desk = Desk(built, seconds=1)
    with connected(make_server(built, desk)) as ask:
        assert ask("query", sql="select pg_sleep(60)")["refused"] == "too_much"
    desk.close()


def test_arguments_that_a_tool_does_not_take_are_errors_and_the_server_goes_on(ask):
    for tool, arguments, words in (
        ("get_value", {"metric": "mrr", "grain": "fortnight"}, "grain"), ("get_value", {}, "Field required"), ("list_values", {"metric": "mrr", "limit": 10**9}, "limit"),
        ("get_value", {"metric": "m" * 100_000}, "200 characters"), ("drop_metrics", {}, "drop_metrics"),
    ):  # fmt: skip
        try:
            result = ask.call(tool, **arguments)
        except Exception as exc:
            assert tool == "drop_metrics" and words in str(exc)
            continue
        assert result.is_error and words in result.content[0].text and len(result.content[0].text) < 2_000
    assert ask("status")["metrics"] > 100


def test_a_caller_asks_what_its_scopes_allow(built):
    desk = Desk(built)
    with connected(make_server(built, desk, lambda: ["metrics"])) as ask:
        assert ask("get_value", metric="mrr")["value"]["value"] is not None
        for tool, arguments in (("query", {"sql": "select 1"}), ("explain", {"metric": "mrr", "with_rows": True})):
            assert ask(tool, **arguments)["refused"] == "not_allowed"
        assert ask("explain", metric="mrr")["sides"] == []
    desk.close()
