"""One process of `jmedllm launch`: a command that ends when the process that launched it does."""

import atexit
import os
import signal
import sys
import threading
import time


def _run() -> None:
    code: object = 1

    def leave() -> None:
        # torch's caches keep gloo's threads alive, which would end this process in a crash after all is done.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)

    atexit.register(leave)  # before all others, so that it runs after them
    from jmedllm.cli import main

    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
        raise


def _end_with_launcher() -> None:
    from jmedllm.launcher import GRACE_S

    while os.read(0, 4096):  # without Python's buffer, whose lock would end this process in a crash
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    _run()
