"""A server that attacks its clients: every attack is a function that writes to the connection."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

KEY = "sk-hostile-0123456789abcdef"

Attack = Callable[[socket.socket], None]


@dataclass
class HostileServer:
    """A running server, and the requests it has seen, as text. A polite one answers GET with 404."""

    attack: Attack
    port: int = 0
    polite: bool = True
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def attacking(attack: Attack, *, polite: bool = True) -> Iterator[HostileServer]:
    """Serve an attack until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HostileServer(attack, listener.getsockname()[1], polite)
        threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
        yield server
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # which ends `accept`


def _accept(listener: socket.socket, server: HostileServer) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, server), daemon=True).start()


def _serve(connection: socket.socket, server: HostileServer) -> None:
    with connection, suppress(OSError):
        request = _request(connection)
        server.seen.append(request)
        does = reply(status="404 Not Found") if server.polite and request.startswith("GET") else server.attack
        does(connection)


def _request(connection: socket.socket) -> str:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode()


def reply(
    body: bytes = b"{}", *headers: str, status: str = "200 OK", kind: str = "application/json", length: bool = True
) -> Attack:
    """Reply once."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers]
    head += [f"Content-Length: {len(body)}"] if length else []
    data = "\r\n".join([*head, "", ""]).encode() + body
    return lambda connection: connection.sendall(data)


def said(text: object, **fields: object) -> Attack:
    """Reply with a completion."""
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None} | fields
    return reply(json.dumps({"id": "1", "object": "x", "created": 1, "model": "m", "choices": [choice]}).encode())


def redirect(to: str, status: str = "307 Temporary Redirect") -> Attack:
    return reply(b"", f"Location: {to}", status=status)


def endless(start: bytes, part: bytes, pause: float = 0.0) -> Attack:
    """Send something, and then the same part for ever."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(part)
            time.sleep(pause)

    return attack


def cut(start: bytes) -> Attack:
    return lambda connection: connection.sendall(start)


def silent(connection: socket.socket) -> None:
    while connection.recv(1):
        pass


def bomb(encoding: str) -> Attack:
    """64 MiB of zeros in 64 kB."""
    kind = {"gzip": 31, "deflate": 15}.get(encoding)
    if kind is None:
        return reply(b"\x8b\x02\x80" * 1000, f"Content-Encoding: {encoding}")
    packer = zlib.compressobj(9, zlib.DEFLATED, kind)
    data = b"".join([packer.compress(bytes(1 << 20)) for _ in range(64)]) + packer.flush()
    return reply(data, f"Content-Encoding: {encoding}")


OK, JSON = b"HTTP/1.1 200 OK\r\n", b"Content-Type: application/json\r\n"
CHUNKED = OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = OK + JSON + b"\r\n"
