"""Draws replacements by a secret key: the same value gets the same one, and nothing but the key can repeat it."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jmedllm.errors import InputError
from jmedllm.files import write_atomic

Item = TypeVar("Item")

_BYTES = 32


def new_key() -> bytes:
    """Return a random key."""
    return secrets.token_bytes(_BYTES)


def read_key(path: Path) -> bytes:
    """Return the key of a file, which is created if it is missing, for its owner alone.

    Raises:
        InputError: the file has no key, or cannot be written.
    """
    if not path.exists():
        write_atomic(path, new_key().hex() + "\n")
    return require_key(path)


def require_key(path: Path) -> bytes:
    """Return the key of a file; b"" if there is no such file.

    Raises:
        InputError: the file has no key.
    """
    if not path.exists():
        return b""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != _BYTES:
        raise InputError(
            f"key file {path}: it has no key of {2 * _BYTES} hex digits; name a file that does not exist yet"
        )
    return key


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key for one patient. Values of different patients are drawn independently.

    Attributes:
        key: the secret key.
        patient: identifies the patient; it is hashed with the key, too.
    """

    key: bytes = field(repr=False)
    patient: str = field(default="", repr=False)

    def number(self, kind: str, value: str, below: int) -> int:
        """Return a number from 0 to `below` - 1."""
        message = "\0".join((self.patient, kind, value)).encode()
        return int.from_bytes(hmac.digest(self.key, message, hashlib.sha256)) % below

    def choose(self, kind: str, value: str, items: Sequence[Item]) -> Item:
        """Return an item, another one than the value itself."""
        at = self.number(kind, value, len(items))
        item = items[at]
        same = getattr(item, "reading", item) == value
        return items[(at + 1) % len(items)] if same else item
