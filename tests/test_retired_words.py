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


# one example, or more, of each row of the table of names
ROWS = {
    "exam": ["jmedllm exam", "exam:", "exam items", "read_exam"],
    "sit": ["sits", "sitting", "sat", "papers", "sit"],
    "track": ["track", "tracks:", "tracks"],
    "verdict": ["verdict", "verdicts"],
    "turns": ["turns of the choices", "turn of its choices"],
    "could show": ["could show"],
    "expected error": ["expected error"],
    "activations": ["activations: offload", '"activations": 1', "{x: 1, activations: keep}"],
    "clip": ["clip: 1.0", "`clip` | 1", '"clip": 1'],
    "warmup": ["warmup: 0.1", '"warmup": 0.1'],
    "batch": ["batch: 8", "micro_batch: 1"],
    "tokens": ["source_tokens", "target_tokens"],
    "step in backward": ["step_in_backward", "in_backward"],
    "offload": ["  offload: optimizer", "{x: 1, offload: weights}"],
    "watch": ["watch: 200", "best_by", "{x: 1, watch: 2}"],
    "evaluate": ["evaluate:"],
    "memory": ["as-written", "as_written"],
    "verbs": ["told", "stands", "holds", "lies", "mend", "gone on", "can no longer be", "is nothing a", "tell"],
    "phrases": ["whole way", "in the small", "what fits a machine", "beforehand"],
    "evaluation": ["asking", "Prompting", "board", "census", "leak"],
    "training": ["quiz", "a ring", "on_host", "streaming", "dryrun", "show_example", "trained mask", "sample.trained"],
    "models": ["scratch", "engine"],
    "corpus": ["evidence of a question"],
    "run": [
        "carry_out",
        "stage.wanted",
        "run.made",
        "stage.identity",
        "with together()",
        "as_first_sees",
        "may_speak",
    ],
    "custom": ["questions of your own", "a file of your own"],
}
CLASSES = """
Paper Sitting Given Verdict Shown Asking Prompting Board Reading Optimization Watch Keeping Pace Writing Ways
RoomyLayer Order Workshop Extent Leaks Step Place Sat Part Seen Base Rule examine find_ways census tally spread
"""
FILES = (
    "exam sitting examine people recorded own dryrun show evidence unseen tally spread together ring streaming watch"
)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".md", text) for texts in ROWS.values() for text in texts]
    + [(".py", f"class {name}:") for name in CLASSES.split() if name[0].isupper()]
    + [(".py", f"def {name}() -> None:") for name in CLASSES.split() if name[0].islower()],
)
def test_each_retired_word_is_found(tool: ModuleType, tmp_path: Path, suffix: str, text: str) -> None:
    sample = tmp_path / f"sample{suffix}"
    sample.write_text(f"First line.\n{text}\n" if suffix == ".md" else f"\n{text}\n", encoding="utf-8")
    assert {number for number, *_ in tool.find(sample)} == {2}


@pytest.mark.parametrize("name", FILES.split())
def test_names_of_files_and_folders_are_found(tool: ModuleType, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for path in (tmp_path / f"{name}.py", tmp_path / name / "sample.py"):
        path.write_text("", encoding="utf-8")
        assert {(number, word) for number, word, *_ in tool.find(path)} == {(0, name)}


def test_in_tests_strings_are_data_but_docstrings_and_ids_are_not(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    sample = tmp_path / "tests" / "test_sample.py"
    lines = [
        '"""A run is told so."""',
        'text = "the model sits"',
        'p = param(1, id="scratch")',
        'q = parametrize(ids=["a", "told", "b"])',
        "call(",
        '    "told",',
        ")",
        "# told",
    ]
    sample.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [number for number, *_ in tool.find(sample)] == [1, 3, 4, 8]


def test_the_message_names_a_section_that_exists(tool: ModuleType) -> None:
    sections = set(re.findall(r"CONTRIBUTING\.md, (\w+)", " ".join(instead for _, instead in tool.IDENTIFIERS)))
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert sections and sections <= set(headings)


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
        "activation_checkpointing: offload",
        "batch: list[int] = []",
        "the licence exam",
    ],
)
def test_words_that_are_right_in_their_place_stay(tool: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.py").write_text(text + "\n", encoding="utf-8")
    assert list(tool.find(tmp_path / "sample.py")) == []


def test_the_name_of_a_file_counts(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "dryrun.py").write_text("", encoding="utf-8")
    assert [(number, word) for number, word, *_ in tool.find(tmp_path / "dryrun.py")] == [(0, "dryrun")]
