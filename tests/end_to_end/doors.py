"""The doors by which published numbers are read, each asked as its users ask it. What a door answers is {question's key: Answer}."""

import csv
import io
import json
import re
from collections import defaultdict
from datetime import datetime
from decimal import Decimal

from fastapi.testclient import TestClient
from flask import Flask

from northstar.build.manifest import dbt_target
from northstar.use.answers.reading import SCOPES, Desk
from northstar.use.api.access import MOST_REQUESTS_A_MINUTE, Access
from northstar.use.api.app import build
from northstar.use.marts import Marts
from northstar.use.mcp.server import make_server
from northstar.use.pages.as_of import HEADER, obey_as_of, shown_marts
from northstar.use.pages.contents import read_pages
from northstar.use.pages.downloads import add_downloads
from northstar.use.pages.links import page_path, slug
from northstar.use.pages.why import add_why
from northstar.use.query import query
from northstar.use.reports.make import make_report
from northstar.use.semantic import metricflow
from northstar.use.words import period, title_of
from northstar.warehouse import db
from northstar.warehouse.published.past import use_past_path
from tests.end_to_end.questions import Answer, Question
from tests.use.mcp.conftest import connected

KEY = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")
NULLS = {"withheld": "small_group", "not_measured": "source_missing", "open": "period_open"}
# `  MRR: 1,234.50 USD, +4.2 % from 1,184.74 USD, better [Feb 2026]`
LINE = re.compile(r"^  (?P<title>\w[^:\n]*): (?P<value>.*?)(?: \(\d[^()]* of [^()]*\))?(?: \((?P<reason>[a-z ]+)\))?(?:, [+-][^\[]*)? \[(?P<period>[^\]]+)\]$", re.MULTILINE)  # fmt: skip


class Sql:
    """SQL, all questions in one statement: `northstar sql`, and a role's own log-in."""

    def __init__(self, settings, role: str | None = None):
        self.settings, self.role = settings, role

    def ask(self, questions: list[Question], version: int | None = None) -> dict[tuple, Answer]:
        rows = ", ".join(
            "({})".format(", ".join(f"'{part}'" for part in (q.metric, q.grain, q.period_start.isoformat(), q.application, q.segment, q.segment_value.replace("'", "''"))))
            for q in questions
        )  # fmt: skip
        text = (
            f"select {', '.join(KEY)}, value, null_reason, is_complete, (select max(published_version) from publications) from metric_values "
            f"join (select a, b, c::timestamptz, d, e, f from (values {rows}) as v (a, b, c, d, e, f)) as asked ({', '.join(KEY)}) using ({', '.join(KEY)})"
        )
        if self.role is None:
            _, answers = query(self.settings, text, version)
        else:
            with db.connect(self.settings, db.reader_role(self.role)) as connection:
                if version is not None:
                    connection.execute("select set_config('northstar.version', %s, true)", [str(version)])
                    use_past_path(connection)
                answers = [tuple(row.values()) for row in connection.execute(text).fetchall()]
        return {row[:6]: Answer(*row[6:]) for row in answers}


class Pages:
    """The pages: the file of a metric's history, which has what the chart shows."""

    def __init__(self, settings, role: str | None = None):
        # as each of the pages' processes has it: one reader, which knows the newest version for two seconds
        self.marts = Marts(settings, role)
        server = Flask("pages")
        obey_as_of(server, lambda: self.marts)
        add_downloads(server, lambda: shown_marts(self.marts))
        add_why(server, lambda: shown_marts(self.marts))
        self.browser, self._address = server.test_client(), 0

    def _get(self, path: str, version: int | None):
        # each address may take so many files in a minute
        self._address += 1
        headers = {} if version is None else {HEADER: str(version)}
        sender = f"10.0.{self._address // 200}.{self._address % 200}"
        return self.browser.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": sender})

    def ask(self, questions: list[Question], version: int | None = None) -> dict[tuple, Answer]:
        by_series = defaultdict(list)
        for question in questions:
            by_series[question.series].append(question)
        found = {}
        for (metric, grain, application, segment), asked in by_series.items():
            chosen = page_path(
                "Metrics", metric=metric, application=application, grain=grain, period=0, segment=segment or "in total"
            )
            taken = self._get(f"/take/metrics-history.csv?{chosen.partition('?')[2]}", version)
            if taken.status_code == 404 and self.marts.role is not None:
                continue
            assert taken.status_code == 200, taken.text
            named = int(re.search(r"_v(\d+)[_.]", taken.headers["Content-Disposition"])[1])
            rows = {
                (row["period_start"], row["segment_value"]): row
                for row in csv.DictReader(io.StringIO(taken.text))
                if row.get("is_forecast") != "true"
            }
            for question in asked:
                row = rows.get((f"{question.period_start:%Y-%m-%dT%H:%M:%SZ}", question.segment_value))
                if row:
                    value = Decimal(row["value"]) if row["value"] else None
                    found[question.key] = Answer(value, row["null_reason"] or None, row["is_complete"] == "true", named)
        return found

    def targets(self, version: int | None = None) -> dict[tuple, tuple]:
        """{place of a target: (value, zone)} of every panel of targets."""
        found = {}
        for page in read_pages():
            for number, panel in enumerate(page["panels"]):
                if panel["kind"] == "targets":
                    taken = self._get(f"/take/{slug(page['title'])}-{number}.csv", version)
                    for row in csv.DictReader(io.StringIO(taken.text)):
                        names = ("metric_id", "application", "segment", "segment_value", "grain")
                        place = (*(row[n] for n in names), row["operator"].lstrip("'"), Decimal(row["target"] or 0))
                        found[place] = (Decimal(row["value"]) if row["value"] else None, row["zone"])
        return found

    def number(self, question: Question, version: int | None = None) -> str:
        """The page of one number, as HTML; it says what the number was the period before, and how it changed."""
        place = {
            "grain": question.grain,
            "application": question.application,
            "period": question.period.removesuffix("Z"),
        }
        place |= {"segment": question.segment, "value": question.segment_value} if question.segment else {}
        return self.browser.get(
            f"/why/{question.metric}", query_string=place, headers={} if version is None else {HEADER: str(version)}
        ).text

    def read(self, question: Question, version: int | None = None) -> Answer | None:
        """The page of one number, which writes its value as people read it, and says in words whether it is complete."""
        shown = self.number(question, version)
        if "why-value" not in shown:
            return None
        state = re.search(r'why-state">([^<]*)<', shown)[1]
        named = int(re.search(r"Version ([\d,]+), data", shown)[1].replace(",", ""))
        return Answer(
            re.search(r'why-value">([^<]*)<', shown)[1], None, "(complete)" in state or state == "Complete", named
        )


class Api:
    """The HTTP API: single values, which are refused for a reason, and lists, in turn."""

    def __init__(self, settings, desk: Desk, scopes=SCOPES, role: str | None = None):
        name = f"doors {len(scopes)} {id(self)}"
        token = Access(settings).add_token(name, scopes, per_minute=MOST_REQUESTS_A_MINUTE, role=role)
        self.client = TestClient(build(settings, desk), headers={"Authorization": f"Bearer {token}"})

    def get(self, path: str, version: int | None = None, **parameters) -> dict:
        given = {name: value for name, value in parameters.items() if value is not None}
        answer = self.client.get(path, params=given | ({} if version is None else {"version": version}))
        assert answer.status_code != 500, answer.text
        return json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)

    def ask(self, questions: list[Question], version: int | None = None) -> dict[tuple, Answer]:
        found = {}
        for number, question in enumerate(questions):
            place = {"grain": question.grain, "application": question.application}
            place |= {"segment": question.segment, "segment_value": question.segment_value} if question.segment else {}
            if number % 2:
                body = self.get(
                    f"/v1/metrics/{question.metric}/value", version, period=question.period, open="true", **place
                )
                values = [body["value"]] if "value" in body else []
            else:
                body = self.get(
                    f"/v1/metrics/{question.metric}/values",
                    version,
                    since=question.period,
                    until=question.period,
                    open="true",
                    **place,
                )
                values = body.get("values", [])
            found |= answers_of(question, body, values, body.get("reason"))
        return found


class Mcp:
    """The MCP server, asked by the official client; it says of an open period that it is open, and no number."""

    def __init__(self, client):
        self.ask_tool = client

    def ask(self, questions: list[Question], version: int | None = None) -> dict[tuple, Answer]:
        found = {}
        for number, question in enumerate(questions):
            place = {"metric": question.metric, "grain": question.grain, "application": question.application, "segment": question.segment,
                     "segment_value": question.segment_value} | ({} if version is None else {"version": version})  # fmt: skip
            if number % 2:
                body = self.ask_tool("list_values", since=question.period, until=question.period, **place)
                values = body.get("values", [])
            else:
                body = self.ask_tool("get_value", period=question.period, **place)
                values = [body["value"]] if "value" in body else []
            found |= answers_of(question, body, values, body.get("refused"))
        return found


def answers_of(question: Question, body: dict, values: list[dict], refused: str | None) -> dict[tuple, Answer]:
    """What the answer of a program's door says of a question: a value, or the reason why there is none."""
    version = int(body["provenance"]["version"] if "provenance" in body else body.get("version", 0))
    for value in values:
        if (
            datetime.fromisoformat(value["period_start"]) == question.period_start
            and value["segment_value"] == question.segment_value
        ):
            number = None if value["value"] is None else Decimal(value["value"])
            return {question.key: Answer(number, value["null_reason"], value["is_complete"], version)}
    if refused in NULLS and "has not begun" not in f"{body.get('detail')}{body.get('says')}":
        return {question.key: Answer(None, NULLS[refused], None, version)}
    return {}


class Reports:
    """Reports: the newest value of each metric that they have, as people read it."""

    def __init__(self, settings, role: str | None = None):
        self.settings, self.role = settings, role

    def ask(self, questions: list[Question], names=("monthly", "weekly"), application="all") -> dict[tuple, Answer]:
        found = {}
        for name in names:
            report = make_report(self.settings, name, application=application, role=self.role)
            # a section of one application has the same titles
            lines = {(m["title"], m["period"]): m for m in LINE.finditer(report.text.partition("TUTORING IN DEPTH")[0])}
            assert len(lines) > 5, report.text
            for question in questions:
                line = lines.get(
                    (
                        title_of(question.metric),
                        period(question.period_start, question.grain, self.settings.rules.calendar),
                    )
                )
                if line and (question.application, question.segment) == (application, ""):
                    reason = (line["reason"] or "").replace(" ", "_") or None
                    found[question.key] = Answer(line["value"], reason, True, report.version)
        return found


class MetricFlow:
    """MetricFlow: totals by month, of the newest version."""

    def __init__(self, settings, place):
        self.settings, self.file = settings, place / "answer.csv"

    def ask(self, questions: list[Question]) -> dict[tuple, Answer]:
        offered = {
            m["name"] for m in json.loads((dbt_target(self.settings) / "manifest.json").read_text())["metrics"].values()
        }
        asked = [
            q for q in questions if (q.grain, q.application, q.segment) == ("month", "all", "") and q.metric in offered
        ]
        metrics = sorted({q.metric for q in asked})
        words = ["query", "--metrics", ",".join(metrics), "--group-by", "metric_time__month", "--csv", str(self.file)]
        done = metricflow(self.settings, words, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        with self.file.open() as handle:
            rows = {row["metric_time__month"][:10]: row for row in csv.DictReader(handle)}
        # it has no versions and no reasons
        return {
            q.key: Answer(
                float(cell) if (cell := rows.get(f"{q.period_start:%Y-%m-%d}", {}).get(q.metric)) else None,
                None,
                None,
                0,
            )
            for q in asked
        }


class Doors:
    """All of them, for one role of readers.yml; None: for who sees everything. `close` ends what they hold."""

    def __init__(self, settings, place, role: str | None = None):
        self.settings, self.desk = settings, Desk(settings)
        self._client = connected(make_server(settings, self.desk, role_of_caller=lambda: role))
        self.sql, self.pages, self.api = (
            Sql(settings, role),
            Pages(settings, role),
            Api(settings, self.desk, role=role),
        )
        self.mcp, self.reports, self.metricflow = (
            Mcp(self._client.__enter__()),
            Reports(settings, role),
            MetricFlow(settings, place),
        )

    def close(self) -> None:
        self._client.__exit__(None, None, None)
        self.desk.close()
