"""The pages for developers, followed to the letter."""

import subprocess
import sys
import tempfile
from pathlib import Path

from northstar.settings import ROOT


def commands(page: str) -> str:
    """The indented blocks of a page, as one shell script."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    ") or not line.strip())


def test_add_a_source_does_what_it_says():
    with tempfile.TemporaryDirectory(prefix="northstar-docs-") as place:
        # Postgres may run as another user
        Path(place).chmod(0o755)
        script = commands("add_a_source.md").replace("/tmp/desk", f"{place}/desk")
        script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = [line.split() for line in done.stdout.splitlines()]
    assert ["T-1", "urgent", "1.5"] in [row[:3] for row in answer], done.stdout
    assert any(row[:2] == ["T-2", "normal"] for row in answer), done.stdout
