"""YAML of people and of sources, read within bounds: a few hundred bytes of it can stand for more than a machine holds."""

from pathlib import Path

import yaml

from northstar.errors import NorthstarError

LONGEST, DEEPEST, MOST_VALUES = 1 << 20, 40, 100_000


# where PyYAML was built with libyaml, seven times as fast
_OwnLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_own_yaml(path: Path):
    """What a file of the release says, which needs no bounds. Raises yaml.YAMLError where it is none."""
    return yaml.load(path.read_text(), Loader=_OwnLoader)


class _Loader(yaml.SafeLoader):
    """YAML's plain types; what aliases repeat counts each time, since whoever walks through it meets it each time."""

    def __init__(self, stream):
        super().__init__(stream)
        self._depth, self._values = 0, {}

    def compose_node(self, parent, index):
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if id(node) not in self._values:
            if is_alias:
                raise yaml.YAMLError("a value that holds itself")
            within = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = (part for item in within for part in (item if isinstance(item, tuple) else (item,)))
            self._values[id(node)] = 1 + sum(self._values[id(part)] for part in parts)
        if self._values[id(node)] > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values")
        return node


def read_yaml(text: str, where: str):
    """What `text` says; None where it says nothing.

    Raises NorthstarError, naming `where`, for text that is no YAML and for text beyond the bounds.
    """
    try:
        if len(text) > LONGEST:
            raise yaml.YAMLError(f"longer than {LONGEST:,} characters")
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise NorthstarError(
            f"{where} is not valid YAML ({' '.join(str(exc).split())[:160]}); correct or remove it"
        ) from exc
