"""The list of retired words finds each of them, and the project contains none."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("retired_words", ROOT / "tools" / "retired_words.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORDS = """
sit, sits, sitting, sittings, sat, paper, papers, track, tracks, verdict, verdicts, board, boards, asking,
prompting, quiz, quizzes, census, leak, leaks, turns of the choices, turn of its choices, could show,
expected error, tell, tells, telling, told, stand, stands, standing, stood, hold, holds, holding, held, lie,
lies, lay, lying, mend, mends, mended, mending, go on, goes on, going on, gone on, went on, whole way,
in the small, beforehand, is nothing a, as-written, as_written, best_by, micro_batch, source_tokens,
target_tokens, step_in_backward, in_backward, dryrun, dry_run, on_host, carry_out, carried out, as_first_sees,
may_speak, scratch, engine, Paper, Sitting, Verdict, Shown, Asking, Prompting, Board, Keeping,
Pace, Scratch, Ways, Workshop, Leaks, Extent, RoomyLayer, find_ways, Watch, Sat, activations:, clip:, warmup:,
tracks:
"""


@pytest.mark.parametrize("word", re.split(r",\s+", WORDS.strip()))
def test_each_word_is_found_in_a_sample_file(tool: ModuleType, tmp_path: Path, word: str) -> None:
    sample = tmp_path / "sample.md"
    sample.write_text(f"First line.\nA sentence with {word} in it.\n", encoding="utf-8")
    assert {number for number, *_ in tool.find(sample)} == {2}


def test_every_row_of_the_list_has_a_sample(tool: ModuleType) -> None:
    samples = re.split(r",\s+", WORDS.strip())
    samples.append("evaluate:")  # only at the beginning of a line
    unused = [pattern.pattern for pattern, *_ in tool.compiled() if not any(map(pattern.search, samples))]
    assert unused == []


@pytest.mark.parametrize(
    "text",
    [
        "def read_sitting(folder):",
        "class ExamBoard:",
        "a_run_is_told_so",
        "The mend is in the message.",
        "activations: offload",
        "evaluate:",
    ],
)
def test_parts_of_identifiers_and_recipe_keys_are_found(tool: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.py").write_text(text + "\n", encoding="utf-8")
    assert [number for number, *_ in tool.find(tmp_path / "sample.py")] == [1]


@pytest.mark.parametrize(
    "text",
    [
        "the held-out texts",
        "position = handle.tell()",
        "log to TensorBoard",
        "`TASK` stands for a task",
        "understand the threshold",
        "trained from scratch",
        "early_stopping: {every: 3}",
    ],
)
def test_words_that_are_right_in_their_place_stay(tool: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.py").write_text(text + "\n", encoding="utf-8")
    assert list(tool.find(tmp_path / "sample.py")) == []


def test_the_name_of_a_file_counts(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "dryrun.py").write_text("", encoding="utf-8")
    assert [(number, word) for number, word, *_ in tool.find(tmp_path / "dryrun.py")] == [(0, "dryrun")]


def test_the_project_contains_none(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([]) == 0, capsys.readouterr().out
