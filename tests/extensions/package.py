"""An installed package, as `pip install` leaves it, made for one test."""

import sys
from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, **entry_points: str) -> str:
    """Put a package with one module `code` on the path; it is removed after the test.

    Args:
        folder: gets the package.
        monkeypatch: of the test.
        code: the module's source.
        entry_points: kind → "name = attribute" of the module.

    Returns:
        The module's name.
    """
    (folder / "outside.py").write_text(code, encoding="utf-8")
    info = folder / "outside-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n", encoding="utf-8")
    lines = []
    for kind, entry in entry_points.items():
        name, _, attribute = entry.partition(" = ")
        lines += [f"[jmedllm.{kind}]", f"{name} = outside:{attribute}"]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    return "outside"
