"""What happened beside the numbers, as the marts have it, newest first."""

import pytest

from northstar.use.answers.marks import list_marks
from northstar.use.answers.refusals import Refused
from northstar.use.notes import delete_note, write_note
from tests.support import select, utc


def test_marks_are_those_of_the_marts_newest_first(ask, built):
    name = write_note(built, "a campaign", "Nora", utc("2026-02-10"), "web", "mrr")
    try:
        found = ask(list_marks, "mrr", "web", "2026-02-01", "2026-03-01")
        published = select(
            built, "select mark_id from marks where marked_at >= '2026-02-01' and marked_at < '2026-03-01' and application in ('web', 'all') "
            "and (metrics is null or 'mrr' = any(metrics)) order by marked_at desc, mark_id desc",
        )  # fmt: skip
        assert [m.mark_id for m in found.marks] == [row["mark_id"] for row in published] and len(published) > 3
        note = next(m for m in found.marks if m.mark_id == name)
        assert (note.kind, note.text, note.by_whom, note.metrics) == ("note", "a campaign", "Nora", ["mrr"])
        # of another metric it says nothing
        assert name not in [m.mark_id for m in ask(list_marks, "arr", "web", "2026-02-01").marks]
        cut = ask(list_marks, since="2026-02-01", limit=2)
        assert cut.is_cut and len(cut.marks) == 2
    finally:
        delete_note(built, name)


@pytest.mark.parametrize(("question", "words"), [
    ({"since": "soon"}, "'soon' is no date"), ({"until": "2026-99-01"}, "is no date"), ({"since": "2026-03-01", "until": "2026-02-01"}, "not before"),
    ({"since": "0001-01-01T00:00:00+23:00"}, "is no date"), ({"metric": "mrrr"}, "mrrr"), ({"application": "webb"}, "no application"), ({"limit": 0}, "limit"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(ask, question, words):
    with pytest.raises(Refused, match=words):
        ask(list_marks, **question)
