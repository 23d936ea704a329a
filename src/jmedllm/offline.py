"""Keeps this process and its children on this machine: no connection, no listening port and no name look-up leaves it.

An audit hook sees every use of sockets by Python code, in every thread and whatever library makes it. It refuses all
that is not on the loopback interface and records it. Native code (gloo, NCCL, HTTP clients in Rust) and other programs
do not pass through it: docs/offline.md shows how to check these from outside.
"""

import errno
import functools
import ipaddress
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import current_thread
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

VARIABLES = {
    # Hugging Face
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    # read by several libraries
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "OTEL_SDK_DISABLED": "true",
    # vLLM, which otherwise also asks which address of this machine reaches the internet
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # loggers and pages that a plugin may use
    "WANDB_MODE": "offline",
    "COMET_MODE": "OFFLINE",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""Environment variables that keep libraries offline. They are set when jmedllm is imported, before any library
reads them, and replace the user's own values: a library that goes online is refused anyway."""

_STATE = "JMEDLLM_OFFLINE"
"""Environment variable that hands the hook to child processes: as JSON, the file in which all processes of a command
record what was refused, and the hosts that were allowed."""

_HTTP_CLIENTS = frozenset(
    {"aiohttp", "anyio", "h11", "h2", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "sniffio", "urllib3"}
)
"""Packages that connect on behalf of others; the module that called them is named instead."""

_PORT_PROBES = frozenset({("vllm", "get_open_port"), ("vllm", "_get_open_port")})
"""Package and function that bind a free port of all interfaces to learn its number, and never listen on it."""

_NAME_SERVER_PORT = 53

_HOSTS = Path("/etc/hosts")


class BlockedError(PermissionError):
    """A connection, a port or a name look-up that was refused because it is not on this machine."""


_blocked: list[str] = []
_allowed: set[str] = set()
_addresses: set[str] = set()
_record: Path | None = None
_is_owner = False
_is_installed = False


def set_variables() -> None:
    """Set the environment variables that keep libraries offline, and install the hook in a child process of ours."""
    os.environ.update(VARIABLES)
    if _handed_down() is not None:
        install()


def install() -> None:
    """Install the hook in this process, once, and begin a new record of what it refuses.

    A process that was started by another one with the hook shares its record and the hosts that are allowed there.
    """
    global _record, _is_owner, _is_installed
    if _record is not None and not _is_owner:
        return  # a child process, which installed it when it imported jmedllm
    uninstall()
    _blocked.clear()
    if (handed := _handed_down()) is not None:
        _record = Path(handed[0])
        for host in handed[1]:
            _add(host)
    else:
        # The name cannot be guessed; the file is created when something is refused.
        _record = Path(tempfile.gettempdir()) / f"jmedllm-{secrets.token_hex(16)}.refused"
        _is_owner = True
        _publish()
    if not _is_installed:
        _announce_names()
        sys.addaudithook(_hook)
        _is_installed = True


def uninstall() -> None:
    """Delete the record of this command and revoke what was allowed; the hook stays, as Python cannot remove it."""
    global _record, _is_owner
    if not _is_owner or _record is None:
        return
    _record.unlink(missing_ok=True)
    os.environ.pop(_STATE, None)
    _allowed.clear()
    _addresses.clear()
    _record, _is_owner = None, False


def allow(url_or_host: str, what: str) -> None:
    """Allow this process and its later children to look up a host and to connect to it.

    The first call for a host prints a line on standard error. A host of the loopback interface needs no permission.

    Args:
        url_or_host: an address such as `https://host:port/path`, a name or a number; `.example.org` stands for all
            names below that domain.
        what: what is sent there, such as `questions`; it is part of the printed line.
    """
    host = _host_of(url_or_host)
    if _stays_here(host) or host in _allowed:
        return
    _add(host)
    if _is_owner:
        _publish()
    sys.stderr.write(f"sending {what} to {host.removeprefix('.')}\n")


def blocked() -> list[str]:
    """Return what was refused in this process and in its children: module, and what it tried, in order."""
    others: list[str] = []
    if _record is not None:
        with suppress(OSError):  # nothing was refused, or the file could not be written
            others = _record.read_text(encoding="utf-8", errors="replace").splitlines()
    return list(dict.fromkeys([*_blocked, *others]))


def _add(host: str) -> None:
    if not _allowed:
        _remember_addresses()
    _allowed.add(host)


def _publish() -> None:
    os.environ[_STATE] = json.dumps({"record": str(_record), "allowed": sorted(_allowed)})


def _handed_down() -> tuple[str, list[str]] | None:
    """Return the record and the allowed hosts of the parent process; None if it has no hook.

    A user may have given the variable a value, such as 1: the command then installs a hook of its own.
    """
    with suppress(ValueError, TypeError, KeyError):
        state = json.loads(os.environ[_STATE])
        record, allowed = state["record"], state["allowed"]
        if isinstance(record, str) and isinstance(allowed, list) and all(isinstance(each, str) for each in allowed):
            return record, allowed
    return None


def _announce_names() -> None:
    """Let methods of sockets announce what Python does not: a name before it is looked up, and a port of no address.

    Python looks up the name in `connect(("host.example", 443))` before it calls the hook, and listens on all
    interfaces if a socket was bound to none.
    """
    for method, (event, position) in _METHODS.items():
        setattr(socket.socket, method, _announcing(getattr(socket.socket, method), event, position))


def _announcing(method: Callable[..., Any], event: str, position: int | None) -> Callable[..., Any]:
    @functools.wraps(method)
    def announcing(sock: socket.socket, *arguments: Any) -> Any:
        if _is_internet(sock):
            if position is None:
                sys.audit(event, sock, sock.getsockname())
            elif arguments[position:] and isinstance(address := arguments[position], tuple) and len(address) > 1:
                sys.audit(event, sock, address)
        return method(sock, *arguments)

    return announcing


_METHODS: dict[str, tuple[str, int | None]] = {
    "connect": ("socket.connect", 0),
    "connect_ex": ("socket.connect", 0),
    "bind": ("socket.bind", 0),
    "sendto": ("socket.sendto", -1),
    "sendmsg": ("socket.sendmsg", 3),
    "listen": ("socket.bind", None),
}
"""Methods of sockets, the event that they announce, and the argument that is an address; None for the socket's own."""


def _host_of(url_or_host: str) -> str:
    if _number(url_or_host) is not None:
        return url_or_host
    return (urlsplit(url_or_host if "://" in url_or_host else f"//{url_or_host}").hostname or "").rstrip(".")


@functools.cache
def _remember_addresses() -> None:
    """Let `socket.getaddrinfo` remember the addresses of allowed names: a connection shows its address only."""
    look_up = socket.getaddrinfo

    @functools.wraps(look_up)
    def remembering(host: Any, *others: Any, **named: Any) -> Any:
        found = look_up(host, *others, **named)
        if _is_allowed(_text(host)):
            _addresses.update(str(each[4][0]) for each in found)
        return found

    socket.getaddrinfo = remembering


def _is_allowed(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name in _allowed or any(name.endswith(each) for each in _allowed if each.startswith("."))


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes | bytearray) else str(host)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as; None if it is a name, which has to be looked up."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return getattr(address, "ipv4_mapped", None) or address
    with suppress(OSError):
        if not any(map(str.isspace, host)):  # after a blank, inet_aton ignores the rest
            return ipaddress.ip_address(socket.inet_aton(host))  # short forms, such as 127.1
    return None


def is_loopback(url_or_host: str) -> bool:
    """Return whether a connection to an address or a host stays on this machine, without a look-up."""
    return _stays_here(_host_of(url_or_host))


def _stays_here(host: str) -> bool:
    number = _number(host)
    # Linux takes the unspecified address as this machine.
    return _is_loopback(host) or (number is not None and number.is_unspecified)


def _is_loopback(host: str) -> bool:
    number = _number(host)
    return host.lower() == "localhost" if number is None else number.is_loopback


def _hosts_file() -> list[list[str]]:
    """Return the lines of the file of hosts: a number, and its names, which need no name server."""
    try:
        lines = _HOSTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [words for line in lines if (words := line.partition("#")[0].lower().split())]


def _is_in_hosts_file(name: str) -> bool:
    return any(name in words for words in _hosts_file())


def _is_name_of_this_machine(name: str) -> bool:
    numbers = [words[0] for words in _hosts_file() if name in words[1:]]
    return bool(numbers) and all(map(_is_loopback, numbers))


def _may_connect(sock: Any, address: Any) -> bool:
    if not _is_internet(sock):
        return _is_local_family(sock)
    if address is None:  # `sendmsg` on a connected socket
        return True
    host = _text(address[0])
    if address[1] == _NAME_SERVER_PORT and not _is_allowed(host):
        return False  # a name server on this machine asks others
    is_here = _stays_here(host) or host == "" or _is_name_of_this_machine(host.lower().rstrip("."))
    return is_here or host in _addresses or _is_allowed(host)


def _may_bind(sock: Any, address: Any) -> bool:
    if not _is_internet(sock):
        return _is_local_family(sock)
    return _is_loopback(_text(address[0])) or _is_port_probe()


def _may_look_up(host: Any, *_: Any) -> bool:
    """Return whether a name has its address on this machine: a number, or a name that needs no name server."""
    if host is None:
        return True
    name = _text(host)
    known = _number(name) is not None or _is_loopback(name) or name == ""
    return known or _is_allowed(name) or _is_in_hosts_file(name.lower().rstrip("."))


def _may_look_up_backwards(host: Any) -> bool:
    name = _text(host[0] if isinstance(host, tuple) else host)
    return name.lower() == "localhost" or _is_in_hosts_file(name.lower())


def _is_internet(sock: Any) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)


def _is_local_family(sock: Any) -> bool:
    """Return whether a socket reaches this machine only: other programs of it, or its kernel."""
    return any(sock.family == getattr(socket, name, None) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG"))


def _is_port_probe() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if (_package(frame), frame.f_code.co_name) in _PORT_PROBES:
            return True
        frame = frame.f_back
    return False


_CHECKS: dict[str, tuple[int, str, Callable[..., bool]]] = {
    "socket.connect": (1, "connect to", _may_connect),
    "socket.sendto": (1, "send to", _may_connect),
    "socket.sendmsg": (1, "send to", _may_connect),
    "socket.bind": (1, "listen on", _may_bind),
    "socket.getaddrinfo": (0, "look up", _may_look_up),
    "socket.gethostbyname": (0, "look up", _may_look_up),
    "socket.gethostbyaddr": (0, "look up", _may_look_up_backwards),
    "socket.getnameinfo": (0, "look up", _may_look_up_backwards),
}
"""Audit events of Python's sockets: the argument that is an address, what they do, and whether it may be done."""


def _hook(event: str, arguments: tuple[Any, ...], checks: Any = _CHECKS) -> None:
    """Refuse what leaves this machine. Python calls it for every audit event, most of which are no sockets'."""
    check = checks.get(event)
    if check is None:
        return
    position, does, is_fine = check
    if not is_fine(*arguments):
        what = f"{_caller(sys._getframe(1))} tried to {does} {_place(arguments[position])}"
        _remember(what)
        raise BlockedError(errno.EPERM, f"jmedllm is offline: {what}")


def _remember(what: str) -> None:
    """Record what was refused, in this process and in the file that all processes of the command share."""
    _blocked.append(what)
    if _record is not None:
        with suppress(OSError):  # a full disk; this process still knows
            handle = os.open(_record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            os.write(handle, f"{what}\n".encode(errors="replace"))
            os.close(handle)


def _place(address: Any) -> str:
    """Write an address as one printable word."""
    host, port = address[:2] if isinstance(address, tuple) and len(address) > 1 else (address, None)
    text = (_text(host) or "all interfaces").encode("unicode_escape").decode()[:200]
    return text if port is None else f"{text}:{port}"


def _caller(frame: FrameType | None) -> str:
    """Name the nearest code outside the standard library and HTTP clients, or else whatever is nearest."""
    frames = []
    while frame is not None:
        if _module(frame) != __name__:
            frames.append(frame)
        frame = frame.f_back
    outside = [each for each in frames if _package(each) not in sys.stdlib_module_names]
    for each in [*(each for each in outside if _package(each) not in _HTTP_CLIENTS), *outside]:
        name = _module(each)
        return f"{each.f_code.co_filename if name == '__main__' else name}, line {each.f_lineno},"
    # A thread that runs nothing but a function of the standard library, such as asyncio's look-ups.
    return f"thread {current_thread().name} of {_module(frames[-1]) if frames else 'Python'}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]
