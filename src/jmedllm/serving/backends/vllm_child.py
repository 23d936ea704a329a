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
from typing import Any

_STOP_S = 10.0
"""Time for vLLM to end by itself, in seconds."""


def main(settings: dict[str, Any]) -> None:
    """Run a command until it ends or standard input closes.

    Args:
        settings: `command`; `environment`, with the API key.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the others of this group
    server = subprocess.Popen(
        settings["command"], env=os.environ | settings["environment"], stdin=subprocess.DEVNULL, stdout=sys.stderr
    )
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = server.wait()
    _end_group(signal.SIGTERM)
    sys.exit(code if code >= 0 else 128 - code)


def _end_with_parent() -> None:
    sys.stdin.read()
    _end_group(signal.SIGTERM)
    time.sleep(_STOP_S)
    _end_group(signal.SIGKILL)


def _end_group(number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(0, number)


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))  # not arguments, which other users could read
