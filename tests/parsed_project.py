"""dbt's parse of the release's project: made once in a session, and given to every home that has not built yet.

Parsing takes 7 of the 25 seconds of processor time of a new home's first run. The homes differ in what dbt holds a parse to be valid for: the
connection. So the digest of the one is replaced by that of the other; were it wrong, dbt would parse anew.
"""

import hashlib
import os
import pprint
import shutil
from argparse import Namespace
from pathlib import Path

import fasteners

from northstar.base.settings import ROOT, Settings
from northstar.build.code_version import code_version
from northstar.build.dbt import dbt_env, run_dbt
from northstar.build.manifest import dbt_target
from northstar.warehouse import db

# names the directory of the session, for all its processes; where there is none (benchmarks), every home parses for itself
VARIABLE = "NORTHSTAR_TESTS_PARSES"
PARSE, MANIFEST, VERSION, CONNECTION = "partial_parse.msgpack", "manifest.json", "code_version", "connection"


def give_parse(settings: Settings, is_made: bool = True) -> None:
    """Give a home the session's parse of its project, so that its first run parses nothing. is_made: make it, if nobody has yet."""
    target = dbt_target(settings)
    if VARIABLE not in os.environ or settings.root != ROOT or settings.own_seeds or (target / MANIFEST).exists():
        return
    version = code_version(settings)
    shared = Path(os.environ[VARIABLE]) / f"{version} {db.database_name(settings)}"
    with fasteners.InterProcessLock(shared.with_suffix(".lock")):
        if not shared.exists():
            if not is_made:
                return
            _make(settings, version, shared)
    digest = _connection_digest(settings)
    target.mkdir(parents=True, exist_ok=True)
    for directory in (target, target.parent):
        directory.chmod(0o700)
    parse = (shared / PARSE).read_bytes().replace((shared / CONNECTION).read_bytes(), digest)
    (target / PARSE).write_bytes(parse)
    # with its time, which the version's file names
    for name in (VERSION, MANIFEST):
        shutil.copy2(shared / name, target / name)
    for name in (PARSE, VERSION, MANIFEST):
        # what dbt writes in a run nobody else may read
        (target / name).chmod(0o600)


def _make(settings: Settings, version: str, shared: Path) -> None:
    target, unfinished = dbt_target(settings), shared.with_suffix(".new")
    run_dbt(settings, ["parse"], version)
    unfinished.mkdir()
    digest = _connection_digest(settings)
    assert digest in (target / PARSE).read_bytes(), "dbt reckons the digest of a connection in another way"
    (unfinished / CONNECTION).write_bytes(digest)
    for name in (PARSE, VERSION, MANIFEST):
        shutil.copy2(target / name, unfinished / name)
    unfinished.rename(shared)


def _connection_digest(settings: Settings) -> bytes:
    """What dbt reckons of a connection (ManifestLoader.build_manifest_state_check), as it stands in the saved parse."""
    from dbt.adapters.factory import load_plugin
    from dbt.config.profile import Profile, read_profile
    from dbt.config.renderer import ProfileRenderer
    from dbt.flags import set_from_args
    from dbt_common.context import set_invocation_context

    # a process that only takes the parse of another has no flags of dbt yet
    set_from_args(Namespace(), {})
    set_invocation_context({**os.environ, **dbt_env(settings)})
    load_plugin("postgres")
    profiles = read_profile(str(settings.root / "dbt_project"))
    profile = Profile.from_raw_profile_info(profiles["northstar"], "northstar", ProfileRenderer({}))
    connection = sorted(profile.credentials.connection_info())
    return hashlib.sha256(pprint.pformat(connection).encode()).hexdigest().encode()
