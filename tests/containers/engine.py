"""Podman with a storage of its own, and the images that stand in where no registry can be reached: made by mmdebstrap from Debian's packages.

Set NORTHSTAR_CONTAINERS to a directory to keep images and layers between two calls.
"""

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from northstar.base.settings import ROOT

PROGRAMS = ("podman", "buildah", "runc", "mmdebstrap", "iptables")
PYTHON, POSTGRES = "northstar-test/python", "northstar-test/postgres"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# what the official images bring, as far as the Dockerfile and docker-compose.yml use it
PACKAGES = {
    PYTHON: ("ca-certificates", "python3", "python-is-python3", "python3-venv"),
    POSTGRES: ("locales", "postgresql-15"),
}
POSTGRES_DATA = "/var/lib/postgresql"
POSTGRES_IS = (
    "ENV LANG=en_US.utf8",
    f"ENV PGDATA={POSTGRES_DATA}/15/docker",
    "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    f"VOLUME {POSTGRES_DATA}",
    "STOPSIGNAL SIGINT",
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["postgres"]',
)
# as the official image has them: words sorted as in English, the directories that are postgres' own, nobody's cluster
POSTGRES_HOOKS = (
    "chroot $1 localedef -i en_US -c -f UTF-8 -A /usr/share/locale/locale.alias en_US.UTF-8",
    "chroot $1 sh -c 'rm -rf /var/lib/postgresql/* /etc/postgresql'",
    "chroot $1 install --directory --owner postgres --group postgres --mode 3777 /run/postgresql",
    f"upload {Path(__file__).with_name('postgres.sh')} /usr/local/bin/docker-entrypoint.sh",
    "chroot $1 chmod 755 /usr/local/bin/docker-entrypoint.sh",
)
CONFIGURATION = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[network]
network_backend = "netavark"
"""


class Engine:
    """Podman, which sees and leaves nothing outside `directory`."""

    def __init__(self, directory: Path):
        self.directory = directory
        (directory / "networks").mkdir(parents=True, exist_ok=True)
        (directory / "containers.conf").write_text(CONFIGURATION)
        self.base = [
            "podman", "--root", str(directory / "storage"), "--runroot", str(directory / "run"), "--storage-driver", "overlay",
            "--network-config-dir", str(directory / "networks"),
        ]  # fmt: skip
        self.environment = {**os.environ, "CONTAINERS_CONF": str(directory / "containers.conf")}

    def __call__(self, *arguments: str, is_checked: bool = True, **options) -> subprocess.CompletedProcess:
        """Call podman; output as text, both streams. Raises AssertionError with what it said for a failure, unless told not to."""
        options = {"stdin": subprocess.DEVNULL} | options
        if "input" in options:
            del options["stdin"]
        done = subprocess.run([*self.base, *arguments], capture_output=True, text=True, env=self.environment, **options)
        assert not is_checked or done.returncode == 0, f"podman {' '.join(arguments[:3])}: {done.stdout}{done.stderr}"
        return done

    def has(self, image: str) -> bool:
        return self("image", "exists", image, is_checked=False).returncode == 0

    def make_base(self, image: str, *hooks: str, changes: tuple[str, ...] = ()) -> None:
        """Make an image of Debian's packages, unless it is there."""
        if self.has(image):
            return
        archive = self.directory / f"{image.replace('/', '_')}.tar"
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--skip=cleanup/run",
            f"--include={','.join(PACKAGES[image])}",
        ]
        command += [f"--customize-hook={hook}" for hook in hooks]
        # what nobody reads in a container
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info")]
        done = subprocess.run([*command, "bookworm", str(archive)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self("import", *(word for change in changes for word in ("--change", change)), str(archive), image)
        archive.unlink()

    def build(self, image: str, arguments: dict) -> None:
        """Build the Dockerfile with arguments; packages come from where this machine's own installation has them."""
        command = ["build", "--isolation", "chroot", "--network", "host", "--pull-never", "--tag", image]
        command += ["--layers=true" if "NORTHSTAR_CONTAINERS" in os.environ else "--layers=false"]
        command += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        for source, target in self._package_settings():
            command += ["--volume", f"{source}:{target}:ro"]
        self(*command, str(ROOT))

    def _package_settings(self) -> Iterator[tuple[str, str]]:
        """Files and directories of this machine by which pip and uv find packages: (here, there)."""
        known = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        )
        settings = dict(line.split("=", 1) for line in known.stdout.splitlines() if "=" in line)
        file = configparser.ConfigParser(interpolation=None)
        file["global"] = {
            key.rpartition(".")[2]: value.strip("'\"")
            for key, value in settings.items()
            if key.rpartition(".")[2] in ("index-url", "extra-index-url", "trusted-host")
        }
        file["global"]["cert"] = CERTIFICATES
        with (self.directory / "pip.conf").open("w") as handle:
            file.write(handle)
        (self.directory / "uv.toml").write_text("system-certs = true\n")
        yield CERTIFICATES, CERTIFICATES
        yield str(self.directory / "pip.conf"), "/etc/pip.conf"
        yield str(self.directory / "uv.toml"), "/etc/uv/uv.toml"
        for address in " ".join(file["global"].values()).split():
            if address.startswith("file://"):
                yield urlsplit(address).path, urlsplit(address).path

    def clear(self) -> None:
        """End and remove every container, volume and network."""
        self("rm", "--all", "--force", "--time", "0", is_checked=False)
        self("volume", "rm", "--all", "--force", is_checked=False)
        self("network", "prune", "--force", is_checked=False)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine that is gone with all that it made in the end; skips where its programs are missing."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"containers want root and {', '.join(PROGRAMS)}; missing: {', '.join(missing) or 'root'}")
    kept = os.environ.get("NORTHSTAR_CONTAINERS")
    directory = Path(kept or tempfile.mkdtemp(prefix="northstar-containers-"))
    podman = Engine(directory)
    try:
        podman.clear()
        yield podman
    finally:
        podman.clear()
        if not kept:
            podman("rmi", "--all", "--force", is_checked=False)
            shutil.rmtree(directory)
