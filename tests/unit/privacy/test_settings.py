"""Settings of privacy that make no sense are refused in one line."""

import pytest

from northstar.errors import NorthstarError
from northstar.job import code_version
from northstar.privacy.keys import fingerprint
from northstar.privacy.ring import home_key
from northstar.settings import load_settings
from tests.support import empty


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("operations", "keep_quarantine_days: soon", "keep_quarantine_days: give whole days"),
        ("operations", "keep_details_days: {event: 90}", "keep_details_days: give days by entity"),
        ("operations", "keep_details_days: 90", "keep_details_days: give days by entity"),
        ("operations", "keep_details_days: {events: 0}", "keep_details_days of events: give whole days"),
        ("operations", "job_niceness: 20", "job_niceness: give 0"),
        ("operations", "keep_report_days: 0", "keep_report_days: give whole days"),
        ("northstar", "suppress_below: -1", "suppress_below: give the smallest number"),
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
    from northstar import db

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
