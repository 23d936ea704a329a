"""A server for one program: it ends with the program, however that ends."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from jmedllm.errors import InputError
from jmedllm.serving.client import ChatClient

_STOP_S = 15.0
"""Time limit for a stop, in seconds; a server that takes longer is killed."""


@contextmanager
def own_server(file: Path, *, context: int | None = None, trust: bool = False) -> Iterator[ChatClient]:
    """Serve a model on a free port until the block ends.

    Args:
        file: GGUF file or model directory.
        context: tokens of a prompt and its answer; None for the default of `deploy serve`.
        trust: whether to load a file whose checksum is not known.

    Raises:
        InputError: the server does not start.
    """
    settings = json.dumps({"file": str(file), "context": context, "trust": trust})
    with (
        TemporaryFile() as errors,  # a pipe that nobody reads would stop the server when it is full
        subprocess.Popen(
            [sys.executable, "-m", "jmedllm.serving.own_server", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C stops an answer, not the server
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines() or [f"{file}: the server ended"]
                raise InputError(said[-1].removeprefix("error: "))
            yield ChatClient(**json.loads(line))
        finally:
            process.stdin.close()  # which stops it
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _stop_with_parent() -> None:
    # Without Python's buffer, whose lock would end this process in a crash if the model cannot be loaded.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    import asyncio

    from jmedllm.serving.limits import Limits
    from jmedllm.serving.model import ServedModel, ServeOptions
    from jmedllm.serving.run import BackendEnded, serve

    settings = json.loads(sys.argv[1])
    threading.Thread(target=_stop_with_parent, daemon=True).start()

    def announce(model: ServedModel, address: str, key: str) -> None:
        sys.stdout.write(f"{json.dumps({'url': address, 'key': key})}\n")
        sys.stdout.flush()

    try:
        asyncio.run(
            serve(
                Path(settings["file"]),
                ServeOptions(slots=1, context=settings["context"], threads=None, trust=settings["trust"]),
                port=0,
                key_file=None,
                limits=Limits(),
                prompt_log=None,
                announce=announce,
            )
        )
    except (InputError, BackendEnded) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    _main()
