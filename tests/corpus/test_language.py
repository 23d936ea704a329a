"""Language by script."""

from pathlib import Path

import pytest

from jmedllm.corpus.language import language
from jmedllm.corpus.readers.reader import read_documents

CASES = {
    "糖尿病は慢性の疾患である。": "ja",
    "第一章総則": "ja",
    "HbA1c 6.5%以上": "ja",
    "EGFR遺伝子変異陽性のNSCLC症例に対するosimertinib投与": "ja",
    "Type 2 diabetes mellitus": "en",
    "A café au lait spot is a sign of neurofibromatosis; Sjögren’s syndrome dries eyes and mouth.": "en",
    "El niño está enfermo del corazón y el médico lo examinó": "other",
    "糖尿病患者中国人民共和国的医院的治疗方法研究进展和临床应用以及预后评估指标分析": "other",
    "당뇨병": "other",
    "Сахарный диабет": "other",
    "": "other",
    "2.5 / 3.0 ±": "other",
}


@pytest.mark.parametrize("text", CASES)
def test_language(text: str) -> None:
    assert language(text) == CASES[text]


@pytest.mark.parametrize("name", ["en_medquad.jsonl", "ja_pharmacopoeia.jsonl", "ja_wikipedia_medical.jsonl"])
def test_real_documents_are_tagged_as_their_source_says(shared: Path, name: str) -> None:
    documents = list(read_documents(shared / "corpus" / name))[::10]
    assert [each.where for each in documents if language(each.text) != each.language] == []
