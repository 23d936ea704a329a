"""Child process of `vllm_process`: runs vLLM's server until standard input closes.

vLLM has several processes, of which none may outlive the server. This one only waits, and imports nothing of ours.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from shutil import rmtree
from typing import Any

_OTHERS_S = 1.0
"""Time for the other processes to end after vLLM's server, in seconds."""


def main(settings: dict[str, Any]) -> None:
    """Run a command until it ends or standard input closes.

    Args:
        settings: `command`; `environment`, with the API key; `folder`, which is removed at the end; `grace_s`, the
            time for vLLM's server to end by itself, in seconds.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the others of this group
    server = subprocess.Popen(
        settings["command"], env=os.environ | settings["environment"], stdin=subprocess.DEVNULL, stdout=sys.stderr
    )
    closed = threading.Event()

    def end_with_parent() -> None:
        sys.stdin.read()
        closed.set()
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(settings["grace_s"])
            time.sleep(_OTHERS_S)
        rmtree(settings["folder"], ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    waiting = threading.Thread(target=end_with_parent, daemon=True)
    waiting.start()
    code = server.wait()
    if closed.is_set():
        waiting.join()
    rmtree(settings["folder"], ignore_errors=True)
    sys.exit(code if code >= 0 else 128 - code)  # the parent ends what is left


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))  # not arguments, which other users could read
