"""Settings of an installation, from the environment and the home's files. This is the only place that reads them."""

import json
import os
import re
import secrets as token
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo, available_timezones

import fasteners
from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from northstar.base.clock import Calendar, indivisible_days
from northstar.base.config_files import Section, read_config_file, read_own_yaml, read_text, suggest_name
from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, read_word, write_private
from northstar.base.freshness import ALL, Freshness
from northstar.base.locales import parse_locale
from northstar.base.readers import Readers
from northstar.contract import entities
from northstar.contract.codes import CODES, minor_digits

PACKAGE = Path(__file__).resolve().parents[1]
# dags/, dbt_project/ and expectations/ are at the top of a checkout; a wheel contains a copy of them here (setup.py)
PROJECT_COPY = PACKAGE / "_project"
IS_CHECKOUT = not PROJECT_COPY.is_dir()
ROOT = PACKAGE.parents[1] if IS_CHECKOUT else PROJECT_COPY
# the home of an installed package is in the user's own directory: the next update replaces what is among the packages
DEFAULT_HOME = (ROOT if IS_CHECKOUT else Path("~")) / ".northstar"
HOME_VERSION = 1
# the directories that Northstar makes in a home, besides that of Postgres
OWN_DIRECTORIES = ("logs", "dbt", "airflow", "demo")
# the seeds of the dbt project that a home may replace by a file of its own beside northstar.yml (docs/decisions.md, D160)
REPLACEABLE_SEEDS = ("funnels", "targets")
# the segments that follow from a row's country and application, and the rules that say how (D360)
DERIVED_SEGMENTS = {"country_group": "country_groups", "entity": "legal_entities"}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SECRET_LOCK = threading.Lock()

Days = Annotated[int, Field(strict=True, ge=1)]
DAYS_ADVICE = "give whole days, 1 or more"
Texts = dict[str, Annotated[str, Field(strict=True)]]


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
HOURS_AND_MINUTES = r"\d\d:\d\d"
HOURS = r"([01]\d|2[0-4]):[0-5]\d"
HOURS_ADVICE = "give hours from and to, such as 09:00-17:00, or 09:00-12:00, 13:00-17:00"


class SupportCalendar(Section):
    """When a support desk is open, by the clock of its time zone. holidays: the days on which it is not."""

    time_zone: str = Field(
        description="give the name of a time zone as the IANA's database has it, such as Europe/Berlin"
    )
    hours: dict[Weekday, Annotated[str, Field(pattern=f"^{HOURS}-{HOURS}(, *{HOURS}-{HOURS})*$")]] = Field(
        min_length=1, description=f"{HOURS_ADVICE}, by weekday (monday, tuesday, ...)"
    )
    holidays: list[date] = Field([], description="give days, such as [2026-12-25, 2026-12-26]")

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(
                f"give the name of a time zone as the IANA's database has it, such as Europe/Berlin; {name[:40]!r} is none"
            )
        return name

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, given: dict[Weekday, str]) -> dict[Weekday, str]:
        for weekday, spans in given.items():
            times = re.findall(HOURS_AND_MINUTES, spans)
            # each span ends after it begins, and the next one begins then or later
            is_ordered = all(a < b for a, b in zip(times[::2], times[1::2], strict=True))
            if not is_ordered or times != sorted(times) or times[-1] > "24:00":
                raise ValueError(f"{HOURS_ADVICE}: in order, and 24:00 at most; {weekday} has {spans!r}")
        return given


# what a group of countries or an entity is called: it stands in SQL, in addresses and in files
GROUP_NAME = r"^\w[\w .&+-]{0,59}$"
GroupName = Annotated[str, Field(strict=True, pattern=GROUP_NAME)]
COUNTRIES_ADVICE = "give codes of ISO 3166-1, such as [DE, AT, CH]"


class LegalEntity(Section):
    """A company of the group: its id, its name, and whose rows are its own, by application, country, or both. Empty: any."""

    id: GroupName = Field(description="give a short name, such as acme-de")
    name: Annotated[str, Field(strict=True)] = Field("", description="give its name, such as Acme GmbH")
    applications: list[GroupName] = Field([], description="give names of applications, such as [web]")
    countries: list[Annotated[str, Field(strict=True)]] = Field([], description=COUNTRIES_ADVICE)
    # its own figures are in entity_values, beside those in the reporting currency (D365)
    currency: str | None = None

    @field_validator("currency")
    @classmethod
    def _own_currency(cls, given: str | None) -> str | None:
        return None if given is None else _code("currency", given, "give a code of ISO 4217, such as EUR")

    @field_validator("countries")
    @classmethod
    def _codes(cls, given: list[str]) -> list[str]:
        return [_code("country", code, COUNTRIES_ADVICE) for code in given]


class Rules(Section):
    """Business rules, which decide numbers. These are the defaults; `northstar.yml` changes them."""

    reporting_currency: str = "USD"
    # the currency that the rates of fx_rates are worth in (D325); None: the reporting currency
    rates_currency: str | None = None
    # whether a subscription has MRR while its payment is overdue (D326): always, never, or for so many days since it became so
    count_past_due: Literal["always", "never"] | Annotated[int, Field(strict=True, ge=1)] = Field(
        "always",
        description="give always, never, or for how many whole days a subscription counts while it is past due, such as 14",
    )
    renewal_gap_days: int = Field(1, strict=True, ge=0, description="give whole days, 0 or more")
    gross_margin: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {"default": 0.80}, description="give a share by application, 0 to 1, such as {default: 0.8}"
    )
    home_country: Texts = Field({"default": "US"}, description="give a country by application, such as {default: US}")
    first_days: dict[str, date] = Field(
        {}, description="give the day that due dates count from by application, where it is not the first registration"
    )
    phases: dict[str, dict[str, date]] = Field(
        {}, description="give by application when each phase of a product that sets targets by phase begins"
    )
    support_calendars: dict[str, SupportCalendar] = Field(
        {},
        description="give by application, or as default, when support is open: {default: {time_zone: Europe/Berlin, hours: {monday: 09:00-17:00}}}",
    )
    suppress_below: int = Field(
        0, strict=True, ge=0,
        description="give the smallest number of accounts that a segment may show, such as 5; 0 shows all",
    )  # fmt: skip
    # segments of every metric that is split by country (D360)
    country_groups: dict[GroupName, list[Annotated[str, Field(strict=True)]]] = Field(
        {}, description="give countries by the name of their group, such as {DACH: [DE, AT, CH]}"
    )
    # the first one that a row's application and country fit is the row's
    legal_entities: list[LegalEntity] = Field(
        [], description="give rows, such as [{id: acme-us, countries: [US, CA]}, {id: acme-de}]"
    )
    # what companies of the group buy from each other is no revenue (D361)
    intercompany_accounts: list[Annotated[str, Field(strict=True, pattern=r"^[^*]+\*?$")]] = Field(
        [], description="give ids of accounts, or how they begin, such as [acme-de, ACORN-*]"
    )
    # the calendar (D292, D295)
    reporting_time_zone: str = Field("UTC", description="give a time zone by its name, such as America/New_York")
    first_weekday: Literal["monday", "sunday", "saturday"] = Field(
        "monday", description="give the day that weeks begin on: monday, sunday or saturday"
    )
    fiscal_year_begins: int = Field(
        1, strict=True, ge=1, le=12,
        description="give the number of the month that the fiscal year, and with it a quarter, begins in: 1 (January) to 12",
    )  # fmt: skip
    # when a missed target, or a trend, is an alert (docs/semantics.md): a share only where the whole Wilson interval of this confidence lies
    # beyond what it is compared with
    alert_confidence: float = Field(0.99, description="give 0.9, 0.95, 0.99 or 0.999")
    alert_smallest_base: int = Field(
        30, strict=True, ge=1,
        description="give the smallest denominator of a rate, mean or percentile that may alert, such as 30",
    )  # fmt: skip
    alert_smallest_change: int = Field(
        5, strict=True, ge=1,
        description="give by how much a count has to differ from what is usual before it may alert, such as 5",
    )  # fmt: skip
    alert_days: int = Field(
        90, strict=True, ge=1,
        description="give the days after which a target that is still missed is no alert any more, such as 90",
    )  # fmt: skip

    @model_serializer(mode="wrap")
    def _values(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """The rules as the models and certificates have them: with the digits that published amounts are rounded to."""
        return {**serialize(self), "money_digits": minor_digits(self.reporting_currency)}

    @property
    def calendar(self) -> Calendar:
        """How the company divides time."""
        return Calendar(WEEKDAYS.index(self.first_weekday), self.fiscal_year_begins, ZoneInfo(self.reporting_time_zone))

    @property
    def derived_segments(self) -> list[str]:
        """The segments that this company has besides those of the catalogue, wherever it has country."""
        return [segment for segment, rule in DERIVED_SEGMENTS.items() if getattr(self, rule)]

    @field_validator("reporting_time_zone")
    @classmethod
    def _is_a_time_zone(cls, given: str) -> str:
        if given == "UTC":
            return given
        # the time of whichever machine, and of none
        known = available_timezones() - {"localtime", "Factory"}
        if given not in known:
            near = nearest_zones(given, known)
            raise ValueError(
                f"there is no time zone {given[:40]!r}; "
                + (f"did you mean {' or '.join(near)}?" if near else "give a name such as America/New_York")
            )
        if why := indivisible_days(given):
            raise ValueError(f"{given} cannot be the reporting time zone: {why}")
        return given

    @field_validator("alert_confidence")
    @classmethod
    def _is_known_confidence(cls, given: float) -> float:
        # core.wilson_bound knows the normal distribution at these
        if given not in (0.9, 0.95, 0.99, 0.999):
            raise ValueError("give 0.9, 0.95, 0.99 or 0.999")
        return given

    @field_validator("reporting_currency", "rates_currency")
    @classmethod
    def _currency(cls, given: str | None) -> str | None:
        return None if given is None else _code("currency", given, "give a code of ISO 4217, such as USD")

    @field_validator("country_groups")
    @classmethod
    def _groups(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        groups = {name: [_code("country", code, COUNTRIES_ADVICE) for code in codes] for name, codes in given.items()}
        seen: dict[str, str] = {}
        for name, codes in groups.items():
            if not codes:
                raise ValueError(f"{COUNTRIES_ADVICE}; {name} has none")
            for code in codes:
                if seen.setdefault(code, name) != name:
                    raise ValueError(f"{code} is in {seen[code]} and in {name}: a country is in one group")
        return groups

    @field_validator("legal_entities")
    @classmethod
    def _entities(cls, given: list[LegalEntity]) -> list[LegalEntity]:
        names = [entity.id for entity in given]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"{name} is there twice: give each entity an id of its own")
        for entity in given[:-1]:
            if not entity.applications and not entity.countries:
                raise ValueError(
                    f"{entity.id} takes all rows that come to it: put it last, or name its applications or countries"
                )
        return given

    @field_validator("gross_margin")
    @classmethod
    def _margins(cls, given: dict[str, float]) -> dict[str, float]:
        # an application that is not named has the default, whether the file repeats it or not
        return {"default": 0.80} | given

    @field_validator("home_country")
    @classmethod
    def _countries(cls, given: dict[str, str]) -> dict[str, str]:
        return {"default": "US"} | {
            name: _code("country", code, "give a code of ISO 3166-1 by application, such as {default: US}")
            for name, code in given.items()
        }


def nearest_zones(given: str, known: set[str]) -> list[str]:
    """The time zones whose names, or whose cities, are like a given one; three at most."""
    names = {zone.casefold(): zone for zone in known}
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(known) if "/" in zone}
    word = given.strip().replace(" ", "_").casefold()
    near = [*get_close_matches(word, names, n=3), *get_close_matches(word.rpartition("/")[2], cities, n=3)]
    return list(dict.fromkeys(names.get(name) or cities[name] for name in near))[:3]


def _code(standard: str, given: str, advice: str) -> str:
    """A code of a standard in its usual case. Raises ValueError for what is none."""
    code = given.strip().upper()
    if code not in CODES[standard]:
        raise ValueError(f"{advice}; {given[:40]!r} is none")
    return code


class Operations(Section):
    """What is kept and for how long, and who is informed. It decides no number. These are the defaults; `operations.yml` changes them."""

    # a directory for the write-ahead log's segments: restores to any moment need them, and they take disk space
    wal_archive: str | None = None
    keep_wal_days: Days = Field(14, description=DAYS_ADVICE)
    # None keeps all: every published version can be read, verified and put back
    keep_versions_days: Days | None = Field(None, description=DAYS_ADVICE)
    keep_audit_days: Days = Field(400, description=DAYS_ADVICE)
    # for rejected rows, and below for kept reports; None keeps rows until they are replayed, and reports for ever
    keep_quarantine_days: Days | None = Field(None, description=DAYS_ADVICE)
    # {entity: days} after which its rows lose what no number is made of
    keep_details_days: dict[str, Days] = Field(
        {}, description=DAYS_ADVICE + ", by entity of the contract, such as {events: 400}"
    )
    keep_report_days: Days | None = Field(None, description=DAYS_ADVICE)
    keep_log_days: Days = Field(30, description=DAYS_ADVICE)
    # for the log of who read what; None: nobody's reading is logged
    keep_reads_days: Days | None = Field(None, description=DAYS_ADVICE)
    maintenance_minutes: float = Field(15, ge=0, description="give minutes")
    # the space for the temporary files of all readers together; None: a quarter of the home's disk, 100 GB on an external Postgres
    reader_disk_gb: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="give whole GB, 1 or more"
    )
    job_niceness: int = Field(
        10, strict=True, ge=0, le=19, description="give 0 (the run does not stand back for readers) to 19"
    )
    # whether a source directory's own _mapping.yml is used: then whoever writes the data decides what it becomes
    mapping_in_source: bool = Field(False, strict=True, description="give true or false")
    # bounds of the SQL of mappings, for each input: memory before it spills to the home's tmp/, and time
    mapping_memory_mb: int = Field(1024, strict=True, ge=64, description="give whole MB, 64 or more")
    mapping_minutes: float = Field(60, gt=0, description="give minutes")
    # a directory, below the home unless it is absolute, or a place in an object store (s3://, gs://, az://), in which the landed rows of the
    # largest entities are kept as parquet too
    lake: str | None = None
    # what builds the models with the tag `wide` in nightly runs (docs/scaling.md): spark reads the lake
    wide_engine: Literal["postgres", "spark"] = Field("postgres", description="give postgres or spark")
    # where it runs: local is this machine; a cluster reads and writes the home and the lake under the paths that they have here
    spark_master: str = Field(
        "local",
        pattern=r"^(local(\[(\d+|\*)\])?|local-cluster\[\d+,\d+,\d+\]|spark://[^\s/,:]+:\d+(,[^\s/,:]+:\d+)*|k8s://https?://\S+)$",
        description="give local, local[*], spark://HOST:PORT, k8s://https://HOST:PORT, or local-cluster[WORKERS,CORES,MB]",
    )
    # Spark's own options, such as those of its pods; the options that decide about numbers are ours
    spark_options: dict[str, str] = Field(
        {}, description="give names of Spark's options with texts, such as {spark.kubernetes.namespace: northstar}"
    )
    # how long to wait for the first executor of a cluster
    spark_wait_minutes: float = Field(5, gt=0, description="give minutes")
    # a directory for what Spark writes meanwhile, None: below the home; a cluster's workers have their own
    spark_scratch: str | None = None
    spark_cores: int = Field(2, strict=True, ge=1, description="give whole cores, 1 or more")
    spark_memory_mb: int = Field(2048, strict=True, ge=1024, description="give whole MB, 1024 or more")
    # the lake in an object store as Spark's own file systems name it, s3a://BUCKET/FOLDER; None: its files are copied to this machine for Spark
    spark_lake: str | None = None
    # the interpreter of Spark's environment; None: that of `make setup-spark`
    spark_python: str | None = None
    # a full run that would restate more values of complete periods waits with its publication until somebody approves it; None: none does
    approve_above: int | None = Field(None, strict=True, ge=0, description="give a number of values, such as 1000")
    approve_within_hours: float = Field(4, gt=0, description="give hours")
    # checks that only warn elsewhere and stop the publish in this company
    errors: list[Annotated[str, Field(strict=True)]] = Field(
        [], description="give names of checks, such as [charges_belong_to_known_accounts]"
    )
    # by when marts are published and sources land (northstar.base.freshness)
    freshness: Freshness = Field(Freshness(), description="give promises: {marts: ..., sources: ...}")
    # how reports write numbers and dates, and the pages for a browser that asks for no language; None: 1,234.5 and 12 Mar 2026
    locale: str | None = Field(None, description="give a language, or a language with a country, such as de or en-GB")
    # host:port of a StatsD server, and the address of an OpenLineage server, to which Airflow reports
    statsd: str | None = None
    openlineage: str | None = None

    @field_validator("wide_engine")
    @classmethod
    def _check_engine(cls, engine: str, info: ValidationInfo) -> str:
        if engine == "spark" and info.data.get("lake") is None:
            raise ValueError("spark reads the lake: give `lake` a directory as well")
        return engine

    @field_validator("freshness")
    @classmethod
    def _check_marts(cls, freshness: Freshness) -> Freshness:
        if freshness.marts.keys() - {ALL}:
            marts = [path.stem for path in (ROOT / "dbt_project" / "models" / "marts").rglob("*.sql")]
            for name in freshness.marts.keys() - {ALL, *marts}:
                raise ValueError(f"{name!r} is not a mart: {suggest_name(name, [ALL, *marts])}")
        return freshness

    @field_validator("keep_details_days")
    @classmethod
    def _check_entities(cls, days_by_entity: dict[str, int]) -> dict[str, int]:
        for name in days_by_entity.keys() - entities().keys():
            raise ValueError(f"{DAYS_ADVICE}, by entity of the contract, such as {{events: 400}}; {name!r} is not one")
        return days_by_entity

    @field_validator("locale")
    @classmethod
    def _check_locale(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                parse_locale(name)
            except NorthstarError as exc:
                raise ValueError(str(exc)) from exc
        return name

    @field_validator("errors")
    @classmethod
    def _check_errors(cls, names: list[str]) -> list[str]:
        severities = check_severities(ROOT) if names else {}
        for name in names:
            if name not in severities:
                warnings = [check for check, severity in severities.items() if severity == "warn"]
                raise ValueError(f"{name!r} is not a check: {suggest_name(name, warnings)}")
        return names


def check_severities(root: Path) -> dict[str, str]:
    """The severity of each check of the suites, by its name."""
    return {
        check["name"]: check["severity"]
        for path in sorted((root / "expectations").glob("*/*.yml"))
        for check in read_own_yaml(path)["checks"]
    }


@dataclass(frozen=True)
class Settings:
    """The settings of one installation: where its state is, and which rules it follows.

    home: directory with all state (Postgres data, ports, secrets, logs).
    root: where dags/, dbt_project/ and expectations/ are: the checkout, or the copy in the wheel.
    warehouse_url: a Postgres to use instead of the embedded one, or None.
    reader_url: a replica of that Postgres for readers (bi_reader), or None.
    role_prefix: the prefix of the names of roles and of Airflow's database there; None: as northstar.warehouse.db.role_prefix determines it.
    rules: business rules; `northstar.yml` changes the defaults.
    operations: what is kept and who is informed; `operations.yml` changes the defaults.
    readers: who sees what, from `readers.yml`; by default everybody with the password or a token sees everything.
    own_seeds: {name: text} of the home's own funnels.csv and targets.csv, which replace the release's; northstar.build.own_seeds checks them.
    """

    home: Path
    root: Path = ROOT
    # it holds the administrator's password
    warehouse_url: str | None = field(default=None, repr=False)
    role_prefix: str | None = None
    reader_url: str | None = None
    rules: Rules = field(default_factory=Rules)
    operations: Operations = field(default_factory=Operations)
    readers: Readers = field(default_factory=Readers)
    own_seeds: Mapping[str, str] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """Directory for log files, made on first use."""
        path = self.home / "logs"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @property
    def config(self) -> Path:
        """Directory of the files that people write: northstar.yml, operations.yml, values.yml, sources.yml, notify.yml, readers.yml, funnels.csv, targets.csv and notes/. The home, or NORTHSTAR_CONFIG."""
        return _config_directory(self.home)

    @property
    def secrets_file(self) -> Path:
        return self.home / "secrets.json"

    def secret(self, name: str) -> str:
        """The secret called `name`: NORTHSTAR_SECRET_<NAME> from the environment, else generated once and kept 0600."""
        value = self.known_secret(name)
        if value is None:
            # two that need a new secret at the same time get the same one; a lock on a file does not keep threads apart
            with SECRET_LOCK, fasteners.InterProcessLock(self.home / "secrets.lock"):
                value = self.known_secret(name)
                if value is None:
                    value = token.token_urlsafe(24)
                    self._store_secrets({name: value})
        return value

    def known_secret(self, name: str) -> str | None:
        """The secret called `name`, or None."""
        return os.environ.get(f"NORTHSTAR_SECRET_{name.upper()}") or self._read_secrets().get(name)

    def keep_secret(self, name: str, value: str | None) -> str | None:
        """Keep a secret in the home's file (a value of None deletes it); returns the value."""
        self.keep_secrets({name: value})
        return value

    def keep_secrets(self, secrets: dict[str, str | None]) -> None:
        """Keep secrets in the home's file (a value of None deletes one): all of them or, if this process is killed meanwhile, none."""
        with SECRET_LOCK, fasteners.InterProcessLock(self.home / "secrets.lock"):
            self._store_secrets(secrets)

    def _store_secrets(self, secrets: dict[str, str | None]) -> None:
        stored_secrets = {name: value for name, value in (self._read_secrets() | secrets).items() if value}
        write_private(self.secrets_file, json.dumps(stored_secrets, indent=1))

    def _read_secrets(self) -> dict[str, str]:
        if not self.secrets_file.exists():
            return {}
        stored_secrets = read_json(self.secrets_file)
        if stored_secrets is None:
            raise NorthstarError(
                f"{self.secrets_file} is empty or cut short: restore your copy of it (it holds the key of all hashed "
                "identifiers); remove it only if nothing was ever published"
            )
        return stored_secrets


@contextmanager
def private_umask() -> Iterator[None]:
    """Make files and directories that this process and its children create inside readable for their own user only."""
    original_umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(original_umask)


def require_days_of_utc(settings: Settings) -> None:
    """Raise NorthstarError where Spark would build days that are not the company's.

    Its session and Java's clock are in UTC, and so are the facts that both engines are asked for before a build.
    """
    zone = settings.rules.reporting_time_zone
    if settings.operations.wide_engine == "spark" and zone != "UTC":
        raise NorthstarError(
            f"Spark counts days in UTC, and `reporting_time_zone` is {zone}: remove `wide_engine` from operations.yml, so that Postgres builds all models"
        )


def load_settings(home: str | Path | None = None) -> Settings:
    """The settings of the home at `home`, else NORTHSTAR_HOME, else `.northstar` in the checkout (without one, in the user's own directory).

    Raises NorthstarError for a home that cannot be made, was made by another version, or has an unreadable northstar.yml.
    """
    path = Path(home or os.environ.get("NORTHSTAR_HOME") or DEFAULT_HOME).expanduser().resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise NorthstarError(f"cannot make the home {path}: {exc.strerror}; choose another with --home") from exc
    _check_version(path)
    _restrict_permissions(path)
    return Settings(
        home=path,
        warehouse_url=_quote_password(os.environ.get("NORTHSTAR_WAREHOUSE_URL") or None),
        role_prefix=_check_role_prefix(os.environ.get("NORTHSTAR_ROLE_PREFIX")),
        reader_url=os.environ.get("NORTHSTAR_READER_URL") or None,
        rules=read_config_file(_config_directory(path) / "northstar.yml", Rules),
        operations=read_config_file(_config_directory(path) / "operations.yml", Operations),
        readers=read_config_file(_config_directory(path) / "readers.yml", Readers),
        own_seeds=_read_own_seeds(_config_directory(path)),
    )


def _read_own_seeds(config: Path) -> dict[str, str]:
    paths = {name: config / f"{name}.csv" for name in REPLACEABLE_SEEDS}
    return {name: read_text(path) for name, path in paths.items() if path.exists()}


def _config_directory(home: Path) -> Path:
    configured = os.environ.get("NORTHSTAR_CONFIG")
    path = Path(configured).expanduser().resolve() if configured else home
    if not path.is_dir():
        # otherwise missing files would count as files that nobody wrote, and defaults would be used
        raise NorthstarError(f"NORTHSTAR_CONFIG={configured} is not a directory")
    return path


def _restrict_permissions(home: Path) -> None:
    """Close directories that earlier versions left open to other users."""
    for name in OWN_DIRECTORIES:
        with suppress(FileNotFoundError, PermissionError):
            state = (home / name).stat()
            if state.st_uid == os.geteuid() and state.st_mode & 0o066:
                (home / name).chmod(0o700)


def _quote_password(address: str | None) -> str | None:
    """The address with the characters of its password quoted that have a meaning in an address (/ # ? @)."""
    if not address:
        return None
    match = re.fullmatch(r"(?s)(postgres(?:ql)?://)([^:@/?#]*):(.*)@([^@]*)", address)
    if match is None or not set(match[3]) & set("/#?@"):
        return address
    return f"{match[1]}{match[2]}:{quote(unquote(match[3]), safe='')}@{match[4]}"


def _check_role_prefix(prefix: str | None) -> str | None:
    if prefix and (not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", prefix) or prefix.startswith("pg_")):
        raise NorthstarError(
            f"NORTHSTAR_ROLE_PREFIX={prefix}: give at most 40 lower-case letters, digits and underscores, beginning with neither a digit nor pg_"
        )
    return prefix


def _check_version(home: Path) -> None:
    marker = home / "VERSION"
    try:
        home_version = read_word(marker)
        if home_version is None:
            # an empty file was left by an interrupted write of an earlier release, which had the same home version
            write_private(marker, f"{HOME_VERSION}\n")
            return
    except OSError as exc:
        raise NorthstarError(f"cannot use the home {home}: {exc.strerror}; choose another with --home") from exc
    if home_version != str(HOME_VERSION):
        raise NorthstarError(
            f"the home {home} was made by version {home_version} and this is version {HOME_VERSION}: "
            "use another --home, or move this one away and let a run rebuild it from its sources"
        )
