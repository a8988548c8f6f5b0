"""An external warehouse over TLS: every way to it checks the server's certificate as the address says, or refuses in a line.

The embedded Postgres is built without TLS, so a proxy on loopback ends it, as one in front of a production server does.
"""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from northstar.audit.run import warehouse_url as gx_address
from northstar.base.errors import NorthstarError
from northstar.build.dbt import dbt_env
from northstar.connections.airflow import airflow_environment
from northstar.extract.landing.batch import _connect as connect_adbc
from northstar.use.marts import Marts
from northstar.warehouse import db
from northstar.warehouse.setup import bootstrap

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def _authority(directory: Path, name: str) -> Path:
    """A certificate authority of our own; returns its certificate."""
    directory.mkdir()
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.crt"))  # fmt: skip
    return directory / "ca.crt"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A server's certificate for localhost, the authority that signed it, and one that did not."""
    place = tmp_path_factory.mktemp("tls")
    right, wrong = _authority(place / "right", "Northstar test"), _authority(place / "wrong", "Somebody else")
    _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
             "-keyout", str(place / "server.key"), "-out", str(place / "server.csr"))  # fmt: skip
    (place / "names").write_text("subjectAltName=DNS:localhost\n")
    _openssl("x509", "-req", "-in", str(place / "server.csr"), "-CA", str(right), "-CAkey", str(right.with_suffix(".key")), "-days", "2",
             "-extfile", str(place / "names"), "-out", str(place / "server.crt"))  # fmt: skip
    return place, right, wrong


@contextlib.contextmanager
def _ending_tls(certificate: Path, key: Path, port: int):
    """A proxy that speaks TLS, and only TLS, to Postgres' clients and plain text to the server on `port`; gives its own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    started, running = threading.Event(), {}

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        with contextlib.suppress(OSError, EOFError):
            if await reader.readexactly(8) == SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(context)
                beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(pump(reader, beyond_writer), pump(beyond_reader, writer))
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        running.update(loop=asyncio.get_running_loop(), stop=asyncio.Event(), port=server.sockets[0].getsockname()[1])
        started.set()
        await running["stop"].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    started.wait()
    try:
        yield running["port"]
    finally:
        running["loop"].call_soon_threadsafe(running["stop"].set)
        thread.join()


@pytest.fixture(scope="module")
def addresses(warehouse, certificates):
    """The settings of the shared warehouse behind TLS, with the authority that signed its certificate and with another."""
    place, right, wrong = certificates
    plain = db.uri(warehouse, "owner")
    number = int(plain.rpartition(":")[2].partition("/")[0])
    with _ending_tls(place / "server.crt", place / "server.key", number) as port:
        base = (
            f"postgresql://northstar_owner:{quote(db.password(warehouse, 'owner'), safe='')}@localhost:{port}/northstar"
        )

        def with_authority(path: Path):
            return replace(warehouse, warehouse_url=f"{base}?sslmode=verify-full&sslrootcert={path}")

        yield with_authority(right), with_authority(wrong)


def by_psycopg(settings):
    bootstrap(settings)
    for role in db.ROLES:
        with db.connect(settings, role) as connection:
            connection.execute("select 1")


def by_adbc(settings):
    connect_adbc(settings).close()


def by_the_pages(settings):
    Marts(settings)._rows("select 1", {})


def by_great_expectations(settings):
    with sa.create_engine(gx_address(settings)).connect() as connection:
        connection.execute(sa.text("select 1"))


def by_airflow(settings):
    given = airflow_environment(settings)
    with sa.create_engine(given["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).connect() as connection:
        connection.execute(sa.text("select 1"))


def by_airflow_asynchronously(settings):
    async def ask():
        engine = create_async_engine(airflow_environment(settings)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"])
        async with engine.connect() as connection:
            await connection.execute(sa.text("select 1"))
        await engine.dispose()

    asyncio.run(ask())


def by_dbt(settings):
    command = [str(Path(sys.executable).parent / "dbt"), "debug", "--connection"]
    done = subprocess.run(command, env=os.environ | dbt_env(settings), capture_output=True, text=True)
    if done.returncode:
        raise NorthstarError(done.stdout)


def by_the_command_line(settings):
    command = [sys.executable, "-m", "northstar.cli", "status", "--home", str(settings.home)]
    given = os.environ | {"NORTHSTAR_WAREHOUSE_URL": settings.warehouse_url}
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    if done.returncode:
        assert done.stderr.count("\n") == 1, done.stderr
        raise NorthstarError(done.stderr)


WAYS = (
    by_psycopg,
    by_adbc,
    by_the_pages,
    by_great_expectations,
    by_airflow,
    by_airflow_asynchronously,
    by_dbt,
    by_the_command_line,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_servers_certificate_is_checked(addresses, way):
    right, wrong = addresses
    way(right)
    with pytest.raises(
        (NorthstarError, psycopg.OperationalError, sa.exc.OperationalError), match=r"certificate verify failed"
    ) as refused:
        way(wrong)
    assert db.password(right, "owner") not in str(refused.value)
    assert db.password(right, "transformer") not in str(refused.value)
    if isinstance(refused.value, NorthstarError) and way not in (by_dbt,):
        assert "\n" not in str(refused.value).strip()


def test_a_name_that_is_not_the_certificates_is_refused(addresses):
    right, _ = addresses
    other = replace(right, warehouse_url=right.warehouse_url.replace("@localhost:", "@127.0.0.1:"))
    with pytest.raises(NorthstarError, match=r"cannot reach the warehouse as loader: .*does not match"):
        db.connect(other, "loader")


@pytest.mark.parametrize("query", ["", "?application_name=x", "?sslmode=prefer", "?sslmode=allow", "?sslmode=anything"])
def test_another_machine_without_tls_is_refused_unless_that_is_said(warehouse, query):
    other = replace(warehouse, warehouse_url=f"postgresql://admin:canary@db.example.org/northstar{query}")
    with pytest.raises(NorthstarError, match="does not ask for TLS") as refused:
        db.connect(other, "loader")
    assert "canary" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "query", ["?sslmode=disable", "?sslmode=require", "?sslmode=verify-full&sslrootcert=/etc/ssl/own/ca.crt"]
)
def test_what_the_address_says_every_roles_says(warehouse, monkeypatch, query):
    monkeypatch.setenv("NORTHSTAR_SECRET_LOADER_PASSWORD", "a/b?c@d#%")
    other = replace(warehouse, warehouse_url=f"postgresql://admin:x@db.example.org:6543/metrics{query}", role_prefix="")
    assert db.uri(other, "loader") == f"postgresql://loader:a%2Fb%3Fc%40d%23%25@db.example.org:6543/metrics{query}"
    assert db.uri(other, "owner", "airflow").endswith(f"/airflow{query}")
    assert db.database_name(other) == "metrics"
    given = dbt_env(other, "loader")
    assert given["DBT_ENV_SECRET_PG_PASSWORD"] == "a/b?c@d#%" and given["NORTHSTAR_PG_DBNAME"] == "metrics"
    assert given["NORTHSTAR_PG_SSLMODE"] == query.partition("sslmode=")[2].partition("&")[0]


def test_an_address_of_six_parts_keeps_its_brackets(warehouse):
    other = replace(warehouse, warehouse_url="postgresql://admin:x@[::1]/northstar", role_prefix="")
    assert db.uri(other, "bi_reader").endswith("@[::1]:5432/northstar")


def test_an_address_without_a_host_is_refused_in_a_line(warehouse):
    with pytest.raises(NorthstarError, match="names no host"):
        db.connect(replace(warehouse, warehouse_url="postgresql:///northstar"), "loader")
