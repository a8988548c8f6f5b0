"""The job is killed, again and again, and the marts that a plain run then publishes are those of a run that nobody disturbed.

A story is a list of steps: rows that arrive, and the run that takes them up. It is told twice: once in peace, once with kills before
each step's last run: of the job's processes, of the server, of one of its backends, of the job's connections; at the boundaries of the
stages and at random instants inside them. After each step everything that was published and landed is compared, and a reader that
looks on all the time has seen nothing but versions from the story told in peace.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil
import psycopg

from northstar.base.settings import Settings
from northstar.contract import entities
from northstar.publish.certificates import input_contents
from northstar.warehouse import db, embedded
from tests.support import write_rows

STAGES = ("extract", "build", "audit", "publish")
# parts of a stage at which a kill that missed is tried again
EARLIER = (0.5, 0.2, 0.05)
KINDS = ("process", "process", "server", "backend", "connection")
# versions count runs, and a run that was killed after it had published is one more
COUNTED = {"old_version", "new_version"}
SEEN = ("mrr_movements", "fct_payments", "fct_tickets", "metric_status", "mrr_by_account")


@dataclass
class Step:
    """Rows that arrive ({entity: rows}) and the run that takes them up."""

    rows: dict
    as_of: datetime
    mode: str


@dataclass
class Told:
    """What a story told in peace ended each step with: a fingerprint of everything, what readers saw, seconds by stage."""

    fingerprints: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    seconds: list = field(default_factory=list)


class Runner:
    """Runs of the job that can be killed."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.runner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(settings.logs / "runner.log").open("ab"), text=True,
        )  # fmt: skip
        assert self._next() == {"ready": True}

    def start(self, step: Step, source: Path) -> int:
        """Start a step's run; returns the process id of the group that it leads."""
        return self._order(
            {"home": str(self.settings.home), "mode": step.mode, "as_of": step.as_of.isoformat(), "source": str(source)}
        )

    def command(self, home: Path, words: list[str], **strike) -> dict:
        """A command of the command line on a home; returns its `error` ('' if it ended well), `ticks`, and whether it was `killed`.

        strike: at, delay and kind of tests.faults.ticks.Ticks.
        """
        self._order({"home": str(home), "words": words, "strike": strike})
        told = {}
        for answer in self.answers():
            told |= answer
        return told

    def _order(self, order: dict) -> int:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._next()["process"]

    def answers(self):
        """What the run says, up to its end."""
        while True:
            answer = self._next()
            yield answer
            if "ended" in answer:
                return

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _next(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the runner ended; see {self.settings.logs / 'runner.log'}")
        return json.loads(line)


def plain_run(runner: Runner, step: Step, source: Path) -> dict:
    """A run that nobody disturbs; returns seconds by stage. Fails where the run does."""
    runner.start(step, source)
    seconds, error, said = {}, None, []
    for answer in runner.answers():
        said.append(answer)
        error = answer.get("error", error)
        words = answer.get("progress", "").split()
        if len(words) == 5 and words[1:3] == ["done", "in"]:
            seconds[words[0]] = float(words[3])
    assert error == "", f"a plain run of {step.as_of} failed: {error} {said[-6:]}"
    return seconds


def tell_in_peace(settings: Settings, story: list[Step], source: Path) -> Told:
    """The story without a kill."""
    runner, told = Runner(settings), Told()
    try:
        for number, step in enumerate(story):
            write_rows(source, step.rows, f"step{number}")
            told.seconds.append(plain_run(runner, step, source))
            told.fingerprints.append(fingerprint(settings))
            told.seen.append(look(settings)[1])
    finally:
        runner.stop()
    return told


def tell_with_kills(
    settings: Settings, story: list[Step], source: Path, peace: Told, kills: int, seed: int, progress=print
) -> Counter:
    """The story with `kills` kills; returns how many there were by (kind, stage, boundary or inside).

    Fails where a step ends with anything else than in peace, or a reader saw what was never a version.
    """
    runner, chance, done = Runner(settings), random.Random(seed), Counter()
    # a night takes longer, and there are fewer of them
    weights = [1 if step.mode == "nightly" else 3 for step in story]
    until = [round(kills * sum(weights[: number + 1]) / sum(weights)) for number in range(len(story))]
    share = [last - first for first, last in pairwise([0, *until])]
    try:
        with Reader(settings) as reader:
            for number, step in enumerate(story):
                write_rows(source, step.rows, f"step{number}")
                # what is killed late in a run may have published: then there is less to kill
                plans = sorted(_plans(chance, share[number]), key=lambda p: STAGES.index(p[0]))
                survived = 0
                for stage, planned, kind in plans:
                    # a run after a kill has less to do, and may have ended before it is struck
                    for place in (planned, *EARLIER):
                        seconds = peace.seconds[number].get(stage, 1) * place if place is not None else None
                        if _kill(runner, step, source, stage, seconds, kind):
                            done[kind, stage, "boundary" if place is None else "inside"] += 1
                            survived += 1
                            break
                plain_run(runner, step, source)
                compare(
                    peace.fingerprints[number], fingerprint(settings), f"step {number} after {survived} kills {plans}"
                )
                progress(f"step {number + 1} of {len(story)}: {survived} of {share[number]} kills, the same marts")
        strange = reader.seen - set(peace.seen) - {reader.nothing}
        assert not strange, f"readers saw {len(strange)} states that were never published: {strange}"
        assert not reader.errors, f"readers met errors while the server was up: {reader.errors[:3]}"
    finally:
        runner.stop()
    return done


def _plans(chance: random.Random, count: int) -> list[tuple]:
    """(stage, part of the stage's time or None for its end, kind) of each kill: stages and kinds in turn, then by chance."""
    plans = []
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        at_boundary = number // len(STAGES) % 3 == 0
        plans.append((stage, None if at_boundary else chance.random(), chance.choice(KINDS)))
    return plans


def _kill(runner: Runner, step: Step, source: Path, stage: str, seconds: float | None, kind: str) -> bool:
    """Start a run and strike at a stage's end, or so many seconds after its beginning; true when it was still running."""
    process = runner.start(step, source)
    signs = {f"{stage} done"} if seconds is None else {f"{stage} ..."}
    struck, failed = threading.Event(), False
    timer = None
    for answer in runner.answers():
        failed = failed or bool(answer.get("error")) or answer.get("killed", False)
        assert "CRASHED" not in answer.get("error", ""), (
            f"no line for the user when the {kind} is killed: {answer['error']}"
        )
        if timer is None and any(answer.get("progress", "").startswith(sign) for sign in signs):
            timer = threading.Timer(seconds or 0, _strike, [runner.settings, process, kind, struck])
            timer.start()
    if timer is None:
        return False
    timer.cancel()
    timer.join()
    # the server may have gone while nobody asked it anything: then it was a kill as well
    return struck.is_set() and (failed or kind != "process")


def _strike(settings: Settings, process: int, kind: str, struck: threading.Event) -> None:
    if kind == "process":
        struck.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        return
    postmaster = psutil.Process(int((settings.home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    if kind == "server":
        struck.set()
        postmaster.kill()
        return
    mine = "pid <> pg_backend_pid() and usename in ('loader', 'transformer', 'publisher')"
    try:
        with db.connect(settings, "owner", autocommit=True) as connection:
            found = connection.execute(
                f"select pid from pg_stat_activity where {mine} order by query_start desc"
            ).fetchall()
            if kind == "connection":
                connection.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {mine}")
                if found:
                    struck.set()
            elif found:
                struck.set()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found[0]["pid"], signal.SIGKILL)
    except psycopg.Error:
        pass


def look(settings: Settings, connection=None) -> tuple:
    """(version, what the marts say), in one statement as the BI role."""
    parts = ", ".join(
        f"(select count(*) || '/' || coalesce(sum(hashtextextended((to_jsonb(t) - '_version')::text, 0)), 0) from marts.{name} as t)"
        for name in SEEN
    )
    query = (
        f"select (select max(published_version) from marts.publications) as version, concat_ws(' ', {parts}, (select count(*) || '/' || "
        "coalesce(sum(value), 0) from marts.metric_values where grain = 'month')) as says"
    )
    if connection is None:
        with db.connect(settings, "bi_reader") as connection:
            row = connection.execute(query).fetchone()
    else:
        row = connection.execute(query).fetchone()
    return row["version"], row["says"]


class Reader:
    """Somebody who reads the marts all the time, and comes back when the server does."""

    nothing = "nothing"

    def __init__(self, settings: Settings):
        self.settings, self.seen, self.errors = settings, set(), []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _read(self) -> None:
        while not self._stop.is_set():
            if not embedded.is_running(self.settings):
                time.sleep(0.1)
                continue
            try:
                with db.connect(self.settings, "bi_reader", autocommit=True) as connection:
                    if connection.execute("select to_regclass('marts.publications') as t").fetchone()["t"] is None:
                        time.sleep(0.2)
                        continue
                    while not self._stop.wait(0.1):
                        self.seen.add(look(self.settings, connection)[1])
            except psycopg.OperationalError:
                # the server, or this very connection's backend, was killed
                time.sleep(0.1)
            except Exception as exc:
                if embedded.is_running(self.settings) and "cannot reach the warehouse" not in str(exc):
                    self.errors.append(repr(exc))


def fingerprint(settings: Settings, schemas: tuple = ("marts", "marts_history"), without: tuple = ()) -> dict:
    """{table: (rows, hash)} of everything that was published, replaced, landed and quarantined; reckoned from the rows themselves.

    schemas: of which all tables are looked at. without: columns that are not, and then only these tables are.
    """
    found = {}
    with db.connect(settings, "owner") as connection:
        tables = connection.execute(
            "select schemaname as schema, tablename as name from pg_tables where schemaname = any(%s) order by 1, 2",
            [list(schemas)],
        ).fetchall()
        for table in tables:
            if table["name"] in ("publications", "certificates", "recorded_marks"):
                continue
            columns = connection.execute(
                "select quote_ident(attname) as name, format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = "
                "%s::regclass and attnum > 0 and not attisdropped and attname not like '\\_%%' order by attname",
                [f"{table['schema']}.{table['name']}"],
            ).fetchall()
            named = [
                f"trim_scale({c['name']})" if c["type"].startswith("numeric") else c["name"]
                for c in columns if c["name"] not in (*COUNTED, *without)
            ]  # fmt: skip
            row = connection.execute(
                f"select count(*) as rows, coalesce(sum(hashtextextended(row({', '.join(named)})::text, 0)), 0) as hash "
                f"from {table['schema']}.{table['name']}"
            ).fetchone()
            found[f"{table['schema']}.{table['name']}"] = (row["rows"], str(row["hash"]))
        if without:
            return found
        newest = connection.execute("select coalesce(max(batch_id), 0) as id from audit.landing_batches").fetchone()[
            "id"
        ]
        found |= {
            f"staging.{name}": tuple(told.values()) for name, told in input_contents(connection, None, newest).items()
        }
        rejected = connection.execute(
            "select count(*) as rows, coalesce(sum(hashtextextended(row(entity, regexp_replace(path, '^.*/', ''), line, reasons, row)::text, "
            "0)), 0) as hash from quarantine.rows where resolved_at is null"
        ).fetchone()
        found["quarantine.rows"] = (rejected["rows"], str(rejected["hash"]))
    assert len(found) > len(entities()), "nothing was published"
    return found


def compare(wanted: dict, found: dict, where: str) -> None:
    """Fail with the tables that differ."""
    differing = {
        k: (wanted.get(k), found.get(k)) for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)
    }
    assert not differing, f"{where}: {differing}"
