"""Runs a server until it is stopped."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn

from jmedllm.errors import InputError
from jmedllm.models.chat_text import variables_of
from jmedllm.serving.app import Service, create_app
from jmedllm.serving.backends import open_model
from jmedllm.serving.key import read_or_create_key
from jmedllm.serving.limits import GRACE_S, Limits
from jmedllm.serving.log import write_log
from jmedllm.serving.model import ServedModel, ServeOptions
from jmedllm.serving.protocol import HeadLimitProtocol
from jmedllm.signals import ENDING, Terminated, handle_signals

HOST = "127.0.0.1"
"""The only address. Others would need encryption and accounts, which a reverse proxy or `ssh -L` has."""


class BackendEnded(Exception):  # noqa: N818 - what has happened, and nothing in the input
    """The backend has ended for good. A service manager can start the server again."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which end the process with the signal instead of the exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(port: int) -> socket.socket:
    """Open a socket on the loopback.

    Args:
        port: the port; 0 for a free one.

    Raises:
        InputError: another program uses it.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
    except OSError as error:
        opened.close()
        raise InputError(f"port {port} of {HOST}: {error.strerror}; give another --port") from error
    return opened


async def serve(
    path: Path,
    options: ServeOptions,
    *,
    port: int,
    key_file: Path | None,
    limits: Limits,
    prompt_log: Path | None,
    announce: Callable[[ServedModel, str, str], None],
) -> None:
    """Serve a model until SIGINT, SIGTERM or SIGHUP. Answers that are being written then get `GRACE_S` to end.

    Args:
        path: GGUF file or model directory.
        options: settings of the backend.
        port: port of the loopback; 0 for a free one.
        key_file: file with the key, see `read_or_create_key`.
        limits: see `Limits`.
        prompt_log: see `Service`.
        announce: called once with the model, the address and the key when the server listens.

    Raises:
        InputError: the port is in use, the key cannot be read, or the model cannot be loaded.
        BackendEnded: the backend ended and cannot be started again.
    """
    opened = listen(port)
    try:
        key = read_or_create_key(key_file)
        with _cancelled_by_signals():
            model = await open_model(path, replace(options, report=write_log))
        try:
            if model.format.template is not None:
                variables_of(model.format.template)  # a broken one is refused here
            await _serve(Service(model, key, opened.getsockname()[1], limits, prompt_log=prompt_log), opened, announce)
        finally:
            await model.close()
    finally:
        opened.close()


def _handled() -> list[signal.Signals]:
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Cancel the task that runs when a signal is received: an exception anywhere in the loop could lose a process.

    Raises:
        Terminated: a signal was received.
    """
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), list[int]()
    assert task is not None

    def cancel(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in _handled():
        loop.add_signal_handler(number, cancel, number)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise Terminated(received[0]) from None
        raise
    finally:
        for number in _handled():
            loop.remove_signal_handler(number)
        handle_signals()


async def _serve(service: Service, opened: socket.socket, announce: Callable[[ServedModel, str, str], None]) -> None:
    server = _Server(
        uvicorn.Config(
            create_app(service),
            http=HeadLimitProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(GRACE_S),
        )
    )

    def stop() -> None:
        server.force_exit = server.should_exit  # the second signal does not wait for answers
        server.should_exit = True

    loop = asyncio.get_running_loop()
    signals = _handled()
    for number in signals:
        loop.add_signal_handler(number, stop)
    failing = asyncio.create_task(_stop_on_failure(service.model, stop))
    opened.listen()  # uvicorn does it later, when a program that waits for the address has already been refused
    announce(service.model, f"http://{HOST}:{service.port}", service.key)
    await server.serve(sockets=[opened])
    failing.cancel()
    for number in signals:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # the rest is quick, and ends with the exit code 0
    if service.model.failed.is_set():
        raise BackendEnded(
            f"{service.model.name}: {service.model.backend} ended and cannot be started again; see above"
        )


async def _stop_on_failure(model: ServedModel, stop: Callable[[], None]) -> None:
    await model.failed.wait()
    stop()
