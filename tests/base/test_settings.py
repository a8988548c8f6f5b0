"""Settings of privacy that make no sense are refused in one line."""

import json

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Rules, load_settings
from northstar.build.code_version import code_version
from northstar.privacy.keys import fingerprint, seal
from northstar.privacy.ring import home_key
from northstar.runs import quarantine, rotate
from northstar.runs.erase import search
from northstar.warehouse import db
from tests.support import empty, query_as, silent


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("operations", "keep_quarantine_days: soon", "keep_quarantine_days: give whole days"),
        (
            "operations",
            "keep_details_days: {event: 90}",
            "line 1, keep_details_days: give whole days, 1 or more, by entity",
        ),
        ("operations", "keep_details_days: 90", "line 1, keep_details_days: give whole days, 1 or more, by entity"),
        ("operations", "keep_details_days: {events: 0}", r"keep_details_days\.events: give whole days"),
        ("operations", "job_niceness: 20", "job_niceness: give 0"),
        ("operations", "keep_report_days: 0", "keep_report_days: give whole days"),
        (
            "operations",
            "# one\n\nkeep_reports_days: 3",
            "line 3, keep_reports_days: unknown key; did you mean 'keep_report_days'?",
        ),
        (
            "operations",
            "errors: [charges_have_an_account, charges_belong_to_known_account]",
            "line 1, errors: 'charges_have_an_account' is not a check: did you mean ",
        ),
        (
            "operations",
            "errors: [tickets_belong_to_known_account]",
            "is not a check: did you mean 'tickets_belong_to_known_accounts'[?] known are account_",
        ),
        ("operations", "errors: all", "errors: give names of checks"),
        (
            "operations",
            "locale: klingon",
            "locale: 'klingon' is no locale; give a language, or a language with a country",
        ),
        ("operations", "wide_engine: duckdb", "line 1, wide_engine: give postgres or spark"),
        ("operations", "wide_engine: spark", "wide_engine: spark reads the lake: give `lake` a directory as well"),
        (
            "operations",
            "lake: l\nwide_engine: spark\nspark_memory_mb: 512",
            "spark_memory_mb: give whole MB, 1024 or more",
        ),
        ("operations", "spark_master: yarn", r"spark_master: give local, local\[\*\], spark://HOST:PORT, "),
        ("operations", "spark_master: spark://host", r"spark_master: give local, local\[\*\], spark://HOST:PORT, "),
        (
            "operations",
            "spark_options: {spark.x: {}}",
            r"spark_options\.spark\.x: give names of Spark's options with texts",
        ),
        ("operations", "mapping_in_source: 'no'", "line 1, mapping_in_source: give true or false"),
        ("northstar", "phases: {web: {one: soon}}", r"line 1, phases\.web\.one: give by application when"),
        ("northstar", "[USD]", "northstar.yml, line 1: give names with values"),
        ("northstar", "suppress_below: -1", "suppress_below: give the smallest number"),
        ("northstar", "alert_confidence: 0.98", "alert_confidence: give 0.9, 0.95, 0.99 or 0.999"),
        (
            "northstar",
            "rates_currency: dollars",
            "rates_currency: give a code of ISO 4217, such as USD; 'dollars' is none",
        ),
        (
            "northstar",
            "legal_entities: [{id: de, currency: euro}]",
            "currency: give a code of ISO 4217, such as EUR; 'euro' is none",
        ),
        ("northstar", "gross_margin: {default: 80}", "gross_margin.default: give a share by application, 0 to 1"),
        (
            "northstar",
            "support_calendars: {default: {hours: {monday: 09:00-17:00}}}",
            "support_calendars.default: `time_zone` is missing",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: Berlin, hours: {monday: 09:00-17:00}}}",
            "give the name of a time zone as the IANA's database has it, such as Europe/Berlin; 'Berlin' is none",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: UTC, hours: {monday: 9-5}}}",
            "support_calendars.default.hours.monday: give hours from and to, such as 09:00-17:00",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: UTC, hours: {monday: 17:00-09:00}}}",
            "in order, and 24:00 at most; monday has '17:00-09:00'",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: UTC, hours: {monday: '09:00-13:00, 12:00-17:00'}}}",
            "in order, and 24:00 at most",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: UTC, hours: {lunes: 09:00-17:00}}}",
            "support_calendars.default.hours",
        ),
        (
            "northstar",
            "support_calendars: {default: {time_zone: UTC, hours: {monday: 09:00-17:00}, holidays: [christmas]}}",
            "support_calendars.default.holidays",
        ),
        ("northstar", "count_past_due: sometimes", "count_past_due: give always, never, or for how many whole days"),
        ("northstar", "count_past_due: 0", "count_past_due: give always, never, or for how many whole days"),
        ("northstar", "count_past_due: 1.5", "count_past_due: give always, never, or for how many whole days"),
        ("northstar", "renewal_gap_days: -1", "renewal_gap_days: give whole days, 0 or more"),
        ("northstar", "money_digits: 3", "money_digits: unknown key"),
        ("northstar", "first_weekday: tuesday", "first_weekday: give the day that weeks begin on: monday, sunday"),
        ("northstar", "reporting_time_zone: new york", "no time zone 'new york'; did you mean America/New_York?"),
        ("northstar", "reporting_time_zone: Europe/Berln", "no time zone 'Europe/Berln'; did you mean Europe/Berlin"),
        ("northstar", "reporting_time_zone: zzz", "no time zone 'zzz'; give a name such as America/New_York"),
        ("northstar", "reporting_time_zone: 5", "reporting_time_zone: give a time zone by its name"),
        (
            "northstar",
            "reporting_time_zone: Africa/Cairo",
            "Africa/Cairo cannot be the reporting time zone: its clocks",
        ),
        ("northstar", "fiscal_year_begins: 13", "fiscal_year_begins: give the number of the month"),
        ("northstar", "fiscal_year_begins: april", "fiscal_year_begins: give the number of the month"),
        ("northstar", "alert_days: 0", "alert_days: give the days"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(tmp_path, file, text, message):
    (tmp_path / f"{file}.yml").write_text(text)
    with pytest.raises(NorthstarError, match=message):
        load_settings(tmp_path)


def test_periods_decide_no_number_and_small_groups_do(tmp_path):
    plain = code_version(load_settings(tmp_path))
    (tmp_path / "operations.yml").write_text("keep_quarantine_days: 90")
    assert code_version(load_settings(tmp_path)) == plain
    (tmp_path / "northstar.yml").write_text("suppress_below: 5")
    assert code_version(load_settings(tmp_path)) != plain


def test_a_home_with_another_key_is_refused_and_a_killed_rotation_is_ended(warehouse, monkeypatch):
    empty(warehouse)
    key = home_key(warehouse)
    monkeypatch.setenv("NORTHSTAR_SECRET_PII_KEY", "another")
    with pytest.raises(NorthstarError, match="is not the key that this warehouse's identifiers were hashed with"):
        home_key(warehouse)
    monkeypatch.delenv("NORTHSTAR_SECRET_PII_KEY")
    # the rotation's transaction has committed, and then it was killed
    warehouse.keep_secret("pii_key_next", f"{key},newer")
    with db.connect(warehouse, "loader") as connection:
        connection.execute(
            "insert into audit.pii_keys (generation, fingerprint) values (2, %s)", [fingerprint(f"{key},newer")]
        )
    assert home_key(warehouse) == f"{key},newer" == warehouse.secret("pii_key")
    assert warehouse.known_secret("pii_key_next") is None
    warehouse.keep_secret("pii_key", key)
    empty(warehouse)


@pytest.fixture
def unpublished(warehouse, monkeypatch):
    """A warehouse that has published nothing, whose tables need not be written anew; its key is afterwards what it was."""
    empty(warehouse)
    key = home_key(warehouse)
    monkeypatch.setattr(rotate, "rewrite", lambda *_: None)
    yield warehouse
    warehouse.keep_secrets({"pii_key": key, "pii_key_next": None})
    empty(warehouse)


def generations(settings) -> list:
    rows = query_as(settings, "loader", "select generation, published_version from audit.pii_keys order by 1")
    return [(row["generation"], row["published_version"]) for row in rows]


@pytest.mark.parametrize("killed_in", ["adopt_ring", "rewrite"])
def test_a_rotation_that_was_killed_is_ended_by_the_next_call_and_no_other_begun(unpublished, monkeypatch, killed_in):
    def killed(*_):
        raise KeyboardInterrupt

    before = unpublished.secret("pii_key")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rotate, killed_in, killed)
        rotate.rotate_key(unpublished, silent)
    assert generations(unpublished) == [(1, None), (2, None)]
    told = rotate.rotate_key(unpublished, silent)
    assert (told.generation, told.was_interrupted) == (2, True) and generations(unpublished) == [(1, None), (2, 0)]
    # one key more, and not two
    assert (
        unpublished.secret("pii_key").rpartition(",")[0] == before and unpublished.known_secret("pii_key_next") is None
    )
    assert rotate.rotate_key(unpublished, silent).generation == 3


def test_a_ring_that_a_killed_rotation_left_as_the_next_one_keeps_no_other_out(unpublished):
    # between two writings of an earlier release
    unpublished.keep_secret("pii_key_next", unpublished.secret("pii_key"))
    assert rotate.rotate_key(unpublished, silent).generation == 2
    assert unpublished.known_secret("pii_key_next") is None


def test_what_was_sealed_by_a_rotation_that_was_killed_is_shown_before_the_next_command(unpublished):
    key = unpublished.secret("pii_key")
    following = f"{key},newer"
    row = json.dumps({"remarks": seal("Ada called", following)})
    with db.connect(unpublished, "loader") as connection:
        number = connection.execute(
            "insert into quarantine.rows (source, entity, path, reasons, row) values ('files', 'charges', 'a', '{}', %s) returning quarantine_id as n", [row]
        ).fetchone()["n"]  # fmt: skip
        connection.execute(
            "insert into audit.pii_keys (generation, fingerprint) values (2, %s)", [fingerprint(following)]
        )
    unpublished.keep_secret("pii_key_next", following)
    assert quarantine.show(unpublished, number, with_personal=True)["row"] == {"remarks": "Ada called"}


def test_the_environments_key_is_never_written_into_the_home(unpublished, monkeypatch):
    key = unpublished.secret("pii_key")
    monkeypatch.setenv("NORTHSTAR_SECRET_PII_KEY", key)
    monkeypatch.setenv("NORTHSTAR_SECRET_PII_KEY_NEXT", f"{key},newer")
    before = unpublished.secrets_file.read_text()
    with db.connect(unpublished, "loader") as connection:
        connection.execute(
            "insert into audit.pii_keys (generation, fingerprint) values (2, %s)", [fingerprint(f"{key},newer")]
        )
    assert home_key(unpublished) == f"{key},newer" and unpublished.secrets_file.read_text() == before


def test_a_name_is_found_wherever_it_lies_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "BLOCK_BYTES", 7)
    names, told = [b"abcd", b"cd"], b"..abcd....abcdcd..ab" + b"cd"
    (tmp_path / "file").write_bytes(told)
    places = [(told.find(name, at), name) for name in names for at in range(len(told)) if told.startswith(name, at)]
    assert sorted(search.find_occurrences(tmp_path / "file", names)) == sorted(places)
    assert list(search.find_occurrences(tmp_path / "file", [b"abce"])) == []


def test_rows_come_in_lots_by_number_and_by_length(warehouse, monkeypatch):
    monkeypatch.setattr(db, "LOT_ROWS", 100)
    monkeypatch.setattr(db, "LOT_BYTES", 10_000)
    with db.connect(warehouse, "loader") as connection:
        short = list(db.fetch_lots(connection, "select n, 'x' as v from generate_series(1, 230) as n", fetch_size=10))
        long = list(
            db.fetch_lots(connection, "select n, repeat('x', 1000) as v from generate_series(1, 25) as n", fetch_size=1)
        )
    assert [len(lot) for lot in short] == [100, 100, 30] and [len(lot) for lot in long] == [10, 10, 5]
    assert [row["n"] for lot in short for row in lot] == list(range(1, 231))


def test_codes_of_standards_are_brought_to_upper_case_and_others_are_refused():
    rules = Rules(reporting_currency=" eur", home_country={"default": "us", "shop": "De"})
    assert (rules.reporting_currency, rules.home_country) == ("EUR", {"default": "US", "shop": "DE"})
    for wrong in ({"reporting_currency": "Euro"}, {"home_country": {"default": "Germany"}}):
        with pytest.raises(ValueError, match="is none"):
            Rules(**wrong)
