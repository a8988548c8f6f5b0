"""dbt's parse of the release's project: made once in a session, and given to every home that has not this one.

Parsing takes 7 of the 25 seconds of processor time of a new home's first run, and what Jinja compiles another. A home's tests may build another
project meanwhile, which leaves its own there.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import fasteners

from northstar.base.settings import ROOT, Settings
from northstar.build.code_version import code_version, project_version
from northstar.build.dbt import run_dbt
from northstar.build.manifest import TEMPLATES, copy_parse, dbt_target, is_parsed
from northstar.warehouse import db

# names the directory of the session, for all its processes; where there is none (benchmarks), every home parses for itself
VARIABLE = "NORTHSTAR_TESTS_PARSES"


def give_parse(settings: Settings, is_made: bool = True) -> None:
    """Give a home the session's parse of its project, so that its next run parses nothing. is_made: make it, if nobody has yet."""
    shared, target = _shared(settings), dbt_target(settings)
    if shared is None or is_parsed(settings, project_version(settings)):
        return
    with fasteners.InterProcessLock(shared.with_suffix(".lock")):
        if not shared.exists():
            if not is_made:
                return
            run_dbt(settings, ["parse"], code_version(settings))
            copy_parse(target, shared.with_suffix(".new"))
            shared.with_suffix(".new").rename(shared)
            return
        copy_parse(shared, target)
        # what dbt makes in a run nobody else may read
        for path in (target, target.parent):
            path.chmod(0o700)
        for path in target.iterdir():
            if path.is_file():
                path.chmod(0o600)


def keep_templates(settings: Settings) -> None:
    """Keep for the session what Jinja compiled in a home's run, if it is the first."""
    shared = _shared(settings)
    # beside the directory: in it are those that parsing needed
    if shared is None or (compiled := shared.with_suffix(".templates")).exists():
        return
    with fasteners.InterProcessLock(shared.with_suffix(".lock")), suppress(FileNotFoundError):
        shutil.copy2(dbt_target(settings) / TEMPLATES, shared / TEMPLATES)
        compiled.touch()


def _shared(settings: Settings) -> Path | None:
    if VARIABLE not in os.environ or settings.root != ROOT or settings.own_seeds:
        return None
    # the database's name stands in each node
    return Path(os.environ[VARIABLE]) / f"{project_version(settings)} {db.database_name(settings)}"
