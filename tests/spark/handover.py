"""Helpers: handovers by themselves, with other settings, through a script of Spark's own instead of the plain one."""

from dataclasses import replace
from pathlib import Path

import pytest

from northstar.base.errors import NorthstarError, PassingError
from northstar.base.settings import ROOT
from northstar.build.wide import handed_over
from tests.support import query_as, silent

SPARK_PYTHON = ROOT / ".venv-spark" / "bin" / "python"
REDUCE = ROOT / "plugins" / "northstar" / "build" / "spark"


def changed(settings, **operations):
    return replace(settings, operations=settings.operations.model_copy(update=operations))


def hand_over(settings, run_id: int) -> list[dict]:
    """Hand over as a run of that number; returns what Postgres says of what was handed over."""
    with handed_over(settings, {"run_id": run_id, "is_full": True, "rebuilds": None}, silent) as models:
        assert models
    assert_nothing_left(settings)
    return handovers(settings, run_id)


def handovers(settings, run_id: int) -> list[dict]:
    """Each model's rows and sums, as they were loaded in a run."""
    return query_as(
        settings,
        "transformer",
        "select model, rows, columns from audit.handovers where run_id = %s order by model",
        run_id,
    )


def fail_to_hand_over(settings, may_pass: bool = True) -> str:
    """The line with which a handover fails; may_pass: whether its task is tried again then. Nothing of it is left."""
    with (
        pytest.raises(NorthstarError) as caught,
        handed_over(settings, {"run_id": 1, "is_full": True, "rebuilds": None}, silent),
    ):
        pass
    assert_nothing_left(settings)
    assert "\n" not in str(caught.value) and isinstance(caught.value, PassingError) == may_pass
    return str(caught.value)


def assert_nothing_left(settings) -> None:
    assert query_as(settings, "transformer", "select 1 from pg_tables where tablename like '\\_handed%%'") == []
    assert not (settings.home / "wide").exists()


def script(path: Path, text: str) -> str:
    """A program that the shell runs; returns its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def with_changes(place: Path, changes: str) -> str:
    """An interpreter that runs Spark's script with a change of its functions, written in Python: `reduce` is the module, `job` its job."""
    (place / "changed.py").write_text(
        f"import json, os, signal, sys, threading, time\nfrom pathlib import Path\nsys.path.insert(0, {str(REDUCE)!r})\nimport reduce\n"
        f"job = json.loads(Path(sys.argv[1]).read_text())\n{changes}\nsys.exit(reduce.main(Path(sys.argv[1])))\n"
    )
    return script(place / "python", f'exec {SPARK_PYTHON} -P {place}/changed.py "$3"')
