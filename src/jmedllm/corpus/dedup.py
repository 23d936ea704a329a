"""Documents that repeat earlier ones: so far only those that are the same but for their white space."""

import hashlib
from dataclasses import dataclass

Signature = bytes


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What a document repeats.

    Attributes:
        name: the earlier document.
        similarity: 1.0 for the same text.
    """

    name: str
    similarity: float


def signature(text: str) -> Signature:
    """What is compared of a text; the same in every process and on every machine."""
    return hashlib.sha256("".join(text.split()).encode()).digest()


class Seen:
    """The documents so far; the first of equal ones stays."""

    def __init__(self) -> None:
        self._names: dict[Signature, str] = {}

    def add(self, name: str, signed: Signature) -> Duplicate | None:
        """Remember a document, or say which earlier one it repeats."""
        earlier = self._names.setdefault(signed, name)
        return None if earlier is name else Duplicate(earlier, 1.0)
