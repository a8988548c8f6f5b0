"""The files connector on an object store: moto's S3 server, spoken to over HTTP."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from northstar import db
from northstar.errors import NorthstarError
from northstar.landing import land_directory
from tests.support import empty, silent

HEADER = "account_id,account_type,created_at,updated_at\n"
ROW = "{},customer,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = boto3.client("s3")
        store.create_bucket(Bucket="lake")
        yield store
    server.stop()


def put(store, key, text):
    store.put_object(Bucket="lake", Key=key, Body=text.encode())


def test_only_new_and_changed_objects_are_read(warehouse, bucket):
    empty(warehouse)
    put(bucket, "export/accounts/a.csv", HEADER + ROW.format("a1"))
    put(bucket, "export/accounts/2025/01/b.csv", HEADER + ROW.format("a2") + ROW.format("a3"))

    def land():
        return {r.entity: r for r in land_directory(warehouse, 1, "s3://lake/export", progress=silent)}["accounts"]

    assert land().inserted == 3
    assert land().rows_read == 0
    put(bucket, "export/accounts/a.csv", HEADER + ROW.format("a1") + ROW.format("a4"))
    put(bucket, "export/accounts/c.csv", HEADER + ROW.format("a5"))
    again = land()
    assert (again.rows_read, again.inserted) == (3, 2)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from staging.accounts").fetchone()["n"] == 5


def test_a_bucket_that_is_not_there_is_one_line(warehouse, bucket):
    with pytest.raises(NorthstarError, match="nowhere") as caught:
        land_directory(warehouse, 1, "s3://nowhere/export", progress=silent)
    assert "\n" not in str(caught.value)
