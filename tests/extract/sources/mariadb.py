"""A MariaDB of its own on loopback, for tests of sources that live in MySQL."""

import shutil
import socket
import subprocess
import time

import pymysql
import pytest

needs_mariadb = pytest.mark.skipif(
    not shutil.which("mariadbd"), reason="no MariaDB on this machine (apt-get install mariadb-server)"
)


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory):
    """Connects as an administrator: a function of the database's name; its `port` is the server's."""
    place = tmp_path_factory.mktemp("mariadb")
    common = ["--no-defaults", f"--datadir={place / 'data'}", "--user=root"]
    made = subprocess.run(
        ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"], capture_output=True, text=True
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["mariadbd", *common, "--bind-address=127.0.0.1", f"--port={port}", f"--socket={place / 'socket'}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def connect(database: str | None = None):
        return pymysql.connect(host="127.0.0.1", port=port, user="root", database=database, autocommit=True)

    connect.port = port
    try:
        for _ in range(200):
            try:
                connect().close()
                break
            except pymysql.OperationalError:
                time.sleep(0.1)
        yield connect
    finally:
        server.terminate()
        server.wait()
