"""What a build of dbt's goes without, and that what it does instead is the same."""

import inspect
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import make_dataclass

import pytest
from dbt_common.behavior_flags import Behavior
from dbt_common.clients import agate_helper
from dbt_common.clients.jinja import MacroFuzzEnvironment, get_template
from dbt_common.dataclass_schema import ValidationError, dbtClassMixin
from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.events.types import Note

from northstar.build import lean
from northstar.build.lean import (
    kept_templates,
    saved_parse,
    with_one_empty_table,
    without_checks,
    without_unread_events,
    without_what_nobody_reads,
)
from northstar.build.manifest import PARSE, dbt_target, read_manifest
from northstar.warehouse import db
from tests.dbt_project.small_project import small_project
from tests.support import query_as


def test_a_known_project_is_not_checked_again_and_any_other_is():
    Size = make_dataclass("Size", [("rows", int)], bases=(dbtClassMixin,))
    with pytest.raises(ValidationError):
        Size.validate({"rows": "many"})
    with pytest.raises(RuntimeError), without_checks():
        Size.validate({"rows": "many"})
        raise RuntimeError
    with pytest.raises(ValidationError):
        Size.validate({"rows": "many"})


def test_no_source_is_read_to_say_where_a_flag_of_dbt_was_declared(monkeypatch, tmp_path):
    looked = []
    monkeypatch.setattr(inspect, "stack", lambda: looked.append(1) or [])
    flag = {"name": "is_quick", "default": False, "docs_url": "none"}
    with without_what_nobody_reads(tmp_path / "templates", ""):
        Behavior([flag], {})
    assert not looked
    Behavior([flag], {})
    assert looked


def test_events_for_debugging_are_not_made_and_the_others_are_the_same(monkeypatch):
    manager, events, made = EventManager(), [], []
    manager.add_callback(lambda message: events.append((message.info.level, message.info.msg, message.data.msg)))
    make = BaseEvent.__init__
    monkeypatch.setattr(BaseEvent, "__init__", lambda event, **named: made.append(named["msg"]) or make(event, **named))
    with without_unread_events(is_read=()):
        manager.fire_event(Note(msg="nobody reads this"), level=EventLevel.DEBUG)
        manager.fire_event(Note(msg="a warning"), level=EventLevel.WARN)
        manager.fire_event(Note(msg="a remark"))
    with without_unread_events(is_read=("Note",)):
        manager.fire_event(Note(msg="somebody reads this"), level=EventLevel.DEBUG)
    assert made == ["a warning", "a remark", "somebody reads this"]
    manager.fire_event(Note(msg="outside"), level=EventLevel.DEBUG)
    assert events == [
        ("warn", "a warning", "a warning"),
        ("info", "a remark", "a remark"),
        ("debug", "somebody reads this", "somebody reads this"),
        ("debug", "outside", "outside"),
    ]


def test_statements_without_rows_share_one_empty_table():
    made = []
    with with_one_empty_table():
        for _ in range(2):
            # as dbt's adapters take it, anew for each statement
            from dbt_common.clients.agate_helper import empty_table

            made.append(empty_table())
    assert made[0] is made[1]
    assert (len(made[0].rows), len(made[0].columns), agate_helper.as_matrix(made[0])) == (0, 0, [])
    assert agate_helper.empty_table() is not made[0]


def test_a_kept_template_gives_the_same_text_and_is_kept_as_long_as_it_is_of_use(tmp_path, monkeypatch):
    source = (
        "{% macro twice(x) %}{{ x * 2 }}{% endmacro %}select {{ dbt_macro__twice(n) | as_text }}{% do seen.append(n) %}"
    )
    compiled = []
    compile_anew = MacroFuzzEnvironment.compile

    def note_and_compile(environment, text, *place):
        compiled.append(text)
        return compile_anew(environment, text, *place)

    monkeypatch.setattr(MacroFuzzEnvironment, "compile", note_and_compile)
    file, texts = tmp_path / "templates", []

    def render(version, n, source=source, is_written=True):
        seen = []
        with kept_templates(file, version, is_written):
            texts.append(get_template(source, {"n": n, "seen": seen}).render({"n": n, "seen": seen}))
        assert seen == [n]
        return len(compiled)

    other = source.replace("x * 2", "x * 3")
    assert render("first", 2) == 1
    assert render("first", 3) == 1
    assert render("first", 3, other, is_written=False) == 2
    assert render("first", 3, other) == 3
    # of another project of which a part is the same
    assert render("second", 4) == 3
    # the rest was forgotten
    assert render("second", 4, other) == 4
    file.write_bytes(file.read_bytes()[:100])
    assert render("second", 5) == 5
    file.unlink()
    file.mkdir()
    assert render("second", 6) == 6
    assert texts == [f"select {n}" for n in (4, 6, 9, 9, 8, 12, 10, 12)]


def test_a_saved_parse_is_whole_and_of_the_same_database_or_dbt_looks_for_itself(built, tmp_path):
    path = dbt_target(built) / PARSE
    parse = saved_parse(path, db.database_name(built))
    assert parse.nodes.keys() == read_manifest(built)["nodes"].keys()
    assert saved_parse(path, "elsewhere") is None
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-100])
    assert saved_parse(tmp_path / "cut", db.database_name(built)) is None
    assert saved_parse(tmp_path / "gone", db.database_name(built)) is None


# what Jinja knows by name, and which macro of which package each name is
NAMES = """{{ config(materialized='table') }}{% set found = [context.get('no_such') is none, 'no_such' in context, 'source' in context] %}
{%- for name, value in context.items() if name != 'this' %}
    {%- if value is mapping %}{% do found.append(name ~ ' of ' ~ value.keys() | sort | join(' ')) %}
    {%- else %}{% do found.append(name ~ ' ' ~ (value.macro.unique_id if value.macro is defined)) %}{% endif %}
{%- endfor %}
{%- for name in ('dbt', 'northstar') %}{% for macro, value in context[name].items() %}{% do found.append(name ~ ' ' ~ macro ~ ' ' ~ value.macro.unique_id) %}{% endfor %}{% endfor %}
select $told${{ found | map('string') | sort | join(', ') }}$told$ as told"""


def test_a_node_knows_every_macro_that_dbt_would_make_for_it_and_makes_those_that_it_calls(
    warehouse, tmp_path, monkeypatch
):
    from dbt.clients.jinja import MacroGenerator

    make, made, found = MacroGenerator.__init__, [], []
    monkeypatch.setattr(
        MacroGenerator, "__init__", lambda macro, *words, **named: made.append(macro) or make(macro, *words, **named)
    )
    project = small_project(warehouse, tmp_path, {"rules": {}})
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    project.write("core/names.sql", NAMES)
    project.write("core/one.sql", "{{ config(materialized='table') }}\nselect 1 as one")
    for replacement in (lean.macros_when_called, nullcontext):
        monkeypatch.setattr(lean, "macros_when_called", replacement)
        message = project.build("names", "--full-refresh")
        assert message == "SELECT 1"
        found.append(query_as(warehouse, "transformer", "select told from core.names")[0]["told"])
        made.clear()
        assert project.build("one", "--full-refresh") == "SELECT 1"
        found.append(len(made))
    with db.connect(warehouse, "owner") as connection:
        connection.execute("drop table core.names, core.one")
    lazy, few, whole, many = found
    assert lazy == whole and "start_of macro.northstar.start_of" in lazy and "create_table_as macro." in lazy
    assert few * 4 < many, found


def test_a_run_does_not_import_the_parser_of_sql_before_it_needs_it():
    code = "import sys, northstar.runs.job; print('sqlglot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
