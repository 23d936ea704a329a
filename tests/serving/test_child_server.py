"""A process of a backend is started again when it ends."""

import asyncio
import subprocess
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("httpx2")

from jmedllm.serving.backends import child_server


class Short:
    """A process that has ended as soon as it has begun."""

    key = "key"
    process = cast("subprocess.Popen[bytes]", SimpleNamespace(poll=lambda: 1))

    def address(self) -> str:
        return "http://127.0.0.1:1"

    def kill(self) -> None:
        pass


@pytest.mark.parametrize(("steady_s", "begun"), [(3600.0, 1 + child_server.RESTARTS), (0.0, 7)])
def test_a_process_is_started_again_three_times_in_a_row(
    steady_s: float, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_server, "STEADY_S", steady_s)  # 0: each process has run for long
    lines: list[str] = []
    count = 0

    async def run() -> None:
        enough = asyncio.Event()

        def begin() -> Short:
            nonlocal count
            count += 1
            if count == 7:
                enough.set()
            return Short()

        server = child_server.ChildServer("llama.cpp", begin, lines.append)
        await server.start()
        waiting = [asyncio.create_task(each.wait()) for each in (enough, server.failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        await server.close()

    asyncio.run(run())
    assert min(count, 7) == begun
    assert ("3 times in a row, which is the limit" in lines[-1]) == (steady_s > 0)
