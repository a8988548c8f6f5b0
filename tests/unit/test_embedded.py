"""What the embedded server's own log tells of its end."""

from datetime import UTC, datetime, timedelta

import pytest

from northstar import embedded
from northstar.settings import load_settings


@pytest.mark.parametrize(("ago", "said", "told"), [
    (1, "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device", True),
    (3600, "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device", False),
    (1, "LOG:  server process (PID 7) was terminated by signal 9: Killed", False),
])  # fmt: skip
def test_a_server_that_fell_to_a_full_disk_a_moment_ago_is_told_of(tmp_path, ago, said, told):
    settings = load_settings(tmp_path)
    settings.logs.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC) - timedelta(seconds=ago)
    (settings.logs / "postgres.log").write_text(f"{at:%Y-%m-%d %H:%M:%S.123} UTC [7] {said}\n")
    assert embedded.ran_out_of_disk(settings) is told
