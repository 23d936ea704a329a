"""Offline means offline: nothing of a run leaves the machine."""

import socket
from pathlib import Path

import pytest

from test_pipeline import run, write_recipe


def test_a_run_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("this test has no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda self, address: refuse(address))
    for name in ("getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    run(write_recipe(tmp_path), tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert asked == []
