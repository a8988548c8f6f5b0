"""A lake in an object store: moto's S3 server, spoken to over HTTP, in a bucket that keeps older versions of its objects."""

from dataclasses import replace

import pytest
from s3fs import S3FileSystem

from northstar.base.errors import NorthstarError, PassingError
from northstar.base.ports import free_port
from northstar.base.settings import Operations
from northstar.privacy.details import forget_details
from northstar.runs.turns import command_turn
from northstar.warehouse import lake
from northstar.warehouse.lake_store import DamagedFile
from tests.object_store import object_store
from tests.support import empty, utc
from tests.warehouse.test_lake import counting, event, in_lake, in_table, land, land_many, opened

BUCKET = "company"


@pytest.fixture(scope="module")
def store():
    """A client of the server, for what happens in the bucket beside the lake."""
    with object_store(BUCKET) as client:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.fixture
def settings(warehouse, store, request):
    """The warehouse, with nothing in it and a place of its own in the bucket."""
    empty(warehouse)
    return replace(warehouse, operations=Operations(lake=f"s3://{BUCKET}/{request.node.name[:40]}/"))


def versions(store, settings) -> list[str]:
    """The keys of all that the bucket keeps of the lake: a key for each version, and for each mark of a deletion."""
    page = store.list_object_versions(Bucket=BUCKET, Prefix=settings.operations.lake.removeprefix(f"s3://{BUCKET}/"))
    return [v["Key"] for v in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]]


def test_what_lands_is_merged_and_written_again_as_in_a_directory(settings, store, tmp_path):
    land_many(settings, tmp_path)
    assert in_lake(settings) == in_table(settings) and len(versions(store, settings)) == lake.MANY
    assert lake.compact(settings) == lake.MANY - 1 and lake.sweep(settings) == lake.MANY
    files = lake.complete(settings, opened(settings))["events"]
    [merged] = lake.paths_of(files)
    assert in_lake(settings) == in_table(settings) and [key.endswith(merged) for key in versions(store, settings)] == [
        True
    ]
    # what is gone, or another than was written, is written again
    for number in (1, 2):
        land(settings, tmp_path, [event(100 + number)], f"later {number}")
    gone, other, _ = counting_paths(settings)
    store.delete_object(Bucket=BUCKET, Key=key_of(settings, gone))
    store.put_object(Bucket=BUCKET, Key=key_of(settings, other), Body=b"cut short")
    lake.complete(settings, opened(settings))
    assert in_lake(settings) == in_table(settings)
    kept = counting_paths(settings)
    assert gone not in kept and other not in kept
    assert sorted(versions(store, settings)) == sorted(key_of(settings, path) for path in kept)


def counting_paths(settings) -> list[str]:
    return sorted({file["path"] for file in counting(settings)})


def key_of(settings, path: str) -> str:
    return opened(settings).full(path).removeprefix(f"{BUCKET}/")


def test_what_is_withdrawn_is_gone_with_all_of_its_versions_and_unfinished_uploads(settings, store, tmp_path):
    land(settings, tmp_path, [event(1, properties={"tool": "é", "note": "by hand"})])
    [path] = counting_paths(settings)
    key = key_of(settings, path)
    # somebody wrote the object again, and somebody deleted another: the bucket keeps what was there
    store.put_object(Bucket=BUCKET, Key=key, Body=store.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    former = key.replace(path, "events/000000000000-0badcafe.2.parquet")
    store.put_object(Bucket=BUCKET, Key=former, Body=b"of a lake that was withdrawn")
    store.delete_object(Bucket=BUCKET, Key=former)
    # a landing that was killed while it sent a large file
    upload = store.create_multipart_upload(Bucket=BUCKET, Key=former)
    store.upload_part(Bucket=BUCKET, Key=former, UploadId=upload["UploadId"], PartNumber=1, Body=b"rows")
    assert sorted(versions(store, settings)) == sorted([key, key, former, former])
    daily = replace(settings, operations=Operations(lake=settings.operations.lake, keep_details_days={"events": 1}))
    with command_turn(daily, "a test") as number:
        forget_details(daily, number, utc("2026-03-01T00:00:00"))
    assert lake.sweep(daily) == 2
    assert versions(store, settings) == [] and not store.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    lake.complete(daily, opened(daily))
    [row] = in_lake(daily)
    assert row["properties"] == {"tool": "é"} and [row] == in_table(daily)


def test_a_store_that_refuses_or_is_away_lands_nothing_and_is_one_line(settings, tmp_path, monkeypatch):
    def refused(address: str) -> str:
        with pytest.raises(NorthstarError) as caught:
            land(replace(settings, operations=Operations(lake=address)), tmp_path, [event(1)])
        assert in_table(settings) == [] and "\n" not in str(caught.value)
        return str(caught.value)

    assert refused("s3://nowhere/lake") == (
        "events: cannot write to the lake s3://nowhere/lake: The specified bucket does not exist; see `lake` in operations.yml"
    )
    with pytest.raises(NorthstarError, match="cannot read the lake s3://nowhere/lake: The specified bucket does not"):
        opened(replace(settings, operations=Operations(lake="s3://nowhere/lake"))).sizes("events")
    unknown = "sss://nowhere/lake is no directory, and no store that there is: Protocol not known: sss"
    assert unknown in refused("sss://nowhere/lake")
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    try:
        with pytest.raises(
            PassingError, match=r"cannot read the lake s3://company/.*: Could not connect to the endpoint"
        ):
            opened(settings).sizes("events")
    finally:
        S3FileSystem.clear_instance_cache()


def test_files_are_copied_for_spark_and_one_that_is_gone_is_named(settings, store, tmp_path):
    land(settings, tmp_path, [event(1)])
    [path] = counting_paths(settings)
    opened(settings).fetch([path], tmp_path / "copy")
    assert (tmp_path / "copy" / path).stat().st_size == counting(settings)[0]["bytes"]
    store.delete_object(Bucket=BUCKET, Key=key_of(settings, path))
    with pytest.raises(DamagedFile, match=path):
        opened(settings).fetch([path], tmp_path / "again")
    # merging meets the same
    with pytest.raises(DamagedFile, match=path), opened(settings).read(path):
        pass
    lake.discard(settings, opened(settings), path)
    assert counting(settings) == [] and versions(store, settings) == []
