"""The commands that change a home are killed, and the same command again ends with what it would have ended with.

A case is a home to begin with, a command, and what is compared afterwards. It is told once in peace, which counts its ticks
(tests.faults.ticks); then on copies of the home, killed at one tick after the other, until nothing strikes any more. The whole of it:

    .venv/bin/python -m tests.faults.commands --kills 200 --seed 1
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from northstar.base.errors import NorthstarError
from northstar.base.service_processes import service_states
from northstar.base.settings import Settings, load_settings
from northstar.connections.airflow import AIRFLOW_SERVICES
from northstar.demo.company import simulate
from northstar.operate import backup
from northstar.orchestration.services import stop_services
from northstar.privacy.keys import SEAL_MARK, keyed_hash
from northstar.privacy.subjects import HASH_COLUMNS
from northstar.publish.certificates import input_contents
from northstar.runs import quarantine
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded import server
from northstar.warehouse.setup import bootstrap
from tests.conftest import HOMES, release_before
from tests.faults.campaign import Runner, fingerprint
from tests.faults.runner import MAKE_RUN
from tests.faults.story import story
from tests.faults.ticks import KINDS
from tests.support import find_needles, northstar, write_rows

SEED = 6
# a blow a moment after a program was started strikes while that is at work
SECONDS = 0.5
ROUND = 3
# by a source as free text: it is sealed
REMARK = "Ada Lovelace called"
KEYS = {"5e1421c": json.loads((HOMES / "5e1421c.json").read_text())["key of its made-up people"]}
EVENT = {"event_name": "page.view", "account_id": "a", "application": "web"}
# what a home lost by somebody's hand, and `setup` puts back
DAMAGE = """
drop index staging.events_key; revoke select on all tables in schema marts from bi_reader; revoke usage on schema staging from loader;
alter role bi_reader set statement_timeout = '1ms'; drop table audit.notices; delete from audit.bootstrapped
"""


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    words: of the command line. seen: what is compared of the home afterwards. home: which one it begins with. change: what is done to it
    before. finished: what the command says when it had done its work before it was killed.
    """

    words: Callable[["Places"], list]
    seen: Callable[[Settings], object]
    home: str = "published"
    change: Callable[[Settings, "Places"], None] | None = None
    finished: str | None = None


class Places:
    """The homes that cases begin with, made once, and the directories that they name."""

    def __init__(self, directory: Path, runner: Runner):
        self.directory, self.runner, self._made, self._count = directory, runner, {}, 0
        # who is erased, by every name that the sources have for him
        self.subject, self.names = "", []
        # e-mail addresses, which land as hashes
        self.addresses: set[str] = set()
        self.source, self.past, self.next_hour = (directory / name for name in ("source", "past", "next_hour"))
        self.backup, self.secrets, self.new_backup = (
            directory / "backup",
            directory / "secrets.json",
            directory / "another",
        )

    @contextmanager
    def copy(self, kind: str):
        """Settings of a copy of a home, whose server is stopped; stopped and removed at the end."""
        self._count += 1
        place = self.directory / f"copy{self._count}"
        subprocess.run(["cp", "-a", str(self.made(kind)), str(place)], check=True)
        try:
            yield load_settings(place)
        finally:
            stop_services(load_settings(place))
            embedded.stop(load_settings(place))
            shutil.rmtree(place)
            shutil.rmtree(self.new_backup, ignore_errors=True)

    def made(self, kind: str) -> Path:
        """The home of a kind, made when it is first asked for."""
        if kind not in self._made:
            self._make(kind, self.directory / kind)
            self._made[kind] = self.directory / kind
        return self._made[kind]

    def _make(self, kind: str, place: Path) -> None:
        if kind == "nothing":
            place.mkdir(mode=0o700)
            return
        settings = load_settings(place)
        if kind == "published":
            self._publish(settings)
        else:
            settings.keep_secret("pii_key", KEYS.get(kind, "a key of the tests"))
            release_before(settings, kind)
        embedded.stop(settings)

    def _publish(self, settings: Settings) -> None:
        """A home with two versions, a rejected row that was mended since, sealed values, a backup, and rows that a backfill would read."""
        settings.keep_secret("pii_key", "a key of the tests")
        bootstrap(settings)
        night, hour, _ = story(self.directory / "company", SEED)
        bad = {"charge_id": "c_bad", "account_id": "a", "application": "web", "amount": 500, "currency": "USD", "status": "vanished",
               "created_at": "2026-01-10T10:00:00Z", "updated_at": "2026-01-10T10:00:00Z", "remarks": REMARK}  # fmt: skip
        good = bad | {"charge_id": "c_good", "status": "succeeded"}
        write_rows(self.source, {"charges": [bad, good]}, "mended")
        self.addresses = {
            row[column] for step in (night, hour) for entity, column in (("accounts", "email"), ("tickets", "requester_email"))
            for row in step.rows.get(entity, []) if row.get(column)
        }  # fmt: skip
        events = [e for step in (night, hour) for e in step.rows["events"] if e["account_id"] and e["anonymous_id"]]
        self.subject = events[0]["account_id"]
        told = [e for e in events if e["account_id"] == self.subject]
        self.names = sorted(
            {e[column] for e in told for column in ("account_id", "anonymous_id", "session_id") if e[column]}
        )
        for number, step in enumerate((night, hour)):
            write_rows(self.source, step.rows, f"step{number}")
            words = ["run", "--mode", step.mode, "--as-of", step.as_of.isoformat(), "--source-dir", str(self.source)]
            told = self.runner.command(settings.home, words)
            assert told["error"] == "", told
        write_rows(self.source, {"charges": [bad | {"status": "succeeded"}, good]}, "mended")
        late = {"event_id": "e_late", "occurred_at": "2026-01-12T10:00:00Z", "received_at": "2026-01-12T10:00:00Z"}
        write_rows(self.past, {"events": [EVENT | late]})
        done = northstar(settings, "backup", "--to", str(self.backup), "--secrets", str(self.secrets))
        assert done.returncode == 0, done.stderr


def shape(settings: Settings) -> list[str]:
    """What the warehouse is made of: tables, functions, grants, roles and their settings, migrations, databases."""
    dump = [str(server.binaries() / "pg_dump"), "--schema-only", db.uri(settings, "owner")]
    told = subprocess.run(dump, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = sorted(line for line in told if not line.startswith(("\\restrict", "\\unrestrict", "--")))
    with db.connect(settings, "owner") as connection:
        for query in (
            "select datname, datdba::regrole::text as owner from pg_database order by 1",
            "select rolname, rolsuper, rolcreaterole, rolcanlogin from pg_roles order by 1",
            "select setrole::regrole::text as role, setconfig from pg_db_role_setting order by 1, 2",
            "select number, name, applied_at is not null as applied, message from audit.migrations order by 1",
        ):
            lines += [str(row) for row in connection.execute(query)]
    for role in db.ROLES:
        db.connect(settings, role).close()
    return lines


def whole(settings: Settings) -> tuple:
    return shape(settings), fingerprint(settings)


def standing(settings: Settings) -> dict:
    """What is published and landed, without what it replaced: whoever puts a version back twice has replaced it twice."""
    return {name: told for name, told in fingerprint(settings).items() if not name.startswith("marts_history.")}


def certified(settings: Settings) -> dict:
    """Landed entities of which the newest certificate says something else than what its version was made of: none."""
    with db.connect(settings, "owner") as connection:
        newest = connection.execute(
            "select * from marts.certificates order by published_version desc limit 1"
        ).fetchone()
        made = input_contents(connection, None, newest["built_batch_id"])
    return {name: (told, made[name]) for name, told in newest["inputs"].items() if told != made[name]}


def erased(places: Places, settings: Settings) -> tuple:
    """The erasures' certificates, and what is published and landed under the new names; no byte of the home has the old ones."""
    with db.connect(settings, "loader") as connection:
        told = connection.execute("select erasure_id, state, requested_by from audit.erasures order by 1").fetchall()
        waiting = connection.execute("select count(*) as n from audit.erasure_ids").fetchone()["n"]
    left = find_needles(settings, places.names)
    assert not left, left
    return told, waiting, certified(settings), fingerprint(settings)


def rotated(places: Places, settings: Settings) -> tuple:
    """What is published and landed beside the hashes, which have to be those of the newest ring, as it has to open what is sealed.

    How many keys there are is another matter: a rotation that was at its end when it was killed is followed by another one.
    """
    ring = settings.secret("pii_key")
    with db.connect(settings, "loader") as connection:
        keys = connection.execute(
            "select count(*) as made, count(published_version) as proved from audit.pii_keys"
        ).fetchone()
        kept = connection.execute(
            "select row as v from quarantine.rows union all select _extra::jsonb from staging.charges"
        ).fetchall()
        hashes = connection.execute(
            "select email from staging.accounts union select requester_email from staging.tickets"
        ).fetchall()
    assert keys == {"made": len(ring.split(",")), "proved": len(ring.split(",")) - 1}, keys
    assert settings.known_secret("pii_key_next") is None
    known = {keyed_hash(address, ring) for address in places.addresses} | {None}
    assert len(hashes) > 10 and {row["email"] for row in hashes} <= known, "a hash of another ring"
    opened = quarantine.unseal_value([row["v"] for row in kept], ring)
    readable = sorted(v["remarks"] for v in opened if v and "remarks" in v)
    assert SEAL_MARK in str(kept) and SEAL_MARK not in str(opened) and readable == [REMARK] * len(readable) != []
    told = fingerprint(settings, ("marts", "marts_history", "staging"), HASH_COLUMNS)
    return readable, certified(settings), {name: rows for name, rows in told.items() if name != "staging._replaced"}


def up_and_published(settings: Settings) -> tuple:
    """Which services live, whether a version is up, and whether anything is still under way."""
    with db.connect(settings, "transformer") as connection:
        versions = connection.execute("select count(*) as n from marts.publications").fetchone()["n"]
        running = connection.execute("select count(*) as n from audit.runs where state = 'running'").fetchone()["n"]
    assert service_states(settings).keys() == {*AIRFLOW_SERVICES, "pages"}
    return service_states(settings), versions > 0, running


def nobody_left(settings: Settings) -> tuple:
    """Who works in the home after a stop, and that it starts again as it was."""
    left = [p.name() for p in psutil.process_iter() if _works_in(p, settings.home)]
    return left, fingerprint(settings)


def _works_in(process: psutil.Process, home: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(home))
    except psutil.Error:
        return False


def _damage(settings: Settings, places: Places) -> None:
    with db.connect(settings, "owner") as connection:
        connection.execute(DAMAGE)
    embedded.stop(settings)


def _run_on(settings: Settings, places: Places) -> None:
    write_rows(places.next_hour, {"events": [EVENT | {"event_id": "e_next", "occurred_at": "2025-01-19T07:30:00Z",
                                                      "received_at": "2025-01-19T07:30:00Z"}]})  # fmt: skip


def _note_erasure(settings: Settings, places: Places) -> None:
    words = ["erase", "--account-id", places.subject, "--by", "the tests", "--later"]
    noted = places.runner.command(settings.home, words)
    assert noted["error"] == "", noted
    embedded.stop(settings)


def _small_demonstration(settings: Settings, places: Places) -> None:
    simulate(settings.home / "demo", seed=SEED, months=2, accounts=20, applications=("web",), monitored_days=2)


def _have_backup(settings: Settings, places: Places) -> None:
    places.made("published")


def _start(settings: Settings, places: Places) -> None:
    embedded.ensure_running(settings)


def _backed_up(places: Places, _: Settings) -> dict:
    backup._verify(places.new_backup / "postgres")
    assert not list(places.directory.glob(f".{places.new_backup.name}*"))
    about = backup.read_json(places.new_backup / backup.DESCRIPTION_FILE)
    return {name: about[name] for name in ("published_version", "home_version", "secrets")}


def cases(places: Places) -> dict[str, Case]:
    """Every case by its name."""
    return {
        "set-up": Case(lambda p: ["setup"], shape, "nothing"),
        "start": Case(lambda p: ["sql", "select 1 as one"], fingerprint),
        "bootstrap": Case(lambda p: ["setup"], whole, change=_damage),
        "migration": Case(lambda p: ["setup"], shape, "f3e08e4"),
        "upgrade": Case(
            lambda p: ["run", "--as-of", "2025-01-19T10:00:00Z", "--source-dir", str(p.next_hour)], fingerprint, "5e1421c", _run_on
        ),
        "backup": Case(
            lambda p: ["backup", "--to", str(p.new_backup)], partial(_backed_up, places), finished="is not empty"
        ),
        "restore": Case(
            lambda p: ["restore", "--from", str(p.backup), "--secrets", str(p.secrets)], whole, "nothing", change=_have_backup, finished="already has a warehouse"
        ),
        "rollback": Case(lambda p: ["rollback", "--to", "1"], standing),
        "replay": Case(lambda p: ["quarantine", "replay"], fingerprint),
        "backfill": Case(
            lambda p: ["backfill", "--from", "2026-01-10", "--to", "2026-01-20", "--reason", "a late event", "--source-dir", str(p.past)],
            fingerprint,
        ),
        "maintenance": Case(lambda p: ["maintain"], fingerprint),
        "stop": Case(lambda p: ["stop"], nobody_left, change=_start),
        "erase": Case(lambda p: ["erase", "--account-id", p.subject, "--by", "the tests"], partial(erased, places)),
        "erase-pending": Case(lambda p: ["erase", "--pending"], partial(erased, places), change=_note_erasure),
        "rotate-key": Case(lambda p: ["rotate-key"], partial(rotated, places)),
        "make run": Case(lambda p: MAKE_RUN, up_and_published, "nothing", change=_small_demonstration),
    }  # fmt: skip


class Campaign:
    """Cases that are told in peace once, and with kills."""

    def __init__(self, places: Places, seed: int, progress=print):
        self.places, self.chance, self.progress = places, random.Random(seed), progress
        self.cases, self.peace, self.done = cases(places), {}, Counter()

    def tell(self, name: str, kills: int) -> int:
        """A round: a home, `kills` kills of the case's command on it, the command again; returns how many kills struck.

        Fails where the command does not end well afterwards, or with anything else than in peace, or met a kill with a traceback.
        """
        case, places = self.cases[name], self.places
        ticks, programs, wanted = self._peace(name)
        began = time.monotonic()
        plans = [
            {**self._moment(ticks, programs, number), "kind": self.chance.choice(KINDS)} for number in range(kills)
        ]
        with self._home(case) as settings:
            struck: list[dict] = []
            for planned in plans:
                # after a kill there is less to do, and it may be done before it is struck
                for plan in (planned, planned | {"at": max(1, planned["at"] // 5), "delay": 0}):
                    told = places.runner.command(settings.home, case.words(places), **plan)
                    if told["killed"]:
                        struck.append(plan)
                        self.done[name, plan["kind"]] += 1
                        break
                    self._demand(case, told, f"{name} after {struck}, to be killed at {plan}")
            where = f"{name} (of {ticks} ticks) after kills at {struck}"
            self._demand(case, places.runner.command(settings.home, case.words(places)), where)
            found = case.seen(settings)
            assert found == wanted, f"{where}: {_difference(wanted, found)}"
            assert not (settings.home / server.UNFINISHED).exists(), where
            left = [p.name for p in settings.home.glob(".*.new")]
            # another writing of the same file takes it away
            assert all(name.rpartition(".")[0] for name in left) and len(left) <= kills, (where, left)
        self.progress(
            f"{name}: {len(struck)} of {kills} kills, the same as in peace ({ticks} ticks, {time.monotonic() - began:.1f} s)"
        )
        return len(struck)

    def _moment(self, ticks: int, programs: list[int], number: int) -> dict:
        """At any tick, and every other time while one of the programs is at work that the command starts."""
        if programs and number % 2 == 0:
            return {"at": self.chance.choice(programs), "delay": round(self.chance.random() * SECONDS, 3)}
        return {"at": 1 + int(self.chance.random() * ticks), "delay": 0}

    def _peace(self, name: str) -> tuple[int, list, object]:
        if name not in self.peace:
            case = self.cases[name]
            with self._home(case) as settings:
                told = self.places.runner.command(settings.home, case.words(self.places))
                assert told["error"] == "", f"{name} in peace: {told['error']}"
                self.peace[name] = told["ticks"], told["programs"], case.seen(settings)
        return self.peace[name]

    @contextmanager
    def _home(self, case: Case):
        with self.places.copy(case.home) as settings:
            if case.change:
                case.change(settings, self.places)
            yield settings

    @staticmethod
    def _demand(case: Case, told: dict, where: str) -> None:
        error = told["error"]
        assert error == "" or (case.finished and case.finished in error), f"{where}: {error}"


def _difference(wanted, found) -> object:
    if wanted == found:
        return "the same"
    if not isinstance(wanted, dict | tuple | list):
        return wanted, found
    if isinstance(wanted, dict):
        return {k: (wanted.get(k), found.get(k)) for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)}
    if isinstance(wanted, tuple):
        return [_difference(w, f) for w, f in zip(wanted, found, strict=True)]
    return {
        "lacking": [x for x in wanted if x not in found][:20],
        "too much": [x for x in found if x not in wanted][:20],
    }


@contextmanager
def campaign(directory: Path, seed: int, progress=print):
    """A campaign whose homes are below `directory`."""
    runner = Runner(load_settings(directory / "runner"))
    try:
        yield Campaign(Places(directory, runner), seed, progress)
    finally:
        runner.stop()


def main() -> int:
    """The whole campaign; returns the exit status."""
    parser = argparse.ArgumentParser(description="Kill the commands that change a home, and look what is left.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="such as set-up restore")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="northstar-kills-") as name, campaign(Path(name), arguments.seed) as told:
        names = arguments.only or list(told.cases)
        while told.done.total() < arguments.kills:
            for case in names:
                try:
                    told.tell(case, told.chance.randint(1, ROUND))
                except (AssertionError, NorthstarError) as exc:
                    failed.append(case)
                    print(f"FAILED {exc}", flush=True)
        print(f"{told.done.total()} kills, {len(failed)} rounds that ended otherwise {failed}: {dict(told.done)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
