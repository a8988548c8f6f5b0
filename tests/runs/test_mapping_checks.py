"""The audit's checks of landed rows say the same of rows that have not landed."""

import re

import pyarrow as pa

from northstar.audit.suites import read_suites
from northstar.base.settings import ROOT
from northstar.contract import entities
from northstar.extract.landing.normalise import landed_schema
from northstar.extract.landing.preview import Preview
from northstar.runs.mapping_checks import NEED_A_RUN, add_warnings, tried_checks


def test_every_check_of_landed_rows_is_tried_or_needs_more_than_rows():
    """Each is a statement that DuckDB runs, over entities of the contract."""
    empty = [Preview(name, landed=[pa.RecordBatch.from_pylist([], landed_schema(e))]) for name, e in entities().items()]
    add_warnings(empty)
    assert not [one for one in empty if one.warnings]
    tried = {check.name for _, check in tried_checks()}
    for suite in read_suites(ROOT, "staging"):
        for check in suite.checks:
            if suite.schema == "staging" and check.rows:
                assert (check.name in tried) != (check.name in NEED_A_RUN), check.name
    assert len(tried) > 20
    assert not [c.name for _, c in tried_checks() if re.search(r"\$(?!batch|in_scope|as_of)", c.rows)]
