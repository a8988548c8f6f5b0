"""Airflow's own deadline behind the freshness promises. That Airflow calls it is shown by tests/end_to_end/test_airflow.py."""

import asyncio
import json
from datetime import time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from northstar.orchestration.deadlines import publication_deadline, report_missed_deadline, reporting_zone
from tests.support import serving

CONTEXT = {"dag_run": {"dag_id": "nightly_rebuild", "dag_run_id": "scheduled__2026-11-30"}}


def test_the_deadline_follows_the_promises_of_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path))
    assert publication_deadline(timedelta(hours=1)).interval == timedelta(hours=2.5)
    (tmp_path / "operations.yml").write_text(
        "freshness:\n  marts:\n    all: {every: hour, by: ':30'}\n    metrics: {every: day, by: '06:00'}\n"
    )
    assert publication_deadline(timedelta(hours=1)).interval == timedelta(minutes=30)
    assert publication_deadline(timedelta(days=1), time(2, 30)).interval == timedelta(hours=3.5)
    assert reporting_zone() == "UTC"
    # the night begins at half past two in New York, which is half past seven in UTC, or half past six: after the deadline of the day, before the next hour's
    (tmp_path / "northstar.yml").write_text("reporting_time_zone: America/New_York\n")
    assert reporting_zone() == "America/New_York"
    assert publication_deadline(timedelta(days=1), time(2, 15)).interval == timedelta(minutes=15)
    (tmp_path / "northstar.yml").unlink()
    # a run says what is wrong with the settings; the DAG is there all the same
    (tmp_path / "operations.yml").write_text("freshness: soon\n")
    assert publication_deadline(timedelta(hours=1)).interval == timedelta(hours=2.5)


def test_a_warehouse_that_does_not_answer_is_told_directly(monkeypatch, tmp_path):
    posted = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    (tmp_path / "notify.yml").write_text(
        "routes: {data on-call: [{webhook: pager_test}, {slack: slack_test}], default: [{slack: slack_gone}]}\n"
    )
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", "postgresql://owner:canary@127.0.0.1:9/none")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Receiver)) as port:
        address = f"http://127.0.0.1:{port}"
        monkeypatch.setenv(
            "AIRFLOW_CONN_PAGER_TEST", json.dumps({"conn_type": "http", "host": address, "password": "key"})
        )
        monkeypatch.setenv(
            "AIRFLOW_CONN_SLACK_TEST", json.dumps({"conn_type": "slackwebhook", "password": address + "/s"})
        )
        asyncio.run(report_missed_deadline(CONTEXT))
    [page, slack] = posted
    says = "nightly_rebuild has not published in the promised time, and the alerts could not be evaluated"
    assert says in page["payload"]["summary"] and page["dedup_key"] == "deadline|nightly_rebuild"
    assert says in slack["text"] and "scheduled__2026-11-30" in slack["text"]
    assert "canary" not in f"{page}{slack}"
