"""Prometheus as a source, against a Prometheus with a history of its own."""

import shutil
import socket
import subprocess
import time

import httpx
import pytest

from northstar.extract.landing.source import land_source, source_states
from northstar.extract.sources import prometheus
from northstar.extract.sources.declared import Source, open_source
from northstar.warehouse import db
from tests.support import empty, silent

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="no prometheus on this machine (apt-get install prometheus)"
)
# half past an hour, three hours ago: a window's border lies inside
START = int(time.time()) // 3600 * 3600 - 3 * 3600 + 1800
STEPS = 121  # one in a minute
BUCKETS = (0.1, 0.5, float("inf"))
HISTORY = {
    "uptime": {"metric": "probe_success", "service": "instance"}, "third_party": ["pay.example"], "history_days": 0.25,
    "resources": {"cpu_percent": "100 * node_load", "memory_percent": "vanished", "resource": "instance"},
    "requests": {"metric": "http_request_duration_seconds", "service": "job", "route": "handler", "status": "code"},
    "applications": {"shop": ["api", "shop.example", "db1"]},
}  # fmt: skip


def samples() -> str:
    """Probes each minute, the shop down for five of them; a server's load; 3 requests a minute, and one 500 after an hour.

    The counters start at a million (before the history), and begin anew after 90 minutes.
    """
    lines = ["# TYPE probe_success gauge"]
    for instance in ("shop.example", "pay.example"):
        for n in range(STEPS):
            is_down = instance == "shop.example" and 10 <= n < 15
            lines.append(
                f'probe_success{{job="blackbox",instance="{instance}"}} {0 if is_down else 1} {START + 60 * n}'
            )
    lines.append("# TYPE node_load gauge")
    lines += [f'node_load{{instance="db1"}} {0.5 if n % 2 else 1.004} {START + 60 * n}' for n in range(STEPS)]
    lines.append("# TYPE http_request_duration_seconds gauge")
    for code in ("200", "500"):
        for n in range(STEPS):
            if code == "500" and n < 60:
                continue
            # each minute: two below 0.1 s, one below 0.5 s; 0.45 s together
            made = 1_000_000 + n if n < 90 else n - 90
            counts = (2 * made, 3 * made, 3 * made) if code == "200" else (0, 0, 1)
            labels = f'job="api",instance="api:80",handler="/pay",code="{code}"'
            for bound, count in zip(BUCKETS, counts, strict=True):
                le = "+Inf" if bound == float("inf") else bound
                lines.append(f'http_request_duration_seconds_bucket{{{labels},le="{le}"}} {count} {START + 60 * n}')
            total = 0.45 * made if code == "200" else 2.5
            lines.append(f"http_request_duration_seconds_sum{{{labels}}} {total:.6f} {START + 60 * n}")
    # one that something else wrote into: it jumps by what no service serves
    for n in range(STEPS):
        labels, count = 'job="api",instance="api:80",handler="/jump",code="200"', 10 if n < 50 else 300_000_010
        lines += [
            f'http_request_duration_seconds_bucket{{{labels},le="{"+Inf" if b == float("inf") else b}"}} {count} {START + 60 * n}'
            for b in BUCKETS
        ]
        lines.append(f"http_request_duration_seconds_sum{{{labels}}} {count / 100:.6f} {START + 60 * n}")
    # openmetrics wants a family's lines together
    kinds = ("probe", "node", "http_request_duration_seconds_bucket", "http_request_duration_seconds_sum")
    ordered = [line for kind in kinds for line in lines if line.startswith(kind)]
    return "\n".join([*ordered, "# EOF", ""])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A Prometheus with that history on a free port."""
    place = tmp_path_factory.mktemp("prometheus")
    (place / "history").write_text(samples())
    (place / "empty.yml").write_text("global: {}\n")
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", place / "history", place / "data"],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["prometheus", f"--config.file={place / 'empty.yml'}", f"--storage.tsdb.path={place / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def land(warehouse, monkeypatch, address):
    """A function that lands an entity and returns what it did."""
    empty(warehouse)
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS", address + "/http")

    def landing(entity, **options):
        source = Source("watch", "prometheus", "prometheus", (entity,), options={**HISTORY, **options})
        assert open_source(warehouse, source).check() == f"Prometheus: may read {entity}; it watches 0 targets"
        result = land_source(warehouse, None, source, silent)
        assert result.error is None, result.error
        return result.landed

    return landing


def query(settings, text: str) -> list[tuple]:
    with db.connect(settings, "loader") as connection:
        return [tuple(row.values()) for row in connection.execute(text)]


def test_probes_are_uptime_checks(warehouse, land):
    assert land("uptime_checks").inserted == 2 * STEPS
    assert query(warehouse, "select service, application, is_third_party, count(*), count(*) filter (where not is_up) as down "
                            "from staging.uptime_checks group by 1, 2, 3 order by 1") == [
        ("pay.example", "default", True, STEPS, 0), ("shop.example", "shop", False, STEPS, 5),
    ]  # fmt: skip
    assert land("uptime_checks").read == 0
    state = source_states(warehouse, "watch")["uptime_checks"]
    assert abs(state["since"] + 60 - time.time()) < 60


def test_expressions_are_resource_samples_and_none_twice(warehouse, land):
    land("resource_samples")
    rows = query(warehouse, "select resource, application, min(cpu_percent) as least, max(cpu_percent) as most, max(memory_percent) as memory, count(*), "
                            "count(distinct sampled_at) as moments from staging.resource_samples group by 1, 2")  # fmt: skip
    # an instant query looks five minutes back, so the last value stands a little longer
    assert rows[0][:5] == ("db1", "shop", 50, 100, None) and rows[0][5] == rows[0][6] >= STEPS


def test_a_histogram_becomes_as_many_requests_with_their_status_and_their_mean(warehouse, land):
    # what was counted before the first sample is not there; after the new beginning the first sample counts from 0
    expected = 3 * (89 + 30)
    assert land("api_requests").inserted == expected + 1
    told = query(warehouse, "select status_code, route, application, count(*), round(avg(duration_ms), 3), count(*) filter (where duration_ms < 100) as quick, "
                            "max(duration_ms) from staging.api_requests group by 1, 2, 3 order by 1")  # fmt: skip
    assert [t[:4] for t in told] == [(200, "/pay", "shop", expected), (500, "/pay", "shop", 1)]
    assert told[0][4] == 150 and told[0][5] == expected * 2 / 3 and told[0][6] <= 500
    # slower than every bucket's bound: the sum knows how slow
    assert told[1][6] == 2500
    # a jump is seen, and is not three hundred million rows
    ((reasons, name),) = query(warehouse, "select reasons, row ->> 'request_id' from quarantine.rows")
    assert "-300000000" in reasons[0] and reasons[0].startswith("duration_ms") and name.endswith("-jump")
    assert land("api_requests").read == 0


def test_an_hour_of_many_requests_comes_in_pages_and_can_be_read_again(warehouse, land, monkeypatch):
    monkeypatch.setattr(prometheus, "PAGE_ROWS", 50)
    assert land("api_requests").inserted == 3 * (89 + 30) + 1
    asked = open_source(
        warehouse, Source("watch", "prometheus", "prometheus", ("api_requests",), options={**HISTORY})
    ).read("api_requests", None)
    pages = [(len(page.rows), page.state["since"]) for page in asked]
    assert max(rows for rows, _ in pages) <= 51 and len({since for _, since in pages}) < len(pages)
    # killed between two pages of an hour
    with db.connect(warehouse, "loader") as connection:
        connection.execute(
            "update audit.source_states set state = jsonb_build_object('since', %s::bigint, 'counters', null)",
            [START - 1],
        )
    again = land("api_requests")
    assert again.read > 0 and again.inserted == again.updated == 0
