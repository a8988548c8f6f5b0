"""What dbt remembers of a project that has changed since."""

import shutil
from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.runs import job
from tests.support import WORKERS, empty, run, silent, utc, write_rows

MODEL = "-- Grain: account_id. A try.\n{{ config(unique_key='account_id') }}\nselect account_id from {{ ref('dim_accounts') }}\n"
YAML = """
- name: gone_tomorrow
  description: A model that somebody tried.
  columns:
  - {name: account_id, description: The account.}
  data_tests:
  - unique_key: {arguments: {columns: [account_id]}}
"""


def test_a_model_that_is_gone_takes_its_tests_with_it(warehouse, tmp_path):
    empty(warehouse)
    account = {"account_id": "a", "account_type": "student", "created_at": "2026-02-01T00:00:00Z", "updated_at": "2026-02-01T00:00:00Z"}  # fmt: skip
    source = write_rows(tmp_path / "source", {"accounts": [account]})
    checkout = tmp_path / "checkout"
    shutil.copytree(
        warehouse.root / "dbt_project", checkout / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")
    )
    (checkout / "expectations").symlink_to(warehouse.root / "expectations")
    models = checkout / "dbt_project" / "models" / "core" / "accounts"
    run(warehouse, source, utc("2026-02-20T00:00:00"))
    (models / "gone_tomorrow.sql").write_text(MODEL)
    with pytest.raises(NorthstarError, match=r"gone_tomorrow\.sql:1: the model is not described"):
        run(replace(warehouse, root=checkout), source, utc("2026-02-20T01:00:00"))
    described = models / "_accounts.yml"
    described.write_text(described.read_text().rstrip() + YAML)
    run(replace(warehouse, root=checkout), source, utc("2026-02-20T01:00:00"))
    (models / "gone_tomorrow.sql").write_text(MODEL.replace("dim_accounts", "dim_acounts"))
    with pytest.raises(
        NorthstarError, match=r"gone_tomorrow\.sql:3: gone_tomorrow reads 'dim_acounts', .* did you mean 'dim_accounts'"
    ):
        run(replace(warehouse, root=checkout), source, utc("2026-02-20T01:30:00"))
    # the number of a test that nobody builds would stop every run from here on; dbt has to parse, so the tests' parse is not given
    job.run(warehouse, "nightly", utc("2026-02-20T02:00:00"), str(source), silent, worker=WORKERS[warehouse.home])
