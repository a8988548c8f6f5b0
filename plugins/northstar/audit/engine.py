"""Import Great Expectations without the parts that no audit here uses, which saves two of six seconds in every run.

By itself it imports the clients of every cloud and of Spark, which are optional, and scipy's statistics and altair for one expectation and one
chart. Its 369 classes of pydantic 1 each copy the fields that they inherit, with everything that the types of these fields refer to.
"""

import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

_ABSENT = ("azure", "boto3", "botocore", "google", "pyspark")
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


@contextmanager
def _fields_copied_alone() -> Iterator[None]:
    """Have classes of pydantic 1 copy of each inherited field what they change in it, and share the rest."""
    import pydantic.v1.main
    from pydantic.v1.fields import ModelField
    from pydantic.v1.utils import smart_deepcopy

    def copy_field(field: ModelField) -> ModelField:
        own = copy.copy(field)
        own.field_info = copy.copy(field.field_info)
        own.field_info.extra = dict(field.field_info.extra)
        own.class_validators = dict(field.class_validators)
        if field.sub_fields:
            own.sub_fields = [copy_field(sub_field) for sub_field in field.sub_fields]
        if field.key_field:
            own.key_field = copy_field(field.key_field)
        return own

    def copy_fields(value: object) -> object:
        if isinstance(value, dict) and value and all(isinstance(field, ModelField) for field in value.values()):
            return {name: copy_field(field) for name, field in value.items()}
        return smart_deepcopy(value)

    module = vars(pydantic.v1.main)
    module["smart_deepcopy"] = copy_fields
    try:
        yield
    finally:
        module["smart_deepcopy"] = smart_deepcopy


def great_expectations() -> ModuleType:
    """The module `great_expectations`. Later imports of other modules are not affected."""
    if "great_expectations" not in sys.modules:
        finder = _SelectiveFinder()
        sys.meta_path.insert(0, finder)
        try:
            with _fields_copied_alone():
                importlib.import_module("great_expectations")
        finally:
            sys.meta_path.remove(finder)
    return sys.modules["great_expectations"]
