"""Words for metrics, and the rules that their definitions cite."""

import csv

from northstar.base.settings import ROOT
from northstar.use.words import cited_rules, restatement_reasons, title_of


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
