"""A run that is killed in any stage ends like one that was not, and leaves nothing of the killed process."""

import time
from pathlib import Path

import pytest

from conftest import Cli
from fork_server import ForkServer
from jmedllm.locks import locked
from test_pipeline import manifest, run, write_recipe

AT_WORK = {
    "corpus": "corpus/**/*.tmp",
    "mfpt": "mfpt/checkpoints/*",
    "mpeft": "mpeft/metrics.jsonl",
    "merge": "merge/.*.tmp",
    "eval": "eval/**/*.samples.jsonl",
    "report": "report.md",
}
"""What exists while a stage works, or just after it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and a run of it that was not killed."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(folder, steps=20)
    run(recipe, folder / "run")
    return recipe, folder / "run"


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("stage", AT_WORK)
def test_kill_9_in_a_stage_changes_nothing_in_the_end(
    whole: tuple[Path, Path], tmp_path: Path, forks: ForkServer, stage: str
) -> None:
    recipe, expected = whole
    folder = tmp_path / "run"
    process = forks.start("-m", "jmedllm", "run", recipe, "--output", folder)
    while not any(folder.glob(AT_WORK[stage])) and process.poll() is None:
        time.sleep(0.0005)
    if process.poll() is None:
        process.kill()
    assert forks.run("-m", "jmedllm", "run", recipe, "--output", folder).returncode == 0
    assert manifest(folder) == manifest(expected)
    assert not [*folder.rglob("*.tmp"), *folder.rglob("*.old")]


COMMANDS = {
    "run": ("run", "{recipe}"),
    "pretrain": ("pretrain", "{recipe}"),
    "corpus build": ("corpus", "build", "{folder}/corpus.jsonl"),
    "corpus deidentify": ("corpus", "deidentify", "{folder}/corpus.jsonl"),
    "eval": ("eval", "--model", "{model}", "--benchmark", "{folder}/exam.jsonl"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_of_two_at_once_ends_in_one_line(cli: Cli, tmp_path: Path, tiny_model: Path, name: str) -> None:
    recipe, output = write_recipe(tmp_path), tmp_path / "out"
    words = [each.format(recipe=recipe, folder=tmp_path, model=tiny_model) for each in COMMANDS[name]]
    with locked(output):
        code, _, errors = cli(*words, "--output", output)
    assert code == 2
    assert errors.splitlines()[-1] == (
        f"error: {output} is in use by another jmedllm process; choose another --output"
    )
    assert [path.name for path in output.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_one_line(cli: Cli, tmp_path: Path, tiny_model: Path, name: str) -> None:
    recipe, output = write_recipe(tmp_path), Path("/dev/null/out")
    words = [each.format(recipe=recipe, folder=tmp_path, model=tiny_model) for each in COMMANDS[name]]
    code, _, errors = cli(*words, "--output", output)
    assert code == 2
    assert (
        errors.splitlines()[-1] == f"error: cannot write {output}: Not a directory; free space or choose another place"
    )
