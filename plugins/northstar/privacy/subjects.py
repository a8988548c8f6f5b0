"""The columns that name a person, in the contract's entities and in what is made of them.

`tests/privacy` demands that every identifier of the contract is listed here, either as a person's or as a thing's.
"""

from northstar.contract import Entity, entities

ACCOUNT, ANONYMOUS, SESSION = "account", "anonymous", "session"
# {column: the kinds of identifiers that it may hold}
PERSON_COLUMNS = {
    "account_id": (ACCOUNT,),
    "referred_by_account_id": (ACCOUNT,),
    "student_id": (ACCOUNT,),
    "tutor_id": (ACCOUNT,),
    "reviewer_id": (ACCOUNT,),
    "creator_id": (ACCOUNT,),
    "anonymous_id": (ANONYMOUS,),
    "session_id": (SESSION,),
    # a column of the models: the account, else the anonymous_id
    "visitor_id": (ACCOUNT, ANONYMOUS),
}
# columns with keyed hashes; `email_hash` is the mart's name of an account's `email`
HASH_COLUMNS = ("email", "requester_email", "author", "email_hash")
THING_IDS = {
    "ai_response_id", "application_id", "booking_id", "charge_id", "content_item_id", "conversation_id", "deployment_id", "error_id",
    "event_id", "incident_id", "message_id", "package_purchase_id", "payment_id", "plan_id", "pull_request_id", "refund_id", "request_id",
    "response_id", "review_id", "security_event_id", "subscription_id", "subscription_item_id", "ticket_event_id", "ticket_id",
    "merged_into_ticket_id", "visit_id", "work_item_id", "call_id", "query_id", "vital_id",
}  # fmt: skip
# rows that name nobody but belong to a row that does: {entity: ((column, entity of that row), ...)}
PARENT_COLUMNS = {
    "refunds": (("charge_id", "charges"),),
    "ticket_events": (("ticket_id", "tickets"),),
    "survey_responses": (("ticket_id", "tickets"),),
    "messages": (("conversation_id", "conversations"), ("booking_id", "bookings")),
    "reviews": (("booking_id", "bookings"),),
    "ai_responses": (("conversation_id", "conversations"),),
}
# the properties of an event that models read; the others say what a person did, and are not kept for ever
READ_PROPERTIES = ("feature", "tool", "status", "experiment", "variant", "goal")


def person_columns(entity: Entity) -> list[str]:
    """The entity's columns that name a person or a device."""
    return [name for name in entity.columns if name in PERSON_COLUMNS]


def hash_columns(entity: Entity) -> list[str]:
    """The entity's columns with keyed hashes."""
    return [c.name for c in entity.columns.values() if c.pii == "hash"]


def person_columns_by_entity() -> dict[str, tuple[str, ...]]:
    """{entity: its named columns} for the entities that have any."""
    return {e.name: tuple(person_columns(e)) for e in entities().values() if person_columns(e)}
