"""The same question has the same answer at every door: SQL, pages, reports, API, MCP and MetricFlow, of whichever version it names."""

import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import cycle

import pytest

from northstar.base.formats import format_change, format_value
from northstar.base.readers import Readers
from northstar.publish.merge import rollback
from northstar.use import marts as marts_module
from northstar.use.answers import reading as reading_module
from northstar.use.marts import Marts
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap
from tests.conftest import home
from tests.end_to_end.doors import KEY, Doors, Pages
from tests.end_to_end.questions import COMPARED, COUNT, KINDS, LEAST, NO_ROWS, TARGETS, Answer, Question, draw_questions
from tests.support import later_versions, select, utc
from tests.withheld import withheld

AS_OF, LATER = utc("2026-03-01"), utc("2026-03-09")
# who asks besides who sees everything: {role: what it sees of the questions}
ROLES = {"web": lambda q: q.application == "web", "us": lambda q: (q.segment, q.segment_value) == ("country", "US")}
READERS = {
    "roles": {"web": {"applications": ["web"]}, "us": {"applications": "all", "segment": "country", "values": ["US"]}}
}
WITHHELD = "metric_id = any('{mrr,paying_accounts,dau,registered_accounts}') and application = 'all' and segment = 'country' and segment_value = 'US'"
# version 2 has other numbers in February and January, and eight days more have passed
CHANGED = "series_id in (select series_id from marts.metric_series where grain <> 'hour' and application in ('all', 'web')) and period_start >= '2026-02-01' and value <> 0"
CHANGES = [
    ("metric_points", CHANGED, "value = value + 1, numerator = numerator + 1"),
    ("metric_status", "value is not null and zone <> 'unknown'", "value = value + 1, zone = case zone when 'red' then 'green' else 'red' end"),
]  # fmt: skip


def copy_home(built, settings) -> None:
    """Make a home that is a copy of the published small company's: it publishes on, and the original does not."""
    embedded.stop(built)
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", f"{built.home}/.", str(settings.home)], check=True)
    finally:
        embedded.ensure_running(built)
    (settings.home / "postgres.port").unlink()
    embedded.ensure_running(settings)


@dataclass(frozen=True)
class Truth:
    """What a version says.

    values: {question's key: (value, null_reason, is_complete)}. earlier: {question's key: the value of the period before} of those that are compared.
    targets: {target_id: its row of metric_status}.
    """

    values: dict
    earlier: dict
    targets: dict


def truth_of(settings, questions: list[Question]) -> Truth:
    """What the marts say now, by the plainest of queries."""
    keys = [q.key for q in questions]
    with db.connect(settings, "bi_reader") as connection:
        rows = connection.execute(
            f"select {', '.join(KEY)}, value, null_reason, is_complete from metric_values join unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], "
            f"%s::text[], %s::text[]) as asked ({', '.join(KEY)}) using ({', '.join(KEY)})", [list(part) for part in zip(*keys, strict=True)],
        ).fetchall()  # fmt: skip
        earlier = connection.execute(
            f"select {', '.join(f'asked.{n}' for n in KEY)}, v.value from unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[]) "
            f"as asked ({', '.join(KEY)}) join metric_values as v using (metric_id, grain, application, segment, segment_value) where v.period_start = "
            "(select max(p.period_start) from dim_periods as p where p.grain = asked.grain and p.period_start < asked.period_start)",
            [list(part) for part in zip(*[q.key for q in questions if q.kind in COMPARABLE], strict=True)],
        ).fetchall()  # fmt: skip
        targets = connection.execute(
            "select * from metric_status where value is not null order by zone not in ('red', 'yellow'), md5(target_id) limit %s",
            [TARGETS],
        ).fetchall()
    return Truth(
        {tuple(row[n] for n in KEY): (row["value"], row["null_reason"], row["is_complete"]) for row in rows},
        {tuple(row[n] for n in KEY): row["value"] for row in earlier}, {row["target_id"]: row for row in targets},
    )  # fmt: skip


OF_METRICFLOW = [
    "mrr", "arpu", "net_new_mrr", "customer_churn_rate", "net_revenue_retention", "new_registrations", "retention_d7",
    "payment_success_rate", "session_duration", "resolution_time", "booking_conversion_rate", "mau", "quick_ratio",
]  # fmt: skip
COMPARABLE = ("money", "count", "percent", "duration", "month", "newest")


class Versions:
    """The versions of the home, and what each says. `publish` publishes another one, in turn with the content of the second and of the first."""

    def __init__(self, settings, questions):
        self.settings, self.questions = settings, questions
        self.truths: dict[int, Truth] = {}
        self._turn = cycle((1, 2))

    def publish(self) -> int:
        # said before it is published: others read it before this thread goes on
        restored, expected = next(self._turn), max(self.truths) + 1
        self.truths[expected] = self.truths[restored]
        assert rollback(self.settings, restored) == (expected, restored)
        return expected


class Midway:
    """Publishes a version before so many-th statement of an answer, by what is put in the place of what readers read with."""

    def __init__(self, versions: Versions, monkeypatch):
        self.versions, self.left, self.statements = versions, None, 0

        def counted(read):
            def read_rows(*arguments):
                self.statements += 1
                if self.left is not None:
                    self.left -= 1
                    if self.left < 0:
                        self.left = None
                        versions.publish()
                return read(*arguments)

            return read_rows

        for module, name in (
            (marts_module, "first_rows"),
            (reading_module, "first_rows"),
            (reading_module, "planned_rows"),
        ):
            monkeypatch.setattr(module, name, counted(getattr(module, name)))

    def ask(self, step: int, ask) -> dict | None:
        """What an answer says during which a version was published; None where it had not so many statements."""
        # an answer that the API has kept has no statements
        before = self.versions.publish()
        self.left = step
        found = ask()
        has_published, self.left = self.left is None, None
        assert found, "no answer"
        assert {a.version for a in found.values()} <= {before, max(self.versions.truths)}
        return found if has_published else None


@pytest.fixture(scope="module")
def versions(built):
    """The small company at version 2, with some groups withheld."""
    with home(partial(copy_home, built)) as settings, withheld(settings, WITHHELD):
        questions = draw_questions(settings, AS_OF)
        versions = Versions(settings, questions)
        versions.truths[1] = truth_of(settings, questions)
        with later_versions(settings, CHANGES):
            with db.connect(settings, "owner") as connection:
                for table in ("publications", "certificates"):
                    connection.execute(f"update marts.{table} set as_of = %s where published_version = 2", [LATER])
            versions.truths[2] = truth_of(settings, questions)
            yield versions


@pytest.fixture(scope="module")
def doors(versions, tmp_path_factory):
    doors = Doors(versions.settings, tmp_path_factory.mktemp("doors"))
    yield doors
    doors.close()


@pytest.fixture(scope="module")
def doors_of_roles(versions, tmp_path_factory):
    """{role: the doors as it finds them}."""
    settings = replace(versions.settings, readers=Readers.model_validate(READERS))
    bootstrap(settings)
    found = {role: Doors(settings, tmp_path_factory.mktemp(role), role) for role in ROLES}
    yield found
    for doors in found.values():
        doors.close()


@pytest.fixture(scope="module")
def catalogue(versions):
    return Marts(versions.settings).catalogue()


def differences(versions: Versions, found: dict, unit_of: dict | None = None, version: int | None = None) -> list:
    """Where answers are not what the version says that they name. unit_of: {metric: unit} of a door that writes values as people read them."""
    wrong = []
    for key, answer in found.items():
        truth = versions.truths[answer.version].values.get(key) if answer.version in versions.truths else None
        if version is not None and answer.version != version:
            wrong.append((key, "of another version", answer))
        elif truth is None:
            wrong.append((key, "there is none", answer))
        elif not is_same(answer, truth, unit_of and unit_of[key[0]]["unit"]):
            wrong.append((key, truth, answer))
    return wrong


def is_same(answer: Answer, truth: tuple, unit: str | None) -> bool:
    value, null_reason, is_complete = truth
    if answer.is_complete is not None and answer.is_complete is not is_complete:
        return False
    if unit is not None:
        return answer.value == format_value(value, unit, "USD") and answer.null_reason in (None, null_reason)
    # a door that shows no number of an open period says so
    if answer.null_reason == "period_open":
        return answer.value is None and not is_complete and null_reason in (None, "period_open")
    return (answer.value, answer.null_reason) == (value, null_reason)


def answered(questions: list[Question], found: dict) -> Counter:
    """{kind: how many questions of it a door has answered}."""
    return Counter(q.kind for q in questions if q.key in found)


def test_every_kind_of_question_is_asked(versions):
    kinds = Counter(q.kind for q in versions.questions)
    assert len(versions.questions) == COUNT - COMPARED - TARGETS - NO_ROWS
    assert set(kinds) == set(KINDS) and all(count >= LEAST for count in kinds.values()), kinds
    assert len({q.grain for q in versions.questions}) == 6 and len({q.application for q in versions.questions}) > 3
    first, second = versions.truths[1].values, versions.truths[2].values
    assert len(first) == len(versions.questions) == len(second)
    # what the second version changes is among what is asked: numbers, and what is complete by then
    assert sum(first[key][0] != second[key][0] for key in first) > 30
    assert sum(first[key][2] != second[key][2] for key in first) >= LEAST


def demand_one_answer(versions: Versions, doors: Doors, catalogue: dict, asked: int | None, shown: int) -> None:
    """Ask everything at every door that has it, and demand what the version `shown` says. asked: the version that is named; None for none."""
    questions, truth = versions.questions, versions.truths[shown]
    for name in ("sql", "pages", "api", "mcp"):
        found = getattr(doors, name).ask(questions, asked)
        assert not differences(versions, found, version=shown), name
        # each of the four can give every question
        assert len(found) == len(questions), (name, [q for q in questions if q.key not in found][:3])
    numbers = {q.key: doors.pages.read(q, asked) for q in questions[::4]}
    assert None not in numbers.values() and not differences(versions, numbers, catalogue, version=shown)

    missing = [replace(q, period_start=start) for q in [q for q in questions if q.kind == "month"][: NO_ROWS // 2] for start in (utc("2001-01-01"), utc("2051-01-01"))]  # fmt: skip
    assert len(missing) == NO_ROWS
    for name in ("sql", "pages", "api", "mcp"):
        assert getattr(doors, name).ask(missing, asked) == {}, name

    compared = [
        q
        for q in questions
        if truth.values[q.key][2] and None not in (truth.values[q.key][0], truth.earlier.get(q.key))
    ][:COMPARED]
    assert len(compared) == COMPARED
    for question in compared:
        now, before = truth.values[question.key][0], truth.earlier[question.key]
        place = {"grain": question.grain, "application": question.application, "newer": question.period}
        place |= {"segment": question.segment, "segment_value": question.segment_value} if question.segment else {}
        for answer in (
            doors.api.get(f"/v1/metrics/{question.metric}/compare", asked, **place),
            doors.mcp.ask_tool(
                "compare_periods", metric=question.metric, **place, **({} if asked is None else {"version": asked})
            ),
        ):
            assert answer["provenance"]["version"] == shown
            assert [Decimal(answer[n]["value"]) for n in ("newer", "older")] == [now, before] and Decimal(
                answer["change"]
            ) == now - before
        unit = catalogue[question.metric]["unit"]
        page = doors.pages.number(question, asked)
        assert format_value(before, unit, "USD") in page and (format_change(now, before, unit) or "no change") in page

    assert len(truth.targets) == TARGETS
    by_api = {row["target_id"]: row for row in doors.api.get("/v1/targets", asked)["targets"]}
    by_mcp = {
        row["target_id"]: row
        for row in doors.mcp.ask_tool("targets", **({} if asked is None else {"version": asked}))["targets"]
    }
    on_pages, shown_on_pages = doors.pages.targets(asked), 0
    for target_id, row in truth.targets.items():
        for answer in (by_api[target_id], by_mcp[target_id]):
            assert (Decimal(answer["value"]), answer["zone"]) == (row["value"], row["zone"])
        place = tuple(
            row[n] for n in ("metric_id", "application", "segment", "segment_value", "grain", "operator", "target")
        )
        if place in on_pages:
            assert on_pages[place] == (row["value"], row["zone"])
            shown_on_pages += 1
    assert shown_on_pages >= TARGETS // 2


def demand_reports(versions: Versions, doors: Doors, catalogue: dict, shown: int) -> None:
    found = doors.reports.ask(versions.questions)
    assert not differences(versions, found, catalogue, version=shown)
    # the newest complete values of the company's totals, by week and month
    assert len(found) >= 10, answered(versions.questions, found)


def test_every_door_says_the_same_of_the_newest_version_and_of_an_earlier_one(versions, doors, catalogue):
    demand_one_answer(versions, doors, catalogue, None, 2)
    demand_reports(versions, doors, catalogue, 2)
    demand_one_answer(versions, doors, catalogue, 1, 1)


def demand_the_part_of_each_role(
    versions: Versions, doors_of_roles: dict, asked: int | None, shown: int | None, step: int = 1
) -> None:
    """Demand of each role's doors what `demand_one_answer` does for its part, and nothing of the rest. shown: None where each answer's own version counts."""
    for role, is_seen in ROLES.items():
        doors = doors_of_roles[role]
        own = [q for q in versions.questions if is_seen(q)][::step]
        others = [q for q in versions.questions if not is_seen(q)][:: 4 * step]
        assert len(own) >= 2 and len(others) >= 4, (role, len(own))
        for name in ("sql", "pages", "api", "mcp"):
            found = getattr(doors, name).ask(own, asked)
            assert len(found) == len(own), (role, name, [q for q in own if q.key not in found][:3])
            assert not differences(versions, found, version=shown), (role, name)
            assert getattr(doors, name).ask(others, asked) == {}, (role, name)


def test_each_role_has_the_same_answers_of_its_part_at_every_door_and_none_of_the_rest(
    versions, doors_of_roles, catalogue
):
    demand_the_part_of_each_role(versions, doors_of_roles, None, 2)
    demand_the_part_of_each_role(versions, doors_of_roles, 1, 1)
    february = [Question("newest", metric, "month", utc("2026-02-01"), "web") for metric in catalogue]
    truth = truth_of(versions.settings, february).values
    found = doors_of_roles["web"].reports.ask([q for q in february if q.key in truth], ["monthly"], "web")
    wrong = [
        (key, answer) for key, answer in found.items() if not is_same(answer, truth[key], catalogue[key[0]]["unit"])
    ]
    assert len(found) >= 10 and not wrong, (len(found), wrong)


def test_a_version_that_is_published_in_the_midst_of_an_answer_mixes_nothing_into_it(
    versions, doors, catalogue, monkeypatch
):
    chosen = next(
        q
        for q in versions.questions
        if q.grain == "month" and versions.truths[1].values[q.key][0] != versions.truths[2].values[q.key][0]
    )
    midway, steps = Midway(versions, monkeypatch), {}
    units = {"numbers": catalogue, "reports": catalogue}
    asks = {
        "api": lambda: doors.api.ask([chosen]), "api, lists": lambda: doors.api.ask([chosen, chosen]), "mcp": lambda: doors.mcp.ask([chosen]),
        "pages": lambda: doors.pages.ask([chosen]), "numbers": lambda: {chosen.key: doors.pages.read(chosen)},
        "pages, opened anew": lambda: Pages(versions.settings).ask([chosen]), "reports": lambda: doors.reports.ask(versions.questions, ["monthly"]),
    }  # fmt: skip
    for name, ask in asks.items():
        # of a report's many statements some
        for step in (1, 9) if name == "reports" else range(8):
            answers = midway.ask(step, ask)
            if answers is None:
                break
            steps[name] = step + 1
            assert not differences(versions, answers, units.get(name)), (name, step)
    assert set(steps) == set(asks) and steps["pages, opened anew"] >= 3, steps


def test_every_door_says_what_its_version_says_while_versions_are_published(versions, doors, doors_of_roles):
    published, ended = [], threading.Event()

    def publish():
        while not ended.is_set():
            published.append(versions.publish())

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    seen, parts = (
        {name: set() for name in ("sql", "pages", "api", "mcp")},
        [versions.questions[n::20] for n in range(10)],
    )
    try:
        deadline = time.monotonic() + 600
        for number, part in enumerate(cycle(parts)):
            is_enough = len(published) >= 3 and all(len(versions_seen) > 1 for versions_seen in seen.values())
            # on a machine where a publication takes long, everything is asked again
            if number >= len(parts) and (is_enough or time.monotonic() > deadline):
                break
            for name, versions_seen in seen.items():
                found = getattr(doors, name).ask(part)
                assert not differences(versions, found), name
                assert len(found) == len(part)
                versions_seen |= {answer.version for answer in found.values()}
        demand_the_part_of_each_role(versions, doors_of_roles, None, None, step=5)
    finally:
        ended.set()
        publisher.join()
    assert len(published) >= 3 and all(len(versions_seen) > 1 for versions_seen in seen.values()), (published, seen)


def test_every_door_says_the_same_after_a_rollback(versions, doors, doors_of_roles, catalogue):
    while versions.truths[version := versions.publish()] is not versions.truths[1]:
        pass
    # a reader that has not seen the last version of the loop
    doors.pages = Pages(versions.settings)
    for asked, shown in ((None, version), (2, 2)):
        questions = versions.questions[:: 2 if asked is None else 5]
        for name in ("sql", "pages", "api", "mcp"):
            found = getattr(doors, name).ask(questions, asked)
            assert len(found) == len(questions) and not differences(versions, found, version=shown), name
    found = doors.reports.ask(versions.questions, ["monthly"])
    assert len(found) >= 5 and not differences(versions, found, catalogue, version=version)
    for of_role, role in ((doors_of_roles[role], role) for role in ROLES):
        of_role.pages = Pages(of_role.settings, role)
    demand_the_part_of_each_role(versions, doors_of_roles, None, version, step=3)
    demand_the_part_of_each_role(versions, doors_of_roles, 2, 2, step=5)


def test_metricflow_says_the_same_of_totals_by_month(versions, doors):
    """It reads the facts, which have the rows of the first version, and says neither a version nor a reason."""
    while versions.truths[versions.publish()] is not versions.truths[1]:
        pass
    # these whether they were drawn or not: each is made in a way of its own
    months = select(
        versions.settings, "select period_start from dim_periods where grain = 'month' and period_end <= %s", AS_OF
    )
    always = [Question("month", metric, "month", row["period_start"]) for metric in OF_METRICFLOW for row in months]
    questions = {q.key: q for q in [*versions.questions, *always]}
    truth = truth_of(versions.settings, list(questions.values())).values
    found = {key: answer for key, answer in doors.metricflow.ask(list(questions.values())).items() if key in truth}
    wrong = []
    for key, answer in found.items():
        value, null_reason, _ = truth[key]
        # the facts do not say what no source measured (docs/architecture.md)
        is_right = null_reason == "source_missing" or (answer.value is None if value is None else (answer.value or 0) == pytest.approx(float(value), rel=1e-9, abs=0.005))  # fmt: skip
        wrong += [] if is_right else [(key, value, answer)]
    assert not wrong and len(found) >= 2 * len(OF_METRICFLOW), (wrong, len(found))
