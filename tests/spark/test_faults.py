"""What breaks on the way ends the run with one line, nothing of it is loaded, and the next run has the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from northstar.base.errors import NorthstarError
from northstar.build import wide
from northstar.warehouse import lake
from tests.end_to_end.test_edges import mount
from tests.spark.handover import (
    SPARK_PYTHON,
    assert_nothing_left,
    changed,
    fail_to_hand_over,
    hand_over,
    handovers,
    script,
    with_changes,
)
from tests.support import silent
from tests.warehouse.test_lake import directory_of, opened
from tests.warehouse.test_lake_store import store

__all__ = ["store"]


def largest_file(settings) -> Path:
    return max((directory_of(settings) / "events").iterdir(), key=lambda path: path.stat().st_size)


DAMAGES = (
    "path.unlink()",
    "os.truncate(path, path.stat().st_size - 10)",
    "data = bytearray(path.read_bytes()); data[2000] ^= 255; path.write_bytes(data)",
)


def test_a_file_of_the_lake_that_is_gone_cut_short_or_wrong_in_one_byte_before_spark_reads_it(small, wanted, tmp_path):
    for damage in DAMAGES:
        lake.complete(small, opened(small))
        path = largest_file(small)
        harm = f"import os; from pathlib import Path; path = Path('{path}'); {damage}"
        python = script(tmp_path / "python", f'{sys.executable} -c "{harm}" && exec {SPARK_PYTHON} "$@"')
        message = fail_to_hand_over(changed(small, spark_python=python))
        assert message.startswith(
            f"Spark cannot read {path}, which is out of the lake now: run again, and it is written again from its table"
        )
        assert not path.exists()
    assert hand_over(small, 101) == wanted


def test_a_driver_that_dies_between_two_models_and_is_run_again(small, wanted, tmp_path):
    changes = (
        "described, describe = [], reduce.describe\n"
        "def die(rows):\n    described.append(1)\n    if len(described) == 4:\n        os.kill(os.getpid(), signal.SIGKILL)\n    return describe(rows)\n"
        "reduce.describe = die"
    )
    message = fail_to_hand_over(changed(small, spark_python=with_changes(tmp_path, changes)))
    assert message.startswith("Spark failed: it ended with the code -9 (its log: ") and "run again" in message
    # as two tasks: the second takes what the first has loaded, and needs no Spark
    run, without_spark = {"run_id": 102, "is_full": True, "rebuilds": None}, changed(small, spark_python="/nowhere")
    models = wide.hand_over(small, run, silent)
    with wide.handed_over(without_spark, run, silent) as standing:
        assert sorted(standing) == sorted(models) and handovers(small, 102) == wanted
    assert_nothing_left(small)
    # once they are gone, as after a build that failed, it is all done again
    with (
        pytest.raises(NorthstarError, match="Spark's environment is missing"),
        wide.handed_over(without_spark, run, silent),
    ):
        pass


def test_a_full_disk_of_temporary_files(small, wanted, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(disk, "size=64k"):
        pytest.skip("a disk of a fixed size needs the right to mount")
    try:
        message = fail_to_hand_over(changed(small, spark_scratch=str(disk)))
        assert message.startswith(f"Spark failed: the disk of its temporary files is full ({disk}/northstar-")
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_lake_in_an_object_store_with_temporary_files_elsewhere(small, wanted, store, tmp_path):
    settings = changed(small, lake="s3://company/lake", spark_scratch=str(tmp_path / "large"))
    assert hand_over(settings, 103) == wanted
    assert store.list_objects_v2(Bucket="company", Prefix="lake/events/")["KeyCount"] > 0
    assert os.listdir(tmp_path / "large") == []


# Java that does not start, that runs out of memory, and that the system ends
JAVA_FAULTS = {
    "open_session = reduce.open_session\nreduce.open_session = lambda job: open_session(job | {'memory_mb': 1 << 40})":
        "Java does not start with 1024 MB (spark_memory_mb in operations.yml)",
    "reduce.await_executor = lambda session, job: session._jvm.java.nio.ByteBuffer.allocate((1 << 31) - 9)":
        "1024 MB are too little memory for it (spark_memory_mb in operations.yml)",
    "reduce.await_executor = lambda session, job: os.kill(session._sc._gateway.proc.pid, signal.SIGKILL)":
        "its Java process is gone, ended by the system for lack of memory perhaps (spark_memory_mb in operations.yml)",
}  # fmt: skip


@pytest.mark.parametrize("fault", JAVA_FAULTS)
def test_what_java_lacks_is_one_line(small, tmp_path, fault):
    changes = f"reduce.compile_models = lambda: {{reduce.FACTS: None}}\n{fault}"
    if "SIGKILL" in fault:
        changes += "\nreduce.ask_facts = lambda session, facts: session.sql('select 1').collect()"
    settings = changed(small, spark_python=with_changes(tmp_path, changes))
    message = fail_to_hand_over(settings, may_pass="SIGKILL" in fault)
    assert message.startswith(f"Spark failed: {JAVA_FAULTS[fault]} (its log: ")


def test_spark_ends_when_the_run_that_started_it_is_gone(tmp_path):
    job = tmp_path / "job.json"
    job.write_text("{}")
    python = with_changes(tmp_path, "reduce.build = lambda job, directory: threading.Event().wait()")
    process = subprocess.Popen([python, "-P", "reduce.py", str(job)], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait() == 1
