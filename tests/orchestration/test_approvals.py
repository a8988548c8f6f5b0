"""What becomes of a publication that waited for somebody. That Airflow asks, and goes on after an answer, is shown by tests/end_to_end/test_airflow.py."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from northstar.base.errors import NorthstarError
from northstar.orchestration.approvals import PublishOperator

# a run that is not there: what is decided about it changes nothing
CONTEXT = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: 999_999)}
ANSWER = {
    "chosen_options": ["Drop"],
    "params_input": {},
    "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
    "responded_by_user": {"id": "ada", "name": "ada"},
}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ANSWER, "ada decided against the publication: nothing was published, and the next run builds everything anew"),
        (
            {"error": "too late", "error_type": "timeout"},
            "nobody approved the publication within 0.5 h: nothing was published",
        ),
    ],
)
def test_what_is_not_approved_fails_with_one_line(built, monkeypatch, tmp_path, event, line):
    (tmp_path / "operations.yml").write_text("approve_within_hours: 0.5\n")
    monkeypatch.setenv("NORTHSTAR_HOME", str(built.home))
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path))
    with pytest.raises(NorthstarError, match=line):
        PublishOperator(task_id="publish_marts").execute_complete(CONTEXT, event)


def test_the_time_for_an_answer_is_not_taken_from_the_time_of_the_task():
    task = PublishOperator(task_id="publish_marts", default_args={"execution_timeout": timedelta(hours=2)})
    assert task.execution_timeout == timedelta(hours=2)
