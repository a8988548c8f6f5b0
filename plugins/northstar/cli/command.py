"""The type of the function that adds a command to the command line."""

import argparse
from collections.abc import Callable

# (name of the command, function to call with the parsed arguments, help text) -> the command's own parser, to add its arguments to
Command = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
