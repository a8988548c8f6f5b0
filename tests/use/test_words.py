"""Words for metrics, and the rules that their definitions cite."""

import csv

import pytest

from northstar.base.settings import ROOT
from northstar.use.words import cited_rules, describe_needs, restatement_reasons, title_of, what_to_land


def test_a_metric_is_named_as_people_read_it():
    assert title_of("mrr_growth_rate") == "MRR growth rate"


def test_what_a_definition_cites_is_there():
    with (ROOT / "dbt_project" / "seeds" / "metric_catalogue.csv").open() as file:
        definitions = [row["definition"] for row in csv.DictReader(file)]
    citing = [definition for definition in definitions if "(see docs/semantics.md, " in definition]
    assert not any("SEMANTICS" in definition for definition in definitions)
    assert len(citing) >= 2 and all(cited_rules(definition, ROOT) for definition in citing)
    title, text = cited_rules("Monthly recurring revenue (see docs/semantics.md, MRR)", ROOT)
    assert title == "MRR" and "trial" in text and not text.startswith("#")
    assert cited_rules("mrr x 12", ROOT) is None


def test_a_restated_value_names_every_reason_or_the_one_that_was_recorded():
    assert restatement_reasons({"reason": "late_rows", "reasons": ["late_rows", "setting"]}) == "late rows, setting"
    assert restatement_reasons({"reason": "late_rows", "reasons": None}) == "late rows"
    assert restatement_reasons({"reason": "late_rows"}) == "late rows"


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ("refunds", "refunds"),
        ("accounts, events.account_id by account", "accounts, events with account_id"),
        ("deployments.status=failed|rolled_back", "deployments with status failed or rolled_back"),
        ("subscriptions.discount_percent/discount_amount", "subscriptions with discount_percent or discount_amount"),
        ("api_requests.service=api&duration_ms", "api_requests with service api and duration_ms"),
    ],
)
def test_what_metrics_stand_on_is_said_in_words(needs, words):
    assert describe_needs(needs) == words
    assert what_to_land(needs) == f"not measured: land {words}"
