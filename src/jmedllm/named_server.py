"""A server that the user named: its address, its key, and how it is asked."""

import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from jmedllm import offline
from jmedllm.errors import InputError
from jmedllm.http_client import REPLY_MB, basic_credentials
from jmedllm.output import keep_secret
from jmedllm.progress import notice

KEY_ENV = "JMEDLLM_API_KEY"
"""Environment variable with the API key of a server."""

_OTHERS_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a server that the user named is asked.

    Attributes:
        key_env: environment variable with its key.
        proxy: address of a proxy; None to connect to the server itself.
        timeout_s: time limit of a request in seconds; None for the default of each command.
        reply_mb: limit of the size of a reply, in MiB.
    """

    key_env: str = KEY_ENV
    proxy: str | None = None
    timeout_s: float | None = None
    reply_mb: int = REPLY_MB

    def key(self) -> str | None:
        """Return the key, which is from now on left out of everything that is printed or stored; None without one.

        Raises:
            InputError: it cannot be a key.
        """
        key = os.environ.get(self.key_env, "").strip()
        if not all("!" <= character <= "~" for character in key):
            raise InputError(f"{self.key_env}: a key has no blanks and only ASCII characters; correct it")
        keep_secret(key)
        return key or None

    def no_key(self) -> str:
        """Say which variable to set."""
        if self.key_env != _OTHERS_KEY and os.environ.get(_OTHERS_KEY):
            return f"set {self.key_env}; {_OTHERS_KEY} goes to no server unless named: --key-env {_OTHERS_KEY}"
        return f"set {self.key_env} (any text, if the server needs none)"


def announce(url: str, what: str, options: ClientOptions, key: str | None) -> None:
    """Allow requests to a server that the user named, and print where they go.

    Args:
        url: the server's address, see `parse_server`.
        what: what is sent there, such as `questions`.
        options: how it is asked.
        key: its key, if it has one.
    """
    offline.allow(url, what)
    if options.proxy is not None:
        offline.allow(options.proxy, f"{what} through the proxy")
    if key is not None and urlsplit(url).scheme == "http" and not offline.is_loopback(url):
        notice(f"{url}: http sends the key and the {what} unencrypted; use https outside a network that you trust")


def parse_server(url: str, option: str = "--server") -> str:
    """Return the address of a server without a slash at its end.

    Args:
        url: the address.
        option: where the user gave it, for messages.

    Raises:
        InputError: it is no address of a server, or has a password, a query or a fragment.
    """
    example = "such as http://127.0.0.1:8080"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{option} {_without_password(url)!r}: is not an address; give one {example}")
    if "@" in parts.netloc:
        raise InputError(
            f"{option} {_without_password(url)}: has a user or a password, which would be stored with the results; "
            "leave it out, and set a key in JMEDLLM_API_KEY"
        )
    if parts.query or parts.fragment:
        raise InputError(
            f"{option} {parts.scheme}://{parts.netloc}{parts.path}?...: leave out what follows the path; a key "
            "belongs in JMEDLLM_API_KEY"
        )
    return url.rstrip("/")


def parse_proxy(url: str) -> str:
    """Return the address of a proxy, whose password is from now on left out of everything that is printed.

    Raises:
        InputError: it is no address of an HTTP proxy.
    """
    user, _, host = url.removeprefix("http://").rpartition("@")
    password = user.partition(":")[2]
    for secret in (password, unquote(password), basic_credentials(user)):
        keep_secret(secret)
    try:
        parse_server(f"http://{host}", "--proxy")
    except InputError:
        host = ""
    if not url.startswith("http://") or not host:
        raise InputError(f"--proxy {_without_password(url)!r}: give an address such as http://proxy.example:3128")
    return url.rstrip("/")


def _without_password(url: str) -> str:
    before, at, host = url.rpartition("@")
    scheme = before.partition("://")[0] + "://" if "://" in before else ""
    return f"{scheme}...@{host}" if at else url
