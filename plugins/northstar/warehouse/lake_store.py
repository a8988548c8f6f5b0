"""Where the files of the lake are: a directory, or a place in an object store by any address that fsspec knows (s3://, gs://, az://).

The credentials of a store are those that its own tools find: in the environment of this process, or the role of the machine.
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from northstar.base.errors import NorthstarError, PassingError
from northstar.base.files import sync_directory
from northstar.base.settings import Settings
from northstar.base.third_parties import resource_error

FETCHED_AT_ONCE = 8
# what another try does not mend
LASTING = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, ValueError, ImportError)


class DamagedFile(Exception):
    """A file of the lake that is gone, or is not what was written. path: as in audit.lake_files."""

    def __init__(self, path: str):
        super().__init__(path)
        self.path = path


class InputFailed(Exception):
    """What a file is made of could not be read: no failure of the store. error: why."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class LakeStore:
    """A lake's place. address: as people write it; system: of fsspec; root: the place in it. Paths of files are relative to it, as in audit.lake_files.

    Methods raise NorthstarError for a store that refuses, PassingError for one that does not answer.
    """

    address: str
    system: AbstractFileSystem
    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is a directory."""
        return isinstance(self.system, LocalFileSystem)

    def full(self, path: str) -> str:
        """A file's path in the store's own system."""
        return f"{self.root}/{path}"

    def name(self, path: str) -> str:
        """A file's path as people know it."""
        return f"{self.address}/{path}"

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """A new file, open for writing. When the context ends it is there as a whole, and survives a crash of the machine."""
        with self._translated("write to"):
            if not self.is_local:
                with self.system.open(self.full(path), "wb") as file:
                    yield file
                return
            local = Path(self.full(path))
            local.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(local, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            sync_directory(local.parent)

    @contextmanager
    def read(self, path: str) -> Iterator[BinaryIO]:
        """A file, open for reading. Raises DamagedFile if it is gone."""
        with self._translated("read"):
            try:
                file = self.system.open(self.full(path), "rb")
            except FileNotFoundError as exc:
                raise DamagedFile(path) from exc
            with file:
                yield file

    def sizes(self, folder: str) -> dict[str, int]:
        """{path: bytes} of the files in a folder; none if there is no such folder."""
        with self._translated("read"):
            self.system.invalidate_cache()
            found = self.system.find(self.full(folder), detail=True)
            return {path[len(self.root) + 1 :]: entry["size"] for path, entry in found.items()}

    def size(self, path: str) -> int:
        """The bytes of a file."""
        with self._translated("read"):
            self.system.invalidate_cache()
            return int(self.system.size(self.full(path)))

    def remove(self, path: str) -> None:
        """Remove a file, if it is there, with all of its versions."""
        self._remove(path, lambda found: found == path)

    def remove_others(self, folder: str, kept: Container[str]) -> int:
        """Remove the parquet files of a folder that are not kept, with all of their versions; returns how many."""
        return self._remove(folder, lambda found: found.endswith(".parquet") and found not in kept)

    def fetch(self, paths: Iterable[str], directory: Path) -> None:
        """Copy files below a directory of this machine. Raises DamagedFile for one that is gone."""

        def fetch_one(path: str) -> None:
            (directory / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self.system.get_file(self.full(path), str(directory / path))
            except FileNotFoundError as exc:
                raise DamagedFile(path) from exc

        with self._translated("read"), ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            list(pool.map(fetch_one, paths))

    def _remove(self, folder: str, is_removed: Callable[[str], bool]) -> int:
        if "s3" in self.system.protocol:
            with self._translated("remove files of"):
                return self._remove_versions(folder, is_removed)
        paths = [path for path in self.sizes(folder) if is_removed(path)]
        with self._translated("remove files of"):
            for path in paths:
                self.system.rm_file(self.full(path))
        return len(paths)

    def _remove_versions(self, folder: str, is_removed: Callable[[str], bool]) -> int:
        """As `_remove`, where a bucket may keep versions of objects, deleted ones too, and the parts of an upload that never ended."""
        bucket, prefix, _ = self.system.split_path(self.full(folder))
        above = len(prefix) - len(folder)
        removed, place = set[str](), dict[str, str]()
        while True:
            page = self.system.call_s3("list_object_versions", Bucket=bucket, Prefix=prefix, **place)
            for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                if is_removed(version["Key"][above:]):
                    self.system.call_s3(
                        "delete_object", Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"]
                    )
                    removed.add(version["Key"])
            if not page.get("IsTruncated"):
                break
            place = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        uploads = self.system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        for upload in uploads.get("Uploads", ()):
            if is_removed(upload["Key"][above:]):
                self.system.call_s3(
                    "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
                removed.add(upload["Key"])
        return len(removed)

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except (NorthstarError, DamagedFile):
            raise
        except InputFailed as exc:
            raise exc.error from None
        except Exception as exc:
            if exhausted := resource_error(exc):
                raise exhausted from exc
            failure = NorthstarError if self.is_local or isinstance(exc, LASTING) else PassingError
            raise failure(
                f"cannot {action} the lake {self.address}: {_reason(exc)}; see `lake` in operations.yml"
            ) from exc


def open_store(settings: Settings) -> LakeStore | None:
    """The lake's place; None where the home keeps no lake. Raises NorthstarError for an address that leads to no kind of store."""
    address = settings.operations.lake
    if address is None:
        return None
    if "://" not in address:
        address = str(settings.home / address)
    if address.startswith(("gs:", "gcs:")):
        # an experiment of gcsfs asks each bucket for its kind over gRPC, and waits a minute where only REST answers
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        system, root = fsspec.core.url_to_fs(address.rstrip("/"))
    except (ValueError, ImportError) as exc:
        raise NorthstarError(
            f"the lake {address} is no directory, and no store that there is: {_reason(exc)}; see `lake` in operations.yml"
        ) from exc
    return LakeStore(address.rstrip("/"), system, root.rstrip("/"))


def _reason(exc: Exception) -> str:
    strerror = exc.strerror if isinstance(exc, OSError) else None
    return strerror or " ".join(str(exc).split())[:200] or type(exc).__name__
