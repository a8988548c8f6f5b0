"""No secret in logs, dbt's artefacts, messages, the database or anything else that a home keeps, whatever goes wrong."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from northstar.base.settings import ROOT
from northstar.cli import main as cli
from northstar.extract.landing.source import land_source
from northstar.extract.sources import declared
from northstar.extract.sources.declared import Source, systems
from northstar.warehouse import db
from tests.support import empty, serving

# a secret with what addresses and messages escape
CANARY = "sk_live_Canary/4711+x"
SPELLINGS = {CANARY, quote(CANARY, safe=""), quote(CANARY), json.dumps(CANARY)[1:-1].replace("/", "\\/")}
KEPT_IN = {"secrets.json", "passwords.json"}


def secrets_of(settings) -> set[str]:
    """The secrets that a home has made for itself."""
    return set(json.loads(settings.secrets_file.read_text()).values())


def find_needles(home: Path, secrets: set[str]) -> list[str]:
    """The files of a home, the database's own among them, that hold a secret."""
    hits = []
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in KEPT_IN:
            content = path.read_bytes()
            hits += [str(path.relative_to(home)) for secret in secrets if secret.encode() in content]
    return hits


def test_a_run_leaves_none_of_the_homes_secrets_behind(built):
    with db.connect(built, "owner", autocommit=True) as connection:
        connection.execute("checkpoint")
    secrets = secrets_of(built)
    assert {db.password(built, role) for role in db.ROLES} < secrets and len(secrets) >= 6
    assert (built.home / "dbt" / "target" / "manifest.json").exists() and (built.logs / "dbt.log").exists()
    assert find_needles(built.home, secrets) == []


@pytest.fixture
def echoing():
    """A system that says no, and repeats in its answer whatever it was sent, headers and all."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            answer = json.dumps({"error": f"{self.path} {self.headers} {self.rfile.read(length)!r}"}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


OPTIONS = {
    "files": {"path": "s3://canary/export"},
    "sql": {"entities": {"reviews": {"table": "reviews"}}},
    "github": {"repositories": ["a/b"], "repository": "a/b"},
    "webhooks": {"path": "s3://canary/deliveries", "system": "stripe"},
    "packages": {"packages": ["northstar"]},
    "prometheus": {"queries": []},
}
FIRST = {"sql": ("reviews",)}


@pytest.mark.parametrize("system", systems())
def test_a_source_that_fails_tells_no_secret(warehouse, echoing, monkeypatch, capfd, system):
    empty(warehouse)
    kinds = {"files": "aws", "webhooks": "aws", "sql": "postgres"}
    connection = {
        "conn_type": kinds.get(system, "http"),
        "host": echoing,
        "login": "canary",
        "password": CANARY,
        "extra": {"token": CANARY},
    }
    if system == "sql":
        connection |= {"host": "127.0.0.1", "port": 1, "schema": "app"}
    if kinds.get(system) == "aws":
        connection |= {"extra": {"endpoint_url": echoing, "region_name": "us-east-1", "aws_session_token": CANARY}}
    monkeypatch.setenv("AIRFLOW_CONN_CANARY", json.dumps(connection))
    monkeypatch.setattr("northstar.extract.sources.http.ATTEMPTS", 1, raising=False)
    entities = FIRST.get(system) or tuple(declared._module(system).ENTITIES)[:1]
    said: list[str] = []
    result = land_source(
        warehouse, 1, Source(system, system, "canary", entities, options=OPTIONS.get(system, {})), said.append
    )
    assert result.error, "it was to fail"
    with db.connect(warehouse, "owner") as connection:
        kept = str(
            [
                connection.execute(f"select * from audit.{t}").fetchall()
                for t in ("source_runs", "source_states", "runs")
            ]
        )
    captured = capfd.readouterr()
    told = f"{result.error} {said} {kept} {captured.out} {captured.err}"
    assert not any(spelling in told for spelling in SPELLINGS), told[:2000]
    assert find_needles(warehouse.logs, SPELLINGS) == []


def test_a_connector_that_trips_over_a_secret_keeps_it_out_of_its_log(warehouse, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_CANARY",
        json.dumps({"conn_type": "http", "password": CANARY, "extra": {"api": {"token": CANARY[::-1]}}}),
    )

    def trips(*_):
        raise RuntimeError(" ".join([*SPELLINGS, CANARY[::-1]]))

    monkeypatch.setattr("northstar.extract.landing.source.open_source", trips)
    result = land_source(warehouse, None, Source("x", "stripe", "canary", ("charges",)), lambda _: None)
    log = (warehouse.logs / "source_x.log").read_text()
    assert "RuntimeError" in log and "***" in result.error
    assert not any(spelling in result.error + log for spelling in {*SPELLINGS, CANARY[::-1]})


@pytest.mark.parametrize("value", [f"nonsense {CANARY}", f"http://user:{CANARY}@[broken", '{"password": "' + CANARY])
def test_a_connection_that_cannot_be_read_tells_no_secret(warehouse, monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_CONN_CANARY", value)
    result = land_source(warehouse, None, Source("x", "stripe", "canary", ("charges",)), lambda _: None)
    assert result.error and not any(spelling in result.error for spelling in SPELLINGS)


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_warehouse_that_refuses_tells_no_secret(warehouse, debug):
    given = os.environ | {
        "NORTHSTAR_WAREHOUSE_URL": f"postgresql://admin:{quote(CANARY, safe='')}@127.0.0.1:1/northstar",
        "NORTHSTAR_SECRET_BI_READER_PASSWORD": CANARY,
    }
    command = [sys.executable, "-m", "northstar.cli", "sql", "select 1", "--home", str(warehouse.home), *debug]
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot reach the warehouse" in done.stderr
    assert not any(spelling in done.stdout + done.stderr for spelling in SPELLINGS), done.stderr


def test_what_is_shown_of_settings_and_connections_holds_no_secret(warehouse, monkeypatch, capsys):
    from dataclasses import replace

    from northstar.connections.find import find_connection

    monkeypatch.setenv(
        "AIRFLOW_CONN_CANARY", json.dumps({"conn_type": "http", "password": CANARY, "extra": {"k": CANARY}})
    )
    shown = repr(find_connection(warehouse, "canary")) + repr(
        replace(warehouse, warehouse_url=f"postgresql://a:{CANARY}@h/d")
    )
    assert CANARY not in shown
    cli.main(["status", "--home", str(warehouse.home)])
    assert not any(secret in capsys.readouterr().out for secret in secrets_of(warehouse))


def test_no_file_that_git_tracks_holds_a_key():
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True).stdout.split(b"\0")
    if not tracked[0]:
        pytest.skip("not a git checkout")
    suspicious = (
        b"-----BEGIN " + b"PRIVATE KEY",
        b"-----BEGIN RSA " + b"PRIVATE",
        b"AKIA" + b"IOSFODNN",
        b"xoxb" + b"-",
    )
    for name in filter(None, tracked):
        path = ROOT / name.decode()
        content = path.read_bytes() if path.is_file() else b""
        assert not any(mark in content for mark in suspicious), name
