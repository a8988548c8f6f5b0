"""`python -m benchmarks.fuzz`: a campaign of bad input against the files connector, the normaliser and mappings; prints its figures.

    --files N       mutated files, read and normalised with every promise checked (tests/hostile.py); default 10,000
    --landed N      of such files, how many go into a real Postgres; default 2,000
    --guided S      seconds of coverage-guided fuzzing by atheris, which is not among the locked packages (pip install atheris); default 300
    --seed N        where the seeds begin; a failure names its own

A failure prints the seed, or leaves the input where it says, and ends with status 1.
"""

import argparse
import contextlib
import gzip
import importlib.util
import io
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.warehouse import embedded
from northstar.warehouse.setup import bootstrap
from tests import hostile
from tests.support import empty

ROWS = 24
# longer than any file of this size takes, whatever else the machine is doing
HANGING_SECONDS = 120
MAPPING = """\
entities:
  charges:
    files: "*.csv"
    where: WHERE
    derive: {made: DERIVED}
    columns:
      charge_id: a
      account_id: {column: b, map: {x: y}, default: z}
      amount_minor: {expression: EXPRESSION}
      currency: {template: "TEMPLATE"}
      created_at: {column: c, parse: "PARSED"}
"""


@contextlib.contextmanager
def no_longer_than(seconds: int):
    """TimeoutError for what hangs."""

    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_files(first: int, count: int) -> Counter:
    """Files made from seeds, up to the database. Returns sums, `failures` among them."""
    sums: Counter = Counter()
    for seed in range(first, first + count):
        try:
            with no_longer_than(HANGING_SECONDS):
                outcome = hostile.read(hostile.a_file(random.Random(seed), ROWS))
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                raise
            sums["failures"] += 1
            print(f"seed {seed}: {type(exc).__name__}: {str(exc)[:300]}\n{traceback.format_exc(limit=-3)}", flush=True)
            continue
        sums.update(
            files=1, rows=outcome.read, landed=outcome.landed, quarantined=outcome.quarantined, refused=outcome.refused
        )
        sums["files refused in a line"] += outcome.error is not None
    return sums


def land_files(first: int, count: int, lot: int = 250) -> Counter:
    """Files made from seeds, landed into a Postgres of their own, some hundred at a time."""
    sums: Counter = Counter()
    with tempfile.TemporaryDirectory(prefix="northstar-fuzz-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(Path(directory) / "home")
        bootstrap(settings)
        try:
            for start in range(first, first + count, lot):
                empty(settings)
                source, random_ = Path(directory) / f"source{start}", random.Random(start)
                files = [hostile.a_file(random_, ROWS, f"file{n}") for n in range(lot)]
                files = [file for file in files if file.options == hostile.CsvOptions()]
                hostile.write(source, files)
                try:
                    with no_longer_than(10 * HANGING_SECONDS):
                        sums.update(hostile.landed_exactly_once(settings, source, files))
                except BaseException as exc:
                    if isinstance(exc, KeyboardInterrupt):
                        raise
                    sums["failures"] += 1
                    print(
                        f"lot {start}: {type(exc).__name__}: {str(exc)[:300]}\n{traceback.format_exc(limit=-4)}",
                        flush=True,
                    )
        finally:
            embedded.stop(settings)
    return sums


def _packed(parts: list[bytes]) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as handle:
        for part in parts:
            handle.write(part)
    return out.getvalue()


def bombs() -> dict[str, float]:
    """How much memory files take that unfold to 400 MB, in MB beyond what was there before."""
    import pyarrow as pa

    grown = {}
    line = (
        b'{"event_id": "e%d", "event_name": "'
        + b"x" * 1000
        + b'", "occurred_at": "2025-01-01T00:00:00Z", "received_at": "2025-01-01T00:00:00Z"}\n'
    )
    shapes = {
        "one line": [b'{"a": "'] + [b"x" * (1 << 20)] * 400,
        "good lines": [line * 1000] * 360,
        "bad lines": [b'{"event_id": "e"}\n' * 50_000] * 4,
    }
    for name, parts in shapes.items():
        packed = _packed(parts)
        before = peak_mb()
        file = hostile.SourceFile("events/a.jsonl.gz", "memory", len(packed), "1", content=packed)
        count = 0
        try:
            for raw in hostile.Reading(file).batches():
                count += hostile.normalise(hostile.entities()["events"], raw, hostile.Guard(hostile.KEY)).rows.num_rows
        except NorthstarError as exc:
            assert "longer than 4 MB" in str(exc)
        grown[name] = peak_mb() - before
        pa.default_memory_pool().release_unused()
    return grown


def one_input(data: bytes) -> None:
    """What atheris calls: a file of some entity, or a mapping and its expressions, out of any bytes."""
    if len(data) < 3:
        return
    which, entity, rest = data[0], data[1], data[2:]
    names = list(hostile.entities())
    if which % 4 == 3:
        map_a_file(rest)
        return
    kind = ("csv", "jsonl", "parquet")[which % 4] + (".gz" if which & 8 and which % 4 < 2 else "")
    content = gzip.compress(rest, 1) if kind.endswith("gz") and not which & 16 else rest
    options = hostile.CsvOptions(delimiter=",;\t|"[entity >> 6]) if kind.startswith("csv") else hostile.CsvOptions()
    chosen = hostile.entities()[names[entity % len(names)]]
    hostile.read(hostile.HostileFile(chosen, f"{chosen.name}/a.{kind}", content, options))


def map_a_file(data: bytes) -> None:
    """A mapping with hostile parts over a small file: it lands, or one line says what is wrong with it."""
    from northstar.extract.landing.mapped import Mapped, Unit
    from northstar.extract.landing.mapping import read_mapping

    parts = data.decode("utf-8", "replace").split("\x1f")
    text = MAPPING
    for name, part in zip(("WHERE", "DERIVED", "EXPRESSION", "TEMPLATE", "PARSED"), [*parts, *["a"] * 5], strict=False):
        text = text.replace(name, "".join(c for c in part if c not in '"\n\r{}'))
    source = hostile.SourceFile("a.csv", "memory", 1, "1", content=b"a,b,c,d\n1,x,2025-01-01,1.5\n2,,x,\n,y,,1e9\n")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "_mapping.yml"
        path.write_bytes(data[1:] if data[:1] == b"\x00" else text.encode())
        try:
            for given in read_mapping(directory, path):
                entity = hostile.entities()[given.entity]
                mapped = Mapped(given, Path(directory) / "spill", memory_mb=256, minutes=1)
                for piece in mapped.pieces(Unit(given, [source], is_together=mapped.is_together)):
                    if piece.batch.num_rows:
                        done = hostile.normalise(entity, piece.batch, hostile.Guard(hostile.KEY))
                        hostile.check_batch(entity, piece.batch, done)
                mapped.close()
        except NorthstarError as exc:
            assert "\n" not in str(exc) and str(exc).strip()


SEEDS = (
    b"\x03\x00starts_with(a, 'x') and b is not None\x1fdecimal(d) * 2 / 0\x1fint(round(decimal(d) * 100, 0))\x1f{a}-{b}\x1f%Y-%m-%d",
    b"\x03\x00a in ['1', '2']\x1fadd_days(time(c, '%Y'), 1)\x1fsubstring(a, 0, 1)\x1f{a!r:>10}\x1f%j",
    b"\x03\x00\x00entities: {charges: [{files: x, columns: {charge_id: a}}]}",
)


def guided(seconds: int) -> int:
    """Coverage-guided fuzzing in a process of its own; returns its exit status."""
    if importlib.util.find_spec("atheris") is None:
        print("guided: skipped, atheris is not installed (pip install atheris)")
        return 0
    with tempfile.TemporaryDirectory(prefix="northstar-corpus-") as directory:
        for number in range(300):
            file = hostile.a_file(random.Random(number), 3)
            kinds = {"csv": 0, "csv.gz": 8, "jsonl": 1, "jsonl.gz": 9, "parquet": 2}
            content = (
                gzip.decompress(file.content) if file.name.endswith("gz") and file.records is not None else file.content
            )
            head = bytes([kinds[file.name.partition(".")[2]], list(hostile.entities()).index(file.entity.name)])
            if len(content) < 4000:
                (Path(directory) / f"seed{number}").write_bytes(head + content)
        for number, seed in enumerate(SEEDS):
            (Path(directory) / f"mapping{number}").write_bytes(seed)
        command = [sys.executable, "-m", "benchmarks.fuzz", "--target", directory, f"-max_total_time={seconds}", "-timeout=60",
                   "-rss_limit_mb=2500", "-max_len=6000", "-print_final_stats=1", f"-artifact_prefix={tempfile.gettempdir()}/northstar-fuzz-"]  # fmt: skip
        return subprocess.run(command).returncode


def target(arguments: list[str]) -> None:
    """The process that atheris drives."""
    import atheris

    with atheris.instrument_imports(
        include=[
            "northstar.extract.sources.files",
            "northstar.extract.landing.casts",
            "northstar.extract.landing.normalise",
            "northstar.extract.landing.personal_values",
            "northstar.extract.landing.mapping",
        ]
    ):
        for name in [
            n
            for n in sys.modules
            if n.startswith(("northstar.extract.landing", "northstar.extract.sources.files", "tests.hostile"))
        ]:
            del sys.modules[name]
        import tests.hostile as instrumented
    globals()["hostile"] = instrumented
    globals()["NorthstarError"] = instrumented.NorthstarError
    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> int:
    """The campaign; returns the exit status."""
    if sys.argv[1:2] == ["--target"]:
        target(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("files", 10_000), ("landed", 2_000), ("guided", 300), ("seed", 1_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if given.files:
        print("files that unfold to 400 MB:", {name: f"+{grown:.0f} MB" for name, grown in bombs().items()}, flush=True)
    failures = 0
    for title, work, count in (("read", read_files, given.files), ("landed in Postgres", land_files, given.landed)):
        started = time.monotonic()
        sums = work(given.seed, count) if count else Counter()
        failures += sums["failures"]
        print(f"{title}: {dict(sums)}, {time.monotonic() - started:.0f} s, peak memory {peak_mb():.0f} MB", flush=True)
    if given.guided:
        failures += guided(given.guided) != 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
