"""Volumes of an earlier version under this one's stack: init brings them to it, and what was published reads as it did."""

import gzip
import hashlib
import json

import pytest

from northstar.base.settings import load_settings
from northstar.use.query import query
from northstar.warehouse import db
from tests.conftest import HOMES
from tests.containers.conftest import variables
from tests.containers.stack import Stack
from tests.end_to_end.test_upgrade import EVERY_VALUE
from tests.support import write_rows

pytestmark = pytest.mark.timeout(1800)
RELEASE = "5e1421c"
ABOUT = json.loads((HOMES / f"{RELEASE}.json").read_text())
# what a server does not know that is older than the dump's
UNKNOWN = ("transaction_timeout", "FUNCTION pg_catalog.pg_logical_emit_message(")
# what it had landed already
AGAIN = {"event_id": "e5", "event_name": "page.view", "occurred_at": "2025-01-19T07:30:00Z", "received_at": "2025-01-19T07:30:00Z",
         "account_id": "a", "application": "web"}  # fmt: skip
OLD_HOME = 'mkdir airflow && echo 3.0.0 > airflow/migrated && echo \'{"admin": "before"}\' > airflow/passwords.json && echo 1 > VERSION'


@pytest.fixture(scope="module")
def older(podman, tmp_path_factory):
    """The stack on such volumes, after init."""
    directory = tmp_path_factory.mktemp("nothing_new")
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    given = variables(write_rows(directory, {"events": [AGAIN]}))
    stack = Stack(podman, "older", given | {"NORTHSTAR_PII_KEY": ABOUT["key of its made-up people"]})
    stack.create()
    stack.start("warehouse")
    stack.await_health("warehouse")
    psql = ("psql", "-v", "ON_ERROR_STOP=1", "-qX", "-U", "northstar_owner", "-d", "northstar")
    roles = "".join(f"create role {role} login password 'before';" for role in (*db.ROLES, db.AIRFLOW_ROLE))
    stack.execute("warehouse", *psql, input=f"{roles} create database airflow;")
    stack.execute("warehouse", *psql, input=f"grant connect, temporary on database airflow to {db.AIRFLOW_ROLE};")
    dump = gzip.decompress((HOMES / f"{RELEASE}.sql.gz").read_bytes()).decode().splitlines(keepends=True)
    stack.execute("warehouse", *psql, input="".join(line for line in dump if not any(name in line for name in UNKNOWN)))
    made = stack.run("init", "-c", f"cd /var/lib/northstar && {OLD_HOME}", entrypoint="sh")
    assert made.returncode == 0, made
    stack.start("init")
    assert stack.await_end("init") == 0, stack.log("init")
    yield stack
    stack.stop()


def read(stack: Stack, version: int, home) -> dict:
    """Rows and a hash of what was published as a version, as the release itself read it."""
    place = stack.inspect("warehouse")["NetworkSettings"]["Networks"][stack.name]["IPAddress"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORTHSTAR_WAREHOUSE_URL", f"postgresql://{place}:5432/northstar?sslmode=disable")
        # the warehouse keeps the names that it was made with, which only its own home remembers
        patch.setenv("NORTHSTAR_ROLE_PREFIX", "")
        for name in ("TRANSFORMER_PASSWORD", "BI_READER_PASSWORD"):
            patch.setenv(f"NORTHSTAR_SECRET_{name}", stack.compose.variables[f"NORTHSTAR_{name}"])
        rows = query(load_settings(home), EVERY_VALUE, version)[1]
    # the release's own server ordered words by their bytes, this one does as in English
    rows = sorted(rows, key=lambda row: row[:6])
    return {"rows": len(rows), "md5": hashlib.md5("\n".join(map(str, rows)).encode()).hexdigest()}


def test_an_older_volume_is_upgraded_and_everything_published_reads_as_it_did(older, tmp_path):
    done = older.run(
        "scheduler", "run", "--mode", "hourly", "--as-of", "2025-01-19T10:00:00Z", "--source-dir", "/source"
    )
    assert done.returncode == 0, done
    for version, content in ABOUT["versions"].items():
        assert read(older, int(version), tmp_path) == content, version


def test_nothing_is_left_in_the_home_that_a_service_should_not_read(older):
    found = older.run("init", "-c", "ls /var/lib/northstar/airflow", entrypoint="sh").stdout.split()
    assert "migrated" in found and "passwords.json" not in found


def test_a_second_init_changes_nothing(older):
    older.podman("start", older.container("init"))
    assert older.await_end("init") == 0, older.log("init")
