"""Groups of countries, legal entities and their dealings with each other are rows of the home's configuration; what rates do to MRR is told from growth."""

import re
from dataclasses import replace
from types import SimpleNamespace

import jinja2
import pytest

from northstar.base.settings import ROOT, LegalEntity, Rules
from northstar.build.manifest import dbt_target
from northstar.use.explain.explanation import explain
from northstar.warehouse import db
from tests.support import empty, previewed_metrics, run, select, utc, write_rows

APRIL = utc("2025-04-01T00:00:00")
GROUPS = {"DACH": ["DE", "AT"], "North America": ["US", "CA"]}
ENTITIES = [
    LegalEntity(id="shop-sa", name="Boutique SA", applications=["shop"]),
    LegalEntity(id="acme-us", countries=["US", "CA"]),
    LegalEntity(id="acme-de", countries=["DE", "AT", "CH"]),
]
# account: country, application, price a month in major units, currency
ACCOUNTS = {
    "a": ("DE", "web", 10, "USD"),
    "b": ("AT", "web", 20, "USD"),
    "c": ("US", "web", 30, "USD"),
    "d": (None, "web", 40, "USD"),
    "e": ("FR", "shop", 50, "EUR"),
    "f": ("DE", "shop", 60, "USD"),
    "ACME-shop": ("US", "web", 500, "USD"),
}


def ledger():
    """All begin on 10 January and pay a month on 10 March; f's price rises by 10 on 15 March, c gets its 30 back and the shop 100 of its 500.

    A euro is a dollar until March, and 1.20 from then on.
    """
    times = {"created_at": "2025-03-10T00:00:00Z", "updated_at": "2025-03-10T00:00:00Z"}
    accounts, subscriptions, charges = [], [], []
    for name, (country, application, price, currency) in ACCOUNTS.items():
        accounts.append({"account_id": name, "account_type": "customer", "application": application, "country": country,
                         "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"})  # fmt: skip
        prices = [(price, "2025-01-10", "2025-03-15"), (70, "2025-03-15", None)] if name == "f" else [(price, "2025-01-10", None)]  # fmt: skip
        subscriptions += [
            {"subscription_item_id": name, "subscription_id": name, "account_id": name, "application": application, "plan_id": "p", "plan_tier": "basic",
             "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 100 * amount, "currency": currency, "status": "active",
             "valid_from": f"{since}T00:00:00Z", "valid_to": until and f"{until}T00:00:00Z", "updated_at": f"{since}T00:00:00Z"}
            for amount, since, until in prices
        ]  # fmt: skip
        charges.append({"charge_id": name, "payment_id": name, "account_id": name, "application": application, "country": country,
                        "amount": 100 * price, "currency": currency, "status": "succeeded", **times})  # fmt: skip
    return {
        "accounts": accounts, "subscriptions": subscriptions, "charges": charges,
        "refunds": [{"refund_id": name, "charge_id": name, "amount": amount, "currency": "USD", "status": "succeeded", **times}
                    for name, amount in (("c", 3000), ("ACME-shop", 10000))],
        "fx_rates": [{"rate_date": day, "currency": "EUR", "rate_to_reporting": rate} for day, rate in (("2025-01-01", "1.00"), ("2025-03-01", "1.20"))],
        "market_size": [{"application": "web", "country": country, "as_of": "2025-01-01", "addressable_accounts": 10} for country in ("DE", "AT", "US")],
    }  # fmt: skip


def march(settings, metric, segment):
    return {
        r["segment_value"]: None if r["value"] is None else round(float(r["value"]), 2)
        for r in select(settings, "select segment_value, value from metric_values where metric_id = %s and grain = 'month' and application = 'all' "
                                  "and segment = %s and period_start = '2025-03-01'", metric, segment)
    }  # fmt: skip


SHOWN = ("mrr", "cash_collected", "registered_accounts", "mrr_constant_currency", "mrr_growth_rate_constant_currency")


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """The home with groups of countries; then with Austria in none of them, with entities, and with their dealings left out: from the same landed rows."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("groups"), ledger())
    shown = []
    for rules in (
        Rules(country_groups=GROUPS),
        Rules(country_groups=GROUPS | {"DACH": ["DE"]}, legal_entities=ENTITIES, intercompany_accounts=["ACME-*", "x"]),
    ):
        settings = replace(warehouse, rules=rules)
        previewed = previewed_metrics(settings) if shown else None
        run(settings, source, APRIL, "hourly")
        shown.append({"previewed": previewed} | {
            (metric, segment): march(settings, metric, segment)
            for metric in SHOWN for segment in ("", "country", "country_group", "entity")
        })  # fmt: skip
        shown[-1]["parsed"] = (dbt_target(settings) / "manifest.json").stat().st_mtime_ns
        shown[-1]["segments"] = select(settings, "select segments from metrics where metric_id = 'mrr'")[0]["segments"]
    return settings, *shown


def test_a_group_is_a_row_of_the_configuration(story):
    _, before, after = story
    assert before["segments"] == "plan_tier;country;account_type;country_group"
    assert before["mrr", "entity"] == {}
    assert before["mrr", "country_group"] == {"DACH": 100, "North America": 530, "(other)": 60, "(unknown)": 40}
    assert before["cash_collected", "country_group"] == {"DACH": 90, "North America": 400, "(other)": 60, "(unknown)": 40}  # fmt: skip
    assert before["registered_accounts", "country_group"] == {"DACH": 3, "North America": 2, "(other)": 1, "(unknown)": 1}  # fmt: skip
    assert after["registered_accounts", "country_group"] == {"DACH": 2, "North America": 2, "(other)": 2, "(unknown)": 1}  # fmt: skip
    assert after["mrr", "country_group"] == {"DACH": 80, "North America": 30, "(other)": 80, "(unknown)": 40}


def test_the_first_entity_that_fits_has_the_row(story):
    settings, _, after = story
    assert after["segments"] == "plan_tier;country;account_type;country_group;entity"
    # all of the shop is one company's, Germans included; the web's customer without a country is nobody's yet
    assert after["mrr", "entity"] == {"shop-sa": 130, "acme-us": 30, "acme-de": 30, "(unknown)": 40}
    assert after["cash_collected", "entity"] == {"shop-sa": 120, "acme-us": 0, "acme-de": 30, "(unknown)": 40}
    of_web = select(settings, "select segment_value, value from metric_values where metric_id = 'mrr' and segment = 'entity' and application = 'web' "
                              "and grain = 'month' and period_start = '2025-03-01' order by 1")  # fmt: skip
    assert [(r["segment_value"], float(r["value"])) for r in of_web] == [("(unknown)", 40), ("acme-de", 30), ("acme-us", 30)]  # fmt: skip


def test_what_exchange_rates_did_is_no_growth(story):
    _, before, after = story
    # the shop began March with 50 euros at a dollar each and 60 dollars, and 10 were added: the euros' 10 more are the rate's
    assert after["mrr_constant_currency", "entity"] == {"shop-sa": 120, "acme-us": 30, "acme-de": 30, "(unknown)": 40}
    assert after["mrr_growth_rate_constant_currency", "entity"] == {"shop-sa": 9.09, "acme-us": 0, "acme-de": 0, "(unknown)": 0}  # fmt: skip
    assert before["mrr_constant_currency", "country_group"] == {"DACH": 100, "North America": 530, "(other)": 50, "(unknown)": 40}  # fmt: skip
    assert (after["mrr", ""], after["mrr_constant_currency", ""]) == ({"": 230}, {"": 220})
    assert after["mrr_growth_rate_constant_currency", ""] == {"": 4.76}


def test_what_the_group_sells_itself_is_no_revenue_and_is_not_lost(story):
    settings, before, after = story
    # 730 less 500, and 590 less 400
    assert (before["mrr", ""], before["cash_collected", ""]) == ({"": 730}, {"": 590})
    assert (after["mrr", ""], after["cash_collected", ""]) == ({"": 230}, {"": 190})
    assert before["registered_accounts", ""] == after["registered_accounts", ""] == {"": 7}
    for mart, amount in (("fct_payments", "amount_reporting"), ("fct_refunds", "amount_reporting"), ("fct_subscription_periods", "intercompany_mrr_in_currency")):  # fmt: skip
        rows = select(settings, f"select account_id, {amount} as amount from {mart} where is_intercompany")
        expected = 100 if mart == "fct_refunds" else 500
        assert [(r["account_id"], r["amount"]) for r in rows] == [("ACME-shop", expected)]
    left_out = select(settings, "select left_out from certificates order by published_version desc limit 1")[0]["left_out"]["by rule"]  # fmt: skip
    assert left_out == {f"{rows} of companies of the group": 1 for rows in ("subscription rows", "charges", "refunds")}


def test_each_setting_restates_what_it_touches_and_says_so(story):
    settings, _, after = story
    restated = select(settings, "select distinct metric_id, segment, segment_value, reasons from metric_restatements")
    assert {tuple(r["reasons"]) for r in restated} == {("setting",)}
    assert {"mrr", "cash_collected", "new_mrr", "paying_accounts"} <= {r["metric_id"] for r in restated}
    assert {r["metric_id"] for r in restated} <= after["previewed"] and "ticket_volume" not in after["previewed"]
    # a segment that comes is nothing restated; the group's own account is in the United States
    assert "entity" not in {r["segment"] for r in restated}
    assert {r["segment_value"] for r in restated if r["segment"] == "country"} == {"US"}
    assert {(r["segment"], r["segment_value"]) for r in restated if r["metric_id"] == "registered_accounts"} == {
        ("country_group", "DACH"), ("country_group", "(other)"),
    }  # fmt: skip


def test_what_follows_from_countries_is_explained(story):
    settings, _, _ = story
    for metric, segment, value, expected in (
        ("mrr", "country_group", "DACH", 80), ("cash_collected", "entity", "shop-sa", 120), ("mrr_constant_currency", "entity", "shop-sa", 120),
    ):  # fmt: skip
        explanation = explain(settings, metric, utc("2025-03-01"), "month", "all", segment, value)
        assert explanation.adds_up and explanation.published["value"] == expected


def test_a_rule_is_no_reason_to_parse_the_project_again(story):
    _, before, after = story
    assert before["parsed"] == after["parsed"]


class Returned(Exception):
    """What a macro returns, as dbt has it."""


def macros(rules):
    """Macros of the dbt project by name, each compiled alone, so that what it returns reaches the one that calls it."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])

    def give(value):
        raise Returned(value)

    def callable_of(text, name):
        def call(*arguments):
            module = environment.from_string(text).make_module(environment.globals)
            try:
                return getattr(module, name)(*arguments)
            except Returned as returned:
                return returned.args[0]

        return call

    context = SimpleNamespace(rules=rules.model_dump(mode="json"))
    environment.globals |= {
        "return": give, "run_context": lambda: context, "execute": True, "target": SimpleNamespace(name="dev", schema="pg_temp"),
        "as_of": lambda: "timestamptz '2025-04-01'", "rule": lambda name: context.rules[name],
    }  # fmt: skip
    for path in ("metrics/derived_segments", "metrics/small_groups", "facts/intercompany", "facts/money", "incremental/incremental"):  # fmt: skip
        text = (ROOT / "dbt_project" / "macros" / f"{path}.sql").read_text()
        for found in re.finditer(r"\{% macro (\w+)\(.*?\{%-? endmacro %\}", text, re.DOTALL):
            if found[1] in ("find_small_groups", "suppress_below", "derived_segments", "with_derived", "is_intercompany", "counted_statuses", "quoted"):  # fmt: skip
                environment.globals[found[1]] = callable_of(found[0], found[1])
    return environment.globals


@pytest.mark.parametrize(
    ("rules", "landed", "withheld"),
    [
        # Germany has two customers, and nobody else: a group that holds another country would tell of it
        ({"country_groups": GROUPS}, {}, {"DACH", "(other)", "(unknown)"}),
        ({"country_groups": {"Germany": ["DE"]}}, {}, {"(other)", "(unknown)"}),
        # the United States have two customers, of whom one is the group's own
        ({"country_groups": {"US": ["US"]}, "intercompany_accounts": ["ACME-*"]}, {}, {"US", "(other)", "(unknown)"}),
        ({"country_groups": {"US": ["US"]}}, {}, {"(other)", "(unknown)"}),
        ({"legal_entities": [{"id": "de", "countries": ["DE"]}, {"id": "rest"}]}, {}, {"rest"}),
        # whole applications are shown anyway
        ({"legal_entities": [{"id": "shop", "applications": ["shop"]}, {"id": "rest"}]}, {}, set()),
        # but where an account alone names one, it is too small, and so is what it is taken from
        (
            {"legal_entities": [{"id": "shop", "applications": ["shop"]}, {"id": "rest"}]},
            {"a": "shop"},
            {"shop", "rest"},
        ),
    ],
)
def test_a_group_with_a_withheld_country_is_withheld(story, rules, landed, withheld):
    settings, _, _ = story
    text = macros(Rules(suppress_below=2, **rules))["find_small_groups"]()
    with db.connect(settings, "transformer") as connection:
        # in one application, in which Germany and the United States have two customers and the other countries one
        connection.execute("create temp table accounts as select * from staging.accounts")
        connection.execute("create temp table charges as select * from staging.charges")
        connection.execute("create temp table subscriptions as select * from staging.subscriptions")
        connection.execute("update pg_temp.accounts set application = 'web'")
        connection.execute("update pg_temp.subscriptions set application = 'web'")
        for name, entity in landed.items():
            connection.execute("update pg_temp.accounts set legal_entity = %s where account_id = %s", [entity, name])
        connection.execute(re.sub(r"staging\.", "pg_temp.", text))
        rows = connection.execute("select segment, segment_value from pg_temp.small_groups").fetchall()
        connection.rollback()
    segment = "entity" if "legal_entities" in rules else "country_group"
    assert {"AT", "FR", "(unknown)"} <= {r["segment_value"] for r in rows if r["segment"] == "country"}
    assert {r["segment_value"] for r in rows if r["segment"] == segment} == withheld
