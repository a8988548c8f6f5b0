"""A home after a kill, a power cut, or in a place that is not its own: it starts, or one line says what to do; and `stop` leaves nobody."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from northstar.base.service_processes import is_alive
from northstar.base.settings import load_settings
from northstar.connections.airflow import airflow_environment
from northstar.orchestration import services
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded import access, server
from northstar.warehouse.setup import bootstrap
from tests.conftest import home
from tests.support import accessible_to_others, northstar, write_rows

COMMANDS = (["status"], ["sql", "select 1 as one"], ["doctor"], ["setup"], ["stop"])
as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server as another user")


def nothing(settings) -> None:
    """A home in which nothing was started."""


@pytest.fixture
def stopped():
    """A home that was set up and stopped."""
    with home() as settings:
        embedded.stop(settings)
        yield settings


def one_line(done: subprocess.CompletedProcess) -> str:
    """What a command that failed says: a line, no traceback."""
    lines = [
        line for line in done.stderr.splitlines() if "RuntimeDirWarning" not in line and "user_runtime" not in line
    ]
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("northstar: "), (done.args, done.stderr)
    return lines[0]


def answers(settings) -> bool:
    with db.connect(settings, "loader") as connection:
        return connection.execute("select 1 as one").fetchone() == {"one": 1}


def initdb(data: Path) -> subprocess.Popen:
    """An initdb at work in `data`, as a start that was killed leaves it, held up when it has begun to write."""
    data.mkdir(mode=0o700)
    access.give_to_server(data.parent, data)
    user = {"user": access.SYSTEM_USER, "group": access.SYSTEM_USER, "extra_groups": []} if access.is_root() else {}
    command = [str(server.binaries() / "initdb"), "-D", str(data), "--no-sync", "-U", "somebody"]
    process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, **user)
    while not (data / "PG_VERSION").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.mark.parametrize("name", [server.UNFINISHED, "postgres"])
def test_a_first_start_that_was_killed_is_made_by_the_next_and_its_initdb_ended(name):
    with home(nothing) as settings:
        left = initdb(settings.home / name)
        # what earlier versions left beside it
        for file in server.PASSWORD_FILES:
            (settings.home / file).write_text("the owner's password")
        bootstrap(settings)
        assert not psutil.pid_exists(left.pid)
        assert answers(settings)
        assert not (settings.home / server.UNFINISHED).exists()
        assert not any((settings.home / file).exists() for file in server.PASSWORD_FILES)


def test_the_owners_password_is_in_no_file_while_initdb_works(monkeypatch):
    found, run = [], server._run

    def look(*command, **options):
        if "initdb" in command[0]:
            files = [f for f in settings.home.rglob("*") if f.is_file() and f.name != "secrets.json"]
            found.extend(f for f in files if settings.secret("owner_password").encode() in f.read_bytes())
            assert settings.secret("owner_password") not in " ".join(command)
        return run(*command, **options)

    monkeypatch.setattr(server, "_run", look)
    with home(nothing) as settings:
        assert not (settings.home / "postgres").exists()
        embedded.ensure_running(settings)
        with db.connect(settings, "owner", database="postgres") as connection:
            assert connection.execute("select 1 as one").fetchone()
    assert found == []


def test_a_directory_that_somebody_else_filled_is_left_alone():
    with home(nothing) as settings:
        (settings.home / "postgres").mkdir()
        (settings.home / "postgres" / "thesis.txt").write_text("years of work")
        assert "move it away" in one_line(northstar(settings, "setup"))
        assert (settings.home / "postgres" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("whose", ["nobody", "single user", "another program", "another home's server", "cut short"])
def test_a_lock_file_without_its_server_keeps_nobody_from_starting(stopped, warehouse, whose):
    lock = stopped.home / "postgres" / "postmaster.pid"
    theirs = (embedded.ensure_running(warehouse), (warehouse.home / "postgres" / "postmaster.pid").read_text())[1]
    number = {"single user": f"-{os.getpid()}", "another program": str(os.getpid())}.get(whose, theirs.splitlines()[0])
    content = {"nobody": "", "cut short": theirs[:2]}.get(whose, theirs.replace(theirs.splitlines()[0], number, 1))
    lock.write_text(content)
    access.give_to_server(stopped.home, lock)
    assert not embedded.is_running(stopped)
    assert answers(stopped) and answers(warehouse)


CUT = ("", "{", "\x00\x01")
REMADE = (
    "postgres.port",
    "pages_port",
    "airflow/port",
    "airflow/services.json",
    "airflow/migrated",
    "VERSION",
    "names.json",
)


@pytest.mark.parametrize("content", CUT, ids=["empty", "cut short", "nonsense"])
def test_a_state_file_that_is_not_whole_is_made_anew_and_no_traceback(stopped, content):
    for name in REMADE if content != "\x00\x01" else [n for n in REMADE if n != "VERSION"]:
        (stopped.home / name).parent.mkdir(exist_ok=True)
        (stopped.home / name).write_text("" if name == "VERSION" else content)
    doctor = northstar(stopped, "doctor")
    assert "Traceback" not in doctor.stderr and "pages_port does not contain a port" in doctor.stdout
    for words in COMMANDS[:2] + COMMANDS[3:]:
        done = northstar(stopped, *words)
        assert done.returncode == 0, done.stderr
    assert (stopped.home / "VERSION").read_text() == "1\n"
    assert server.read_port(stopped.home / "postgres.port")
    assert airflow_environment(stopped)["AIRFLOW__API__PORT"].isdigit()


@pytest.mark.parametrize("content", CUT, ids=["empty", "cut short", "nonsense"])
def test_secrets_that_are_not_whole_are_never_made_anew(stopped, content):
    embedded.ensure_running(stopped)
    (stopped.home / "secrets.json").write_text(content)
    for words in (["status"], ["sql", "select 1"], ["setup"]):
        assert "secrets.json is empty or cut short: restore your copy" in one_line(northstar(stopped, *words)), words
    doctor = northstar(stopped, "doctor")
    assert "secrets.json is empty or cut short" in doctor.stdout and "Traceback" not in doctor.stderr
    # it needs none
    assert northstar(stopped, "stop").stdout == "stopped postgres\n"
    assert (stopped.home / "secrets.json").read_text() == content


def test_what_is_no_version_number_is_one_line(stopped):
    (stopped.home / "VERSION").write_text("seven")
    for words in COMMANDS:
        assert "was made by version seven" in one_line(northstar(stopped, *words))


@contextmanager
def read_only(home: Path):
    """The home on a file system that may not be written to; gives what a command begins with there."""
    if subprocess.run(["mount", "--bind", home, home], capture_output=True).returncode:
        pytest.skip("a read-only home needs the right to mount")
    subprocess.run(["mount", "-o", "remount,ro,bind", home], check=True)
    try:
        yield []
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


@contextmanager
def belonging_to_somebody_else(home: Path):
    """The home as one of another user's, for a process without root's right to read and write everything."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can give a home away")
    for path in (home, *home.glob("*")):
        shutil.chown(path, "nobody")
    home.chmod(0o700)
    yield ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"]


@pytest.mark.parametrize("place", [read_only, belonging_to_somebody_else])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "set up"])
def test_a_home_that_may_not_be_written_to_is_one_line(place, is_new):
    with home(nothing if is_new else bootstrap) as settings:
        embedded.stop(settings)
        if is_new:
            (settings.home / "VERSION").unlink()
        with place(settings.home) as before:
            for words in COMMANDS:
                command = [*before, sys.executable, "-m", "northstar.cli", *words, "--home", str(settings.home)]
                done = subprocess.run(command, capture_output=True, text=True)
                if words[0] in ("doctor", "status") and place is read_only and not is_new:
                    # who only looks needs to write nothing
                    assert "Traceback" not in done.stderr and "Postgres" in done.stdout and "not running" in done.stdout
                else:
                    assert str(settings.home) in one_line(done), words


SERVICE = """
import os, sys, time
from setproctitle import setproctitle

def work():
    setproctitle("airflow worker -- LocalExecutor: idle")
    print("ready", flush=True)
    time.sleep(900)

if os.fork() == 0:
    os.setpgid(0, 0)
    if os.fork() == 0:
        # a task: its output goes elsewhere
        nothing = os.open(os.devnull, os.O_RDWR)
        os.write(1, b"task " + str(os.getpid()).encode() + b"\\n")
        [os.dup2(nothing, n) for n in (0, 1, 2)]
        setproctitle("airflow task supervisor")
        time.sleep(900)
    os.write(1, b"worker " + str(os.getpid()).encode() + b"\\n")
    work()
print("service", os.getpid(), flush=True)
work()
"""


def started(settings) -> dict[str, psutil.Process]:
    """A service whose processes have written their titles over their environment, as Airflow's do, with a worker and its task."""
    settings.home.joinpath("airflow").mkdir(exist_ok=True)
    log = settings.logs / "scheduler.log"
    services._start(
        settings,
        "scheduler",
        [sys.executable, "-c", SERVICE],
        {**os.environ, "AIRFLOW_HOME": str(settings.home / "airflow")},
    )
    while (text := log.read_text() if log.exists() else "").count("ready") < 2 or "task " not in text:
        time.sleep(0.02)
    found = dict(line.split() for line in text.splitlines() if " " in line)
    return {name: psutil.Process(int(number)) for name, number in found.items()}


@pytest.mark.parametrize("known", [True, False], ids=["known", "with services.json cut short"])
def test_stop_leaves_no_process_of_a_service_that_was_killed(tmp_path, known):
    settings = load_settings(tmp_path / "home")
    processes = started(settings)
    assert set(processes) == {"service", "worker", "task"}
    if known:
        processes["service"].kill()
        processes["worker"].kill()
        # nobody has reaped the service yet, as in a container without an init
    else:
        (settings.home / "airflow" / "services.json").write_text("{")
    reader = subprocess.Popen(
        ["tail", "-f", str(settings.logs / "scheduler.log")], cwd=settings.home, stdout=subprocess.DEVNULL
    )
    try:
        services.stop_services(settings)
        assert [name for name, process in processes.items() if is_alive(process)] == []
        assert reader.poll() is None, "who reads a log, in the home, is none of it"
    finally:
        reader.kill()
        reader.wait()


def test_stop_spares_the_shell_that_it_is_called_from(tmp_path):
    settings = load_settings(tmp_path / "home")
    script = f"{sys.executable} -m northstar.cli stop --home {settings.home}; echo still here"
    env = {**os.environ, "AIRFLOW_HOME": str(settings.home / "airflow")}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout == "nothing was running\nstill here\n", done.stderr


def test_nothing_in_a_home_is_open_to_others_and_nothing_above_it_is_opened(tmp_path):
    with tempfile.TemporaryDirectory(prefix="northstar-closed-") as closed:
        above = Path(closed) / "private"
        above.mkdir(mode=0o700)
        settings_home = above / "home"
        source = write_rows(
            tmp_path,
            {"events": [{"event_id": "e", "event_name": "page.view", "occurred_at": "2025-03-01T00:00:00Z",
                         "received_at": "2025-03-01T00:00:00Z", "account_id": "a", "application": "web"}]},
        )  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "northstar.cli",
            "run",
            "--as-of",
            "2025-03-02T00:00:00Z",
            "--source-dir",
            str(source),
            "--home",
        ]
        # as liberal as a shell can be
        done = subprocess.run(
            [*command, str(settings_home)], capture_output=True, text=True, preexec_fn=lambda: os.umask(0)
        )
        try:
            assert done.returncode == 0, done.stderr
            assert accessible_to_others(settings_home) == []
            assert len(list((settings_home / "dbt" / "target").iterdir())) > 3 and list(
                settings_home.glob("logs/*.log")
            )
            for directory in (above, above.parent):
                assert directory.stat().st_mode & 0o067 == 0
        finally:
            embedded.stop(load_settings(settings_home))


def test_what_an_earlier_version_left_open_is_closed_by_the_next_command(stopped):
    for name in ("dbt", "demo", "logs"):
        shutil.rmtree(stopped.home / name, ignore_errors=True)
        (stopped.home / name).mkdir(mode=0o755)
    assert northstar(stopped, "setup").returncode == 0
    assert [n for n in ("dbt", "demo", "logs") if (stopped.home / n).stat().st_mode & 0o067] == []


@as_root_only
def test_only_the_servers_user_may_enter_what_is_above_the_home():
    with tempfile.TemporaryDirectory(prefix="northstar-closed-") as closed:
        above = Path(closed)
        settings = load_settings(above / "home")
        embedded.ensure_running(settings)
        try:
            others = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            assert subprocess.run(["ls", str(above / "home")], capture_output=True, **others).returncode != 0
            servers = {"user": access.SYSTEM_USER, "group": access.SYSTEM_USER, "extra_groups": []}
            assert subprocess.run(["ls", str(above)], capture_output=True, **servers).returncode != 0
            assert subprocess.run(["test", "-x", str(above)], **servers).returncode == 0
        finally:
            embedded.stop(settings)


@as_root_only
def test_where_no_access_list_is_kept_a_closed_directory_above_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    with tempfile.TemporaryDirectory(prefix="northstar-closed-") as closed:
        monkeypatch.setattr(os, "setxattr", refuse)
        settings = load_settings(Path(closed) / "home")
        with pytest.raises(
            access.NorthstarError, match=rf"pgserver, who may not enter {closed}: `chmod o\+x {closed}`"
        ):
            embedded.ensure_running(settings)
        assert stat.S_IMODE(Path(closed).stat().st_mode) == 0o700
        # of what is the home's own, entering is enough
        Path(closed).chmod(0o711)
        embedded.ensure_running(settings)
        assert stat.S_IMODE(settings.home.stat().st_mode) == 0o701
        embedded.stop(settings)
