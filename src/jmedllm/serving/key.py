"""The key of a server: every program and every browser of this user needs it."""

import hashlib
import hmac
import secrets
import stat
from pathlib import Path

from jmedllm.deploy.trust import trusted_list
from jmedllm.errors import InputError
from jmedllm.files import make_folder, open_private

_SHORTEST = 16


def read_or_create_key(file: Path | None = None) -> str:
    """Return the key in a file. A missing file is created with a random key, readable by its owner only.

    Args:
        file: the file; None for the file `key` beside the list of trusted files.

    Raises:
        InputError: other users can read the file, it has no usable key, or it cannot be created.
    """
    file = file or trusted_list().with_name("key")
    try:
        make_folder(file.parent)
        with open(file, "x", encoding="ascii", opener=open_private) as handle:
            handle.write(f"{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise InputError(f"cannot write the key to {file}: {error.strerror}; give another --key-file") from error
    return _read(file)


def _read(file: Path) -> str:
    try:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{file}: other users can read this key; delete it, or run: chmod 600 {file}")
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: has no key that can be read; delete it, and a new one is created") from error
    if len(key) < _SHORTEST or not all("!" <= character <= "~" for character in key):
        raise InputError(
            f"{file}: a key is at least {_SHORTEST} ASCII characters without spaces; delete the file, and a new key "
            "is created"
        )
    return key


def cookie_of(key: str) -> str:
    """Return the value of the browser's cookie, from which the key cannot be computed."""
    return hmac.new(key.encode(), b"jmedllm cookie", hashlib.sha256).hexdigest()


def matches(given: str, expected: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
