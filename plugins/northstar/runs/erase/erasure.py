"""Erasing a subject: `northstar erase`, and the DAG `erase_subject`, which carries out requests that are not done yet.

A person's rows keep their amounts and times under a new random name that cannot be traced back to the person. What else they say about the
person is removed (docs/privacy.md, docs/decisions.md, D69). The states follow in this order. Each step is one transaction, so a killed erasure
continues where it was:

    requested   the person's identifiers are in audit.erasure_ids, each with its replacement
    staged      landed rows have the replacements, quarantined rows are deleted, tombstones keep the person from landing again
    (a run)     build, audit, publish: readers see the new names in a version that was audited like any other
    purged      the old names are removed from replaced rows, marts_history, audit and logs
    done        the tables are rewritten, the write-ahead log begins anew, erasure_ids is empty, and a search of every byte of the home
                has found the names nowhere
"""

from dataclasses import dataclass

from northstar.audit.worker import Worker
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.privacy.ring import home_key
from northstar.runs import job
from northstar.runs.erase.prove import FINISH_ADVICE, clean_logs, prove
from northstar.runs.erase.purge import purge
from northstar.runs.erase.request import request_erasure
from northstar.runs.erase.restage import restage
from northstar.runs.erase.rewrite import rewrite
from northstar.runs.turns import command_turn
from northstar.warehouse import db, lake
from northstar.warehouse.rows import fetch_one
from northstar.warehouse.setup import bootstrap


@dataclass(frozen=True)
class Erasure:
    """The certificate of an erasure: who asked for it, how many rows of which tables it changed, and which version published it."""

    erasure_id: int
    state: str
    requested_by: str
    subjects: list[str]
    rows: dict[str, int]
    published_version: int | None


def erase(
    settings: Settings,
    account_id: str | None = None,
    email: str | None = None,
    by: str = "somebody",
    progress: Progress = print,
    worker: Worker | None = None,
    is_later: bool = False,
) -> Erasure:
    """Erase one subject, given by account or by e-mail address in clear text, which is hashed here and not passed on.

    is_later: only record the request; the DAG carries it out. For a subject that is erased already, returns its certificate.
    Raises NorthstarError for a subject that no row is about, and for what stops a run.
    """
    if not is_later:
        db.require_administrator(settings, "an erasure")
    bootstrap(settings)
    key = home_key(settings)
    with db.connect(settings, "loader") as connection:
        erasure_id = request_erasure(connection, key, account_id, email, by)
    if is_later:
        return certificate(settings, erasure_id)
    return carry_out(settings, erasure_id, progress, worker)


def erase_pending(settings: Settings, progress: Progress = print) -> list[Erasure]:
    """Carry out every request that is not done; returns their certificates."""
    bootstrap(settings)
    with db.connect(settings, "loader") as connection:
        pending = connection.execute(
            "select erasure_id from audit.erasures where state != 'done' order by 1"
        ).fetchall()
    return [carry_out(settings, row["erasure_id"], progress, wait=True) for row in pending]


def certificate(settings: Settings, erasure_id: int) -> Erasure:
    """The row of an erasure in audit.erasures."""
    with db.connect(settings, "loader") as connection:
        row = fetch_one(connection.execute("select * from audit.erasures where erasure_id = %s", [erasure_id]))
    return Erasure(**{name: row[name] for name in Erasure.__dataclass_fields__})


def carry_out(
    settings: Settings, erasure_id: int, progress: Progress = print, worker: Worker | None = None, wait: bool = False
) -> Erasure:
    """Finish an erasure, from whatever state it is in; returns its certificate."""
    db.require_administrator(settings, f"erasure {erasure_id}")
    key, state = home_key(settings), certificate(settings, erasure_id).state
    if state in ("requested", "staged"):
        progress(f"erasure {erasure_id}: landed rows, build, audit, publish ...")
        version = job.run_change(
            settings, f"erasure {erasure_id}", lambda run_id: restage(settings, key, erasure_id, run_id),
            progress=progress, worker=worker, wait=wait,
        )  # fmt: skip
        progress(f"erasure {erasure_id}: history, audit, logs ...")
        with command_turn(settings, f"erasure {erasure_id}", wait) as number:
            lake.sweep(settings)
            purge(settings, erasure_id, version, number)
    if state != "done":
        clean_logs(settings, erasure_id)
        rewrite(settings, certificate(settings, erasure_id).rows, progress, FINISH_ADVICE)
        prove(settings, erasure_id, progress)
        with db.connect(settings, "loader") as connection:
            connection.execute(
                "update audit.erasures set state = 'done', finished_at = coalesce(finished_at, clock_timestamp()) where erasure_id = %s",
                [erasure_id],
            )
    return certificate(settings, erasure_id)
