"""What two versions of the code build differently, and why: by the SQL that they are compiled to."""

from northstar.build.differences import Code, causes_of, compare, is_same_sql, upstream

METRICS = """/* northstar.metrics {{"of": null, "metrics": {{"a": ["x", null], "b": ["y", null]}}}} */
select case s.shape_metric_id when 'a' then ({a})::numeric when 'b' then ({b})::numeric end from facts cross join shapes as s"""


def model(name, raw_code, macros=(), **config):
    return {"unique_id": f"model.n.{name}", "resource_type": "model", "name": name, "raw_code": raw_code,
            "depends_on": {"macros": list(macros)}, "config": config}  # fmt: skip


def manifest(*nodes, macros=None, parents=None):
    return {"nodes": {n["unique_id"]: n for n in nodes}, "macros": macros or {}, "parent_map": parents or {}}


def macro(text, calls=()):
    return {"macro_sql": text, "depends_on": {"macros": list(calls)}}


def seed(name, checksum):
    return {
        "unique_id": f"seed.n.{name}",
        "resource_type": "seed",
        "name": name,
        "checksum": {"name": "sha256", "checksum": checksum},
    }


def test_comments_and_layout_are_no_difference_and_texts_are():
    assert is_same_sql("select 1 -- one\nfrom t", "select  1 /* uno */ from t")
    assert not is_same_sql("select '-- one' from t", "select '-- two' from t")
    assert not is_same_sql("select 'a  b'", "select 'a b'")


def test_a_macro_that_a_macro_calls_is_part_of_a_models_text():
    node = model("m", "{{ outer() }}", ["outer"])
    old = manifest(node, macros={"outer": macro("{{ inner() }}", ["inner"]), "inner": macro("1")})
    new = manifest(node, macros={"outer": macro("{{ inner() }}", ["inner"]), "inner": macro("2")})
    assert causes_of(node, old, old, frozenset()) == set()
    assert causes_of(node, old, new, frozenset()) == {"definition"}


def test_a_rule_is_a_cause_for_the_models_that_name_it():
    reader, other = model("reader", "{{ rule('renewal_gap_days') }}"), model("other", "select 1")
    code = manifest(reader, other)
    old = Code(code, {"reader": "select 1", "other": "select 1"}, {"renewal_gap_days": 1})
    new = Code(code, {"reader": "select 2", "other": "select 1"}, {"renewal_gap_days": 2})
    differences = compare(old, new)
    assert differences.nodes == {"model.n.reader": {"setting"}} and differences.rules == {"renewal_gap_days"}


def test_a_model_with_another_text_and_the_same_sql_is_unchanged():
    old = Code(manifest(model("m", "select 1")), {"m": "select 1"}, {})
    new = Code(manifest(model("m", "-- why\nselect 1")), {"m": "-- why\nselect 1"}, {})
    assert compare(old, new).nodes == {}


def test_metrics_whose_expressions_are_the_same_are_not_redefined():
    old = Code(manifest(model("m", "one")), {"m": METRICS.format(a="x", b="y")}, {})
    new = Code(manifest(model("m", "two")), {"m": METRICS.format(a="x + 1", b="y")}, {})
    assert compare(old, new).metrics == {"model.n.m": {"a"}}
    elsewhere = Code(manifest(model("m", "two")), {"m": METRICS.format(a="x", b="y").replace("facts", "others")}, {})
    assert compare(old, elsewhere).nodes == {"model.n.m": {"definition"}} and compare(old, elsewhere).metrics == {}


def test_a_seed_of_the_home_is_a_setting():
    old, new = (Code(manifest(seed("targets", c), seed("funnels", c)), {}, {}) for c in ("1", "2"))
    assert compare(old, new, frozenset({"targets"})).nodes == {
        "seed.n.targets": {"setting"},
        "seed.n.funnels": {"definition"},
    }


def test_the_calendar_leads_to_nothing():
    calendar = model("periods", "", is_calendar=True)
    code = manifest(
        model("m", ""), calendar,
        parents={"model.n.m": ["model.n.periods", "source.n.staging.charges"], "model.n.periods": ["source.n.staging.events"]},
    )  # fmt: skip
    assert upstream(code, "model.n.m") == {"model.n.m", "source.n.staging.charges"}


def test_a_rule_that_an_earlier_release_did_not_know_had_its_default():
    code = manifest(model("reader", "{{ rule('first_weekday') }}"))
    old = Code(code, {"reader": "select 1"}, {})
    assert compare(old, Code(code, {"reader": "select 1"}, {"first_weekday": "monday"})).rules == frozenset()
    assert compare(old, Code(code, {"reader": "select 1"}, {"first_weekday": "sunday"})).rules == {"first_weekday"}


def test_another_time_zone_changes_every_table_and_no_view():
    code = manifest(model("table", "1", materialized="table"), model("rows", "1", materialized="incremental"), model("view", "1", materialized="view"))  # fmt: skip
    compiled = {"table": "select 1", "rows": "select 1", "view": "select 1"}
    berlin = compare(Code(code, compiled, {}), Code(code, compiled, {"reporting_time_zone": "Europe/Berlin"}))
    assert berlin.nodes == {"model.n.table": {"setting"}, "model.n.rows": {"setting"}}
    assert compare(Code(code, compiled, {}), Code(code, compiled, {"reporting_time_zone": "UTC"})).nodes == {}


def test_a_macro_that_is_called_under_one_setting_alone_is_no_other_definition():
    macros = {"outer": macro("{{ rule('x') }}"), "inner": macro("1")}
    old, new = (
        manifest(model("m", "{{ outer() }}", called), macros=macros) for called in (["outer"], ["outer", "inner"])
    )
    assert causes_of(new["nodes"]["model.n.m"], old, new, frozenset({"x"})) == {"setting"}
