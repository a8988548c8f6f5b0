"""Why rows are in quarantine is said with the commonest reasons and an example of each."""

import re

import pytest

from northstar.base.errors import NorthstarError
from northstar.cli import main as cli
from northstar.extract.landing.directory import land_directory
from northstar.extract.stage import _require_rows
from tests.support import empty, utc, write_rows


def test_all_rows_in_quarantine_are_told_with_their_reasons(tmp_path, warehouse, capsys):
    empty(warehouse)
    rows = [
        {
            "account_id": f"a{n}",
            "account_type": "customer",
            "created_at": f"{n}/01/2025",
            "updated_at": "2025-01-01T00:00:00Z",
        }
        for n in range(1, 61)
    ]
    rows += [
        {
            "account_id": None,
            "account_type": "alien",
            "created_at": "2025-01-01T00:00:00Z",
            "updated_at": "2025-01-01T00:00:00Z",
        }
    ]
    lines = []
    land_directory(warehouse, None, str(write_rows(tmp_path / "source", {"accounts": rows})), progress=lines.append)
    words = r"created_at: '\d+/01/2025' is not an ISO 8601 time \(60 rows of accounts, such as accounts/\S+, line 1\); account_"
    assert re.search("no row landed: " + words, " ".join(lines))
    with pytest.raises(NorthstarError, match="every row that was read is in quarantine: " + words):
        _require_rows(warehouse, utc("2026-01-01T00:00:00"))
    assert cli.main(["quarantine", "list", "--home", str(warehouse.home)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("61 rows are in quarantine:") and "the newest 50 of them; --limit shows more:" in shown
    assert cli.main(["quarantine", "list", "--limit", "100", "--home", str(warehouse.home)]) == 0
    assert "the newest" not in capsys.readouterr().out
    assert cli.main(["quarantine", "list", "--entity", "charges", "--home", str(warehouse.home)]) == 0
    assert capsys.readouterr().out == "no rows are in quarantine\n"
