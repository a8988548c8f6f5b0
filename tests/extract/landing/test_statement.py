"""What a mapping's SELECT may be, and whether its rows are made one by one."""

import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.engine import Engine
from northstar.extract.landing.statement import parse


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("spill")) as made:
        yield made


@pytest.mark.parametrize(
    ("statement", "is_rowwise"),
    [
        ("select a as x, cast(b as int) as y from input;", True),
        ("select a from input as i left join prices as p on i.k = p.k where p.x is not null", True),
        ("select x, _line from (select *, cast(q as int) as x from input where y)", True),
        ("from input select a", True),
        # where the row comes from is lost in it
        ("select x from (select q as x from input)", False),
        ("select count(*) from input", False),
        ("select a, first(b) from input group by all", False),
        ("select distinct a from input", False),
        ("select a from input order by a limit 3", False),
        ("select lag(a) over (partition by k order by _line) from input", False),
        ("with c as (select * from input) select a from c", False),
        ("select a from input where b in (select k from prices)", False),
        ("select a from input as i full join prices as p using (k)", False),
        ("select a from prices as p left join input as i using (k)", False),
        ("select i.a from input as i, input as j", False),
        ("select a from input union all select b from input", False),
        ("select unnest([a, b]) from input", False),
    ],
)
def test_rows_that_are_made_one_by_one_are_known(engine, statement, is_rowwise):
    assert parse(engine, statement, ["input", "prices"]).is_rowwise == is_rowwise


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("select 1; select 2", "give one statement"),
        ("delete from input", "Only SELECT"),
        ("create table t as select 1", "Only SELECT"),
        ("select from where", "is not understood"),
        ("describe input", "the catalogue"),
        ("select * from (show tables)", "the catalogue"),
        ("select * from duckdb_settings()", r"duckdb_settings\(\)"),
        ("select * from read_csv('/etc/passwd')", r"read_csv\(\)"),
        ("select * from query('select 1')", r"query\(\)"),
        ("select * from pg_settings", "'pg_settings', which is no input; it has input, prices"),
        ("select * from main.input", "'main.input'"),
        ("select * from information_schema.tables", "no input"),
        ("with other as (select 1) select * from others", "'others'"),
        ("select current_setting('temp_directory')", r"current_setting\(\), which reads"),
        ("select (select max(getvariable('a'))) from input", "getvariable"),
        ("select now() from input", "_loaded_at"),
        ("select current_date from input", "_loaded_at"),
        ("select a from input order by random()", "random"),
        ("select * from input using sample 3", "sample"),
        ("select * from input tablesample 10%", "sample"),
    ],
)
def test_a_select_that_a_mapping_may_not_make_is_refused(engine, statement, words):
    with pytest.raises(NorthstarError, match=words) as caught:
        parse(engine, statement, ["input", "prices"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ("select inv, sum(x) from input group by inv, lower(k)", ["inv", "lower"]),
        ("select k as inv, sum(x) from input group by 1", ["k"]),
        ("select lower(k) as i, sum(x) from input group by i", ["lower"]),
        ("select inv, sum(x) from input group by all", ["inv"]),
        ("select lag(a) over (partition by k), lead(a) over (partition by k) from input", ["k"]),
        ("select lag(a) over (partition by k), lead(a) over (partition by inv) from input", []),
        ("select sum(x) from input", []),
    ],
)
def test_what_makes_rows_belong_together_is_known(engine, statement, keys):
    found = parse(engine, statement, ["input"]).keys(["inv", "k", "x", "a"])
    assert [k.get("function_name") or k["column_names"][0] for k in found] == keys
