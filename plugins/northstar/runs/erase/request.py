"""The request of an erasure: the existing one of a subject, or a new one with all of the subject's identifiers."""

import secrets

from northstar.base.errors import NorthstarError
from northstar.privacy.keys import keyed_hash, subject_hash
from northstar.privacy.subjects import ACCOUNT, ANONYMOUS, PERSON_COLUMNS, SESSION, person_columns_by_entity
from northstar.runs.erase.names import EMAIL, TICKET
from northstar.warehouse.rows import Connection, Parameters, fetch_one

PREFIX = "erased-"


def request_erasure(connection: Connection, key: str, account_id: str | None, email: str | None, by: str) -> int:
    """The number of the subject's erasure: of the existing one, or of a new one with all of the subject's identifiers."""
    if bool(account_id) == bool(email):
        raise NorthstarError("whom to erase? give either --account-id or --email")
    hashed = keyed_hash(email, key) if email else None
    accounts = [account_id] if account_id else _accounts_of(connection, hashed)
    subjects = [subject_hash(ACCOUNT, a, key) for a in accounts]
    earlier_erasure = connection.execute(
        "select erasure_id from audit.erasures where subjects && %s::text[] order by 1 desc limit 1", [subjects]
    ).fetchone()
    if earlier_erasure:
        number: int = earlier_erasure["erasure_id"]
        return number
    ids = _identifiers(connection, accounts, hashed)
    if not ids:
        raise NorthstarError("there is no data about this person: it was already erased, or never landed")
    erasure_id: int = fetch_one(
        connection.execute(
            "insert into audit.erasures (requested_by, subjects) values (%s, %s) returning erasure_id", [by, subjects]
        )
    )["erasure_id"]
    connection.cursor().executemany(
        "insert into audit.erasure_ids values (%s, %s, %s, %s)",
        [(erasure_id, kind, value, PREFIX + secrets.token_hex(12)) for kind, values in ids.items() for value in values],
    )
    return erasure_id


def _accounts_of(connection: Connection, hashed: str | None) -> list[str]:
    rows = connection.execute(
        "select account_id from staging.accounts where email = %(h)s union "
        "select row ->> 'account_id' from staging._replaced where entity = 'accounts' and row ->> 'email' = %(h)s order by 1",
        {"h": hashed},
    ).fetchall()
    return [r["account_id"] for r in rows]


def _identifiers(connection: Connection, accounts: list[str], hashed: str | None) -> dict[str, list[str]]:
    """{kind: values} of all identifiers of the subject; {} when no landed, replaced or quarantined row has one.

    An identifier that another account used too (a shared device, a shared address) belongs to that account as well, and stays.
    """

    def column(query: str) -> list[str]:
        rows = connection.execute(query, values).fetchall()
        return sorted({v for row in rows for v in row.values() if v is not None})

    events = (
        "(select account_id, anonymous_id, session_id from staging.events union all select row ->> 'account_id', row ->> 'anonymous_id', "
        "row ->> 'session_id' from staging._replaced where entity = 'events') as e"
    )
    values: Parameters = {"accounts": accounts, "hashed": hashed, "devices": [], "sessions": [], "emails": []}
    shared_query = f"select {{0}} from {events} where {{0}} = any(%({{1}})s) and account_id != all(%(accounts)s)"
    values["devices"] = column(f"select anonymous_id from {events} where account_id = any(%(accounts)s)")
    devices = sorted(set(values["devices"]) - set(column(shared_query.format("anonymous_id", "devices"))))
    values["devices"] = devices
    values["sessions"] = column(
        f"select session_id from {events} where account_id = any(%(accounts)s) or anonymous_id = any(%(devices)s)"
    )
    sessions = sorted(set(values["sessions"]) - set(column(shared_query.format("session_id", "sessions"))))
    values["emails"] = column(
        "select email from staging.accounts where account_id = any(%(accounts)s) union select row ->> 'email' from staging._replaced "
        "where entity = 'accounts' and row ->> 'account_id' = any(%(accounts)s) union select %(hashed)s::text union "
        "select requester_email from staging.tickets where account_id = any(%(accounts)s)"
    )
    shared_emails = column(
        "select email from staging.accounts where email = any(%(emails)s) and account_id != all(%(accounts)s)"
    )
    emails = values["emails"] = sorted(set(values["emails"]) - set(shared_emails))
    tickets = column(
        "select ticket_id from staging.tickets where account_id is null and requester_email = any(%(emails)s)"
    )
    identifiers = {ACCOUNT: accounts, ANONYMOUS: devices, SESSION: sessions, EMAIL: emails, TICKET: tickets}
    parts = [
        f"exists (select 1 from staging.{name} where {' or '.join(f'{c} = any(%(accounts)s)' for c in columns if ACCOUNT in PERSON_COLUMNS[c])})"
        for name, columns in person_columns_by_entity().items() if any(ACCOUNT in PERSON_COLUMNS[c] for c in columns)
    ]  # fmt: skip
    parts += [
        "exists (select 1 from staging._replaced where row ->> 'account_id' = any(%(accounts)s))",
        "exists (select 1 from quarantine.rows where row ->> 'account_id' = any(%(accounts)s))",
    ]
    is_known = tickets or fetch_one(connection.execute(f"select {' or '.join(parts)} as found", values))["found"]
    return {kind: names for kind, names in identifiers.items() if names} if is_known else {}
