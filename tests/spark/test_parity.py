"""What Spark builds from the lake is the same to the byte as what Postgres builds from the landed tables (`make test-spark`)."""

import os
import sys

from northstar.build.manifest import read_manifest
from northstar.runs.verify import verify
from northstar.warehouse.lake import WIDE_ENTITIES
from tests.spark.handover import SPARK_PYTHON, changed, fail_to_hand_over, script
from tests.support import query_as, silent


def test_postgres_builds_the_version_of_spark_again_to_the_byte(on_spark):
    different = [f"{c.kind} {c.name}" for c in verify(on_spark, progress=silent) if not c.is_same]
    assert different == []


def test_the_certificate_says_that_drawn_rows_are_the_same_on_postgres(on_spark):
    [certificate] = query_as(on_spark, "transformer", "select checks from marts.certificates")
    line = certificate["checks"]["wide_models.spark_and_postgres_agree"]
    assert line["success"] and line["boundary"] == "build"
    assert " rows of 14 models (accounts: 3, hours: " in line["observed"] and not line["observed"].startswith("0 ")


def test_every_wide_model_is_handed_over_with_rows_and_nothing_is_left(on_spark):
    models = {n["name"]: n for n in read_manifest(on_spark)["nodes"].values() if "wide" in n["config"].get("tags", [])}
    rows = {r["model"]: r["rows"] for r in query_as(on_spark, "transformer", "select model, rows from audit.handovers")}
    assert set(rows) == set(models) - {"engine_facts"} and all(rows.values())
    for name in rows:
        [standing] = query_as(on_spark, "transformer", f"select count(*) as n from {models[name]['relation_name']}")
        assert standing["n"] == rows[name], name
    assert query_as(on_spark, "transformer", "select 1 from pg_tables where tablename like '\\_handed%%'") == []
    assert not (on_spark.home / "wide").exists()


def test_the_lake_has_the_entities_that_wide_models_read(on_spark):
    nodes = read_manifest(on_spark)["nodes"]
    views = {
        name.removeprefix("model.northstar.stg_")
        for node in nodes.values() if node["resource_type"] == "model" and "wide" in node["config"]["tags"]
        for name in node["depends_on"]["nodes"] if name.startswith("model.northstar.stg_")
    }  # fmt: skip
    assert views == set(WIDE_ENTITIES)


def test_a_manifest_that_does_not_add_up_stops_the_run(on_spark, tmp_path):
    # the real work, after which a row is missing
    lose = (
        "import glob, sys, pyarrow.parquet as pq\n"
        "path = max(glob.glob(sys.argv[1] + '/event_hours/*.parquet'), key=lambda p: pq.read_metadata(p).num_rows)\n"
        "table = pq.read_table(path)\npq.write_table(table.slice(1), path)\n"
    )
    (tmp_path / "lose.py").write_text(lose)
    python = script(
        tmp_path / "python", f'{SPARK_PYTHON} "$@" && {sys.executable} {tmp_path}/lose.py "$(dirname "$3")"'
    )
    message = fail_to_hand_over(changed(on_spark, spark_python=python), may_pass=False)
    assert message.startswith("what Spark handed over for event_hours does not add up to its manifest (")


def test_a_spark_that_dies_or_is_not_there_is_one_line(on_spark, tmp_path, monkeypatch):
    python = script(tmp_path / "python", "kill -9 $$")
    assert "Spark failed: it ended with the code -9" in fail_to_hand_over(changed(on_spark, spark_python=python))
    nowhere = changed(on_spark, spark_python=str(tmp_path / "nowhere"))
    assert "make setup-spark" in fail_to_hand_over(nowhere, may_pass=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    without_java = changed(on_spark, spark_python=sys.executable)
    assert "openjdk-17-jre-headless" in fail_to_hand_over(without_java, may_pass=False)


def test_spark_has_no_secret_of_ours(on_spark, tmp_path, monkeypatch):
    monkeypatch.setenv("NORTHSTAR_SECRET_PII_KEY", "a secret")
    python = script(tmp_path / "python", f"env > {tmp_path}/seen; cat $3 >> {tmp_path}/seen; exit 3")
    fail_to_hand_over(changed(on_spark, spark_python=python))
    seen = (tmp_path / "seen").read_text()
    assert (
        "NORTHSTAR_RUN_CONTEXT" in seen
        and "a secret" not in seen
        and "postgres" not in seen.replace(os.environ["PATH"], "")
    )
