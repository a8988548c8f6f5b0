"""Two hundred requests a second of a mixed kind at the API, in quiet and while hourly runs publish: what answers and runs cost each other."""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import psutil

from northstar.base.settings import Settings, load_settings
from northstar.demo.company import simulate
from northstar.runs import job
from northstar.use.answers.reading import SCOPES
from northstar.use.api import serve
from northstar.use.api.access import MOST_REQUESTS_A_MINUTE, Access
from northstar.use.query import query
from northstar.warehouse import embedded
from northstar.warehouse.setup import bootstrap

RATE, QUIET_SECONDS, HOURS = 200, 60, 3
MONTHS, ACCOUNTS = 12, 2_000
CONNECTIONS = 32
GOAL_MS, GOAL_RUN = 100, 1.3
# {question: how many of a hundred}; `explain` is asked apart
KINDS = {
    "value": 32, "open value": 4, "values": 16, "values of a segment": 8, "earlier value": 4, "compare": 8, "csv": 4, "the same again": 6, "targets": 3,
    "metric": 4, "metrics": 2, "restatements": 2, "changes": 2, "marks": 1, "customers": 1, "status": 1, "query": 2,
}  # fmt: skip
SQL = "select metric_id, value from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = ''"


def addresses(settings: Settings, chance: random.Random) -> list[tuple[str, str]]:
    """Four thousand questions as (kind, address), in a drawn order: each is asked again after 20 seconds, when hourly runs have published twice."""
    catalogue = query(settings, "select metric_id, grains, coalesce(segments, ''), unit from metrics order by 1")[1]
    applications = [row[0] for row in query(settings, "select distinct application from metric_status order by 1")[1]]
    newest = query(settings, "select max(published_version) from publications")[1][0][0]
    asked = []
    for kind in [kind for kind, count in KINDS.items() for _ in range(count * 40)]:
        metric, grains, segments, _ = chance.choice(catalogue)
        place: dict[str, object] = {"grain": chance.choice(grains.replace(";", ",").split(","))}
        if chance.random() < 0.4:
            place["application"] = chance.choice(applications)
        base = f"/v1/metrics/{metric}"
        match kind:
            case "value" | "the same again":
                asked.append((kind, f"{base}/value?{urlencode(place)}"))
            case "open value":
                asked.append((kind, f"{base}/value?{urlencode(place | {'open': 'true'})}"))
            case "values":
                asked.append((kind, f"{base}/values?{urlencode(place | {'limit': 100})}"))
            case "csv":
                asked.append((kind, f"{base}/values?{urlencode(place | {'format': 'csv', 'limit': 400})}"))
            case "values of a segment":
                segment = chance.choice(segments.replace(";", ",").split(","))
                asked.append(
                    (
                        kind,
                        f"{base}/values?{urlencode(place | ({'segment': segment} if segment else {}) | {'limit': 100})}",
                    )
                )
            case "earlier value":
                asked.append((kind, f"{base}/value?{urlencode(place | {'version': max(1, newest - 1)})}"))
            case "compare":
                asked.append((kind, f"{base}/compare?{urlencode(place)}"))
            case "metric":
                asked.append((kind, base))
            case "query":
                asked.append((kind, f"/v1/query?sql={quote(SQL)}"))
            case "restatements":
                asked.append((kind, f"/v1/restatements?metric={metric}&limit=50"))
            case "targets":
                asked.append((kind, f"/v1/targets?metric={metric}"))
            case "customers":
                asked.append((kind, "/v1/customers?limit=50"))
            case "metrics":
                asked.append((kind, "/v1/metrics?search=churn"))
            case _:
                asked.append((kind, f"/v1/{kind}"))
    chance.shuffle(asked)
    return asked


async def ask_at_rate(
    address: str, token: str, asked: list[tuple[str, str]], rate: float, ended: asyncio.Event
) -> list:
    """Ask one after the other at a rate until `ended`; (kind, when it was due, seconds from then to the whole answer, status) of each.

    An answer's time counts from when its request was due, so that a server that stands still is not asked less.
    """
    host, _, port = address.rpartition("/")[2].partition(":")
    found: list = []
    waiting: asyncio.Queue = asyncio.Queue()
    tags: dict[str, str] = {}

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while (item := await waiting.get()) is not None:
            due, kind, target = item
            known = f"If-None-Match: {tags[target]}\r\n" if kind == "the same again" and target in tags else ""
            writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{known}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            if "\r\netag: " in head:
                tags[target] = head.partition("\r\netag: ")[2].partition("\r\n")[0]
            found.append((kind, due, time.monotonic() - due, int(head[9:12])))
        writer.close()

    workers = [asyncio.create_task(worker()) for _ in range(CONNECTIONS)]
    began, number = time.monotonic(), 0
    while not ended.is_set():
        due = began + number / rate
        if (pause := due - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        kind, target = asked[number % len(asked)]
        waiting.put_nowait((due, kind, target))
        number += 1
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    return found


def ask(address: str, token_file: str, asked_file: str, found_file: str) -> None:
    """The process of the clients: asks until its standard input ends."""

    async def run() -> list:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
        asked = [tuple(pair) for pair in json.loads(Path(asked_file).read_text())]
        return await ask_at_rate(address, Path(token_file).read_text(), asked, RATE, ended)

    Path(found_file).write_text(json.dumps(asyncio.run(run())))


def answers(work: Path, scale: float, results: list) -> None:
    """Report p95 of the answers in quiet and while hourly runs publish, and the runs' time beside quiet ones. BENCH_ANSWERS_HOME: a published home."""
    given = os.environ.get("BENCH_ANSWERS_HOME")
    settings = load_settings(given or work / "answers")
    source = str(settings.home / "demo") if given else str(work / "answers-source")
    if given:
        embedded.ensure_running(settings)
    else:
        bootstrap(settings)
        simulate(Path(source), months=MONTHS, accounts=max(50, int(ACCOUNTS * scale)))
    as_of = query(settings, "select max(as_of) from publications")[1][0][0] if given else None
    if as_of is None:
        from northstar.demo.company import END

        as_of = END
        job.run(settings, "nightly", as_of, source, _silent)
    hours = iter(range(1, 100))

    def hourly() -> float:
        started = time.monotonic()
        job.run(settings, "hourly", as_of + timedelta(hours=next(hours)), source, _silent)
        return time.monotonic() - started

    hourly()
    quiet_run = statistics.median(hourly() for _ in range(HOURS))
    server = subprocess.Popen(
        [sys.executable, "-m", "northstar.cli", "api", "--home", str(settings.home)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not serve.is_answering(settings):
            time.sleep(0.2)
        _measure(work, settings, server, quiet_run, hourly, results)
    finally:
        server.terminate()
        server.wait()
        embedded.stop(settings)


def _measure(work: Path, settings: Settings, server: subprocess.Popen, quiet_run: float, hourly, results: list) -> None:
    token, asked, found = work / "token", work / "asked.json", work / "found.json"
    token.write_text(Access(settings).add_token(f"benchmark {os.getpid()}", SCOPES, 1, MOST_REQUESTS_A_MINUTE))
    asked.write_text(json.dumps(addresses(settings, random.Random(0))))
    command = [sys.executable, "-m", "benchmarks.answers", serve.url(settings), str(token), str(asked), str(found)]
    clients = subprocess.Popen(command, stdin=subprocess.PIPE)
    process = psutil.Process(server.pid)
    time.sleep(5)
    others, quiet, before = os.getloadavg()[0], time.monotonic(), process.cpu_times()
    time.sleep(QUIET_SECONDS)
    busy, after = time.monotonic(), process.cpu_times()
    loaded_run = statistics.median(hourly() for _ in range(HOURS))
    end = time.monotonic()
    clients.communicate()
    rows = json.loads(found.read_text())
    in_quiet, in_load = ([r for r in rows if a <= r[1] < b] for a, b in ((quiet, busy), (busy, end)))
    processor = (sum(after[:2]) - sum(before[:2])) / len(in_quiet) * 1000
    print(
        f"answers: {len(in_quiet):,} in quiet, {processor:.2f} ms of processor each; load of the machine {others:.1f}",
        flush=True,
    )
    for name, part in (("in quiet", in_quiet), ("while hourly runs publish", in_load)):
        p95 = float(np.percentile([r[2] for r in part], 95)) * 1000
        wrong = sorted({r[3] for r in part if r[3] not in (200, 304, 400, 404, 409)})
        kinds = {
            kind: round(float(np.percentile([r[2] for r in part if r[0] == kind] or [0], 95)) * 1000) for kind in KINDS
        }
        results.append({"name": f"p95 of {RATE} answers a second {name}, ms", "milliseconds": round(p95), "kinds": kinds, "processor": round(processor, 2), "load": others,
                        "goal": GOAL_MS, "reached": p95 <= GOAL_MS and not wrong, "wrong": wrong})  # fmt: skip
        print(
            f"p95 of {RATE} answers a second {name}: {p95:.0f} ms   goal {GOAL_MS}   {kinds} {wrong or ''}", flush=True
        )
    ratio = loaded_run / quiet_run
    results.append({"name": f"hourly run beside {RATE} answers a second", "seconds": round(loaded_run, 1), "peer": "in quiet", "peer_seconds": round(quiet_run, 1),
                    "ratio": round(ratio, 2), "goal": GOAL_RUN, "reached": ratio <= GOAL_RUN})  # fmt: skip
    print(
        f"hourly run beside them: {loaded_run:.1f} s   in quiet {quiet_run:.1f} s   x {ratio:.2f}   goal {GOAL_RUN}",
        flush=True,
    )


def _silent(_: str) -> None:
    pass


if __name__ == "__main__":
    ask(*sys.argv[1:])
