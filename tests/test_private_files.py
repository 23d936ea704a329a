"""What jmedllm writes may contain text of patients: only its owner may read it, whatever the umask."""

import os
import stat
from pathlib import Path

import pytest

from conftest import Cli
from fork_server import ForkServer
from jmedllm.files import append_jsonl, atomic_folder, make_folder, write_atomic, write_jsonl
from jmedllm.locks import locked
from test_pipeline import write_recipe

OPEN_UMASK = "import os, sys; os.umask(0); from jmedllm.cli import main; main()"
"""The command line, started by a user whose new files everybody may read and write."""


def open_to_others(root: Path) -> list[str]:
    """Files and folders at and below `root` that other users may read, write or enter."""
    return [
        f"{path.relative_to(root.parent)} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (root, *root.rglob("*"))
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    ]


@pytest.mark.slow
def test_every_file_of_a_run_is_private(tmp_path: Path, forks: ForkServer) -> None:
    recipe = write_recipe(tmp_path)
    run = tmp_path / "runs" / "tiny"
    ended = forks.run("-c", OPEN_UMASK, "run", recipe, "--output", run)
    assert ended.returncode == 0, ended.stderr
    assert {"manifest.json", "report.html", "report.md", "corpus", "mfpt", "merge", "eval"} <= {
        path.name for path in run.iterdir()
    }
    assert open_to_others(tmp_path / "runs") == []


WRITERS = {
    "text": lambda path: write_atomic(path / "text", "x"),
    "rows": lambda path: write_jsonl(path / "rows", ["x"]),
    "appended rows": lambda path: (make_folder(path), append_jsonl(path / "rows", ["x"])),
    "lock": lambda path: locked(path).__enter__(),
    "folder": lambda path: _fill(path / "model"),
}


def _fill(folder: Path) -> None:
    with atomic_folder(folder, "mark") as temporary:
        write_atomic(temporary / "mark", "x")


@pytest.mark.parametrize("name", WRITERS)
def test_files_from_python_are_private(tmp_path: Path, name: str) -> None:
    before = os.umask(0)
    try:
        WRITERS[name](tmp_path / "new" / "folder")
    finally:
        os.umask(before)
    assert open_to_others(tmp_path / "new") == [] and any((tmp_path / "new").rglob("*"))


def test_a_folder_of_the_user_keeps_its_mode(cli: Cli, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (tmp_path / "notes.txt").write_text("患者は壊血病と診断された。", encoding="utf-8")
    assert cli("corpus", "deidentify", tmp_path / "notes.txt", "--output", shared)[0] == 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert [each for path in shared.iterdir() for each in open_to_others(path)] == []
