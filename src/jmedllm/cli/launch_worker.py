"""One process of `jmedllm launch`: a command that ends when the process that launched it does."""

import os
import signal
import threading
import time

from jmedllm.cli import main
from jmedllm.launcher import GRACE_S


def _end_with_launcher() -> None:
    while os.read(0, 4096):  # without Python's buffer, whose lock would end this process in a crash
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    main()
