"""What is printed: control characters become escapes, and secrets are left out."""

import re
import sys
from typing import Any, TextIO, cast

_HIDDEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, marks of direction and characters without width; all but tab and line feed."""

_HIDDEN_CHARACTER = re.compile(_HIDDEN)

_LINE = "\\A\r|\r\n"
"""What a progress bar of a library writes at the start of a text, and a line end of Windows."""

_STYLE = "\r\x1b\\[2K|\x1b\\[(?!8m)[0-9;]*m"
"""Sequences that this program writes to a terminal: a progress line and colours, but no concealed text."""

_TO_TERMINAL, _TO_FILE = re.compile(f"({_LINE}|{_STYLE})|{_HIDDEN}"), re.compile(f"({_LINE})|{_HIDDEN}")

SHORTEST_SECRET = 8
"""Length from which a key is a secret. A shorter one, such as "none" for a server without keys, is a word that may be
anywhere."""

REDACTED = "[API key]"
"""What is printed and stored instead of a key."""

_SECRETS: set[str] = set()


def visible(text: str) -> str:
    r"""Return a text with control characters and marks of direction as escapes: a terminal would obey them.

    The escapes are those of JSON, such as `\u001b`, so that JSON text stays JSON.
    """
    return _HIDDEN_CHARACTER.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def keep_secret(key: str) -> None:
    """Remember a key: from now on `redact` leaves it out."""
    if len(key) >= SHORTEST_SECRET:
        _SECRETS.add(key)


def redact(text: str) -> str:
    """Return a text without the keys that this process knows."""
    for key in _SECRETS:
        text = text.replace(key, REDACTED)
    return text


class SafeStream:
    """A text stream that writes control characters as escapes, and no secrets.

    This is the last resort for texts of libraries and tracebacks. Our own messages use `visible`, which also escapes
    colours.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        pattern = _TO_TERMINAL if self._stream.isatty() else _TO_FILE
        shown = pattern.sub(lambda found: found[0] if found[1] else _escaped(found), redact(text))
        self._stream.write(shown)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect_streams() -> None:
    """Let standard output and standard error of this process be `SafeStream`s."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, SafeStream):
            setattr(sys, name, cast(TextIO, SafeStream(stream)))
