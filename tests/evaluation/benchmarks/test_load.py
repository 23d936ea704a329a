"""The registry: names, languages and splits there are not, and files that were never fetched."""

import json
from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.prompts.format import PromptConfig


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("igakuq", "ja"), "unknown benchmark 'igakuq': did you mean igakuqa or igakuqa119 or yakugakuqa?"),
        (("igakuqa", "fr"), "unknown language 'fr': known: en, ja"),
        (("jmmlu", "en"), "jmmlu has no questions in 'en'; it has ja"),
        (
            ("yakugakuqa", "ja"),
            "yakugakuqa has no split 'test' in 'ja'; it has train; benchmarks with test in 'ja': "
            "igakuqa, medqa, medqa-5, medmcqa, mmlu, jmmlu, jmle2026, igakuqa119, jmle-cases, medrect, crade, rrtnm, "
            "smdis, mrner-disease, mrner-medicine, demo, demo-blanked",
        ),
        (("mmlu", "ja", "dev"), "mmlu has no split 'dev' in 'ja'; it has test, train, validation"),
    ],
)
def test_what_there_is_not(tmp_path: Path, arguments: tuple[str, ...], message: str):
    name, language, *split = arguments
    with pytest.raises(InputError) as error:
        load(name, language, tmp_path, *split)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "language", "split", "source"),
    [
        (name, language, split, benchmark.sources[language])
        for name, benchmark in BENCHMARKS.items()
        for language, split in benchmark.expected_counts
        if benchmark.sources[language] is not None
    ],
)
def test_missing_files_name_the_command(tmp_path: Path, name: str, language: str, split: str, source: str):
    with pytest.raises(InputError) as error:
        load(name, language, tmp_path, split)
    message = str(error.value)
    assert message.endswith(f": no such file; fetch it with: jmedllm data get {source} --data {tmp_path}")


def test_a_missing_language_is_named_with_the_one_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "medmcqa" / "dev.json"
    file.parent.mkdir()
    row = {"id": "1", "question": "Which?", "opa": "w", "opb": "x", "opc": "y", "opd": "z", "cop": 1}
    file.write_text(json.dumps(row | {"subject_name": "Anatomy"}) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        tasks(EvalConfig(benchmarks=["medmcqa"]), PromptConfig(), tmp_path)
    message = str(error.value)
    assert message.startswith("medmcqa in Japanese: ") and message.endswith("for English alone write medmcqa:en")
    [task] = tasks(EvalConfig(benchmarks=["medmcqa:en"]), PromptConfig(), tmp_path)
    assert task.notes == ("medmcqa en: 1 questions found, 4,183 expected; check the files.",)
    assert "\n" not in message
    file.unlink()  # English needs another source than Japanese
    with pytest.raises(InputError, match=r"jmedbench .*; for English alone write medmcqa:en$"):
        tasks(EvalConfig(benchmarks=["medmcqa"]), PromptConfig(), tmp_path)
    with pytest.raises(InputError, match=f"jmedllm data get igakuqa --data {tmp_path}$"):  # one source has both
        tasks(EvalConfig(benchmarks=["igakuqa"]), PromptConfig(), tmp_path)
