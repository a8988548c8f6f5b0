"""The SQL of every wide model is read in both dialects, and has nothing in it that the engines reckon differently without saying so."""

import json
import subprocess

import pytest
import sqlglot
from sqlglot import exp

from northstar.base.settings import ROOT
from tests.spark.handover import REDUCE, SPARK_PYTHON
from tests.support import query_as

COMPILE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import reduce
print(json.dumps({model.name: model.text for model in reduce.compile_models().values()}))
"""
CONTEXT = {"run_id": 1, "mode": "nightly", "as_of": "2026-03-01 00:00:00+00", "previous_as_of": None, "since_batch_id": 0, "is_full": True,
           "rules": {}, "restate_from": None, "restate_to": None}  # fmt: skip
# what is no error in either engine and means different things, or is one in Spark
FORBIDDEN = {
    exp.Lateral: "Spark's lateral subqueries take no ORDER BY on outer columns",
    exp.Values: "Spark's VALUES take no outer columns",
    exp.Div: "whole numbers divide to a whole number in Postgres and to a double in Spark",
    exp.AtTimeZone: "its result has another type in Spark",
    exp.ArrayAgg: "Spark's has no order; use first_value_by",
    exp.PercentileCont: "it is a double, which is rounded differently",
    exp.ApproxQuantile: "it is approximate",
    exp.Pow: "it is a double",
    exp.CurrentDate: "models read no clock",
    exp.CurrentTimestamp: "models read no clock",
}


def objections(statement: str) -> list[str]:
    """Why a statement for Spark may not be a wide model's."""
    found = []
    for node in sqlglot.parse_one(statement, read="spark").walk():
        found += [reason for kind, reason in FORBIDDEN.items() if isinstance(node, kind)]
        if isinstance(node, exp.Cast):
            kind = node.to
            if kind.this == exp.DataType.Type.DECIMAL and not kind.expressions:
                found.append("a decimal without digits has ten, and none after the point")
            if kind.this in (exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT):
                found.append("doubles add up differently in another order")
    return found


@pytest.fixture(scope="module")
def for_spark(tmp_path_factory) -> dict[str, str]:
    """{model: its SQL for Spark} of the wide models and the views that they read."""
    scratch = tmp_path_factory.mktemp("compiled")
    result = subprocess.run(
        [SPARK_PYTHON, "-P", "-c", COMPILE, REDUCE], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(scratch), "NORTHSTAR_DBT_TARGET": "spark", "NORTHSTAR_RUN_CONTEXT": json.dumps(CONTEXT),
             "DBT_PROJECT_DIR": str(ROOT / "dbt_project"), "DBT_PROFILES_DIR": str(ROOT / "dbt_project"),
             "DBT_TARGET_PATH": str(scratch / "target"), "DBT_LOG_PATH": str(scratch)},
    )  # fmt: skip
    return json.loads(result.stdout.splitlines()[-1])


def test_no_wide_model_says_what_the_engines_understand_differently(for_spark):
    assert len(for_spark) > 20
    assert {name: objections(text) for name, text in for_spark.items() if objections(text)} == {}


def test_a_wide_model_has_the_same_columns_in_both_dialects(for_spark, on_spark):
    rows = query_as(
        on_spark, "transformer", "select model, sql from audit.definitions where model = any(%s)", list(for_spark)
    )
    for_postgres = {row["model"]: row["sql"] for row in rows}
    assert for_postgres.keys() == for_spark.keys()
    for name, text in for_spark.items():
        both = [
            sqlglot.parse_one(t, read=d).named_selects for t, d in ((text, "spark"), (for_postgres[name], "postgres"))
        ]
        assert both[0] == both[1] and both[0], name


@pytest.mark.parametrize(
    "statement",
    [
        "select x.a from t cross join lateral (select u.a from u order by t.a limit 1) as x",
        "select x.a from t cross join (values (1), (2)) as x (a)",
        "select a / b as c from t",
        "select a::decimal as c from t",
        "select cast(a as double) as c from t",
        "select at at time zone 'UTC' as c from t",
        "select array_agg(a) as c from t",
        "select percentile_cont(0.5) within group (order by a) as c from t",
        "select percentile_approx(a, 0.5) as c from t",
        "select power(10, a) as c from t",
        "select current_timestamp() as c from t",
    ],
)
def test_what_is_forbidden_is_found(statement):
    assert objections(statement)
