"""The division of the input: whole lines, every byte once, the same for any number of processes."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.corpus.documents import Document
from jmedllm.corpus.pipeline import survey as survey_module
from jmedllm.corpus.pipeline.survey import survey
from jmedllm.corpus.readers.inputs import ByteRange
from jmedllm.corpus.readers.reader import read
from jmedllm.files import hash_file


@given(lengths=st.lists(st.integers(0, 60), max_size=60), part=st.integers(1, 200), block=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_every_line_is_in_one_part(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], part: int, block: int
) -> None:
    file = tmp_path_factory.mktemp("lines") / "a.jsonl"
    file.write_text("".join(json.dumps({"text": "x" * length}) + "\n" * (1 + length % 2) for length in lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey_module, "PART_BYTES", part)
        patch.setattr(survey_module, "_BUFFER", block)
        surveyed = survey([file], "text")
    found = [each for parts in surveyed.parts for byte_range in parts for each in read(byte_range)]
    whole = list(read(ByteRange(file)))
    assert found == whole and len(found) == max(1, len(lengths))  # an empty file is named
    assert surveyed.hashes == {str(file): hash_file(file)}


def test_large_files_are_divided_and_small_ones_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "PART_BYTES", 1000)
    monkeypatch.setattr(survey_module, "_BUFFER", 100)
    (tmp_path / "a.jsonl").write_text('{"text": "0123456789"}\n' * 200)
    (tmp_path / "b.txt").write_text("x" * 5000)
    for number in range(20):
        (tmp_path / f"c{number:02d}.txt").write_text(f"{number:02d}" * 100)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 2000))
    parts = survey([tmp_path], "text").parts
    assert [[each.path.name[0] for each in part] for part in parts][:4] == [["a"], ["a"], ["a"], ["a", "a"]]
    assert [len(part) for part in parts if part[0].path.name[0] == "c"] == [7, 7, 6]
    assert [byte_range.path.name for byte_range in parts[-1]][-1] == "d.jsonl.gz"
    texts = [each for part in parts for byte_range in part for each in read(byte_range)]
    assert len(texts) == 200 + 1 + 20 + 2000 and all(isinstance(each, Document) for each in texts)
