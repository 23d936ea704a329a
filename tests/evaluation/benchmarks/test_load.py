"""The registry: names, languages and splits there are not, and files that were never fetched."""

from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("igakuq", "ja"), "unknown benchmark 'igakuq': did you mean igakuqa or yakugakuqa?"),
        (("igakuqa", "fr"), "unknown language 'fr': known: en, ja"),
        (("jmmlu", "en"), "jmmlu has no questions in 'en'; it has ja"),
        (("yakugakuqa", "ja"), "yakugakuqa has no split 'test' in 'ja'; it has train"),
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
    assert "\n" not in message
