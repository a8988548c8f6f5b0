"""The schema `subscriptions`: functions by which the pages, as `bi_reader`, begin and end a subscription, and nothing else.

They belong to `publisher`, who sends. A reader can neither see subscriptions nor change one: it is ended by whoever has its token, which is
in its messages alone. A subscription is of whoever logged in here to begin it: a role of readers.yml
gets its own numbers. What may be sent where is decided again when it is sent (northstar.use.pages.subscriptions).
"""

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection

# the most subscriptions at a time, and those of one address
MOST, MOST_OF_ONE = 1_000, 20
FUNCTIONS = f"""
create or replace function subscriptions.subscribe(name text, page text, choice jsonb, cadence text, kind text, target text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if (select count(*) from audit.subscriptions as s where s.ended_at is null) >= {MOST} then
        raise program_limit_exceeded using message = 'there are {MOST} subscriptions, which is the most';
    end if;
    if (select count(*) from audit.subscriptions as s where s.ended_at is null and s.kind = $5 and s.target = $6) >= {MOST_OF_ONE} then
        raise program_limit_exceeded using message = 'this address has {MOST_OF_ONE} subscriptions, which is the most';
    end if;
    insert into audit.subscriptions (name, page, choice, cadence, kind, target, role)
    values ($1, $2, $3, $4, $5, $6, case when limited.is_limited() then session_user end) on conflict do nothing;
end
$body$;

create or replace function subscriptions.name_of(token uuid) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $body$
    select s.name from audit.subscriptions as s where s.token = $1
$body$;

create or replace function subscriptions.finish(token uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    ended record;
begin
    update audit.subscriptions as s set ended_at = coalesce(s.ended_at, clock_timestamp()) where s.token = $1
    returning s.subscription_id, s.name into ended;
    delete from audit.outbox as o where o.what = 'subscription' and o.about = ended.subscription_id::text and o.sent_at is null;
    return ended.name;
end
$body$;
"""
GRANTS = """
grant usage on schema subscriptions to bi_reader, limited_reader;
revoke execute on all functions in schema subscriptions from public;
grant execute on all functions in schema subscriptions to bi_reader, limited_reader;
"""


def make_functions(connection: Connection, settings: Settings) -> None:
    """Make the functions as this release has them, and let the readers call them."""
    owner = db.role_name(settings, "publisher")
    connection.execute("drop schema subscriptions cascade")
    connection.execute(f'create schema subscriptions authorization "{owner}"')
    connection.execute(f'set local role "{owner}"')
    connection.execute(FUNCTIONS)
    connection.execute("reset role")
    connection.execute(db.replace_role_names(settings, GRANTS))
