"""Zendesk Support: tickets, what happened to them, and satisfaction ratings, from its REST API.

    system: zendesk
    connection: zendesk_main    # host: yourcompany.zendesk.com, login: an agent's e-mail address, password: an API token
    options:
      start: 2020-01-01T00:00:00Z   # read tickets that changed since then (default: all)
      escalation_tag: escalated     # adding this tag is the event `escalated`, removing it is `escalation_resolved`
      account_field: external_id    # the requester's field that holds the account: external_id (default), id, or email

Tickets come from the incremental export by cursor, which includes deleted ones. What happened to a ticket is in its audits, which are
read for each ticket that changed. Visits of the help centre are not in this API.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from northstar.base.errors import NorthstarError, SourceDown
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, Json, JsonObject, Parameters, Refused

ENTITIES = ("tickets", "ticket_events", "survey_responses")
OPTIONS = {"start", "escalation_tag", "account_field"}
ACCOUNT_FIELDS = ("external_id", "id", "email")
# the export allows 10 requests a minute, everything else hundreds
EXPORTS_PER_SECOND, PER_SECOND = 10 / 60, 10
# so many users are kept in memory; a forgotten one is requested again when a later ticket names it
KEPT_USERS = 100_000
STATUSES = {"hold": "on_hold"}
SCORES = {"good": "5", "bad": "1", "good_with_comment": "5", "bad_with_comment": "1"}
MERGED_TAG = "closed_by_merge"
DONE = ("solved", "closed")
USERS_PER_REQUEST = 100
# the parts of an audit that say something, by writing or by a call
COMMENTS = ("Comment", "VoiceComment", "FacebookComment")
# 2: who wrote a comment, whether it stayed public, and calls are read
READING = 2


def connect(source: Source, connection: Connection) -> "Zendesk":
    """A Zendesk account. Raises NorthstarError for options that are wrong."""
    check_options(source, OPTIONS)
    if source.options.get("account_field", "external_id") not in ACCOUNT_FIELDS:
        raise NorthstarError(f"source {source.name}: account_field must be one of {', '.join(ACCOUNT_FIELDS)}")
    auth = _basic_auth(f"{connection.login}/token", connection.secret())
    address = connection.url() + "/api/v2"
    return Zendesk(
        source,
        HttpClient(address, auth, source.per_second or PER_SECOND),
        HttpClient(address, auth, EXPORTS_PER_SECOND),
    )


class Zendesk:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient, export: HttpClient):
        self.source, self.http, self.export = source, http, export
        self._users: dict[int, JsonObject] = {}

    def check(self) -> str:
        """Ask who the token belongs to, and for one ticket."""
        user = self.http.get("users/me.json")["user"]
        self.http.get("tickets.json", {"page[size]": 1})
        return f"Zendesk: may read {', '.join(self.source.entities)} as {user.get('role')}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The changed tickets, their audits, or the ratings since the state."""
        if entity == "survey_responses":
            yield from self._ratings(state)
            return
        make: dict[str, Callable[[JsonObject], list[ContractRow]]] = {
            "tickets": lambda t: [self._ticket(t)],
            "ticket_events": self._events,
        }
        for tickets, cursor in self._changed_tickets(state):
            yield Page(
                [row for ticket in tickets for row in make[entity](ticket)], {"cursor": cursor} if cursor else None
            )

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of tickets that Zendesk counts, and of those that landed and are not deleted."""
        if entity != "tickets" or self.source.options.get("start"):
            return {}
        count = self.http.get("tickets/count.json")["count"]["value"]
        return {"tickets": (count, "count(*) filter (where status not in ('deleted', 'spam'))")}

    def _changed_tickets(self, state: State | None) -> Iterator[tuple[list[JsonObject], str | None]]:
        """Changed tickets, and the cursor after them. A ticket that changed twice comes as it is now."""
        start = _seconds(self.source.options.get("start")) or 1
        parameters: dict[str, str | int] = {"cursor": state["cursor"]} if state else {"start_time": start}
        while True:
            answer = self.export.get("incremental/tickets/cursor.json", {**parameters, "include": "users"})
            self._store_users(answer)
            cursor = answer.get("after_cursor")
            yield answer["tickets"], cursor
            if answer.get("end_of_stream") or not cursor:
                return
            if cursor == parameters.get("cursor"):
                raise SourceDown("Zendesk's export repeats itself; the next run tries again")
            parameters = {"cursor": cursor}

    def _ticket(self, ticket: JsonObject) -> ContractRow:
        user = self._user(ticket.get("requester_id"))
        status = STATUSES.get(ticket["status"], ticket["status"])
        is_merged = MERGED_TAG in (ticket.get("tags") or [])
        # the export gives only the bare numbers of a deleted ticket, so its last change is the time of the export
        updated_at = max(
            _seconds(ticket["updated_at"]), ticket.get("generated_timestamp") or 0 if status == "deleted" else 0
        )
        return {
            "ticket_id": str(ticket["id"]), "account_id": self._account(ticket.get("requester_id")), "channel": (ticket.get("via") or {}).get("channel"),
            "category": ticket.get("type"), "priority": ticket.get("priority"), "status": "merged" if is_merged else status,
            "merged_into_ticket_id": self._merged_into(ticket) if is_merged else None, "requester_email": user.get("email"),
            "subject": ticket.get("subject"), "created_at": ticket["created_at"], "updated_at": _time(updated_at),
        }  # fmt: skip

    def _merged_into(self, ticket: JsonObject) -> str | None:
        for audit in reversed(self._audits(ticket["id"])):
            source = (audit.get("via") or {}).get("source") or {}
            if source.get("rel") == "merge":
                return _text((source.get("to") or {}).get("ticket_id"))
        return None

    def _events(self, ticket: JsonObject) -> list[ContractRow]:
        rows: list[ContractRow] = []
        audits = self._audits(ticket["id"])
        self._request_unknown_users(e.get("author_id") for audit in audits for e in (audit, *audit["events"]))
        # the last word on whether a comment is public
        privacy = {
            event.get("comment_id"): bool(event.get("public"))
            for audit in audits
            for event in audit["events"]
            if event["type"] == "CommentPrivacyChange"
        }
        for number, audit in enumerate(audits):
            own_actor = self._actor(audit, audit.get("author_id"), ticket)
            kinds = [("created", own_actor)] if number == 0 else []
            for event in audit["events"]:
                author = (event.get("author_id") if event["type"] in COMMENTS else None) or audit.get("author_id")
                actor = self._actor(audit, author, ticket)
                is_public = privacy.get(event.get("id"), bool(event.get("public")))
                # the first comment is the ticket itself, but for an agent's call
                is_ticket = number == 0 and (event["type"] != "VoiceComment" or actor != "agent")
                kinds += [(kind, actor) for kind in self._event_types(event, is_ticket, is_public)]
            if ((audit.get("via") or {}).get("source") or {}).get("rel") == "merge" and "closed" in dict(kinds):
                kinds = [("merged" if kind == "closed" else kind, actor) for kind, actor in kinds]
            rows += [
                {"ticket_event_id": f"{audit['id']}-{place}", "ticket_id": str(ticket["id"]), "event_type": kind, "actor_type": actor,
                 "occurred_at": audit["created_at"]}
                for place, (kind, actor) in enumerate(kinds)
            ]  # fmt: skip
        return rows

    def _event_types(self, event: JsonObject, is_ticket: bool, is_public: bool) -> list[str]:
        """What one part of an audit means. is_ticket: a comment in it is the ticket itself. is_public: whether a comment still is."""
        if event["type"] in COMMENTS:
            return [] if is_ticket else ["public_reply" if is_public else "internal_note"]
        if event["type"] not in ("Change", "Create"):
            return []
        name, value, previous_value = event.get("field_name"), event.get("value"), event.get("previous_value")
        if name == "status":
            if value in DONE:
                return [value]
            return ["reopened"] if previous_value in DONE else []
        if name == "assignee_id" and value:
            return ["assigned"]
        if name == "tags":
            tag = self.source.options.get("escalation_tag", "escalated")
            is_tagged, was_tagged = tag in _tags(value), tag in _tags(previous_value)
            return ["escalated"] * (is_tagged and not was_tagged) + ["escalation_resolved"] * (
                was_tagged and not is_tagged
            )
        return []

    def _actor(self, audit: JsonObject, author: int | None, ticket: JsonObject) -> str:
        channel = (audit.get("via") or {}).get("channel")
        if author in (None, -1) or channel in ("rule", "system", "trigger", "automation"):
            return "system"
        if channel in ("answer_bot_for_web_widget", "answer_bot", "chat_transcript_bot"):
            return "bot"
        # an agent may ask for something too; then it is the others who answer
        if author == ticket.get("requester_id"):
            return "customer"
        # a user whom Zendesk has forgotten counts as a customer, so that no first response is guessed
        return "customer" if self._user(author).get("role", "end-user") == "end-user" else "agent"

    def _audits(self, ticket: int) -> list[JsonObject]:
        audits: list[JsonObject] = []
        path: str | None = f"tickets/{ticket}/audits.json"
        parameters: Parameters | None = {"page[size]": 100, "include": "users"}
        while path:
            try:
                answer = self.http.get(path, parameters)
            except Refused as exc:
                if exc.status == 404:
                    # the ticket was deleted for good after the export
                    return audits
                raise
            self._store_users(answer)
            audits += answer["audits"]
            path, parameters = (
                (answer.get("links") or {}).get("next") if (answer.get("meta") or {}).get("has_more") else None,
                None,
            )
        return sorted(audits, key=lambda a: (a["created_at"], a["id"]))

    def _ratings(self, state: State | None) -> Iterator[Page]:
        since = (state or {}).get("since") or _seconds(self.source.options.get("start")) or 0
        newest = since
        path: str | None = "satisfaction_ratings.json"
        parameters: Parameters | None = {"page[size]": 100, "start_time": since}
        while path:
            answer = self.http.get(path, parameters)
            rows: list[ContractRow] = []
            self._request_unknown_users(rating.get("requester_id") for rating in answer["satisfaction_ratings"])
            for rating in answer["satisfaction_ratings"]:
                newest = max(newest, _seconds(rating["updated_at"]))
                # other scores (offered, or taken back): sent and not answered
                score = SCORES.get(rating["score"])
                rows.append({
                    "response_id": str(rating["id"]), "survey": "support_csat", "ticket_id": _text(rating.get("ticket_id")),
                    "account_id": self._account(rating.get("requester_id")), "score": score,
                    "comment": rating.get("comment"), "sent_at": rating["created_at"],
                    "responded_at": rating["updated_at"] if score else None, "updated_at": rating["updated_at"],
                })  # fmt: skip
            more = (answer.get("meta") or {}).get("has_more")
            path, parameters = (answer.get("links") or {}).get("next") if more else None, None
            # a later page is requested by its address, so reading can only go on after the last page
            yield Page(rows, None if path else {"since": newest})

    def _account(self, user: int | None) -> str | None:
        return _text(self._user(user).get(self.source.options.get("account_field", "external_id")))

    def _user(self, user: int | None) -> JsonObject:
        return (self._users.get(user) if user is not None else None) or {}

    def _request_unknown_users(self, users: Iterable[int | None]) -> None:
        """Request the users who were in no answer so far. One who is missing even then has been forgotten by Zendesk."""
        if len(self._users) > KEPT_USERS:
            self._users.clear()
        unknown = sorted({user for user in users if user is not None and user != -1} - self._users.keys())
        for start in range(0, len(unknown), USERS_PER_REQUEST):
            user_ids = unknown[start : start + USERS_PER_REQUEST]
            self._users.update({user: {} for user in user_ids})
            self._store_users(self.http.get("users/show_many.json", {"ids": ",".join(map(str, user_ids))}))

    def _store_users(self, answer: JsonObject) -> None:
        self._users.update({user["id"]: user for user in answer.get("users") or []})


def _basic_auth(login: str, password: str) -> dict[str, str]:
    """The header of HTTP's basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


def _tags(value: Json) -> list[str]:
    return value if isinstance(value, list) else (value or "").split()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _seconds(text: str | None) -> int:
    return int(datetime.fromisoformat(str(text)).timestamp()) if text else 0


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
