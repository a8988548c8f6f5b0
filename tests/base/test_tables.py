"""Rows as text for people, in the terminal and in Markdown."""

from decimal import Decimal

from northstar.base.tables import markdown_table, table

ROW = {"id": "a|b", "before": Decimal("7164.00000000000000000000"), "complete": True, "note": None}


def test_a_value_reads_the_same_in_the_terminal_and_in_markdown():
    assert markdown_table([ROW])[2] == r"| a\|b | 7164 | true |  |"
    assert table([ROW]).splitlines()[2].split() == ["a|b", "7164", "true"]


def test_only_the_terminal_cuts_long_values():
    long = "x" * 100
    assert markdown_table([{"text": long}])[2] == f"| {long} |"
    assert table([{"text": long}]).splitlines()[2] == "x" * 80
