"""Free ports on loopback, chosen once for a home and remembered, so that two homes never meet."""

import os
import socket
from pathlib import Path


def remembered_port(file: Path, variable: str, is_ours: bool) -> int:
    """The port that `file` remembers, or the environment's `variable` says; a free one where it is taken by somebody else.

    is_ours: the service that listens there is this home's own.
    """
    if variable in os.environ:
        return int(os.environ[variable])
    if file.exists() and (is_ours or is_free(int(file.read_text()))):
        return int(file.read_text())
    port = free_port()
    file.write_text(str(port))
    return port


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
