"""The schema `explain`: functions by which `bi_reader` sees the rows behind a published number, and nothing else of what is not published.

They run the queries of `audit.explained`, which only `transformer` can write; a caller gives values, and no SQL. They belong to a role of their own,
which can read and change nothing. Personal data is hashed where it landed; what is of the company's own making (`properties`) is left out, and so
are the rows of a group that is withheld. A role of readers.yml gets the rows of numbers that it may see.
"""

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection

# the newest version's code: of an earlier one there are no rows
CODE_VERSION = "(select p.code_version from marts.publications as p order by p.published_version desc limit 1)"
# the most rows that one call returns
ROWS = 100
# the most accounts, or other things with an id, whose parts one call returns
PARTS = 20_000
PLACE = "starts timestamptz, ends timestamptz, application text, segment text, segment_value text, grain text"
VALUES = "starts, ends, application, segment, segment_value, grain"
FUNCTIONS = f"""
create or replace function explain.models() returns table (model text, sql text) language sql stable security definer set search_path = pg_catalog, pg_temp as $body$
    select d.model, d.sql from audit.definitions as d where d.code_version = {CODE_VERSION}
$body$;

create or replace function explain.query_of(model text, place int, measure text, kind text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $body$
    select e.sql from audit.explained as e
    where e.code_version = {CODE_VERSION} and e.model = $1 and e.place = $2 and e.measure = $3 and (e.kind = $4 or $4 = 'details' and e.kind = 'rows')
    -- rows that were not grouped are their own details
    order by e.kind = $4 desc limit 1
$body$;

create or replace function explain.require_shown(query text, {PLACE}) returns void language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
begin
    perform limited.require_seen(application, segment, segment_value, query like '%$5%');
    if segment <> '' and exists (
        select 1 from marts.metric_series as s
        where s.segment = require_shown.segment and s.segment_value = require_shown.segment_value and s.application = require_shown.application
            and s.state = 'small_group' and s.holds_from < greatest(ends, starts + interval '1 microsecond') and coalesce(s.holds_until, 'infinity') > starts
    ) then
        raise insufficient_privilege using message = 'the rows of this group are withheld, as its numbers are';
    end if;
end
$body$;

create or replace function explain.value_of(model text, place int, measure text, {PLACE}) returns numeric
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    query constant text := explain.query_of(model, place, measure, 'value');
    answer numeric;
begin
    perform explain.require_shown(query, {VALUES});
    if query is null then
        raise no_data_found using message = 'how this number is made has not been recorded';
    end if;
    execute query into answer using {VALUES};
    return answer;
end
$body$;

create or replace function explain.rows_of(
    model text, place int, measure text, {PLACE}, weight numeric, is_detailed boolean, most int
) returns table (contribution numeric, source jsonb, counted bigint, total numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    query constant text := explain.query_of(model, place, measure, case when is_detailed then 'details' else 'rows' end);
begin
    perform explain.require_shown(query, {VALUES});
    if query is null then
        raise no_data_found using message = 'how this number is made has not been recorded';
    end if;
    return query execute
        'select c.contribution, coalesce(c.source -> ''_row'', c.source) - ''properties'' - ''_extra'' - ''details'', count(*) over (), sum(c.contribution) over () '
        'from (' || query || ') as c order by abs(c.contribution) desc, c.source::text limit ' || least(most, {ROWS})
        using {VALUES}, weight;
end
$body$;

create or replace function explain.parts_of(
    model text, place int, measure text, {PLACE}, weight numeric, id_name text
) returns table (id text, contribution numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    query constant text := explain.query_of(model, place, measure, 'details');
begin
    perform explain.require_shown(query, {VALUES});
    if query is null or id_name not like '%\_id' then
        raise no_data_found using message = 'how this number is made has not been recorded';
    end if;
    return query execute
        'select coalesce(c.source -> ''_row'', c.source) ->> $8, sum(c.contribution) from (' || query || ') as c group by 1 order by abs(sum(c.contribution)) desc limit {PARTS}'
        using {VALUES}, weight, id_name;
end
$body$;

create or replace function explain.landed_of(id_name text, id text, entities text[]) returns table (entity text, landed bigint, files text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    name text;
    batches bigint[];
begin
    -- only by an id: by another column a caller could look for whatever it likes
    if limited.is_limited() then
        -- files and other applications have the same ids
        return;
    end if;
    foreach name in array entities loop
        if not exists (
            select 1 from pg_attribute as a join pg_class as c on c.oid = a.attrelid
            where c.relnamespace = 'staging'::regnamespace and c.relname = name and a.attname = id_name and a.attname like '%\\_id' and a.attnum > 0
                and not a.attisdropped
        ) then
            continue;
        end if;
        execute format('select count(*), array_agg(distinct _batch_id) from staging.%I where %I::text = $1', name, id_name) into landed, batches using id;
        if landed > 0 then
            entity := name;
            files := coalesce(
                (select array_agg(f.path) from (
                    select l.path from audit.landed_files as l where l.entity = name and l.batch_id = any(batches) order by l.path limit 3
                ) as f),
                (select array_agg(distinct b.source) from audit.landing_batches as b where b.batch_id = any(batches))
            );
            return next;
        end if;
    end loop;
end
$body$;
"""
GRANTS = """
grant select on audit.definitions, audit.explained, audit.landed_files, audit.landing_batches to explainer;
revoke execute on all functions in schema explain from public;
grant execute on function explain.models(), explain.value_of, explain.rows_of, explain.parts_of, explain.landed_of to bi_reader, limited_reader;
"""


def make_functions(connection: Connection, settings: Settings) -> None:
    """Make the functions as this release has them, and let the readers call them."""
    owner = db.role_name(settings, db.EXPLAINER)
    connection.execute("drop schema explain cascade")
    connection.execute(f'create schema explain authorization "{owner}"')
    connection.execute(f'set local role "{owner}"')
    # what they read may not be there yet
    connection.execute("set local check_function_bodies = off")
    connection.execute(FUNCTIONS)
    connection.execute("reset role")
    connection.execute(
        db.replace_role_names(settings, "grant usage on schema explain to bi_reader, limited_reader;" + GRANTS)
    )
