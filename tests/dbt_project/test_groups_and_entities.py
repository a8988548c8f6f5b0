"""Groups of countries and legal entities are rows of the home's configuration, and segments of every metric that is split by country."""

from dataclasses import replace

import pytest

from northstar.base.settings import LegalEntity, Rules
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from tests.support import empty, run, select, silent, utc, write_rows

APRIL = utc("2025-04-01T00:00:00")
COUNTRIES = {"a": ("DE", "web"), "b": ("AT", "web"), "c": ("US", "web"), "d": (None, "web"), "e": ("FR", "shop"), "f": ("DE", "shop")}  # fmt: skip
GROUPS = {"DACH": ["DE", "AT"], "North America": ["US", "CA"]}
ENTITIES = [LegalEntity(id="shop-sa", applications=["shop"]), LegalEntity(id="acme-us", countries=["US", "CA"]), LegalEntity(id="acme-de", countries=["DE", "AT", "CH"])]  # fmt: skip


def ledger():
    """a to f begin with 10 to 60 dollars a month on 10 January, in their countries; each pays its month on 10 March, and c's 30 dollars come back."""
    accounts = [{"account_id": name, "account_type": "customer", "application": application, "country": country,
                 "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"} for name, (country, application) in COUNTRIES.items()]  # fmt: skip
    subscriptions = [{"subscription_item_id": name, "subscription_id": name, "account_id": name, "application": COUNTRIES[name][1], "plan_id": "p",
                      "plan_tier": "basic", "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 1000 * number, "currency": "USD",
                      "status": "active", "valid_from": "2025-01-10T00:00:00Z", "updated_at": "2025-01-10T00:00:00Z"}
                     for number, name in enumerate(COUNTRIES, 1)]  # fmt: skip
    charges = [{"charge_id": name, "payment_id": name, "account_id": name, "application": COUNTRIES[name][1], "country": COUNTRIES[name][0],
                "amount": 1000 * number, "currency": "USD", "status": "succeeded", "created_at": "2025-03-10T00:00:00Z",
                "updated_at": "2025-03-10T00:00:00Z"} for number, name in enumerate(COUNTRIES, 1)]  # fmt: skip
    refunds = [{"refund_id": "c", "charge_id": "c", "amount": 3000, "currency": "USD", "status": "succeeded", "reason": "x",
                "created_at": "2025-03-20T00:00:00Z", "updated_at": "2025-03-20T00:00:00Z"}]  # fmt: skip
    sizes = [{"application": "web", "country": c, "as_of": "2025-01-01", "addressable_accounts": n} for c, n in (("DE", 70), ("AT", 20), ("US", 500))]  # fmt: skip
    return {"accounts": accounts, "subscriptions": subscriptions, "charges": charges, "refunds": refunds, "market_size": sizes}  # fmt: skip


def march(settings, metric, segment, application="all"):
    return {
        r["segment_value"]: None if r["value"] is None else float(r["value"])
        for r in select(settings, "select segment_value, value from metric_values where metric_id = %s and grain = 'month' and application = %s "
                                  "and segment = %s and period_start = '2025-03-01'", metric, application, segment)
    }  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """The home without groups, with them and entities, and with Austria in no group: each setting's values, from the same landed rows."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("groups"), ledger())
    shown = {}
    for name, rules in (
        ("none", Rules()),
        ("both", Rules(country_groups=GROUPS, legal_entities=ENTITIES)),
        ("without Austria", Rules(country_groups=GROUPS | {"DACH": ["DE"]}, legal_entities=ENTITIES)),
    ):
        settings = replace(warehouse, rules=rules)
        run(settings, source, APRIL, "hourly")
        shown[name] = {
            (metric, segment): march(settings, metric, segment)
            for metric in ("mrr", "cash_collected", "registered_accounts") for segment in ("country", "country_group", "entity")
        }  # fmt: skip
        shown[name]["segments"] = select(settings, "select segments from metrics where metric_id = 'mrr'")[0]["segments"]  # fmt: skip
    return settings, shown


def test_a_home_without_groups_has_none(story):
    _, shown = story
    assert shown["none"]["segments"] == "plan_tier;country;account_type"
    assert shown["none"]["mrr", "country_group"] == shown["none"]["mrr", "entity"] == {}


def test_a_group_is_a_row_of_the_configuration(story):
    _, shown = story
    assert shown["both"]["segments"] == "plan_tier;country;account_type;country_group;entity"
    assert shown["both"]["mrr", "country_group"] == {"DACH": 90, "North America": 30, "(other)": 50, "(unknown)": 40}
    assert shown["both"]["cash_collected", "country_group"] == {"DACH": 90, "North America": 0, "(other)": 50, "(unknown)": 40}  # fmt: skip
    assert shown["both"]["registered_accounts", "country_group"] == {"DACH": 3, "North America": 1, "(other)": 1, "(unknown)": 1}  # fmt: skip


def test_the_first_entity_that_fits_has_the_row(story):
    settings, shown = story
    # all of the shop is one company's, Germans included; the web's customer without a country is nobody's yet
    assert shown["both"]["mrr", "entity"] == {"shop-sa": 110, "acme-us": 30, "acme-de": 30, "(unknown)": 40}
    assert shown["both"]["cash_collected", "entity"] == {"shop-sa": 110, "acme-us": 0, "acme-de": 30, "(unknown)": 40}  # fmt: skip
    assert march(settings, "mrr", "entity", "web") == {"acme-us": 30, "acme-de": 30, "(unknown)": 40}
    assert [m["entity"] for m in select(settings, "select value_text as entity from (select distinct segment_value as value_text from metric_values "
            "where metric_id = 'market_share' and segment = 'entity' and grain = 'quarter') as v order by 1")] == ["(unknown)", "acme-de", "acme-us", "shop-sa"]  # fmt: skip


def test_a_changed_group_restates_its_own_values_alone(story):
    settings, shown = story
    assert shown["without Austria"]["mrr", "country_group"] == {"DACH": 70, "North America": 30, "(other)": 70, "(unknown)": 40}  # fmt: skip
    restated = select(settings, "select distinct new_version, segment, segment_value, reasons from metric_restatements")
    # a segment that comes is nothing restated
    assert {r["new_version"] for r in restated} == {3}
    assert {(r["segment"], r["segment_value"]) for r in restated} == {("country_group", "DACH"), ("country_group", "(other)")}  # fmt: skip
    assert {tuple(r["reasons"]) for r in restated} == {("setting",)}


def test_what_follows_from_countries_is_explained_and_can_be_built_again(story):
    settings, _ = story
    for metric, segment, value, expected in (
        ("mrr", "country_group", "DACH", 70), ("cash_collected", "entity", "shop-sa", 110), ("registered_accounts", "entity", "acme-de", 2), ("new_mrr", "country_group", "(unknown)", 0),
    ):  # fmt: skip
        explanation = explain(settings, metric, utc("2025-03-01"), "month", "all", segment, value)
        assert explanation.adds_up and explanation.published["value"] == expected
    assert all(compared.is_same for compared in verify(settings, None, silent))
