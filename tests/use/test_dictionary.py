"""What any BI tool sees: the questions of docs/bi_tools.md, and the data dictionary. NORTHSTAR_UPDATE_DOCS=1 writes the latter."""

import os
import re

import pytest

from northstar.base.settings import ROOT
from northstar.use.dictionary import data_dictionary
from northstar.warehouse import db

QUESTIONS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "bi_tools.md").read_text(), re.DOTALL)


def test_there_are_eight_questions():
    assert len(QUESTIONS) == 8


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.split("\nfrom")[0][:40])
def test_a_question_is_answered_to_the_bi_reader(built, question):
    with db.connect(built, "bi_reader") as connection:
        assert connection.execute(question).fetchall()


def test_the_data_dictionary_is_what_the_tables_say(built):
    page, path = data_dictionary(built), ROOT / "docs" / "data_dictionary.md"
    if os.environ.get("NORTHSTAR_UPDATE_DOCS"):
        path.write_text(page)
    assert path.read_text() == page, "NORTHSTAR_UPDATE_DOCS=1 writes it anew"
    assert "|  |" not in page, "a column without a description"
