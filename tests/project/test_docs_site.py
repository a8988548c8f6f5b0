"""The site that `make docs` builds: every page is in its navigation, and every metric has a page that says how it is made."""

import importlib.util
import re

import pytest
import yaml

from northstar.base.settings import ROOT

HOOK = ROOT / "docs" / "hooks" / "metrics.py"
METRICS = importlib.util.module_from_spec(specification := importlib.util.spec_from_file_location("metric_pages", HOOK))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    specification.loader.exec_module(METRICS)
    targets = METRICS.rows("targets")
    owners = {r["domain"]: r["owner"] for r in METRICS.rows("metric_owners")}
    return {m["metric_id"]: METRICS.page(m, owners, targets) for m in METRICS.rows("metric_catalogue")}


def test_every_metric_has_a_page_with_its_formula_its_lineage_and_how_to_read_it(pages):
    assert len(pages) == 186
    for metric, text in pages.items():
        assert re.search(r"    numerator    \S", text), metric
        assert "It is computed from the entities `" in text and f"northstar explain {metric} " in text, metric


def test_a_page_says_what_the_model_does(pages):
    assert (
        "- `resolved_at_once`: count(*) filter (where r.public_agent_replies = 1 and r.reopenings = 0) of `resolved`"
        in pages["first_contact_resolution_rate"]
    )
    assert (
        "is computed from the entities `help_center_visits`, `survey_responses`, `ticket_events`, `tickets`"
        in pages["ticket_volume"]
    )
    assert "(see [docs/semantics.md, MRR](../semantics.md#mrr))" in pages["mrr"]


def test_every_page_of_the_docs_is_in_the_navigation():
    listed = set(re.findall(r"[a-z_]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == listed
