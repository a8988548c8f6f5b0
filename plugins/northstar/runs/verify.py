"""`northstar verify`: make a published version again, from the landed rows as they were then, and compare it byte by byte."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg import sql

from northstar.audit import worker as auditors
from northstar.audit.stage import audit
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress, no_progress
from northstar.base.settings import Settings, load_settings
from northstar.build.code_version import code_version, project_version
from northstar.build.manifest import copy_parse, dbt_target, is_parsed
from northstar.build.stage import build
from northstar.contract import entities
from northstar.publish.certificates import Certificate, in_place_changes, landed_as_of
from northstar.publish.stage import publish
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db, embedded
from northstar.warehouse.published.kept import require_kept
from northstar.warehouse.rows import as_shape, fetch_one
from northstar.warehouse.setup import bootstrap


@dataclass(frozen=True)
class Comparison:
    """One landed entity or mart: its rows and hash in the certificate, and in the version that was made again."""

    kind: str
    name: str
    certified: Mapping[str, object]
    remade: Mapping[str, object]

    @property
    def is_same(self) -> bool:
        return self.certified == self.remade


def verify(settings: Settings, version: int | None = None, progress: Progress = print) -> list[Comparison]:
    """Rebuild a version (default: the newest) in a warehouse of its own, which is removed afterwards.

    Raises NorthstarError for a version without a certificate, and when the code or the rules differ from those that made it.
    """
    certificate = _read_certificate(settings, version)
    if code_version(settings) != certificate["code_version"]:
        commit = certificate["code_commit"]
        where = f"; check out {commit.rstrip('+')} and verify there" if commit else ""
        raise NorthstarError(
            f"version {certificate['published_version']} was made by other models or rules (code version "
            f"{certificate['code_version']}, here {code_version(settings)}){where}"
        )
    # a short path, which the system user of the server may enter
    with tempfile.TemporaryDirectory(prefix="northstar-verify-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        scratch = replace(
            load_settings(Path(directory) / "home"), root=settings.root, rules=settings.rules, own_seeds=settings.own_seeds, warehouse_url=None,
        )  # fmt: skip
        try:
            bootstrap(scratch)
            for name in entities():
                _copy_entity(settings, scratch, name, certificate["built_batch_id"])
            progress(f"copied the landed rows as they were at batch {certificate['built_batch_id']}")
            if is_parsed(settings, project_version(settings)) and db.database_name(settings) == db.database_name(
                scratch
            ):
                copy_parse(dbt_target(settings), dbt_target(scratch))
            _rebuild(scratch, certificate, progress)
            remade_certificate = _read_certificate(scratch, 1)
        finally:
            embedded.stop(scratch)
    sides = (
        ("inputs", certificate["inputs"], remade_certificate["inputs"]),
        ("outputs", certificate["outputs"], remade_certificate["outputs"]),
    )
    return [
        Comparison(kind, name, certified.get(name) or {}, remade.get(name) or {})
        for kind, certified, remade in sides
        for name in sorted(certified | remade)
    ]


def why_not_reproducible(settings: Settings, version: int) -> str | None:
    """Why a version cannot be the same to the byte: an erasure or a rotation of the key came after it; None if there was none."""
    with db.connect(settings, "transformer") as connection:
        # the warehouse of an older release has no such table until its next run
        if fetch_one(connection.execute("select to_regclass('audit.erasures') as t"))["t"] is None:
            return None
        reasons = in_place_changes(connection, version)
    if not reasons:
        return None
    return (
        f"version {version} cannot be made again to the byte: {'; '.join(reasons)} in what had landed and what was published; "
        "marts without people must still be identical"
    )


def _read_certificate(settings: Settings, version: int | None) -> Certificate:
    with db.connect(settings, "transformer") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.certificates') as t"))["t"] is None:
            raise NorthstarError("no version has a certificate yet; the next run that publishes writes one")
        row = connection.execute(
            "select * from marts.certificates where %(version)s::bigint is null or published_version = %(version)s "
            "order by published_version desc limit 1",
            {"version": version},
        ).fetchone()
    if row is not None:
        with db.connect(settings, "transformer") as connection:
            require_kept(connection, row["published_version"])
    if row is None:
        raise NorthstarError(
            f"version {version} has no certificate; `northstar sql 'select published_version from certificates'` lists those that do"
        )
    return as_shape(Certificate, row)


def _copy_entity(settings: Settings, scratch: Settings, name: str, batch_id: int) -> None:
    with db.connect(settings, "transformer") as source, db.connect(scratch, "loader") as target:
        columns = sql.SQL(", ").join(
            sql.Identifier(r["attname"])
            for r in source.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
                "order by attnum",
                [f"staging.{name}"],
            ).fetchall()
        )
        rows = sql.SQL("copy (select {} from ({}) as r) to stdout (format binary)").format(
            columns, landed_as_of(name, batch_id)
        )
        into = sql.SQL("copy {} ({}) from stdin (format binary)").format(sql.Identifier("staging", name), columns)
        with source.cursor().copy(rows) as outgoing, target.cursor().copy(into) as incoming:
            for data in outgoing:
                incoming.write(data)


def _rebuild(scratch: Settings, certificate: Certificate, progress: Progress) -> None:
    run_id = open_run(scratch, "nightly", certificate["as_of"], trigger="verify", is_own=True)
    worker, error = auditors.start_worker(scratch), None
    try:
        with db.connect(scratch, "transformer") as connection:
            connection.execute(
                "update audit.runs set built_batch_id = %s where run_id = %s", [certificate["built_batch_id"], run_id]
            )
        progress("build ...")
        build(scratch, run_id, no_progress)
        progress("audit and publish ...")
        audit(scratch, run_id, no_progress, worker)
        publish(scratch, run_id, no_progress)
    except NorthstarError as exc:
        error = str(exc)
        raise
    finally:
        worker.stop()
        close_run(scratch, run_id, error)
