"""The API over HTTP: what the answers say, in three formats, described as it is, and nothing else."""

import csv
import io
import re
from decimal import Decimal
from urllib.parse import quote

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from northstar.base.exact_json import dumps
from northstar.base.settings import ROOT
from northstar.use.answers import shapes, values
from northstar.use.answers.plain import plain
from northstar.use.answers.reading import Desk
from northstar.use.answers.refusals import REASONS
from northstar.use.answers.values import compare_periods, get_value, list_values
from northstar.use.api.app import STATUSES
from northstar.use.api.links import sign
from northstar.use.api.problems import MEDIA_TYPE
from northstar.warehouse import db
from tests.support import select

# {path: the shape of its answer} of every question, with what it is asked here
QUESTIONS = {
    "/v1/metrics": ("search=churn", shapes.MetricList),
    "/v1/metrics/{metric}": ("", shapes.MetricDetail),
    "/v1/metrics/{metric}/values": ("grain=month&segment=country&open=true", shapes.ValueList),
    "/v1/metrics/{metric}/value": ("period=2026-02", shapes.SingleValue),
    "/v1/metrics/{metric}/compare": ("newer=2026-02&older=2025-12", shapes.Comparison),
    "/v1/metrics/{metric}/explain": ("period=2026-02&rows=true", shapes.Explanation),
    "/v1/restatements": ("limit=5", shapes.RestatementList),
    "/v1/changes": ("since_version=0", shapes.ChangeList),
    "/v1/targets": ("zone=red", shapes.TargetList),
    "/v1/marks": ("since=2026-01-01&limit=5", shapes.MarkList),
    "/v1/customers": ("limit=3", shapes.CustomerList),
    "/v1/status": ("", shapes.Status),
    "/v1/query": ("sql=select metric_id, value, period_start, 1.5 as n, null as nothing from metric_values limit 3", shapes.QueryRows),
}  # fmt: skip
TABLES = [path for path in QUESTIONS if not path.endswith(("{metric}", "explain", "status"))]
# what no parameter may lead to
HOSTILE = ("' or 1=1 --", "%s%s%(x)s", "\0", "x" * 5_000, "1; drop table marts.metrics", "$(id)", "../../etc/passwd", "\u202e", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "-1", "99999999999999999999", "{}", "")  # fmt: skip


def ask(client, path, query=None, **more):
    return client.get(f"{path.replace('{metric}', 'mrr')}?{QUESTIONS[path][0] if query is None else query}", **more)


def test_the_description_is_that_of_the_routes_and_of_their_answers(client, stranger):
    described = stranger.get("/v1/openapi.json").json()
    assert set(described["paths"]) == set(QUESTIONS)
    for path, (query, shape) in QUESTIONS.items():
        operation = described["paths"][path]["get"]
        response = operation["responses"]["200"]["content"]
        assert response["application/json"]["schema"]["$ref"].endswith(f"/{shape.__name__}")
        assert ("text/csv" in response) == (path in TABLES)
        names = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
        assert {part.partition("=")[0] for part in query.split("&") if part} <= names
        assert operation["security"] == [{"token": []}] and "default" in operation["responses"]
        answer = ask(client, path)
        assert answer.status_code == 200, answer.text
        # every field of the shape and no other, with its type
        parsed = TypeAdapter(shape).validate_json(answer.content)
        assert parsed.provenance.version == 1 == int(answer.headers["Northstar-Version"])
        assert set(answer.json()) == set(described["components"]["schemas"][shape.__name__]["properties"])
        assert answer.headers["Cache-Control"] == "private, no-cache" and "nosniff" in str(answer.headers)
        assert "access-control-allow-origin" not in answer.headers
    value = described["components"]["schemas"]["Value"]["properties"]["value"]
    assert {part["type"] for part in value["anyOf"]} == {"number", "null"}


def test_an_answer_is_that_of_the_layer_with_all_its_digits(client, built):
    desk = Desk(built)
    try:
        for path, make in (
            (
                "/v1/metrics/{metric}/values",
                lambda r: list_values(r, "mrr", "month", segment="country", with_open=True),
            ),
            ("/v1/metrics/{metric}/compare", lambda r: compare_periods(r, "mrr", "2026-02", "2025-12")),
        ):
            with desk.reading() as reading:
                assert ask(client, path).text == dumps(plain(make(reading)))
    finally:
        desk.close()


def test_tables_are_the_same_in_each_format(client):
    for path in TABLES:
        lines = list(csv.DictReader(io.StringIO(ask(client, path, f"{QUESTIONS[path][0]}&format=csv").text)))
        with pa.ipc.open_stream(ask(client, path, headers={"Accept": "application/vnd.apache.arrow.stream"}).content) as stream:  # fmt: skip
            arrow = stream.read_all()
        assert arrow.column_names == list(lines[0]) if lines else arrow.num_rows == 0
        assert arrow.num_rows == len(lines)
        if path != "/v1/query":
            assert {"version", "as_of"} <= set(arrow.column_names) | {"published_at"}
    rows = list(csv.DictReader(io.StringIO(ask(client, "/v1/metrics/{metric}/values", headers={"Accept": "text/csv"}).text)))  # fmt: skip
    answer = ask(client, "/v1/metrics/{metric}/values").json()
    assert [Decimal(r["value"]) for r in rows] == [Decimal(str(v["value"])) for v in answer["values"]]
    assert rows[0]["definition"] == answer["definition"]["definition"] and rows[0]["period_start"].endswith(
        "-01 00:00:00"
    )
    for path in ("/v1/metrics/mrr", "/v1/status", "/v1/metrics/mrr/explain"):
        assert client.get(f"{path}?format=csv").status_code == 400
    cells = client.get("/v1/query", params={"sql": "select '=1+1' as formula, '@x' as \"=y\"", "format": "csv"}).text
    assert cells == "formula,'=y\r\n'=1+1,'@x\r\n"
    odd = client.get("/v1/query", params={"sql": "select 'NaN'::numeric as a, 1e70::numeric as b, array[1] as c, '2026-01-01'::date as d, true as e union all select 1.5, 2, null, null, null", "format": "arrow"})  # fmt: skip
    with pa.ipc.open_stream(odd.content) as stream:
        assert stream.read_all().num_rows == 2


def test_a_table_is_whole_or_refused(client):
    sql = "select n from generate_series(1, 60000) as n"
    refused = client.get("/v1/query", params={"sql": sql, "format": "csv"})
    assert refused.status_code == 422 and "more rows than one answer has" in refused.json()["detail"]
    assert client.get("/v1/query", params={"sql": sql, "format": "csv", "limit": 2}).text == "n\r\n1\r\n2\r\n"
    cut = client.post("/v1/query", json={"sql": sql, "limit": 2}).json()
    assert cut["is_cut"] and cut["rows"] == [[1], [2]]


def test_an_answer_that_the_caller_has_is_not_sent_again(client, built):
    for path in QUESTIONS:
        # rows and statuses may differ within a version: their tag is that of what they say
        first = ask(client, path)
        tag = first.headers["ETag"]
        for sent in (tag, f'"x", W/{tag}'):
            again = ask(client, path, headers={"If-None-Match": sent})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag), path
    path = "/v1/metrics/{metric}/value"
    tag = ask(client, path).headers["ETag"]
    for query in ("period=2026-01", "period=2026-02&format=csv", "period=2026-02&open=true"):
        assert ask(client, path, query).headers["ETag"] != tag
    with db.connect(built, "owner") as connection:
        connection.execute("update marts.publications set published_at = published_at + interval '1 second'")
    assert ask(client, path, headers={"If-None-Match": tag}).status_code == 200
    assert "ETag" not in client.get("/v1/metrics/mrr/value?period=2026-Q1").headers


def test_an_answer_is_made_once_for_a_version(client, access, built, monkeypatch):
    made = []
    monkeypatch.setattr(values, "get_value", lambda *asked: made.append(asked[1]) or get_value(*asked))
    few = access.add_token("few scopes", ["rows"])
    for version in (1, 2):
        with db.connect(built, "owner") as connection:
            connection.execute("update marts.publications set published_at = published_at + interval '1 second'")
        first, again, other = (
            client.get(f"/v1/metrics/mrr/value?period=2026-02&application={name}") for name in ("web", "web", "all")
        )
        assert (first.content, first.headers) == (again.content, again.headers) != (other.content, other.headers)
        assert made == ["mrr", "mrr"] * version
        # what is kept is for those who may ask it
        refused = client.get(
            "/v1/metrics/mrr/value?period=2026-02&application=web", headers={"Authorization": f"Bearer {few}"}
        )
        assert refused.status_code == 403


@pytest.mark.parametrize(("path", "status", "reason", "words"), [
    ("/v1/metrics/mrr/value?period=2026-Q1", 409, "open", "no value, because the period is open"),
    ("/v1/metrics/churn/values", 400, "ambiguous", "name one of them"), ("/v1/metrics/mrrr", 404, "unknown_metric", "is it mrr?"),
    ("/v1/metrics/mrr/value?version=99", 404, "not_published", "version 99 was never published"),
    ("/v1/metrics/mrr/values?aplication=web", 400, "bad_request", "aplication: there is no such parameter"),
    ("/v1/metrics/mrr/values?grain=decade", 400, "bad_request", "grain: Input should be 'hour'"),
    ("/v1/metrics/mrr/values?limit=0", 400, "bad_request", "limit: Input should be greater"),
    ("/v1/metrics/mrr/values?grain=day&grain=month", 400, "bad_request", "name each parameter once"),
    ("/v1/query", 400, "bad_request", "sql: Field required"), ("/v1/query?sql=drop table marts.metrics", 403, "not_allowed", "read-only transaction"),
    ("/v1/nothing", 404, "bad_request", "there is nothing at this address"), ("/", 404, "bad_request", "/v1/openapi.json lists"),
    ("/docs", 404, "bad_request", ""), ("/v1/metrics/", 404, "bad_request", ""), ("/v1/metrics/..%2f..%2fetc%2fpasswd", 404, "bad_request", ""),
])  # fmt: skip
def test_a_refusal_is_one_line_for_people_and_a_reason_for_programs(client, path, status, reason, words):
    answer = client.get(path)
    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem["status"]) == (status, reason, status)
    assert answer.headers["Content-Type"] == MEDIA_TYPE and "\n" not in answer.text and words in problem["detail"]
    assert problem["type"] == f"urn:northstar:refused:{reason}"
    if reason in ("open", "ambiguous", "unknown_metric"):
        assert problem["version"] == 1


def test_no_parameter_leads_anywhere_else(client, stranger, built):
    before = select(built, "select count(*) as n from metrics")
    described = stranger.get("/v1/openapi.json").json()["paths"]
    for path in QUESTIONS:
        for parameter in described[path]["get"]["parameters"]:
            # the statement is the caller's own; a link's are in test_access
            if parameter["name"] in ("sql", "link", "signature"):
                continue
            # all of them for one question, some for each: most of what refuses them is the same
            for text in HOSTILE if path.endswith("values") else HOSTILE[:4]:
                given = dict(part.split("=", 1) for part in QUESTIONS[path][0].split("&") if part)
                target = path.replace("{metric}", "mrr")
                if parameter["in"] == "path":
                    target = path.replace("{metric}", quote(text, safe="") or "-")
                else:
                    given[parameter["name"]] = text
                answer = client.get(target, params=given)
                assert answer.status_code in (200, 400, 404, 409), (
                    path,
                    parameter["name"],
                    text[:40],
                    answer.text[:200],
                )
                if answer.status_code != 200:
                    assert answer.headers["Content-Type"] == MEDIA_TYPE and len(answer.text) < 2_000 and "\n" not in answer.text  # fmt: skip
                    assert "syntax error" not in answer.text and "psycopg" not in answer.text and "Traceback" not in answer.text  # fmt: skip
    assert select(built, "select count(*) as n from metrics") == before


def test_a_body_is_json_with_a_statement_and_nothing_more(client):
    for body in (
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"sql": 1}',
        b'{"sql": "select 1", "role": "owner"}',
        b'{"sql": "select 1\\u0000"}',
    ):
        answer = client.post("/v1/query", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.headers["Content-Type"] == MEDIA_TYPE, (body[:20], answer.text)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        assert client.request(method, "/v1/metrics").status_code == 405
    assert client.post("/v1/metrics").status_code == 405


def test_what_the_page_asks_is_answered(client, stranger, access):
    page = (ROOT / "docs" / "api.md").read_text()
    table = page.split("## What can be asked")[1].split("\n## ")[0]
    addresses = re.findall(r"^\| `(/v1/[^`]+)`", table, re.MULTILINE)
    assert {address.partition("?")[0].replace("/mrr", "/{metric}") for address in addresses} == set(QUESTIONS)
    for address in addresses:
        assert client.get(address).status_code == 200, address
    signed = re.findall(r'northstar api link add "(/v1/[^"]+)"', page)
    assert len(signed) == 2
    for target in signed:
        # as a spreadsheet asks
        answer = stranger.get(sign(access, target, 1), headers={"User-Agent": "Mozilla/5.0 (compatible; GoogleDocs)"})
        assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/csv")
    reasons = page.split("## Refusals")[1].split("\n## ")[0]
    assert {(reason, int(code)) for reason, code in re.findall(r"^\| `(\w+)` \| (?:\d+, )*(\d+)", reasons, re.MULTILINE)} >= {
        (reason, status) for reason, status in STATUSES.items() if reason not in ("too_much",)
    }  # fmt: skip
    assert set(re.findall(r"^\| `(\w+)` \|", reasons, re.MULTILINE)) == set(REASONS)
