"""docker-compose.yml, started as it says: each of its keys becomes an argument of `podman run`, and one that is not known here is an error."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable

import yaml

from northstar.base.settings import ROOT
from tests.containers.engine import Engine

# seconds; for what hangs, as everything takes five times as long on a machine that is busy
DEADLINE = 900
# podman would raise them to its own defaults, which not every machine allows
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
# what is about the order of starting, or asked by the tests themselves: the engine's clock for health is a timer of systemd
ELSEWHERE = {"build", "image", "command", "depends_on", "healthcheck"}


def asked() -> list[str]:
    """The variables that the file wants to be set."""
    return sorted(set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())))


class Compose:
    """The file with the variables of an environment put in, as `docker compose config` shows it."""

    def __init__(self, variables: dict[str, str]):
        self.variables = variables
        content = self._filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
        self.services, self.volumes = content["services"], list(content["volumes"])

    def _filled(self, value):
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        return re.sub(r"\$\{(\w+)(?::([?-])([^}]*))?\}", self._value, value) if isinstance(value, str) else value

    def _value(self, found: re.Match) -> str:
        name, kind, word = found.groups()
        if self.variables.get(name):
            return self.variables[name]
        assert kind == "-", f"{name}: {word or 'not set'}"
        return word


class Stack:
    """The services of a compose file in containers, with a network and volumes of their own.

    name: what the names of containers, network and volumes begin with.
    """

    def __init__(self, podman: Engine, name: str, variables: dict[str, str]):
        self.podman, self.name, self.compose = podman, name, Compose(variables)

    def build(self) -> None:
        """The image, from the Dockerfile with the arguments that the file gives it."""
        service = self.compose.services["init"]
        assert service["build"].keys() == {"context", "args"} and service["build"]["context"] == "."
        self.podman.build(service["image"], service["build"]["args"])

    def create(self) -> None:
        """The network and the volumes."""
        self.podman("network", "create", self.name)
        for volume in self.compose.volumes:
            self.podman("volume", "create", f"{self.name}_{volume}")

    def start(self, name: str) -> None:
        """Start a service, once those that it depends on are as far as it demands."""
        service = self.compose.services[name]
        for other, demand in service.get("depends_on", {}).items():
            if demand["condition"] == "service_healthy":
                self.await_health(other)
            else:
                assert demand["condition"] == "service_completed_successfully", demand
                assert self.status(other) == "exited" and self.exit_code(other) == 0, self.log(other)
        self.podman("run", "--detach", *self._arguments(name), service["image"], *service["command"])

    def _arguments(self, name: str) -> list[str]:
        service = self.compose.services[name]
        arguments = [
            "--name", self.container(name), "--network", self.name, "--network-alias", name,
            *LIMITS,
            # Docker mounts nothing but what it is told to
            "--read-only-tmpfs=false", "--systemd=false",
        ]  # fmt: skip
        for key, value in service.items():
            if key not in ELSEWHERE:
                arguments += getattr(self, f"_{key}")(value)
        return arguments

    def _restart(self, value) -> list[str]:
        return ["--restart", value]

    def _hostname(self, value) -> list[str]:
        return ["--hostname", value]

    def _user(self, value) -> list[str]:
        return ["--user", value]

    def _read_only(self, value) -> list[str]:
        return ["--read-only"] if value else []

    def _tmpfs(self, value) -> list[str]:
        return [f"--tmpfs={path}" for path in value]

    def _security_opt(self, value) -> list[str]:
        return [f"--security-opt={option}" for option in value]

    def _cap_drop(self, value) -> list[str]:
        return [f"--cap-drop={capability}" for capability in value]

    def _mem_limit(self, value) -> list[str]:
        return ["--memory", value]

    def _pids_limit(self, value) -> list[str]:
        return ["--pids-limit", str(value)]

    def _shm_size(self, value) -> list[str]:
        return ["--shm-size", value]

    def _stop_grace_period(self, value) -> list[str]:
        assert value == "1m", value
        return ["--stop-timeout", "60"]

    def _environment(self, value) -> list[str]:
        return [f"--env={variable}={given}" for variable, given in value.items()]

    def _ports(self, value) -> list[str]:
        return [f"--publish={port}" for port in value]

    def _volumes(self, value) -> list[str]:
        return [
            f"--volume={self.name}_{v}" if v.split(":")[0] in self.compose.volumes else f"--volume={v}" for v in value
        ]

    def container(self, name: str) -> str:
        return f"{self.name}_{name}"

    def inspect(self, name: str) -> dict:
        return json.loads(self.podman("container", "inspect", self.container(name)).stdout)[0]

    def status(self, name: str) -> str:
        return self.inspect(name)["State"]["Status"]

    def exit_code(self, name: str) -> int:
        return self.inspect(name)["State"]["ExitCode"]

    def log(self, name: str) -> str:
        """What the service has said on its standard output and error."""
        done = self.podman("logs", self.container(name))
        return done.stdout + done.stderr

    def is_healthy(self, name: str) -> bool:
        """Whether the file's own health check is true, asked inside now and answered in its time."""
        check = self.compose.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD", check
        try:
            done = self.execute(name, *command, is_checked=False, timeout=int(check["timeout"].removesuffix("s")))
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def await_end(self, name: str) -> int:
        """The exit status of a service that ends by itself."""
        await_true(lambda: self.status(name) == "exited", lambda: f"{name} does not end: {self.log(name)}")
        return self.exit_code(name)

    def await_health(self, name: str) -> None:
        def about() -> str:
            return f"{name} is not healthy ({self.status(name)}): {self.log(name)[-5000:]}"

        def is_healthy() -> bool:
            assert self.status(name) == "running", about()
            return self.is_healthy(name)

        await_true(is_healthy, about)

    def execute(self, name: str, *command: str, **options):
        """Run a command in the container of a service."""
        return self.podman("exec", "--interactive", self.container(name), *command, **options)

    def run(self, name: str, *command: str, entrypoint: str = "northstar"):
        """Run a command in a new container of a service, as `docker compose run --rm --entrypoint` does."""
        arguments = [a for a in self._arguments(name) if a not in ("--name", self.container(name))]
        without = [i for i, a in enumerate(arguments) if a in ("--restart", "--network-alias")]
        kept = [a for i, a in enumerate(arguments) if i not in without and i - 1 not in without]
        image = self.compose.services[name]["image"]
        return self.podman("run", "--rm", "--entrypoint", entrypoint, *kept, image, *command, is_checked=False)

    def kill(self, name: str) -> None:
        """End a service's first process as the kernel does when memory is short, and wait until the engine has started it again."""
        before = self.inspect(name)["State"]["Pid"]
        os.kill(before, 9)
        await_true(
            lambda: self.inspect(name)["State"]["Pid"] not in (0, before), lambda: f"{name} was not started again"
        )

    def stop(self) -> None:
        """`docker compose stop`, the last that was started first."""
        running = self.podman("ps", "--format", "{{.Names}}").stdout.split()
        for name in reversed(self.compose.services):
            if self.container(name) in running:
                self.podman("stop", self.container(name))


def await_true(condition: Callable[[], bool], about: Callable[[], str]) -> None:
    """Ask until it is true. Raises AssertionError with `about` when it never is."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, about()
        time.sleep(0.5)
