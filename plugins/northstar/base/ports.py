"""Free ports on loopback, chosen once for a home and remembered, so that two homes do not use the same port."""

import os
import socket
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.files import read_word, write_private


def remembered_port(file: Path, variable: str, is_ours: bool) -> int:
    """The port from the environment's `variable`, else the one remembered in `file`, else a new free one, if another program uses that.

    is_ours: whether the service that listens there is this home's own. Raises NorthstarError for a variable that names no port.
    """
    if variable in os.environ:
        configured = _parse_port(os.environ[variable])
        if configured is None:
            raise NorthstarError(f"{variable}={os.environ[variable]}: give a port, 1 to 65535")
        return configured
    remembered = read_port(file)
    if remembered is not None and (is_ours or is_free(remembered)):
        return remembered
    port = free_port()
    write_private(file, str(port))
    return port


def read_port(file: Path) -> int | None:
    """The port remembered in `file`; None if there is no such file, or it holds something else: then another port is chosen."""
    return _parse_port(read_word(file))


def _parse_port(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 65536 else None


def free_port() -> int:
    """A port on loopback that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
