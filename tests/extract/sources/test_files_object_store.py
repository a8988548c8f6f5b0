"""The files connector on an object store: moto's S3 server, spoken to over HTTP."""

import json

import pytest

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.files import storage_options
from northstar.warehouse import db
from tests.object_store import object_store
from tests.support import empty, silent

HEADER = "account_id,account_type,created_at,updated_at\n"
ROW = "{},customer,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"


@pytest.fixture(scope="module")
def bucket():
    with object_store("lake") as client:
        yield client


def put(store, key, text):
    store.put_object(Bucket="lake", Key=key, Body=text.encode())


def test_only_new_and_changed_objects_are_read(warehouse, bucket):
    empty(warehouse)
    put(bucket, "export/accounts/a.csv", HEADER + ROW.format("a1"))
    put(bucket, "export/accounts/2025/01/b.csv", HEADER + ROW.format("a2") + ROW.format("a3"))

    def land():
        return {r.entity: r for r in land_directory(warehouse, 1, "s3://lake/export", progress=silent)}["accounts"]

    assert land().inserted == 3
    assert land().read == 0
    put(bucket, "export/accounts/a.csv", HEADER + ROW.format("a1") + ROW.format("a4"))
    put(bucket, "export/accounts/c.csv", HEADER + ROW.format("a5"))
    again = land()
    assert (again.read, again.inserted) == (3, 2)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from staging.accounts").fetchone()["n"] == 5


def test_a_bucket_that_is_not_there_is_one_line(warehouse, bucket):
    with pytest.raises(NorthstarError, match="nowhere") as caught:
        land_directory(warehouse, 1, "s3://nowhere/export", progress=silent)
    assert "\n" not in str(caught.value)


def test_a_declared_store_takes_its_credentials_from_a_connection(warehouse, bucket, monkeypatch):
    empty(warehouse)
    address = bucket.meta.endpoint_url
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    put(bucket, "many/accounts/big.csv", HEADER + "".join(ROW.format(f"b{n}") for n in range(20_000)))
    for number in range(450):
        put(bucket, f"many/accounts/2025/{number}.csv", HEADER + ROW.format(f"a{number}"))
    put(bucket, "many/accounts/broken.csv.gz", "not gzip")
    monkeypatch.setenv(
        "AIRFLOW_CONN_LAKE",
        json.dumps(
            {
                "conn_type": "aws",
                "login": "key",
                "password": "secret",
                "extra": {"endpoint_url": address, "region_name": "us-east-1"},
            }
        ),
    )
    lake = Source("lake", "files", "lake", ("accounts",), options={"path": "s3://lake/many"})
    assert open_source(warehouse, lake).check() == "s3://lake/many: may list it"
    result = land_source(warehouse, None, lake, silent)
    assert result.error.startswith("accounts: accounts/broken.csv.gz: ") and "\n" not in result.error
    # the small ones, fetched many at a time, and the one that is streamed
    with db.connect(warehouse, "loader") as connection:
        told = connection.execute(
            "select count(*) as n, count(distinct account_id) as ids from staging.accounts"
        ).fetchone()
    assert told == {"n": 20_450, "ids": 20_450}
    put(bucket, "many/accounts/broken.csv.gz", "still not gzip")
    assert land_source(warehouse, None, lake, silent).landed.read == 0


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (
            Connection("x", "google_cloud_platform", extra={"keyfile_dict": '{"type": "service_account"}'}),
            {"token": {"type": "service_account"}},
        ),
        (Connection("x", "google_cloud_platform"), {"token": "google_default"}),
        (Connection("x", "wasb", login="me", password="key"), {"account_name": "me", "account_key": "key"}),
    ],
)
def test_connections_become_what_the_stores_want(given, options):
    assert storage_options(given) == options


def test_a_connection_of_another_type_is_refused():
    with pytest.raises(NorthstarError, match="of type 'ftp'; files need aws"):
        storage_options(Connection("x", "ftp"))
