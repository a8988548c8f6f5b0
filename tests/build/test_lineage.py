"""Columns are followed through SQL as Postgres reads it; what cannot be followed is named."""

import pytest

from northstar.build.lineage import METRIC, Origin, read_lineage

LEAVES = {"staging.a": ["id", "x", "y", "at"], "staging.b": ["id", "z", "at"]}


def of(sql: str, column: str):
    """(values, rows) of a column of a model, as text."""
    found = read_lineage({"m": sql}, {"m": "core.m"}, LEAVES).columns[Origin("core.m", column)]
    return {str(o).removeprefix("staging.") for o in found.values}, {
        str(o).removeprefix("staging.") for o in found.rows
    }


A, B = '"n"."staging"."a"', '"n"."staging"."b"'


@pytest.mark.parametrize(
    ("sql", "column", "values", "rows"),
    [
        (f"select x + y as s from {A} where at > now()", "s", {"a.x", "a.y"}, {"a.*", "a.at"}),
        (f"with c as (select * from {A}) select c.* from c", "y", {"a.y"}, {"a.*"}),
        # by place, not by name; a name that stands twice is two columns
        (f"select id as one, x as two from {A} union all select z, z from {B}", "two", {"a.x", "b.z"}, {"a.*", "b.*"}),
        (f"select at as one, at, x as two from {A} union all select at, at, z from {B}", "two", {"a.x", "b.z"}, {"a.*", "b.*"}),
        (f"select x from {A} except select z from {B}", "x", {"a.x"}, {"a.*", "b.*", "a.x", "b.z"}),
        # what is joined from the left changes only the columns that read it, unless rows are added up
        (f"select a.x from {A} as a left join {B} as b on a.id = b.id", "x", {"a.x"}, {"a.*"}),
        (f"select b.z from {A} as a left join {B} as b on a.id = b.id", "z", {"b.z"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select sum(a.x) as s from {A} as a left join {B} as b on a.id = b.id", "s", {"a.x"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select a.x from {A} as a inner join {B} as b on a.id = b.id", "x", {"a.x"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select id from {A} inner join {B} using (id)", "id", {"a.id", "b.id"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select count(*) as n from {A} as a left join {B} as b on a.id = b.id", "n", {"a.*"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select sum(case when at is null then 1 else -1 end) as n from {A}", "n", {"a.at"}, {"a.*"}),
        (f"with c as (select 1 as one from {A} where at is null) select sum(one) as n from c", "n", {"a.*"}, {"a.*", "a.at"}),
        (f"select x, sum(y) filter (where at is null) as s from {A} group by 1", "s", {"a.y"}, {"a.*", "a.at", "a.x"}),
        (f"select row_number() over (partition by x order by at) as n from {A}", "n", {"a.x", "a.at"}, {"a.*"}),
        (f"select lag(y) over w as before from {A} window w as (partition by x order by at)", "before", {"a.y"}, {"a.*", "a.x", "a.at"}),
        (f"select (array_agg(x order by at))[1] as first from {A}", "first", {"a.x"}, {"a.*", "a.at"}),
        (f"select percentile_cont(0.5) within group (order by x) as p from {A}", "p", {"a.x"}, {"a.*"}),
        (f"select distinct on (id) x from {A} order by id, at", "x", {"a.x"}, {"a.*", "a.id", "a.at"}),
        (f"select x from {A} order by at", "x", {"a.x"}, {"a.*"}),
        (f"select x from {A} order by at limit 1", "x", {"a.x"}, {"a.*", "a.at"}),
        (f"select x from {A} where id in (select id from {B} where z > 0)", "x", {"a.x"}, {"a.*", "b.*", "a.id", "b.id", "b.z"}),
        (f"select (select max(b.z) from {B} as b where b.id = a.id) as z from {A} as a", "z", {"b.z"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select g.v from {A} as a cross join lateral (values ('x', a.x), ('y', a.y)) as g (name, v)", "v", {"a.x", "a.y"}, {"a.*"}),
        (f"select l.z from {A} as a left join lateral (select b.z from {B} as b where b.id = a.id order by b.at limit 1) as l on true",
         "z", {"b.z"}, {"a.*", "b.*", "a.id", "b.id", "b.at"}),
        (f"select d.day from {A} as a cross join lateral generate_series(a.at, now(), interval '1 day') as d (day)",
         "day", {"a.at"}, {"a.*", "a.at"}),
        (f"select t.place from {A} as a cross join lateral unnest(a.x) with ordinality as t (part, place)", "place", {"a.x"}, {"a.*", "a.x"}),
        (f"with recursive r as (select id, x from {A} union all select b.id, b.z from r inner join {B} as b on b.id = r.id) select x from r",
         "x", {"a.x", "b.z"}, {"a.*", "b.*", "a.id", "b.id"}),
        (f"select to_jsonb(b) as doc from {B} as b", "doc", {"b.id", "b.z", "b.at"}, {"b.*"}),
    ],
)  # fmt: skip
def test_a_column_is_followed(sql, column, values, rows):
    assert of(sql, column) == (values, rows)


def test_models_are_read_in_their_order_and_candidates_as_published():
    lineage = read_lineage(
        {"a_reader": 'select total from "n"."marts_candidate"."sums"', "sums": f"select sum(x) as total from {A}"},
        {"a_reader": "core.a_reader", "sums": "marts.sums"},
        LEAVES,
    )
    assert lineage.columns[Origin("core.a_reader", "total")].values == {Origin("marts.sums", "total")}
    assert Origin("staging.a", "x") in lineage.upstream([Origin("core.a_reader", "total")], with_rows=False)
    assert lineage.not_followed == {}


def metric_model(of_rows: str, **numerators: str) -> str:
    """Rows of metrics as the macro `metric_rows` writes them, in its essentials."""
    names = ", ".join(f"'{name}'" for name in numerators)
    branches = " ".join(f"when '{name}' then ({text})::numeric" for name, text in numerators.items())
    notes = ", ".join(f'"{name}": ["{text}", null]' for name, text in numerators.items())
    return f"""/* northstar.metrics {{"of": null, "metrics": {{{notes}}}}} */
        select s.shape_metric_id as metric_id, o.numerator, null::numeric as denominator, o.numerator as value, null as null_reason
        from ({of_rows}) as w cross join (select metric_id as shape_metric_id from "n"."core"."metric_shapes" where metric_id in ({names})) as s
        cross join lateral (select case s.shape_metric_id {branches} end as numerator) as o"""


def test_each_metric_of_a_model_has_its_own_lineage():
    both = metric_model(f"select x, y from {A}", one="x", two="y + 1")
    other = metric_model(f"select z from {B}", three="z")
    reader = 'select value as v from "n"."core"."metrics_m" where metric_id = \'two\' and value > 0'
    lineage = read_lineage(
        {"metrics_m": f"{both} union all {other}", "reader": reader},
        {"metrics_m": "core.metrics_m", "reader": "core.reader"},
        LEAVES | {"core.metric_shapes": ["metric_id"]},
    )
    values = {
        name.column: {str(o) for o in column.values}
        for name, column in lineage.columns.items()
        if name.relation == METRIC
    }
    assert values == {"one": {"staging.a.x"}, "two": {"staging.a.y"}, "three": {"staging.b.z"}}
    # who reads one metric of a model by its id reads that one alone
    assert lineage.columns[Origin("core.reader", "v")].values == {Origin(METRIC, "two")}
    assert lineage.not_followed == {}


def test_a_metric_made_of_rows_of_others_has_those_that_its_expression_names():
    of_ids = 'select metric_id, numerator from "n"."core"."metrics_m" where metric_id in (\'one\', \'two\')'
    cells = f"select sum(r.numerator) filter (where r.metric_id = 'two') as two, sum(r.numerator) as both from ({of_ids}) as r"
    lineage = read_lineage(
        {"metrics_m": metric_model(f"select x, y from {A}", one="x", two="y", three="x"), "reader": cells},
        {"metrics_m": "core.metrics_m", "reader": "core.reader"},
        LEAVES | {"core.metric_shapes": ["metric_id"]},
    )
    assert lineage.columns[Origin("core.reader", "two")].values == {Origin(METRIC, "two")}
    assert lineage.columns[Origin("core.reader", "both")].values == {Origin(METRIC, "one"), Origin(METRIC, "two")}


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (f"select nowhere from {A}", "the column nowhere"),
        ('select one from "n"."other"."thing"', "other.thing, of which no model or landed entity is known"),
        ('select t.* from "n"."other"."thing" as t', "t.*, whose columns are not known"),
    ],
)
def test_what_cannot_be_followed_is_named(sql, named):
    assert named in read_lineage({"m": sql}, {"m": "core.m"}, LEAVES).not_followed["core.m"]


def test_a_model_that_cannot_be_read_is_named_and_so_is_who_reads_it():
    models = {"broken": "select from from where", "reader": 'select x from "n"."core"."broken"'}
    lineage = read_lineage(models, {"broken": "core.broken", "reader": "core.reader"}, LEAVES)
    assert lineage.not_followed["core.broken"][0].startswith("its SQL, which sqlglot cannot read")
    assert lineage.not_followed["core.reader"] == ["core.broken, of which no model or landed entity is known"]
