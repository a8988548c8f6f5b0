"""Zendesk as a source, against answers in the shape that its API reference describes."""

import base64

import pytest

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.landing.source import land_source, source_states
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.zendesk import connect
from northstar.privacy.keys import HASH_MARK, keyed_hash
from northstar.warehouse import db
from tests.support import empty, json_server, silent

AGENT = {"id": 1, "role": "agent", "email": "agent@desk.org"}
ADA = {"id": 2, "role": "end-user", "email": "ada@example.org", "external_id": "acc_ada"}


def ticket(number: int, changed: str, **given) -> dict:
    return {"id": number, "created_at": "2025-03-01T09:00:00Z", "updated_at": changed, "status": "open", "priority": "high", "type": "problem",
            "requester_id": 2, "subject": "My name is Ada", "tags": [], "via": {"channel": "email"}, **given}  # fmt: skip


def audit(number: int, at: str, author: int, *events, **given) -> dict:
    return {
        "id": number,
        "created_at": f"2025-03-0{at}:00Z",
        "author_id": author,
        "events": list(events),
        "via": {"channel": "web"},
        **given,
    }


def change(name: str, value, before=None) -> dict:
    return {"type": "Change", "field_name": name, "value": value, "previous_value": before}


def comment(public: bool) -> dict:
    return {"type": "Comment", "public": public, "body": "secret words"}


class Desk:
    """A server with the export's pages, the audits and the ratings."""

    def __init__(self, *pages, audits=None, ratings=(), count=0, side_loads=True):
        self.people = [AGENT, ADA]
        self.side_loaded = self.people if side_loads else []
        self.pages, self.audits, self.ratings, self.count, self.asked = (
            list(pages),
            audits or {},
            list(ratings),
            count,
            [],
        )

    def __call__(self, path, query):
        path = path.removeprefix("/api/v2/").removesuffix(".json")
        self.asked.append((path, query))
        if path == "users/me":
            return {"user": AGENT}
        if path == "tickets/count":
            return {"count": {"value": self.count}}
        if path == "incremental/tickets/cursor":
            place = int(query.get("cursor", 0))
            tickets = self.pages[place] if place < len(self.pages) else []
            after = min(place + 1, len(self.pages))
            return {
                "tickets": tickets,
                "users": self.side_loaded,
                "after_cursor": str(after),
                "end_of_stream": after >= len(self.pages),
            }
        if path.endswith("/audits"):
            found = self.audits.get(int(path.split("/")[1]))
            return (
                {"audits": found, "users": self.side_loaded, "meta": {"has_more": False}}
                if found
                else (404, {"error": "RecordNotFound"})
            )
        if path == "users/show_many":
            return {"users": [u for u in self.people if str(u["id"]) in query["ids"].split(",")]}
        if path == "satisfaction_ratings":
            since = int(query["start_time"])
            found = [r for r in self.ratings if r["_at"] >= since]
            return {
                "satisfaction_ratings": [{k: v for k, v in r.items() if k != "_at"} for r in found],
                "meta": {"has_more": False},
            }
        return {"tickets": []}


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands from a Desk, and returns the result."""
    empty(warehouse)
    monkeypatch.setattr("northstar.extract.sources.zendesk.EXPORTS_PER_SECOND", None)

    def landing(desk, *entities, run=None, **options):
        with json_server(desk) as address:
            monkeypatch.setenv(
                "AIRFLOW_CONN_ZENDESK", address.replace("http://", "http://me%40desk.org:token@") + "/http"
            )
            source = Source("desk", "zendesk", "zendesk", entities, options=options)
            assert open_source(warehouse, source).check() == f"Zendesk: may read {', '.join(entities)} as agent"
            result = land_source(warehouse, run, source, silent)
        assert result.error is None, result.error
        return result

    return landing


def rows(settings, entity: str, columns: str, order: str = "1") -> list:
    with db.connect(settings, "loader") as connection:
        return [
            tuple(r.values()) for r in connection.execute(f"select {columns} from staging.{entity} order by {order}")
        ]


def test_tickets_land_page_by_page_and_go_on_from_the_cursor(warehouse, land):
    desk = Desk(
        [
            ticket(1, "2025-03-02T09:00:00Z"),
            ticket(2, "2025-03-02T10:00:00Z", status="hold", requester_id=9, priority=None),
        ],
        [ticket(3, "2025-03-02T11:00:00Z", status="deleted", generated_timestamp=1741046400)],
    )
    assert land(desk, "tickets").landed.inserted == 3
    assert rows(warehouse, "tickets", "ticket_id, account_id, channel, category, priority, status") == [
        ("1", "acc_ada", "email", "problem", "high", "open"),
        ("2", None, "email", "problem", None, "on_hold"),
        ("3", "acc_ada", "email", "problem", "high", "deleted"),
    ]
    assert f"{rows(warehouse, 'tickets', 'updated_at', 'ticket_id')[2][0]:%m-%d}" == "03-04"
    assert source_states(warehouse, "desk") == {"tickets": {"cursor": "2"}}
    desk.pages.append([ticket(1, "2025-03-05T09:00:00Z", status="solved")])
    result = land(desk, "tickets")
    assert (result.landed.read, result.landed.updated) == (1, 1)
    with db.connect(warehouse, "loader") as connection:
        everything = str(connection.execute("select * from staging.tickets").fetchall())
    assert "Ada" not in everything and "ada@" not in everything


def test_the_audits_tell_what_happened(warehouse, land):
    story = [
        audit(11, "1T09:00", 2, {"type": "Create", "field_name": "status", "value": "new"}, comment(True)),
        audit(12, "1T10:00", 1, comment(True), change("assignee_id", "1"), change("status", "open", "new")),
        audit(13, "1T11:00", 1, comment(False), change("tags", ["vip", "escalated"], ["vip"])),
        audit(14, "1T12:00", -1, change("priority", "urgent", "high")),
        audit(15, "1T13:00", 1, change("tags", ["vip"], ["vip", "escalated"]), change("status", "solved", "open")),
        audit(16, "1T14:00", 2, comment(True), change("status", "open", "solved")),
        audit(17, "2T14:00", 1, change("status", "closed", "open"), via={"channel": "rule"}),
    ]
    land(Desk([ticket(1, "2025-03-02T14:00:00Z")], audits={1: story}), "ticket_events")
    assert rows(warehouse, "ticket_events", "ticket_event_id, event_type, actor_type") == [
        ("11-0", "created", "customer"), ("12-0", "public_reply", "agent"), ("12-1", "assigned", "agent"), ("13-0", "internal_note", "agent"),
        ("13-1", "escalated", "agent"), ("15-0", "escalation_resolved", "agent"), ("15-1", "solved", "agent"),
        ("16-0", "public_reply", "customer"), ("16-1", "reopened", "customer"), ("17-0", "closed", "system"),
    ]  # fmt: skip


def test_a_merged_ticket_says_into_which_one(warehouse, land):
    merge = {"channel": "web", "source": {"rel": "merge", "from": {}, "to": {"ticket_id": 7}}}
    story = [
        audit(1, "1T09:00", 2, comment(True)),
        audit(2, "1T10:00", 1, comment(True), change("status", "closed", "open"), via=merge),
    ]
    desk = Desk([ticket(5, "2025-03-01T10:00:00Z", status="closed", tags=["closed_by_merge"])], audits={5: story})
    land(desk, "tickets", "ticket_events")
    assert rows(warehouse, "tickets", "status, merged_into_ticket_id") == [("merged", "7")]
    assert [r[0] for r in rows(warehouse, "ticket_events", "event_type", "ticket_event_id")] == [
        "created",
        "public_reply",
        "merged",
    ]


def test_a_ticket_whose_audits_are_gone_has_none(warehouse, land):
    assert land(Desk([ticket(1, "2025-03-02T09:00:00Z", status="deleted")]), "ticket_events").landed.read == 0


def test_ratings_are_surveys(warehouse, land):
    def rating(number, score, at):
        return {"id": number, "ticket_id": 1, "requester_id": 2, "score": score, "comment": "thanks, Ada", "_at": at,
                "created_at": "2025-03-01T09:00:00Z", "updated_at": f"2025-03-0{at}T09:00:00Z"}  # fmt: skip

    desk = Desk(ratings=[rating(1, "good", 2), rating(2, "bad", 3), rating(3, "offered", 3)])
    land(desk, "survey_responses")
    assert rows(warehouse, "survey_responses", "response_id, survey, ticket_id, score, responded_at is null") == [
        ("1", "support_csat", "1", 5, False), ("2", "support_csat", "1", 1, False), ("3", "support_csat", "1", None, True),
    ]  # fmt: skip
    starts = [query["start_time"] for path, query in desk.asked if path == "satisfaction_ratings"]
    assert starts == ["0"]
    desk.ratings = []
    land(desk, "survey_responses")
    assert int(desk.asked[-1][1]["start_time"]) == 1740992400


@pytest.mark.parametrize(("field", "account"), [("external_id", "acc_ada"), ("email", "ada@example.org"), ("id", "2")])
def test_a_rating_of_somebody_who_came_with_no_ticket_has_its_account(warehouse, land, field, account):
    rating = {"id": 1, "ticket_id": 1, "requester_id": 2, "score": "good", "_at": 2, "created_at": "2025-03-01T09:00:00Z",
              "updated_at": "2025-03-02T09:00:00Z"}  # fmt: skip
    desk = Desk(ratings=[rating, {**rating, "id": 2, "requester_id": 404}, {**rating, "id": 3}])
    land(desk, "survey_responses", account_field=field)
    if field == "email":
        # an address is nobody's identifier in clear
        account = HASH_MARK + keyed_hash(account, warehouse.secret("pii_key"))
    assert rows(warehouse, "survey_responses", "account_id", "response_id") == [(account,), (None,), (account,)]
    assert [q["ids"] for path, q in desk.asked if path == "users/show_many"] == ["2,404"]


def test_who_answered_is_asked_for_where_it_came_with_no_audit(warehouse, land):
    story = [audit(1, "1T09:00", 2, comment(True)), audit(2, "1T10:00", 2, comment(True)), audit(3, "1T11:00", 1, comment(True)),
             audit(4, "1T12:00", 404, comment(True))]  # fmt: skip
    land(Desk([ticket(1, "2025-03-02T09:00:00Z")], audits={1: story}, side_loads=False), "ticket_events")
    # nobody knows 404 any more: no reply of an agent is made up
    assert rows(warehouse, "ticket_events", "actor_type", "ticket_event_id") == [
        ("customer",),
        ("customer",),
        ("agent",),
        ("customer",),
    ]


def test_an_export_that_repeats_itself_ends_in_a_message(warehouse, monkeypatch):
    empty(warehouse)
    monkeypatch.setattr("northstar.extract.sources.zendesk.EXPORTS_PER_SECOND", None)
    same = {"tickets": [ticket(1, "2025-03-02T09:00:00Z")], "users": [], "after_cursor": "7", "end_of_stream": False}
    with json_server(lambda path, query: same) as address:
        monkeypatch.setenv("AIRFLOW_CONN_ZENDESK", address.replace("http://", "http://me:token@") + "/http")
        result = land_source(warehouse, None, Source("desk", "zendesk", "zendesk", ("tickets",)), silent)
    assert result.error == "Zendesk's export repeats itself; the next run tries again"
    assert rows(warehouse, "tickets", "ticket_id") == [("1",)] and source_states(warehouse, "desk")["tickets"] == {
        "cursor": "7"
    }


def test_the_count_is_reconciled(warehouse, land):
    with db.connect(warehouse, "transformer") as c:
        run = c.execute("insert into audit.runs (mode, as_of, trigger) values ('hourly', '2025-04-01', 'test') returning run_id").fetchone()["run_id"]  # fmt: skip
    land(Desk([ticket(1, "2025-03-02T09:00:00Z")], count=3), "tickets", run=run)
    with db.connect(warehouse, "loader") as c:
        told = c.execute(
            "select measure, source_total::int as told, difference::int as off from audit.reconciliations"
        ).fetchall()
    assert told == [{"measure": "tickets", "told": 3, "off": 2}]


def test_the_token_is_sent_as_zendesk_wants_it():
    desk = connect(Source("desk", "zendesk"), Connection("z", host="x.zendesk.com", login="me@x.org", password="t0ken"))
    assert desk.http.base_url == "https://x.zendesk.com/api/v2"
    sent = desk.http._current_headers()["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "me@x.org/token:t0ken"


@pytest.mark.parametrize("options", [{"surprise": 1}, {"account_field": "shoe_size"}])
def test_wrong_options_are_said(options):
    with pytest.raises(NorthstarError, match="source desk: "):
        connect(Source("desk", "zendesk", options=options), Connection("z", host="x", password="t"))


def events_of(warehouse, land, *audits, **given) -> list[tuple]:
    land(Desk([ticket(1, "2025-03-02T09:00:00Z", **given)], audits={1: list(audits)}), "ticket_events")
    return rows(warehouse, "ticket_events", "event_type, actor_type", "ticket_event_id")


def test_a_reply_that_was_made_private_is_no_reply(warehouse, land):
    said = comment(True) | {"id": 11}
    hidden = {"type": "CommentPrivacyChange", "comment_id": 11, "public": False}
    audits = [audit(1, "1T09:00", 2, comment(True)), audit(2, "1T10:00", 1, said)]
    assert events_of(warehouse, land, *audits) == [("created", "customer"), ("public_reply", "agent")]
    # the ticket again, since somebody hid the reply
    page = [ticket(1, "2025-03-02T09:00:00Z")]
    land(Desk(page, page, audits={1: [*audits, audit(3, "1T11:00", 1, hidden)]}), "ticket_events")
    assert rows(warehouse, "ticket_events", "event_type, actor_type", "ticket_event_id") == [
        ("created", "customer"), ("internal_note", "agent"),
    ]  # fmt: skip


def test_what_the_requester_writes_is_no_agents_reply_though_an_agent_asked(warehouse, land):
    other = {"id": 3, "role": "admin"}
    audits = [
        audit(1, "1T09:00", 1, comment(True)),
        audit(2, "1T10:00", 1, comment(True)),
        audit(3, "1T11:00", 3, comment(True)),
    ]
    desk = Desk([ticket(1, "2025-03-02T09:00:00Z", requester_id=1)], audits={1: audits})
    desk.people.append(other)
    land(desk, "ticket_events")
    assert rows(warehouse, "ticket_events", "event_type, actor_type", "ticket_event_id") == [
        ("created", "customer"), ("public_reply", "customer"), ("public_reply", "agent"),
    ]  # fmt: skip


def test_a_comment_is_its_authors_whoever_sent_it(warehouse, land):
    first = audit(1, "1T09:00", 2, comment(True))
    assert events_of(warehouse, land, first, audit(2, "1T10:00", 1, comment(True) | {"author_id": 2}))[1] == (
        "public_reply",
        "customer",
    )


@pytest.mark.parametrize(
    ("author", "public", "expected"),
    [
        (1, True, ("public_reply", "agent")),
        (1, False, ("internal_note", "agent")),
        (2, True, ("public_reply", "customer")),
    ],
)
def test_a_public_call_of_an_agent_is_a_reply(warehouse, land, author, public, expected):
    call = {"type": "VoiceComment", "public": public, "author_id": author, "data": {"call_duration": 90}}
    later = events_of(warehouse, land, audit(1, "1T09:00", 2, comment(True)), audit(2, "1T10:00", -1, call))
    assert later[1] == expected
    empty(warehouse)
    answered_at_once = events_of(warehouse, land, audit(1, "1T09:00", -1, call))
    assert answered_at_once[1:] == ([expected] if author == 1 else [])
