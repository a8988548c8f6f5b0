"""What the script that runs in Spark's environment refuses and makes of files."""

import json
import subprocess
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq

from tests.spark.handover import REDUCE, SPARK_PYTHON

SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import reduce
directory = Path(sys.argv[2])
session = reduce.open_session({"master": "local[1]", "options": {"spark.app.name": "ours"}, "cores": 1, "memory_mb": 1024, "entities": {}, "scratch": str(directory / "scratch")})
facts = "select 'one is one' as fact, true as is_true union all select 'two is one', false union all select 'nobody knows', cast(null as boolean)"
try:
    reduce.ask_facts(session, reduce.Model("", "engine_facts", facts, False, ()))
except reduce.Failed as exc:
    refusal = str(exc)
entity = {"columns": {"event_id": "text", "application": "text", "amount": "decimal"}, "key": ["event_id", "application"],
          "files": [str(directory / "1.parquet"), str(directory / "2.parquet")], "has_repeated_keys": True}
count = reduce.show_landed(session, "events", entity)
rows = session.sql("select event_id, application, cast(amount as string) from global_temp.events order by 1, 2").collect()
described = reduce.describe(session.sql("select event_id, amount from global_temp.events"))
print(json.dumps({"refusal": refusal, "count": count, "rows": [list(row) for row in rows], "described": described}))
"""


def test_wrong_facts_are_refused_and_the_newest_batch_of_a_key_holds(tmp_path):
    schema = pa.schema(
        [
            ("event_id", pa.string()),
            ("application", pa.string()),
            ("amount", pa.decimal128(38, 12)),
            ("_batch_id", pa.int64()),
        ]
    )
    for batch, rows in (
        (1, [("a", None, "1.5"), ("b", "web", None)]),
        (2, [("a", None, "2.000000000001"), ("a", "web", "3")]),
    ):
        table = [dict(zip(schema.names, (k, app, x and Decimal(x), batch), strict=True)) for k, app, x in rows]
        pq.write_table(pa.Table.from_pylist(table, schema=schema), tmp_path / f"{batch}.parquet")
    result = subprocess.run(
        [SPARK_PYTHON, "-P", "-c", SCRIPT, REDUCE, tmp_path], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["refusal"] == "this Spark does not reckon as the models need it: nobody knows; two is one"
    assert said["count"] == 3
    assert said["rows"] == [["a", None, "2.000000000001"], ["a", "web", "3.000000000000"], ["b", "web", None]]
    assert said["described"] == {
        "rows": 3,
        "columns": {"event_id": {"sum": "3", "nulls": 0}, "amount": {"sum": "5.000000000001", "nulls": 1}},
    }
