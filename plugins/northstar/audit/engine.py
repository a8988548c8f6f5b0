"""Import Great Expectations without the parts that no audit here uses, which saves two of six seconds in every run.

By itself it imports the clients of every cloud and of Spark, which are optional, and scipy's statistics and altair for one expectation and one
chart.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_ABSENT = ("azure", "boto3", "google", "pyspark")
_LAZY = ("altair", "scipy.stats")


class _SelectiveFinder(importlib.abc.MetaPathFinder):
    """An import hook: the modules of _ABSENT count as not installed, and those of _LAZY are loaded on first use."""

    def __init__(self) -> None:
        self._requested: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] in _ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        if fullname not in _LAZY or fullname in self._requested:
            return None
        # find_spec below asks all finders again, this one too
        self._requested.add(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def great_expectations() -> ModuleType:
    """The module `great_expectations`. Later imports of other modules are not affected."""
    if "great_expectations" not in sys.modules:
        finder = _SelectiveFinder()
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("great_expectations")
        finally:
            sys.meta_path.remove(finder)
    return sys.modules["great_expectations"]
