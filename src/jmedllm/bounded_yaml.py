"""Reads YAML within limits on its size, its depth and what its anchors expand to.

A text may come from anywhere: a recipe from a colleague, the header of a model card. YAML of a few lines can
contain itself, or expand to gigabytes.
"""

from typing import Any, NoReturn

import yaml
from yaml.composer import ComposerError

MOST_CHARACTERS = 1 << 20
MOST_DEPTH = 50
MOST_VALUES = 10_000
"""Keys, values and lists, counted again wherever an alias repeats them."""

_LONGEST_INTEGER = 64
"""Bits of an integer: no setting needs more."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_NUMBER = 100
"""Characters of a number. Python needs quadratic time for long ones."""


class BoundedLoader(yaml.SafeLoader):
    """Safe loader that raises `yaml.YAMLError`, and nothing else, for every text that it refuses."""

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise yaml.YAMLError(f"has more than {MOST_CHARACTERS:,} characters; shorten it")
        super().__init__(text)
        self._sizes: dict[int, int] = {}
        self._depth = self._total = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, and count it with all that its aliases repeat."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) not in (None, "!"):
            _refuse(event, f"the tag {event.tag} is not supported; remove it")
        if self._depth >= MOST_DEPTH:
            _refuse(event, f"nested more than {MOST_DEPTH} levels deep")
        before = self._total
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                _refuse(event, f"the anchor {event.anchor} contains itself; write its value out")
            self._total += self._sizes[id(node)]
        else:
            self._total += 1
            self._sizes[id(node)] = self._total - before
        if self._total > MOST_VALUES:
            _refuse(event, f"more than {MOST_VALUES:,} values, with those that aliases repeat")
        if isinstance(node, yaml.ScalarNode):
            _require_characters(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, whose keys are words and numbers alone."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(key, "a key must be a word, not a list or a section")
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; one that Python cannot represent is an error of the text."""
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            _refuse(node, f"a number of more than {_LONGEST_NUMBER} characters")
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, LookupError, ArithmeticError) as error:  # 2020-13-45 is a date for YAML
            _refuse(node, f"{error}; put the value in quotes")
        if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
            _refuse(node, f"an integer of more than {_LONGEST_INTEGER} bits")
        return value


def _require_characters(node: yaml.ScalarNode) -> None:
    try:
        node.value.encode()
    except UnicodeEncodeError as error:
        _refuse(node, f"\\u{ord(node.value[error.start]):04x} is half a character")


def _refuse(place: Any, problem: str) -> NoReturn:
    raise ComposerError(None, None, problem, place.start_mark)


def load_yaml(text: str) -> Any:
    """Return the values of a YAML text.

    Raises:
        yaml.YAMLError: the text is broken or exceeds a limit.
    """
    return yaml.load(text, Loader=BoundedLoader)
