"""Unusual values from landing to the marts and back: warned of, settled by name, corrected in what had landed, restated with a reason."""

import pytest

from northstar.cli.main import main
from northstar.operate.status import status
from northstar.publish.merge import rollback
from northstar.runs.verify import verify
from tests.support import empty, northstar, query_as, run, select, silent, utc, write_rows

AS_OF = utc("2025-04-01T00:00:00")
THEN = "2025-01-05T00:00:00Z"
TIERS = (
    "select segment_value, value from metric_values where metric_id = 'mrr' and grain = 'month' and period_start = '2025-03-01' "
    "and application = 'all' and segment = 'plan_tier' and value > 0 order by 1"
)
WARNINGS = "select check_name from audit.checks where run_id = (select max(run_id) from audit.checks) and suite = 'unusual_values' and not success"


def subscription(n: int, tier: str) -> dict:
    return {
        "subscription_item_id": f"si_{n}", "subscription_id": f"s_{n}", "account_id": f"acc_{n}", "application": "shop", "plan_id": "p",
        "plan_tier": tier, "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 1000, "currency": "USD",
        "status": "active", "valid_from": THEN, "updated_at": THEN,
    }  # fmt: skip


def tiers(settings) -> dict[str, float]:
    return {r["segment_value"]: float(r["value"]) for r in select(settings, TIERS)}


@pytest.fixture(scope="module")
def shop(warehouse, tmp_path_factory):
    """A shop with 60 subscriptions of two tiers, one of them written with a slip, published once."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("shop")
    rows = [subscription(n, ("premium", "starter")[n % 2]) for n in range(80)]
    rows[6]["plan_tier"] = "premuim"
    write_rows(source, {"subscriptions": rows})
    assert run(warehouse, source, AS_OF) == 1
    yield warehouse, source
    empty(warehouse)
    (warehouse.home / "values.yml").unlink(missing_ok=True)


def test_a_slip_is_warned_of_mapped_by_name_and_restated(shop, capsys):
    settings, source = shop
    assert tiers(settings) == {"premium": 390, "premuim": 10, "starter": 400}
    assert query_as(settings, "transformer", WARNINGS) == [{"check_name": "names_are_spelt_as_usual"}]
    assert "warning     names_are_spelt_as_usual: 1" in status(settings)
    assert "1 to settle, the newest subscriptions.plan_tier: 'premuim' is written nearly like 'premium'" in status(
        settings
    )

    home = ["--home", str(settings.home)]
    assert main(["values", "list", *home]) == 0
    said = capsys.readouterr().out
    assert "'premuim' is written nearly like 'premium'" in said and "subscriptions/rows.jsonl line 7" in said
    assert main(["values", "map", "subscriptions.plan_tier", "premuim", "--to", "premium", *home]) == 0
    assert "the next run gives it to 1 landed rows" in capsys.readouterr().out
    assert (settings.home / "values.yml").read_text() == "subscriptions.plan_tier:\n  map:\n    premuim: premium\n"
    assert main(["values", "list", *home]) == 0 and "all are settled" in capsys.readouterr().out

    # a second file with the slip, and a run that only adds what is new
    write_rows(source, {"subscriptions": [subscription(100, "premuim")]}, "later")
    assert run(settings, source, AS_OF, "hourly") == 2
    assert tiers(settings) == {"premium": 410, "starter": 400}
    assert query_as(settings, "transformer", WARNINGS) == [] and "to settle" not in status(settings)
    reasons = select(
        settings,
        "select distinct reason from metric_restatements where new_version = 2 and metric_id = 'mrr' and segment = 'plan_tier' and segment_value = 'premuim'",
    )
    assert reasons == [{"reason": "correction"}]
    for version in (1, 2):
        assert all(c.is_same for c in verify(settings, version, silent))

    # it is done once, stays after a rollback, and the rows can be told from where they are
    assert rollback(settings) == (3, 1) and tiers(settings) == {"premium": 390, "premuim": 10, "starter": 400}
    assert run(settings, source, AS_OF) == 4 and tiers(settings) == {"premium": 410, "starter": 400}
    assert query_as(settings, "loader", "select value, other, rows from audit.mapped_values") == [
        {"value": "premuim", "other": "premium", "rows": 1}
    ]


def test_values_are_settled_in_the_directory_of_configuration_so_a_second_machine_follows(shop, tmp_path, monkeypatch):
    settings, _ = shop
    (tmp_path / "values.yml").write_text("# reviewed in March\nsubscriptions.plan_tier:\n  accept: [trial]\n")
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path))
    result = northstar(settings, "values", "accept", "subscriptions.plan_tier", "gold", "silver")
    assert "'gold', 'silver': accepted" in result.stdout
    assert (tmp_path / "values.yml").read_text() == (
        "# reviewed in March\nsubscriptions.plan_tier:\n  accept:\n  - trial\n  - gold\n  - silver\n"
    )
    # a later decision replaces an earlier one
    northstar(settings, "values", "refuse", "subscriptions.plan_tier", "gold")
    assert "refuse:\n  - gold" in (tmp_path / "values.yml").read_text()
    assert (tmp_path / "values.yml").read_text().count("gold") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["accept", "subscriptions.plan_tier"], "what about subscriptions.plan_tier? give values"),
        (["map", "subscriptions.plan_tier", "a"], "which value is it to be?"),
        (["accept"], "which column?"),
        (["accept", "subscriptions.tier", "a"], "subscriptions has no such column"),
        (["accept", "charges.amount", "--largest", "EUR", "many"], "--largest wants"),
    ],
)
def test_a_command_that_cannot_be_followed_says_what_it_wants(shop, words, said, capsys):
    settings, _ = shop
    assert main(["values", *words, "--home", str(settings.home)]) == 1
    assert said in capsys.readouterr().err
