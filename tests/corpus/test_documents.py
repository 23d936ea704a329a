"""Documents on disk: a sequence like a list."""

from pathlib import Path
from random import Random

import pytest

from jmedllm.corpus.documents import Document, Documents, as_line, open_documents

MADE = [
    Document(str(number), f"第{number}項。\n改行\u2028あり" * (number % 3), "ja", "s", None, None)
    for number in range(9)
]


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    for name, part in (("a", MADE[:4]), ("b", []), ("c", MADE[4:])):
        (tmp_path / name).write_bytes(b"".join(map(as_line, part)))
    return open_documents([tmp_path / name for name in "abc"])


def test_they_are_a_sequence(documents: Documents) -> None:
    assert list(documents) == MADE
    assert len(documents) == 9
    assert [documents[number] for number in (3, 4, 8, -1, 0)] == [MADE[number] for number in (3, 4, 8, -1, 0)]
    assert documents[2:6] == MADE[2:6]
    assert Random(3).choices(documents, k=5) == Random(3).choices(MADE, k=5)
    with pytest.raises(IndexError):
        documents[9]


def test_some_of_them_are_a_sequence_too(documents: Documents) -> None:
    odd = documents.filter(lambda document: int(document.id) % 2 == 1)
    assert list(odd) == MADE[1::2] and odd[3] == MADE[7]
    assert list(odd + documents) == MADE[1::2] + MADE
    assert list(open_documents([])) == []
