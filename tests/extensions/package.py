"""The worked examples of CONTRIBUTING.md, installed like packages of their own for one test."""

import sys
from pathlib import Path
from typing import Any

import pytest

from jmedllm.plugins import plugins

ROOT = Path(__file__).parents[2]


def section(title: str) -> str:
    """Return a section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition(f"## {title}\n")[2]
    return text.partition("\n## ")[0]


def example(title: str, language: str = "python") -> str:
    """Return the first code block of a section of CONTRIBUTING.md."""
    return section(title).partition(f"```{language}\n")[2].partition("```")[0]


def register(registry: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the members of installed packages to a registry, as a new process does."""
    for name, member in plugins(kind, registry, object).items():
        monkeypatch.setitem(registry, name, member)


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
    folder.mkdir(exist_ok=True)
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
