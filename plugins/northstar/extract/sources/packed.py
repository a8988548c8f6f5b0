"""What a file's name says of its content: the format, and how it is compressed; and the content of a compressed one, as a stream."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any, Protocol

import pyarrow as pa

from northstar.base.errors import FileFailed

FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
}  # fmt: skip
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
CHUNK = 1 << 20


def compression_of(path: str) -> str | None:
    """The suffix of COMPRESSIONS that a path ends with."""
    return next((suffix for suffix in COMPRESSIONS if path.lower().endswith(suffix)), None)


def format_of(path: str) -> str | None:
    """The format that a path names: csv, jsonl, json or parquet. None for other paths, and for an archive that does not say it."""
    suffix = compression_of(path)
    name = path.lower().removesuffix(suffix or "")
    found = next((kind for end, kind in FORMATS.items() if name.endswith(end)), None)
    # parquet compresses itself; a compressed one could not be read in parts
    return None if suffix and found == "parquet" else found


def is_tabbed(path: str) -> bool:
    """Whether a path names a file of tab-separated values."""
    return path.lower().removesuffix(compression_of(path) or "").endswith(".tsv")


def is_readable(path: str) -> bool:
    """Whether files of this name are read."""
    return format_of(path) is not None or path.lower().endswith(".zip")


def is_hidden(path: str) -> bool:
    """Whether every reader skips a path below a directory: parts of it begin with . or _ (writers' own and unfinished files).

    A partition's folder may begin with _, too: _day=2025-01-01.
    """
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))


def unpacked(raw: IO[bytes], path: str) -> IO[bytes]:
    """The content of a file as its name says that it is compressed (see archives.py for zip). Raises FileFailed while it is read, for bytes after its end."""
    suffix = compression_of(path)
    if suffix is None:
        return raw
    if suffix == ".zst":
        return io.BufferedReader(_Zstandard(raw), CHUNK)
    return io.BufferedReader(_Unpacked(raw, path, DECOMPRESSORS[suffix]), CHUNK)


class _Decompressor(Protocol):
    """What bz2's and lzma's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the compressed data has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing left in there."""

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most `max_length` bytes of what is in there."""


class _Gzip:
    """zlib's decompressor with the face of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    ".gz": _Gzip, ".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor,
}  # fmt: skip


class _Zstandard(io.RawIOBase):
    """A file that zstd compressed, which Python itself cannot read."""

    def __init__(self, raw: IO[bytes]):
        self._raw, self._stream = raw, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    # Any: a buffer of whatever kind, of which no type before Python 3.12 says so
    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; returns the number of bytes, 0 at the end."""
        space = memoryview(buffer)
        data: bytes = self._stream.read(len(space))
        space[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        self._raw.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """A compressed file of one member or several, each after the other; zeros may follow.

    Python's own readers pass over other bytes after a bz2 or xz member, as if the file had ended there.
    """

    def __init__(self, raw: IO[bytes], path: str, new: Callable[[], _Decompressor]):
        self._raw, self._path, self._new, self._member, self._is_first = raw, path, new, new(), True
        self._pending = b""

    def readable(self) -> bool:
        return True

    # Any: a buffer of whatever kind, of which no type before Python 3.12 says so
    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; returns the number of bytes, 0 at the end."""
        space = memoryview(buffer)
        while True:
            if self._member.eof and not self._begin_next():
                return 0
            if self._member.needs_input and not self._pending:
                self._pending = self._raw.read(CHUNK)
                if not self._pending:
                    raise EOFError
            given, self._pending = (self._pending, b"") if self._member.needs_input else (b"", self._pending)
            try:
                data = self._member.decompress(given, len(space))
            except (zlib.error, OSError, lzma.LZMAError) as exc:
                if self._is_first:
                    raise EOFError from exc
                raise FileFailed(self._path, "after the compressed data come other bytes; deliver it again") from exc
            if data:
                self._is_first = self._is_first and not self._member.eof
                space[: len(data)] = data
                return len(data)

    def _begin_next(self) -> bool:
        """Go on to the member after the one that has ended; False where there is none."""
        rest = self._member.unused_data.lstrip(b"\0") or self._pending.lstrip(b"\0")
        while not rest and (chunk := self._raw.read(CHUNK)):
            rest = chunk.lstrip(b"\0")
        self._pending, self._is_first = rest, False
        if rest:
            self._member = self._new()
        return bool(rest)

    def close(self) -> None:
        self._raw.close()
        super().close()
