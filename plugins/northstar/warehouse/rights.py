"""The roles of the warehouse and their rights, including who may write which table of the schema audit."""

import psycopg
from psycopg import sql

from northstar.base.settings import Settings
from northstar.warehouse import db, marks, role_settings
from northstar.warehouse.rows import Connection, fetch_one

# {audit table: the roles that may write it}; all three may write a table that is not named here. So no role can change another's evidence
WRITERS = {
    "runs": ("transformer", "publisher"),
    "writer_lease": ("transformer",),
    "model_runs": ("transformer",),
    "definitions": ("transformer",),
    "explained": ("transformer",),
    "manifests": ("transformer",),
    "holds": ("publisher",),
    "approvals": ("publisher",),
    "checks": ("transformer",),
    "reconciliations": ("loader", "transformer"),
    "landing_batches": ("loader",),
    "landed_files": ("loader",),
    "unread_files": ("loader",),
    "lake_files": ("loader",),
    "handovers": ("transformer",),
    "schema_drift": ("loader",),
    "source_states": ("loader",),
    "source_runs": ("loader",),
    "column_profiles": ("loader",),
    "known_values": ("loader",),
    "unusual_values": ("loader",),
    "mapped_values": ("loader",),
    "notices": ("publisher",),
    "alert_evaluations": ("publisher",),
    "reports": ("publisher",),
    "outbox": ("publisher",),
    "subscriptions": ("publisher",),
    "backfills": ("transformer",),
    "maintenance": ("transformer",),
    "erasures": ("loader",),
    "erasure_ids": ("loader",),
    "tombstones": ("loader",),
    "details_forgotten": ("loader",),
    "pii_keys": ("loader",),
    "bootstrapped": (),
    "migrations": (),
}
# the tables of other roles from which the upkeep, which runs as transformer, may delete (northstar.runs.maintenance)
PRUNED_BY_UPKEEP = ("source_runs", "alert_evaluations", "notices", "outbox")
# functions that Postgres lets everybody call. With them a reader could hold a lock that the publisher waits for, fill the disk outside of
# tables, or end the sessions of its own role
UNSAFE_FUNCTIONS = r"^(pg_(try_)?advisory_(xact_)?lock(_shared)?|lo_creat|lo_create|lo_from_bytea|pg_logical_emit_message|pg_(terminate|cancel)_backend)$"
GRANTS = """
grant usage on schema staging, quarantine to loader, transformer;
grant usage on schema audit to loader, transformer, publisher;
grant create on schema staging to transformer;
grant select on all tables in schema staging to transformer;
grant select on all tables in schema quarantine to transformer;
grant usage on schema core, marts_candidate to publisher;
grant usage on schema marts, marts_history, marts_at_version to bi_reader, transformer;
grant usage on sequence audit.run_ids to transformer;
alter default privileges for role loader in schema staging grant select on tables to transformer;
alter default privileges for role transformer in schema core grant select on tables to publisher;
alter default privileges for role transformer in schema marts_candidate grant select on tables to publisher;
alter default privileges for role publisher in schema marts grant select on tables to bi_reader, transformer;
alter default privileges for role publisher in schema marts_at_version grant select on tables to bi_reader, transformer;
alter default privileges for role publisher in schema marts_history grant select on tables to transformer;
grant usage on schema staging, core, audit, marts_candidate, marts to explainer;
grant select on all tables in schema staging, core, marts_candidate, marts to explainer;
alter default privileges for role loader in schema staging grant select on tables to explainer;
alter default privileges for role transformer in schema staging grant select on tables to explainer;
alter default privileges for role transformer in schema core grant select on tables to explainer;
alter default privileges for role transformer in schema marts_candidate grant select on tables to explainer;
alter default privileges for role publisher in schema marts grant select on tables to explainer;
grant select on core.run_context to publisher;
revoke all on all tables in schema quarantine from publisher;
revoke usage on schema staging, quarantine from publisher;
revoke all on all tables in schema audit from loader, transformer, publisher;
revoke all on all sequences in schema audit from loader, publisher;
"""


def make_role(connection: Connection, settings: Settings, role: str, can_login: bool = True) -> None:
    """Make a role with its password, or one that nobody can log in as, and take from an existing one what it does not need."""
    name = db.role_name(settings, role)
    existing_role = connection.execute(
        "select array_remove(array[case when rolsuper then 'nosuperuser' end, case when rolcreatedb then 'nocreatedb' end, "
        "case when rolcreaterole then 'nocreaterole' end], null) as too_much from pg_roles where rolname = %s",
        [name],
    ).fetchone()
    # only attributes that the role has are taken away: an administrator without an attribute may not even name it
    verb, attributes = ("alter", " ".join(existing_role["too_much"])) if existing_role else ("create", "")
    login: sql.SQL | sql.Composed = sql.SQL("nologin")
    if can_login:
        login = sql.SQL("login password {}").format(sql.Literal(_password_hash(connection, settings, role)))
    connection.execute(sql.SQL(f"{verb} role {{}} {attributes} {{}}").format(sql.Identifier(name), login))
    if not role_settings.is_superuser(connection):
        _become_member_of(connection, name)
    marks.set_mark(connection, "role", name, marks.mark_text(settings))


def _password_hash(connection: Connection, settings: Settings, role: str) -> str:
    # hashed here, because a server may log its DDL, or a statement that fails: the log must not hold the password
    name, password = db.role_name(settings, role), db.password(settings, role)
    return connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()


def _become_member_of(connection: Connection, name: str) -> None:
    """Let an administrator who is no superuser make a role that it created the owner of things, and act as that role."""
    has_options = connection.info.server_version >= 160000
    needed = ("SET", "USAGE") if has_options else ("MEMBER",)
    row = fetch_one(connection.execute(
        "select bool_and(pg_has_role(current_user, %s::name, kind)) as is_member from unnest(%s::text[]) as kind",
        [name, list(needed)],
    ))  # fmt: skip
    if not row["is_member"]:
        # since Postgres 16 the creator of a role may grant it, but is not a member with these options
        options = " with inherit true, set true" if has_options else ""
        connection.execute(sql.SQL("grant {} to current_user" + options).format(sql.Identifier(name)))


def act_as_owner(connection: Connection, schema: str) -> None:
    """Act as the owner of a schema's tables, until the transaction ends or `reset role`."""
    connection.execute("reset role")
    owner = connection.execute(
        "select pg_get_userbyid(nspowner) as name from pg_namespace where nspname = %s and pg_get_userbyid(nspowner) <> session_user",
        [schema],
    ).fetchone()
    if owner:
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(owner["name"])))


def make_limited_roles(connection: Connection, settings: Settings) -> None:
    """Make the roles of readers.yml members of the group whose policies limit them, and take away those that are not there any more."""
    group = sql.Identifier(db.role_name(settings, db.LIMITED))
    wanted = {db.role_name(settings, role): role for role in db.limited_roles(settings)}
    members = connection.execute(
        "select r.rolname as name from pg_auth_members as m join pg_roles as r on r.oid = m.member where m.roleid = (select oid from pg_roles where rolname = %s) "
        "and starts_with(r.rolname, %s) and shobj_description(r.oid, 'pg_authid') = %s",
        [db.role_name(settings, db.LIMITED), db.role_name(settings, db.READER), marks.mark_text(settings)],
    ).fetchall()
    for name in {row["name"] for row in members} - wanted.keys():
        connection.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(name)))
        try:
            with connection.transaction():
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
        except psycopg.errors.DependentObjectsStillExist:
            # somebody gave it rights of their own; it has no row of limits any more, and nobody can log in as it
            continue
    for name, role in wanted.items():
        make_role(connection, settings, role)
        connection.execute(sql.SQL("grant {} to {}").format(group, sql.Identifier(name)))


def grant_audit_tables(connection: Connection, settings: Settings) -> None:
    def grant(privileges: str, table: sql.Identifier, *roles: str) -> None:
        for role in roles:
            name = sql.Identifier(db.role_name(settings, role))
            connection.execute(sql.SQL(f"grant {privileges} on {{}} to {{}}").format(table, name))

    for row in connection.execute("select tablename as name from pg_tables where schemaname = 'audit'").fetchall():
        table = sql.Identifier("audit", row["name"])
        if row["name"] == "bootstrapped":
            grant("select (fingerprint)", table, "transformer")
        else:
            grant("select", table, "loader", "transformer", "publisher")
        grant("insert, update, delete", table, *WRITERS.get(row["name"], ("loader", "transformer", "publisher")))
        if row["name"] in PRUNED_BY_UPKEEP:
            grant("delete", table, "transformer")


def grant_connect(connection: Connection, settings: Settings, database: str) -> None:
    for role in (*db.ROLES, db.LIMITED):
        rights = "connect" if role in ("bi_reader", db.LIMITED) else "connect, temporary"
        connection.execute(
            sql.SQL(f"grant {rights} on database {{}} to {{}}").format(
                sql.Identifier(database), sql.Identifier(db.role_name(settings, role))
            )
        )


def restrict_databases(connection: Connection, settings: Settings, database: str) -> None:
    """Let the roles connect to the warehouse and to no other database of this server, as far as those databases are ours."""
    connection.execute(sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(database)))
    connection.execute("revoke create on schema public from public")
    own_databases = [] if settings.warehouse_url else ["postgres", "template1"]
    if marks.owns_airflow_database(connection, settings):
        own_databases.append(db.airflow_database(settings))
    other_databases = connection.execute(
        "select datname as name from pg_database where datname = any(%s) and datname <> %s "
        "and pg_has_role(datdba, 'member')",
        [own_databases, database],
    ).fetchall()
    for other_database in other_databases:
        connection.execute(
            sql.SQL("revoke connect, temporary on database {} from public").format(
                sql.Identifier(other_database["name"])
            )
        )


def revoke_unsafe_functions(connection: Connection, settings: Settings) -> None:
    """Take UNSAFE_FUNCTIONS from everybody; only our writing roles keep the locks. Without a superuser (managed services) it does nothing."""
    if not role_settings.is_superuser(connection):
        return
    functions = connection.execute(
        "select oid::regprocedure::text as name, proname like '%%advisory%%' as is_lock from pg_proc "
        "where pronamespace = 'pg_catalog'::regnamespace and proname ~ %s",
        [UNSAFE_FUNCTIONS],
    ).fetchall()
    for function in functions:
        connection.execute(f"revoke execute on function {function['name']} from public")
        if function["is_lock"]:
            connection.execute(
                f"grant execute on function {function['name']} to "
                + db.replace_role_names(settings, "loader, transformer, publisher")
            )
