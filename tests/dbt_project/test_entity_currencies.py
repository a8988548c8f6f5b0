"""A group with a company in euros and one in pounds, of moving rates: what each earned in its own money, and what all of it grew by without them."""

from dataclasses import replace

import pytest

from northstar.audit.suites import read_suites
from northstar.base.settings import LegalEntity, Rules
from northstar.runs.preview.preview import preview
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from tests.support import empty, query_as, run, select, silent, utc, write_rows

APRIL_10 = utc("2025-04-10T00:00:00")
COUNTRIES = {"us": "US", "de": "DE", "gb": "GB"}
ENTITIES = [LegalEntity(id=name, countries=[country]) for name, country in COUNTRIES.items()]
IN_OWN_CURRENCY = [
    entity.model_copy(update={"currency": {"de": "EUR", "gb": "GBP"}.get(entity.id)}) for entity in ENTITIES
]


def money(kind, number, name, day, amount, currency, **more):
    times = {"created_at": f"{day}T12:00:00Z", "updated_at": f"{day}T12:00:00Z", "status": "succeeded"}
    return {f"{kind}_id": number, "amount": 100 * amount, "currency": currency} | times | more | (
        {"account_id": name, "country": COUNTRIES[name], "application": "web"} if kind == "charge" else {}
    )  # fmt: skip


def subscription(name, account, amount, currency, since, until=None):
    return {"subscription_item_id": name, "subscription_id": name, "account_id": account, "application": "web", "plan_id": "p", "plan_tier": "basic",
            "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 100 * amount, "currency": currency, "status": "active",
            "valid_from": f"{since}T00:00:00Z", "valid_to": until and f"{until}T00:00:00Z", "updated_at": f"{since}T00:00:00Z"}  # fmt: skip


def rate(day, currency, worth):
    return {"rate_date": day, "currency": currency, "rate_to_reporting": worth}


# the group reports in dollars. A euro is 1.00, from 15 March 2024 1.10, in 2025 1.25, and from 16 March 2025 1.20; a pound is 1.30, and nothing before 10 February
ROWS = {
    "accounts": [{"account_id": name, "account_type": "customer", "application": "web", "country": country,
                  "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"} for name, country in COUNTRIES.items()],
    "fx_rates": [rate("2024-01-01", "EUR", "1.00"), rate("2024-03-15", "EUR", "1.10"), rate("2025-01-01", "EUR", "1.25"), rate("2025-03-16", "EUR", "1.20"),
                 rate("2025-02-10", "GBP", "1.30")],
    "charges": [
        money("charge", "c1", "de", "2024-03-10", 100, "EUR"), money("charge", "c2", "de", "2024-03-20", 100, "EUR"), money("charge", "c3", "us", "2024-03-05", 300, "USD"),
        money("charge", "c4", "de", "2025-03-10", 200, "EUR"), money("charge", "c5", "de", "2025-03-20", 100, "EUR"), money("charge", "c6", "de", "2025-03-12", 60, "USD"),
        money("charge", "c7", "us", "2025-03-05", 330, "USD"), money("charge", "c8", "gb", "2025-01-20", 130, "USD"), money("charge", "c9", "gb", "2025-03-01", 130, "USD"),
    ],
    "refunds": [money("refund", "r1", "de", "2025-03-25", 50, "EUR", charge_id="c5")],
    # the German price rises by 50 euros on 12 March
    "subscriptions": [subscription("s1", "de", 100, "EUR", "2024-12-10", "2025-03-12"), subscription("s1", "de", 150, "EUR", "2025-03-12"),
                      subscription("s2", "de", 60, "USD", "2025-01-10"), subscription("s3", "gb", 10, "USD", "2025-01-10")],
}  # fmt: skip


# then the British customer is one of the American company, to which a charge in March was paid too; one of January names a company that nobody knows, and
# one of February nobody. Two rates of the euro are late
LATE = {
    "fx_rates": [rate("2024-03-18", "EUR", "1.05"), rate("2025-03-18", "EUR", "1.50")],
    "accounts": [ROWS["accounts"][2] | {"legal_entity": "us", "updated_at": "2025-04-09T00:00:00Z"}],
    "charges": [
        money("charge", "c8", "gb", "2025-01-20", 130, "USD") | {"legal_entity": "nobody", "updated_at": "2025-04-09T00:00:00Z"},
        money("charge", "c9", "gb", "2025-03-01", 130, "USD") | {"legal_entity": "us", "updated_at": "2025-04-09T00:00:00Z"},
        money("charge", "c10", "gb", "2025-02-15", 26, "USD"),
    ],
}  # fmt: skip


def by_entity(settings, metric, month="2025-03-01", grain="month"):
    """A metric by entity, and in the company ('')."""
    return {
        r["segment_value"]: None if r["value"] is None else round(float(r["value"]), 2)
        for r in select(settings, "select segment_value, value from metric_values where metric_id = %s and grain = %s and application = 'all' "
                                  "and segment in ('', 'entity') and period_start = %s", metric, grain, month)
    }  # fmt: skip


def in_own_currency(settings):
    return {
        (r["segment_value"], r["metric_id"], r["grain"], r["day"]): (r["value"] and float(r["value"]), r["currency"], float(r["value_reporting"]))
        for r in select(settings, "select *, period_start::date::text as day from entity_values where application = 'all'")
    }  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """With entities; with their currencies, after a preview of them; then with what is LATE."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("entities"), ROWS)
    before = replace(warehouse, rules=Rules(legal_entities=ENTITIES))
    run(before, source, APRIL_10, "hourly")
    settings = replace(warehouse, rules=Rules(legal_entities=IN_OWN_CURRENCY))
    previewed, shown = preview(settings, progress=silent), [in_own_currency(before)]
    run(settings, source, APRIL_10, "hourly")
    shown.append(in_own_currency(settings) | {name: by_entity(settings, name) for name in ("cash_collected", "cash_collected_constant_currency", "cash_growth_rate", "cash_growth_rate_constant_currency")})  # fmt: skip
    shown[-1]["accounts"] = by_entity(settings, "registered_accounts")
    write_rows(source, LATE, "late")
    run(settings, source, utc("2025-04-10T01:00:00"), "hourly")
    return settings, shown, previewed


def test_cash_in_constant_currency_is_at_the_rates_of_the_same_day_a_year_before(story):
    settings, (_, shown), _ = story
    # 200 x 1.25 + 100 x 1.20 - 50 x 1.20 + 60, and with 1.00, 1.10, 1.10 of the year before
    assert shown["cash_collected"] == {"": 830, "de": 370, "us": 330, "gb": 130}
    assert shown["cash_collected_constant_currency"] == {"": 775, "de": 315, "us": 330, "gb": 130}
    # after 210 and 300; Britain had nothing
    assert shown["cash_growth_rate"] == {"": 62.75, "de": 76.19, "us": 10, "gb": None}
    assert shown["cash_growth_rate_constant_currency"] == {"": 51.96, "de": 50, "us": 10, "gb": None}
    # in 2024 the oldest rate is the only one known
    assert by_entity(settings, "cash_collected_constant_currency", "2024-03-01") == {"": 500, "de": 200, "us": 300}


def test_an_entity_has_figures_in_its_own_currency(story):
    _, (before, shown), _ = story
    assert before == {}
    # 200 + 100 - 50 + 60 / 1.25
    assert shown["de", "cash_collected", "month", "2025-03-01"] == (298, "EUR", 370)
    assert shown["de", "cash_collected", "quarter", "2025-01-01"] == (298, "EUR", 370)
    assert shown["de", "cash_collected", "year", "2024-01-01"] == (200, "EUR", 210)
    assert shown["us", "cash_collected", "month", "2025-03-01"] == (330, "USD", 330)
    # 100 + 60 / 1.25; 150 + 60 / 1.20, also at as_of
    assert shown["de", "mrr", "month", "2025-02-01"] == (148, "EUR", 185)
    assert shown["de", "mrr", "month", "2025-03-01"] == (200, "EUR", 240)
    assert shown["de", "mrr", "year", "2025-01-01"] == (200, "EUR", 240)
    assert shown["de", "arr", "month", "2025-03-01"] == (2400, "EUR", 2880)
    # on 12 March
    assert shown["de", "expansion_mrr", "month", "2025-03-01"] == (50, "EUR", 62.5)
    assert shown["de", "new_mrr", "month", "2024-12-01"] == (100, "EUR", 110)


def test_what_no_rate_was_known_for_has_no_figure_and_is_told(story):
    settings, (_, shown), _ = story
    assert shown["gb", "cash_collected", "month", "2025-03-01"] == (100, "GBP", 130)
    assert shown["gb", "cash_collected", "month", "2025-01-01"] == (None, "GBP", 130)
    assert shown["gb", "cash_collected", "quarter", "2025-01-01"] == (None, "GBP", 260)
    warnings = query_as(settings, "transformer", "select severity, sample from audit.checks where check_name = 'entities_have_rates_of_their_currency' and failing_rows > 0 order by run_id")  # fmt: skip
    assert warnings[0]["severity"] == "warn"
    assert warnings[0]["sample"][0]["message"] == "gb has no rate of GBP in some of its periods since 2025-01-01: land fx_rates of it"  # fmt: skip


def test_a_currency_of_an_entity_restates_nothing_and_is_previewed(story):
    settings, _, previewed = story
    assert select(settings, "select * from metric_restatements where new_version = 2") == []
    assert previewed.changed == {"entity_values": ["setting"]} and previewed.metrics == []
    (mart,) = previewed.marts
    assert mart.mart == "entity_values" and mart.rows_added > 0


def test_an_entity_that_a_row_names_goes_before_that_of_its_country(story):
    settings, (_, shown), _ = story
    assert shown["accounts"] == {"": 3, "de": 1, "us": 1, "gb": 1}
    # an account has its newest entity in all of history, as its country
    assert by_entity(settings, "registered_accounts") == {"": 3, "de": 1, "us": 2}
    assert by_entity(settings, "paying_accounts") == {"": 2, "de": 1, "us": 1}
    assert by_entity(settings, "new_mrr", "2025-01-01")["us"] == by_entity(settings, "mrr")["us"] == 10
    assert by_entity(settings, "customer_churn_rate")["us"] == 0
    assert by_entity(settings, "cash_collected", "2025-01-01")["(unknown)"] == 130
    assert (by_entity(settings, "cash_collected", "2025-02-01")["gb"], by_entity(settings, "cash_collected")["us"]) == (
        26,
        460,
    )
    assert in_own_currency(settings)["us", "cash_collected", "month", "2025-03-01"] == (460, "USD", 460)
    told = query_as(settings, "transformer", "select check_name, sample from audit.checks where check_name like any(array['legal_entities_of%%', 'charges_name_an%%']) "
                                             "and failing_rows > 0 order by check_name")  # fmt: skip
    assert [(c["check_name"], c["sample"][0]["message"]) for c in told] == [
        ("charges_name_an_entity_where_their_accounts_do", "gb is a customer of us, and its charge names nobody"),
        ("legal_entities_of_charges_are_known", "legal_entities in northstar.yml has no nobody"),
    ]
    # the accounts' check is the same; here all accounts name what the settings have
    (check,) = (
        c
        for suite in read_suites(settings.root, "staging")
        for c in suite.checks
        if c.name == "legal_entities_of_accounts_are_known"
    )
    slip = "(values ('ann', 'us'), ('bob', 'su'), ('eve', null)) as batch (account_id, legal_entity)"
    (found,) = query_as(settings, "transformer", check.rows.replace("$batch", slip).replace("$in_scope", "true"))
    assert found["account_id"] == "bob" and found["message"] == "legal_entities in northstar.yml has no su"
    facts = select(settings, "select account_id, legal_entity from fct_payments where legal_entity is not null union all "
                             "select account_id, legal_entity from dim_accounts where legal_entity is not null order by 2, 1")  # fmt: skip
    assert [tuple(r.values()) for r in facts] == [("gb", "nobody"), ("gb", "us"), ("gb", "us")]
    assert explain(settings, "mrr", utc("2025-03-01"), "month", "all", "entity", "us").adds_up


def test_a_late_rate_counts_in_its_year_and_in_the_next(story):
    settings, _, _ = story
    # 250 + 150 - 75 + 60; 200 + 105 - 52.50 + 60, after 100 + 105
    assert by_entity(settings, "cash_collected")["de"] == 385
    assert by_entity(settings, "cash_collected_constant_currency")["de"] == 312.5
    assert by_entity(settings, "cash_growth_rate_constant_currency")["de"] == round(100 * 107.5 / 205, 2)
    restated = select(settings, "select * from metric_restatements where new_version = 3")
    assert {reason for r in restated for reason in r["reasons"]} == {"late_rows", "correction"}
    # its euros are what they were
    assert in_own_currency(settings)["de", "cash_collected", "month", "2025-03-01"] == (298, "EUR", 385)
    assert explain(
        settings, "cash_collected_constant_currency", utc("2025-03-01"), "month", "all", "entity", "de"
    ).adds_up
    assert all(compared.is_same for compared in verify(settings, None, silent))


def test_an_entity_that_is_withheld_has_no_figures_of_its_own(story, tmp_path):
    settings, _, _ = story
    few = replace(settings, rules=settings.rules.model_copy(update={"suppress_below": 2}))
    run(few, write_rows(tmp_path, {"accounts": ROWS["accounts"][:1]}), utc("2025-04-10T01:00:00"), "hourly")
    # each country has one customer; that of Britain is of another entity, and a charge of hers of February is not
    assert by_entity(settings, "cash_collected") == {"": 845, "de": None, "us": None, "gb": None, "(unknown)": None}
    assert set(by_entity(settings, "cash_collected", "2025-02-01").values()) == {26, None}
    assert by_entity(settings, "cash_collected", "2025-02-01")["gb"] is None
    assert select(settings, "select * from entity_values") == []
