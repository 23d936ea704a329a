"""What a bundle consists of: packages, a model and its data, each with licence and checksum."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["application", "library", "machine-learning-model", "data", "file"]
"""Types of CycloneDX."""


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a bundle.

    Attributes:
        kind: its type in CycloneDX.
        name: its name.
        version: its version; None if it has none.
        licence: SPDX expression, or the words of its author; None if unknown.
        sha256: SHA-256 in hex; None if there is no file to hash.
        file: its path in the bundle; None if it is not in the bundle, such as training data.
        about: what it is, where the name does not say it.
        texts: texts of its licence and notices by file name.
        parts: components inside it.
    """

    kind: Kind
    name: str
    version: str | None = None
    licence: str | None = None
    sha256: str | None = None
    file: str | None = None
    about: str | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)
    parts: "tuple[Component, ...]" = ()
