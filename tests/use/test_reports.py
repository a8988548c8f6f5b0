"""Reports: their numbers are the marts', what explains a change adds up to it, they are kept with their version, and they arrive."""

import csv
import email
import email.policy
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from northstar.base.clock import Calendar
from northstar.base.errors import NorthstarError
from northstar.base.formats import format_value
from northstar.base.ports import free_port
from northstar.base.settings import Rules
from northstar.use.changes import contributions
from northstar.use.notify import Message, read_channels, send_message
from northstar.use.reports.make import contents, make_report
from northstar.use.reports.send import make_and_keep, reports_due, reports_over, send
from northstar.use.reports.store import list_reports
from northstar.warehouse import db
from tests.support import empty, northstar, serving, utc

REQUIRED = list(csv.DictReader(Path(__file__).with_name("required_reports.csv").open()))
NOTIFY = """
mail: {connection: smtp_test, from: northstar@example.org}
routes:
  everyone: [{mail: [team@example.org, boss@example.org]}, {slack: slack_test}]
  on-call: [{webhook: pager_test}]
  broken: [{slack: slack_gone}, {mail: [team@example.org]}]
reports: {monthly: everyone}
"""


class Inbox:
    """What an SMTP server on loopback was given."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        return "250 OK"


@pytest.fixture
def inbox(built, monkeypatch):
    """A mail server, an HTTP receiver (inbox.posted), and a home whose notify.yml names them."""
    inbox, posted = Inbox(), []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(202 if "gone" not in self.path else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Receiver)) as receiver:
        controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
        controller.start()
        address = f"http://127.0.0.1:{receiver}"
        port = controller.server.sockets[0].getsockname()[1]
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_TEST", f"smtp://127.0.0.1:{port}")
        for name, path in (("SLACK_TEST", "/services/T0/canary"), ("SLACK_GONE", "/gone/canary")):
            monkeypatch.setenv(
                f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "slackwebhook", "password": address + path})
            )
        monkeypatch.setenv(
            "AIRFLOW_CONN_PAGER_TEST", json.dumps({"conn_type": "http", "host": address, "password": "key"})
        )
        monkeypatch.setenv("NORTHSTAR_HOME", str(built.home))
        (built.home / "notify.yml").write_text(NOTIFY)
        inbox.posted = posted
        yield inbox
        controller.stop()
    (built.home / "notify.yml").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def forgotten(built):
    """No report was kept."""
    with db.connect(built, "publisher") as connection:
        connection.execute("delete from audit.reports")


def value(settings, metric: str, grain: str, application: str = "all") -> dict:
    with db.connect(settings, "bi_reader") as connection:
        return connection.execute(
            "select v.*, m.unit from metric_values as v join metrics as m using (metric_id) where metric_id = %s and v.grain = %s and application = %s "
            "and segment = '' and is_complete order by period_start desc limit 1", [metric, grain, application],
        ).fetchone()  # fmt: skip


@pytest.mark.parametrize("required", REQUIRED, ids=lambda r: f"{r['line']} {r['report']}")
def test_every_required_line_is_in_its_report_for_its_audience(required):
    sections = [s for s in contents()[required["report"]]["sections"] if required["line"] in s["refs"]]
    found = {metric for s in sections for metric in [*s.get("metrics", []), *s.get("funnels", []), s.get("note")]}
    found |= {f"level {level}" for s in sections for level in s.get("levels", [])}
    found |= {f"application {s['application']}" for s in sections if "application" in s}
    found |= {name for s in sections for name in ("milestones", "targets", "catalogue") if s.get(name)}
    assert set(required["metrics"].split(";")) <= found
    assert not required["audience"] or {s["audience"] for s in sections} == {required["audience"]}


def test_the_daily_report_tells_what_of_its_own_is_off_target_and_what_a_percentage_was_counted_from(built):
    report = make_report(built, "daily")
    own = {m for section in contents()["daily"]["sections"] for m in section["metrics"]}
    with db.connect(built, "bi_reader") as connection:
        missed = connection.execute(
            "select count(*) as n from metric_status where zone in ('red', 'yellow') and metric_id = any(%s)",
            [list(own)],
        ).fetchone()["n"]
    assert f"Off target by what was known on 2026-03-01 00:00 UTC ({missed}):" in report.text and missed
    uptime = value(built, "uptime", "day")
    assert f"({uptime['numerator']:,.0f} of {uptime['denominator']:,.0f})" in report.text


@pytest.mark.parametrize(("name", "section"), [("weekly", "Operational metrics"), ("monthly", "Strategic metrics and goals"), ("monthly", "Tutoring in depth")])  # fmt: skip
def test_a_section_of_levels_tells_every_metric_of_them_that_has_a_value(built, name, section):
    text = make_report(built, name).text.partition(f"\n{section.upper()} (")[2].partition("\n\n")[0]
    told = len(re.findall(r"^  \S.*: .*\[", text, re.MULTILINE))
    assert told > 20, "nothing of those levels"


def test_the_annual_report_reviews_the_metrics_themselves(built):
    told = make_report(built, "annual").text
    assert "Annual report\n2025." in told and re.search(r"\d+ of 186 metrics have values", told)
    assert "definitions that changed: none" in told and "notes/metric_evolution.md" in told


@pytest.mark.parametrize("name", list(contents()))
def test_every_report_tells_the_marts_numbers_and_stands_alone(built, name):
    report = make_report(built, name)
    page = report.standalone()
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "something outside is asked for"
    assert "<script" not in page and (report.images or name in ("quarterly", "annual"))
    for section in contents()[name]["sections"]:
        assert section["title"].upper() in report.text
    grain = contents()[name]["grain"]
    # a section of one application has its own figures under the same names
    of_the_company = {m for s in contents()[name]["sections"] if "application" not in s for m in s.get("metrics", [])}
    for metric, title in (("mrr", "MRR"), ("cash_collected", "Cash collected")):
        if metric in of_the_company and grain != "week":
            newest = value(built, metric, grain)
            assert f"{title}: {format_value(newest['value'], newest['unit'], 'USD')}" in report.text
    assert f"From version {report.version}" in report.text


def test_a_report_of_an_earlier_day_is_about_the_period_that_was_over_then(built):
    report = make_report(built, "monthly", utc("2026-02-10T00:00:00"))
    assert (
        report.period_start == utc("2026-01-01T00:00:00")
        and "Jan 2026" in report.subject
        and "[Feb 2026]" not in report.text
    )


def test_what_explains_a_change_adds_up_to_it(built):
    with db.connect(built, "bi_reader") as connection:
        for metric, kind in (
            ("cash_collected", "sum"),
            ("mrr", "snapshot"),
            ("customer_churn_rate", "ratio"),
            ("retention_d7", "ratio"),
            ("csat", "mean"),
        ):
            rows = connection.execute("select * from metric_values where metric_id = %s and grain = 'month' and application = 'all' and is_complete "
                                      "order by period_start desc", [metric]).fetchall()  # fmt: skip
            months = sorted({r["period_start"] for r in rows}, reverse=True)[:2]
            totals = [next(r for r in rows if r["period_start"] == m and r["segment"] == "") for m in months]
            if any(t["value"] is None for t in totals) or totals[0]["value"] == totals[1]["value"]:
                continue
            parts = [{**r, "name": r["segment_value"]} for r in rows if r["segment"] and r["period_start"] in months]
            segment, found = contributions(parts, totals[0], totals[1], kind)
            assert sum(amount for _, amount in found) == pytest.approx(
                float(totals[0]["value"] - totals[1]["value"]), rel=0.01, abs=0.02
            ), (metric, segment)


def test_nothing_is_told_of_distinct_counts_and_of_parts_that_overlap():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    newest, before = (
        {"value": v, "numerator": v, "denominator": None, "period_start": t}
        for v, t in ((10, moment), (5, moment - timedelta(31)))
    )
    rows = [
        {"segment": "s", "name": n, "period_start": moment, "numerator": v, "denominator": None}
        for n, v in (("a", 9), ("b", 9))
    ]
    assert contributions(rows, newest, before, "distinct") is None
    assert contributions(rows, newest, before, "sum") is None


def test_a_report_is_kept_with_its_version_and_tells_what_was_restated_since_the_one_before(built):
    first_id, first = make_and_keep(built, "monthly", utc("2026-02-10T00:00:00"))
    assert "This is the first report of its kind." in first.text
    with db.connect(built, "owner", autocommit=True) as connection:
        connection.execute("insert into marts.metric_restatements (metric_id, grain, period_start, application, segment, segment_value, old_value, "
                           "new_value, old_version, new_version, reason) values ('mrr', 'month', '2026-01-01', 'all', '', '', 100, 120, 1, 2, 'late_rows')")  # fmt: skip
        try:
            _, second = make_and_keep(built, "monthly")
        finally:
            connection.execute("delete from marts.metric_restatements where new_version = 2 and old_value = 100")
    assert "MRR, Jan 2026: 100.00 USD became 120.00 USD (late rows, version 2)" in second.text
    again, _ = make_and_keep(built, "monthly", utc("2026-02-10T00:00:00"))
    assert again == first_id and [r["published_version"] for r in list_reports(built, "monthly")] == [1, 1]


def test_a_report_arrives_by_mail_and_slack(built, inbox):
    report_id, report = make_and_keep(built, "monthly")
    everybody = ["mail team@example.org", "mail boss@example.org", "slack slack_test"]
    assert send(built, report_id, report) == everybody
    assert [to for to, _ in inbox.mails] == [["team@example.org"], ["boss@example.org"]]
    mail = inbox.mails[0][1]
    assert mail["Subject"] == report.subject and mail["To"] == "team@example.org, boss@example.org"
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n").strip() == report.text.strip()
    html = mail.get_body(("html",)).get_content()
    images = {part["Content-ID"].strip("<>") for part in mail.walk() if part.get_content_type() == "image/png"}
    assert set(re.findall(r'src="cid:([^"]+)"', html)) == images != set()
    path, posted = inbox.posted[0]
    assert path == "/services/T0/canary" and posted["text"].startswith(f"*{report.subject}*")
    assert list_reports(built)[0]["sent_to"] == everybody


def test_who_has_a_report_does_not_get_it_again_when_another_address_failed(built, inbox):
    working = (built.home / "notify.yml").read_text()
    report_id, report = make_and_keep(built, "monthly")
    (built.home / "notify.yml").write_text(working.replace("slack_test", "slack_gone"))
    try:
        for _ in range(3):
            with pytest.raises(NorthstarError, match="could not send to slack slack_gone: it answered 404"):
                send(built, report_id, report, "the run of the first of March")
    finally:
        (built.home / "notify.yml").write_text(working)
    assert len(inbox.mails) == 2
    assert send(built, report_id, report, "the run of the first of March") == ["slack slack_test"]
    assert send(built, report_id, report, "the run of the first of March") == []
    # by hand it goes to everybody again
    assert len(send(built, report_id, report)) == 3 and len(inbox.mails) == 4


def test_an_address_that_fails_is_told_without_its_secret(built, inbox):
    channels = read_channels(built)
    slack, mail = channels.addresses("broken")
    assert send_message(built, channels, mail, Message("a", "b")) == str(mail) and len(inbox.mails) == 1
    with pytest.raises(NorthstarError, match="it answered 404") as failure:
        send_message(built, channels, slack, Message("a", "b"))
    assert "canary" not in str(failure.value)


def test_a_webhook_is_given_events_only(built, inbox):
    channels = read_channels(built)
    (pager,) = channels.addresses("on-call")
    assert send_message(built, channels, pager, Message("a", "b")) is None
    event = {"event_action": "trigger", "dedup_key": "k"}
    assert send_message(built, channels, pager, Message("a", "b", events=[event])) == "webhook pager_test"
    assert inbox.posted == [("/v2/enqueue", {"routing_key": "key", **event})]


@pytest.mark.parametrize(
    ("text", "message"),
    [("routs: {}", "routs: unknown key; did you mean 'routes'"), ("routes: {a: [{fax: 1}]}", "routes.a.0.fax: unknown key; known are mail, slack, webhook"), ("reports: {daily: all}", "goes to 'all'"),
     ("routes: {a: [{mail: [x]}]}", "add mail:"), ("maintenance: [{from: now, until: now}]", "maintenance.0.from: give a time, such as"), ("a: [", "not valid YAML")],
)  # fmt: skip
def test_a_mistake_in_notify_yml_is_one_line(built, text, message):
    (built.home / "notify.yml").write_text(text)
    try:
        with pytest.raises(NorthstarError, match=message):
            read_channels(built)
    finally:
        (built.home / "notify.yml").unlink(missing_ok=True)


def test_a_report_comes_on_the_day_after_its_period():
    assert reports_over(Calendar(), utc("2026-04-01T06:30:00")) == ["daily", "monthly", "quarterly"]
    assert reports_over(Calendar(), utc("2026-05-01T06:30:00")) == ["daily", "monthly"]
    assert reports_over(Calendar(), utc("2026-04-06T06:30:00")) == ["daily", "weekly"]
    assert reports_over(Calendar(), utc("2026-01-01T06:30:00")) == ["daily", "monthly", "quarterly", "annual"]
    # weeks from Sunday, and years from April
    calendar = Calendar(first_weekday=6, first_month=4)
    assert reports_over(calendar, utc("2026-04-05T06:30:00")) == ["daily", "weekly"]
    assert reports_over(calendar, utc("2026-04-01T06:30:00")) == ["daily", "monthly", "quarterly", "annual"]
    assert reports_over(calendar, utc("2026-01-01T06:30:00")) == ["daily", "monthly", "quarterly"]


def test_reports_wait_for_the_night_and_for_the_morning(built):
    # the newest nightly version is of 2026-03-01 00:00, a Sunday
    assert reports_due(built, utc("2026-03-01T03:00:00")) == ([], "reports are sent from 06:30 UTC on")
    assert reports_due(built, utc("2026-03-01T06:30:00")) == (["daily", "monthly"], None)
    due, waiting = reports_due(built, utc("2026-03-02T11:00:00"))
    assert due == ["monthly"], "late, but its period is published"
    assert waiting == "daily, weekly: no nightly run has published their period yet"
    assert reports_due(built, utc("2026-03-05T11:00:00"))[0] == [], "by then others tell more"


def test_reports_come_in_the_companys_morning_about_its_own_days(built):
    new_york = replace(built, rules=Rules(reporting_time_zone="America/New_York"))
    assert reports_due(new_york, utc("2026-03-01T11:00:00")) == ([], "reports are sent from 06:30 America/New_York on")
    # the nightly version of midnight in UTC is of seven in the evening there: neither the day nor February is over
    due, waiting = reports_due(new_york, utc("2026-03-01T11:30:00"))
    assert due == [] and waiting == "daily, monthly: no nightly run has published their period yet"


def test_before_the_first_version_no_report_is_due(warehouse):
    empty(warehouse)
    assert reports_due(warehouse, utc("2026-03-01T06:30:00")) == ([], "nothing is published yet")


def test_a_report_is_sent_once(built, inbox):
    morning = utc("2026-03-01T06:30:00")
    report_id, report = make_and_keep(built, "monthly", morning)
    assert reports_due(built, morning)[0] == ["daily", "monthly"], "it was kept and is still to be sent"
    send(built, report_id, report)
    assert reports_due(built, morning)[0] == ["daily"]
    make_and_keep(built, "daily", morning)
    assert reports_due(built, morning)[0] == [], "no route is named for the daily one"


def test_the_command_line_makes_lists_and_shows_reports(built, tmp_path):
    made = northstar(built, "report", "daily", "--html", str(tmp_path / "r.html"))
    assert made.returncode == 0, made.stderr
    assert "Daily report" in (tmp_path / "r.html").read_text()
    listed = northstar(built, "report", "list")
    number = list_reports(built)[0]["report_id"]
    assert str(number) in listed.stdout and "daily" in listed.stdout
    assert "Daily report" in northstar(built, "report", str(number)).stdout
    wrong = northstar(built, "report", "hourly")
    assert (
        wrong.returncode == 1
        and "no report 'hourly'; there are daily, weekly, monthly, quarterly, annual" in wrong.stderr
    )
