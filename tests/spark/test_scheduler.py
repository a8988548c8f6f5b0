"""A night with Spark through Airflow's own scheduler, with the lake in an object store: its task is tried again when the driver dies."""

import pytest

from northstar.base.clock import parse_time
from northstar.base.settings import load_settings
from northstar.demo.company import simulate
from northstar.orchestration.services import start_services, stop_services
from northstar.orchestration.up import Api, follow, owed_run
from tests.conftest import home
from tests.spark.handover import SPARK_PYTHON, assert_nothing_left, handovers, script
from tests.support import query_as, select, silent
from tests.warehouse.test_lake_store import store

__all__ = ["store"]
TASK = "build.build_wide_models"


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("private")
def test_the_scheduler_builds_the_wide_models_in_a_task_and_tries_it_again(store, tmp_path, monkeypatch):
    simulate(tmp_path / "company", months=1, accounts=40, applications=("web",), end=parse_time(None))
    monkeypatch.setenv("NORTHSTAR_SOURCE_DIR", str(tmp_path / "company"))
    monkeypatch.setenv("NORTHSTAR_RETRY_SECONDS", "1")
    dies_once = script(
        tmp_path / "python",
        f'if [ ! -e {tmp_path}/dead ]; then touch {tmp_path}/dead; kill -9 $$; fi\nexec {SPARK_PYTHON} "$@"',
    )
    with home() as settings:
        (settings.home / "operations.yml").write_text(
            f"lake: s3://company/night\nwide_engine: spark\nspark_memory_mb: 1024\njob_niceness: 0\nspark_python: {dies_once}\n"
        )
        settings = load_settings(settings.home)
        start_services(settings, silent)
        try:
            api = Api(settings)
            run_id = owed_run(api, "nightly_rebuild")
            follow(api, "nightly_rebuild", run_id, silent)
            tasks = api.tasks("nightly_rebuild", run_id)
            wide = api._call(f"/api/v2/dags/nightly_rebuild/dagRuns/{run_id}/taskInstances/{TASK}")
        finally:
            stop_services(settings)
        assert set(tasks.values()) == {"success"} and wide["try_number"] == 2
        [run] = query_as(settings, "transformer", "select run_id from audit.runs where mode = 'nightly'")
        handed = handovers(settings, run["run_id"])
        assert len(handed) > 10 and any(model["rows"] for model in handed)
        assert_nothing_left(settings)
        # the version says that Postgres made what was drawn again
        [certificate] = select(
            settings, "select checks -> 'wide_models.spark_and_postgres_agree' as agree from certificates"
        )
        assert certificate["agree"]
    assert store.list_objects_v2(Bucket="company", Prefix="night/events/")["KeyCount"] > 0
