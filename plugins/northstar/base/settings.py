"""The one place that reads settings: arguments, environment and the home's own files."""

import json
import os
import re
import secrets as token
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import fasteners

from northstar.base.bounded_yaml import read_yaml
from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, read_word, write_private
from northstar.contract import entities

PACKAGE = Path(__file__).resolve().parents[1]
# dags/, dbt_project/ and expectations/ stand at the top of a checkout; a wheel carries a copy of them (setup.py)
CARRIED = PACKAGE / "_project"
IS_CHECKOUT = not CARRIED.is_dir()
ROOT = PACKAGE.parents[1] if IS_CHECKOUT else CARRIED
# what an installation keeps belongs to its user, not among the installed packages, which go with the next update
DEFAULT_HOME = (ROOT if IS_CHECKOUT else Path("~")) / ".northstar"
HOME_VERSION = 1
# those in a home that Northstar makes, Postgres' own apart
OWN_DIRECTORIES = ("logs", "dbt", "airflow", "demo")
NEW_SECRET = threading.Lock()

DEFAULT_BUSINESS_RULES = {
    "reporting_currency": "USD",
    "renewal_gap_days": 1,
    "gross_margin": {"default": 0.80},
    "home_country": {"default": "US"},
    # {application: date}: the day that due dates count from, where it is not the first registration
    "first_days": {},
    # {application: {phase: date}}: when the phases of a product that sets targets by phase begin
    "phases": {},
    # values of segments with fewer accounts are not published; 0: all are
    "suppress_below": 0,
}

DEFAULT_OPERATIONS = {
    # a directory for the write-ahead log's segments: restores to any moment need them, and they cost disk
    "wal_archive": None,
    "keep_wal_days": 14,
    # None: every published version can be read, verified and put back
    "keep_versions_days": None,
    "keep_audit_days": 400,
    # rejected rows, and the reports that were made; None: until they are replayed, or for ever
    "keep_quarantine_days": None,
    # {entity: days}: how long its rows keep what no number is made of
    "keep_details_days": {},
    "keep_report_days": None,
    "keep_log_days": 30,
    "maintenance_minutes": 15,
    # what all readers' temporary files may take of the warehouse's disk; None: a quarter of the home's, 100 on an external Postgres
    "reader_disk_gb": None,
    # 0 to 19: how far a run stands back for readers of the embedded warehouse; 0: not at all
    "job_niceness": 10,
    # whether a source directory's own _mapping.yml is followed: who writes the data then decides what it becomes
    "mapping_in_source": False,
    # host:port of a StatsD server, address of an OpenLineage server: what Airflow tells of itself
    "statsd": None,
    "openlineage": None,
}


@dataclass(frozen=True)
class Settings:
    """Where one installation keeps its state and how it reckons.

    home: directory with all state (Postgres data, ports, secrets, logs).
    root: where dags/, dbt_project/ and expectations/ are: the checkout, or what the wheel carried.
    warehouse_url: a Postgres to use instead of the embedded one, or None.
    reader_url: a replica of that Postgres, which readers (bi_reader) are sent to, or None.
    role_prefix: what the names of roles and of Airflow's database begin with there; None: as northstar.warehouse.db.prefix_of finds it.
    rules: business rules (reporting currency, renewal gap, margins, home countries); `config/northstar.yml` overrides.
    operations: what is kept and where it is told of; `config/operations.yml` overrides. It decides no number.
    """

    home: Path
    root: Path = ROOT
    # it holds the administrator's password
    warehouse_url: str | None = field(default=None, repr=False)
    role_prefix: str | None = None
    reader_url: str | None = None
    rules: dict = field(default_factory=lambda: dict(DEFAULT_BUSINESS_RULES))
    operations: dict = field(default_factory=lambda: dict(DEFAULT_OPERATIONS))

    @property
    def logs(self) -> Path:
        """Directory for log files, made on first use."""
        path = self.home / "logs"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @property
    def config(self) -> Path:
        """Directory of what people write: northstar.yml, operations.yml, sources.yml, notify.yml and notes/. The home, or NORTHSTAR_CONFIG."""
        return _config(self.home)

    @property
    def secrets_file(self) -> Path:
        return self.home / "secrets.json"

    def secret(self, name: str) -> str:
        """The secret called `name`: NORTHSTAR_SECRET_<NAME> from the environment, else generated once and kept 0600."""
        known = self.known_secret(name)
        if known is None:
            # whoever wants a new one at the same time gets the same; a lock on a file does not part threads
            with NEW_SECRET, fasteners.InterProcessLock(self.home / "secrets.lock"):
                known = self.known_secret(name)
                if known is None:
                    known = token.token_urlsafe(24)
                    self._keep({name: known})
        return known

    def known_secret(self, name: str) -> str | None:
        """The secret called `name` where there is one."""
        return os.environ.get(f"NORTHSTAR_SECRET_{name.upper()}") or self._known_secrets().get(name)

    def keep_secret(self, name: str, value: str | None) -> str | None:
        """Keep a secret (None: forget it) in the home's file; returns the value."""
        self.keep_secrets({name: value})
        return value

    def keep_secrets(self, given: dict[str, str | None]) -> None:
        """Keep secrets (None: forget it) in the home's file: all of them or, where this process is killed meanwhile, none."""
        with NEW_SECRET, fasteners.InterProcessLock(self.home / "secrets.lock"):
            self._keep(given)

    def _keep(self, given: dict[str, str | None]) -> None:
        known = {name: value for name, value in (self._known_secrets() | given).items() if value}
        write_private(self.secrets_file, json.dumps(known, indent=1))

    def _known_secrets(self) -> dict:
        if not self.secrets_file.exists():
            return {}
        known = read_json(self.secrets_file)
        if known is None:
            raise NorthstarError(
                f"{self.secrets_file} is empty or cut short: put it back from where you keep it (it has the key of all hashed "
                "identifiers); only where nothing was ever published may it be removed"
            )
        return known


def read_text(path: Path) -> str:
    """A file of settings. Raises NorthstarError for one that cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise NorthstarError(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}") from exc


@contextmanager
def kept_private():
    """What this process, and those that it starts, make meanwhile is read by their own user only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def load_settings(home: str | Path | None = None) -> Settings:
    """Settings of the home at `home`, else NORTHSTAR_HOME, else `.northstar` in the checkout (in the user's own directory where there is none).

    Raises NorthstarError for a home that cannot be made, was made by another version, or has an unreadable northstar.yml.
    """
    path = Path(home or os.environ.get("NORTHSTAR_HOME") or DEFAULT_HOME).expanduser().resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise NorthstarError(f"cannot make the home {path}: {exc.strerror}; choose another with --home") from exc
    _check_version(path)
    _close(path)
    return Settings(
        home=path,
        warehouse_url=_quoted(os.environ.get("NORTHSTAR_WAREHOUSE_URL") or None),
        role_prefix=_role_prefix(os.environ.get("NORTHSTAR_ROLE_PREFIX")),
        reader_url=os.environ.get("NORTHSTAR_READER_URL") or None,
        rules=_given(_config(path) / "northstar.yml", DEFAULT_BUSINESS_RULES),
        operations=_given(_config(path) / "operations.yml", DEFAULT_OPERATIONS),
    )


def _config(home: Path) -> Path:
    given = os.environ.get("NORTHSTAR_CONFIG")
    path = Path(given).expanduser().resolve() if given else home
    if not path.is_dir():
        # what is missing there would be taken for what nobody wrote
        raise NorthstarError(f"NORTHSTAR_CONFIG={given} is no directory")
    return path


def _close(home: Path) -> None:
    """Keep others out of the directories that earlier versions left open to them."""
    for name in OWN_DIRECTORIES:
        with suppress(FileNotFoundError, PermissionError):
            state = (home / name).stat()
            if state.st_uid == os.geteuid() and state.st_mode & 0o066:
                (home / name).chmod(0o700)


def _quoted(address: str | None) -> str | None:
    """An address whose password has characters that mean something else in an address (/ # ? @), with them quoted."""
    if not address:
        return None
    found = re.fullmatch(r"(?s)(postgres(?:ql)?://)([^:@/?#]*):(.*)@([^@]*)", address)
    if found is None or not set(found[3]) & set("/#?@"):
        return address
    return f"{found[1]}{found[2]}:{quote(unquote(found[3]), safe='')}@{found[4]}"


def _role_prefix(given: str | None) -> str | None:
    if given and (not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", given) or given.startswith("pg_")):
        raise NorthstarError(
            f"NORTHSTAR_ROLE_PREFIX={given}: give at most 40 small letters, digits and underscores, no digit or pg_ first"
        )
    return given


def _check_version(home: Path) -> None:
    marker = home / "VERSION"
    try:
        found = read_word(marker)
        if found is None:
            # also where a version that wrote it in place was interrupted: there has been no other than this one
            write_private(marker, f"{HOME_VERSION}\n")
            return
    except OSError as exc:
        raise NorthstarError(f"cannot use the home {home}: {exc.strerror}; choose another with --home") from exc
    if found != str(HOME_VERSION):
        raise NorthstarError(
            f"the home {home} was made by version {found} and this is version {HOME_VERSION}: "
            "use another --home, or move this one away and let a run rebuild it from its sources"
        )


def _given(path: Path, defaults: dict) -> dict:
    """The defaults with what the file at `path`, if there is one, says of them."""
    found = dict(defaults)
    if path.exists():
        given = read_yaml(read_text(path), str(path)) or {}
        unknown = set(given) - set(found)
        if unknown:
            raise NorthstarError(
                f"{path}: unknown setting {sorted(unknown)[0]!r}; known are {', '.join(sorted(found))}"
            )
        found.update(given)
        _check(path, found)
    return found


def _check(path: Path, found: dict) -> None:
    """Raise NorthstarError for a setting that is no whole number where it has to be one."""
    if not _is_count(found.get("suppress_below", 0)):
        raise NorthstarError(
            f"{path}, suppress_below: give the smallest number of accounts that a segment may show, such as 5; 0 shows all"
        )
    if not (_is_count(found.get("job_niceness", 0)) and found.get("job_niceness", 0) <= 19):
        raise NorthstarError(f"{path}, job_niceness: give 0 (the run does not stand back for readers) to 19")
    room = found.get("reader_disk_gb")
    if room is not None and not (_is_count(room) and room):
        raise NorthstarError(f"{path}, reader_disk_gb: give whole GB, 1 or more")
    periods = {name: days for name, days in found.items() if name.startswith("keep_") and days is not None}
    by_entity = periods.pop("keep_details_days", None) or {}
    if not isinstance(by_entity, dict) or by_entity.keys() - entities().keys():
        raise NorthstarError(f"{path}, keep_details_days: give days by entity of the contract, such as {{events: 400}}")
    for name, days in (periods | {f"keep_details_days of {name}": days for name, days in by_entity.items()}).items():
        if not (_is_count(days) and days):
            raise NorthstarError(f"{path}, {name}: give whole days, 1 or more")


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
