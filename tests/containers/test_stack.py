"""docker-compose.yml for real: built, started, run, read, killed and stopped, in this order."""

import base64
import json
import re
import shutil
import urllib.error
import urllib.request

import pytest

from northstar.base.formats import format_value
from tests.containers.conftest import ODD, SERVED, run_dag
from tests.containers.stack import Stack, asked
from tests.orchestration.test_container import SECRETS

pytestmark = pytest.mark.timeout(1800)
CHROMIUM = shutil.which("chromium")
# every secret's own variable, by the name that the services have it under
GIVEN = {name: name.removeprefix("NORTHSTAR_") for name in asked() if name != "NORTHSTAR_SOURCE_DIR"}
IN_PROCESSES = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
PUBLISHED = (
    "select published_version, as_of, mode, code_version from audit.runs where published_version is not null order by 1"
)


def sql(stack: Stack, query: str) -> list[dict]:
    """Rows of a query, as the administrator beside the server."""
    text = stack.execute(
        "warehouse", "psql", "-U", "northstar_owner", "-d", "northstar", "-qAtX", "-c",
        f"select coalesce(json_agg(r), '[]') from ({query}) as r",
    ).stdout  # fmt: skip
    return json.loads(text)


def marker(stack: Stack, name: str) -> str:
    """What is a secret's alone, and the same however it is quoted."""
    return stack.compose.variables[name].removeprefix(ODD)


def page(stack: Stack, path: str, password: str | None = None) -> tuple[int, str]:
    """Status and text of a page, as a reader on this machine gets it."""
    address = f"http://127.0.0.1:{stack.compose.variables['NORTHSTAR_PAGES_PORT']}{path}"
    headers = {"Authorization": "Basic " + base64.b64encode(f"reader:{password}".encode()).decode()} if password else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_the_image_has_code_that_its_user_cannot_change_and_nothing_to_install_more_with(stack):
    done = stack.run(
        "triggerer",
        "-c",
        "id -u; find /opt/northstar -writable ! -type l; command -v pip uv gcc; true",
        entrypoint="sh",
    )
    assert done.stdout.split() == ["10001"], done


@pytest.mark.parametrize("name", SERVED)
def test_a_service_runs_without_rights_and_within_its_limits(stack, name):
    status = dict(
        line.split(":", 1) for line in stack.execute(name, "cat", "/proc/1/status").stdout.splitlines() if ":" in line
    )
    assert set(status["Uid"].split() + status["Gid"].split()) & {"0"} == set()
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    limits, service = stack.inspect(name)["HostConfig"], stack.compose.services[name]
    assert limits["Memory"] == int(service["mem_limit"].removesuffix("g")) * 2**30
    assert limits["PidsLimit"] == service["pids_limit"]
    written = stack.execute(name, "sh", "-c", "touch /somewhere /opt/somewhere /var/tmp/somewhere", is_checked=False)
    assert written.returncode != 0 and written.stderr.count("Read-only file system") >= 2, written.stderr


def test_the_nightly_run_publishes(stack, nightly):
    assert set(nightly.values()) == {"success"}
    [version] = sql(stack, PUBLISHED)
    assert (version["published_version"], version["mode"]) == (1, "nightly")
    assert sql(stack, "select count(*) > 1000 as enough from marts.metric_values")[0]["enough"]


def test_the_pages_ask_for_a_password_and_show_what_the_marts_say(stack, nightly):
    password = stack.compose.variables["NORTHSTAR_PAGES_PASSWORD"]
    assert page(stack, "/")[0] == page(stack, "/", "wrong")[0] == page(stack, "/", password + "x")[0] == 401
    assert page(stack, "/", password)[0] == 200
    if not CHROMIUM:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    [mrr] = sql(
        stack, "select v.value, m.unit from marts.metric_values as v join marts.metrics as m using (metric_id) where metric_id = 'mrr' "
        "and grain = 'month' and application = 'all' and segment = '' and is_complete order by period_start desc limit 1",
    )  # fmt: skip
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(http_credentials={"username": "reader", "password": password})
        context.set_default_timeout(120_000)
        tab = context.new_page()
        tab.goto(f"http://127.0.0.1:{stack.compose.variables['NORTHSTAR_PAGES_PORT']}/")
        card = tab.locator("[data-metric=mrr] .northstar-card-value").first
        card.wait_for()
        assert card.text_content() == format_value(mrr["value"], mrr["unit"], "USD")
        browser.close()


def test_a_service_knows_the_secrets_of_its_work_and_no_other(stack, nightly):
    table = SECRETS | {"warehouse": {"OWNER_PASSWORD"}}
    for name in SERVED:
        known = stack.execute(name, "sh", "-c", IN_PROCESSES).stdout
        assert {GIVEN[v] for v in GIVEN if marker(stack, v) in known} == table[name], name


def test_no_secret_lies_where_another_service_reads_it_or_in_a_log(stack, nightly):
    pattern = "|".join(marker(stack, name) for name in GIVEN)
    for name in set(SERVED) - {"warehouse"}:
        found = stack.execute(name, "grep", "-rlE", pattern, "/var/lib/northstar", is_checked=False)
        assert (found.returncode, found.stdout) == (1, ""), found
    assert not [name for name in stack.compose.services if re.search(pattern, stack.log(name))]


def test_logs_come_on_standard_output_and_no_file_of_a_container_is_written(stack, nightly):
    said = {
        "warehouse": "database system is ready", "scheduler": "nightly_rebuild", "api-server": "/api/v2/dags/nightly_rebuild",
        "dag-processor": "nightly_rebuild", "triggerer": "trigger", "pages": "Listening at",
    }  # fmt: skip
    for name, words in said.items():
        assert words in stack.log(name), name
        told = json.loads(stack.podman("diff", "--format", "json", stack.container(name)).stdout)
        # where something is mounted
        assert {path for paths in told.values() for path in paths} <= {"/etc", "/run", "/run/postgresql", "/source"}, (
            name
        )
    kept = stack.execute("scheduler", "find", "/var/lib/northstar/logs", "-maxdepth", "1", "-name", "*.log").stdout
    assert not [name for name in SERVED if f"/{name}.log" in kept]


def test_an_administrator_works_in_a_container_of_his_own(stack, nightly):
    done = stack.run("init", "erase", "--pending")
    assert done.returncode == 0, done
    done = stack.execute("scheduler", "northstar", "airflow", "dags", "list", "--output", "plain")
    assert "nightly_rebuild" in done.stdout
    done = stack.execute("scheduler", "northstar", "doctor", is_checked=False)
    assert done.returncode == 0, done.stdout


def test_a_service_that_is_killed_comes_back_and_nothing_is_lost(stack, airflow, nightly):
    content = (
        "select count(*) as rows, md5(string_agg(v::text, ',' order by v::text)) as hash from marts.metric_values as v"
    )
    before, values = sql(stack, PUBLISHED), sql(stack, content)
    for name in SERVED:
        stack.kill(name)
    for name in SERVED:
        stack.await_health(name)
    assert (sql(stack, PUBLISHED), sql(stack, content)) == (before, values)
    assert set(run_dag(airflow, "hourly_refresh").values()) == {"success"}
    after = sql(stack, PUBLISHED)
    assert after[: len(before)] == before and {v["mode"] for v in after[len(before) :]} == {"hourly"}
    assert page(stack, "/", stack.compose.variables["NORTHSTAR_PAGES_PASSWORD"])[0] == 200


def test_stopping_leaves_no_process_and_keeps_everything(stack, airflow, nightly):
    before = sql(stack, PUBLISHED)
    stack.stop()
    # 137: it had to be killed
    assert [name for name in stack.compose.services if stack.exit_code(name) == 137] == []
    assert "database system is shut down" in stack.log("warehouse").splitlines()[-1]
    assert stack.podman("ps", "--quiet").stdout == ""
    stack.podman("start", stack.container("warehouse"))
    stack.await_health("warehouse")
    assert sql(stack, PUBLISHED) == before
    stack.podman("start", stack.container("init"))
    assert stack.await_end("init") == 0, stack.log("init")
    stack.stop()
