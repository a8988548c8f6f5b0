"""How a command is added to the command line."""

import argparse
from collections.abc import Callable

# (name, what it calls with the parsed arguments, its help) -> its own parser, for its arguments
Command = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
