"""The chat page as one HTML file that makes no request but to the server that sent it."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from string import Template

from jmedllm import __version__

_HERE = Path(__file__).parent
_SCRIPTS = (
    *("words.js", "choices.js", "render.js", "client.js", "store.js"),
    *("state.js", "chats.js", "messages.js", "sending.js", "composer.js", "start.js"),
)


@cache
def chat_page() -> str:
    """Return the page as HTML. Its meta element and `content_security_policy` allow only its own script and style."""
    return Template(_source("page.html")).substitute(
        policy=_policy(), version=__version__, style=_source("page.css"), script=_script()
    )


@cache
def sign_in_page() -> str:
    """Return the page that asks a browser without the key for it, and sends it to `/`."""
    return Template(_source("sign_in.html")).substitute(style=_source("page.css"))


def content_security_policy() -> str:
    """Return the value of the header Content-Security-Policy for the page."""
    return f"{_policy()}; frame-ancestors 'none'"  # browsers ignore frame-ancestors in a meta element


def sign_in_policy() -> str:
    """Return the value of the header Content-Security-Policy for the page that asks for the key."""
    style = _hash(_source("page.css"))
    return (
        f"default-src 'none'; style-src {style}; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _policy() -> str:
    script, style = (_hash(text) for text in (_script(), _source("page.css")))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _script() -> str:
    return '"use strict";\n{\n' + "\n".join(map(_source, _SCRIPTS)) + "}\n"


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
