"""The catalogue: whole, pinned, and unable to leave the data directory."""

import re
from pathlib import Path, PurePosixPath

import pytest

from conftest import SHARED_SOURCES
from jmedllm.data.catalogue import SOURCES
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.files import hash_file

COMMIT = re.compile(
    r"https://(raw\.githubusercontent\.com/[^/]+/[^/]+|huggingface\.co/datasets/[^/]+/[^/]+/resolve)/[0-9a-f]{40}/"
)


def test_counts():
    counts = {name: len(source.files) for name, source in SOURCES.items()}
    assert all(counts.values())
    known = {
        "igakuqa": 240,
        "medqa": 2,
        "medqa-5": 1,
        "medmcqa": 1,
        "mmlu": 26,
        "jmmlu": 13,
        "jmedbench": 12,
        "yakugakuqa": 26,
        "jmle2026": 1,
        "igakuqa119": 7,
        "medrect": 4,
        "jmed-llm": 5,
        "sukeda2024": 1,
    }
    assert counts | known == counts


@pytest.mark.parametrize("name", SOURCES)
def test_files(name: str):
    for file in SOURCES[name].files:
        path = PurePosixPath(file.path)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.url is None or COMMIT.match(file.url)


@pytest.mark.parametrize("name", SOURCES)
def test_incomplete_sources_have_a_note(name: str):
    source = SOURCES[name]
    incomplete = any(None in (file.sha256, file.url) for file in source.files)
    assert not incomplete or source.note


def test_every_benchmark_has_its_sources():
    assert {name for card in BENCHMARKS.values() for name in card.sources.values()} - {None} <= set(SOURCES)


def test_upstream_paths():
    urls = {file.path: file.url for source in SOURCES.values() for file in source.files}
    github = "https://raw.githubusercontent.com"
    assert urls["igakuqa/data/2018/112-A.jsonl"] == (
        f"{github}/jungokasai/IgakuQA/2bc4c3d159cf5505f6253d24a909fbd53237e239/data/2018/112-A.jsonl"
    )
    assert urls["mmlu/dev/anatomy_dev.csv"] == (
        f"{github}/HaeChan0305/MLILAB-FedLLM/d92730e8bacd7b3a61e551e015e40588e10234b4/data/mmlu/dev/anatomy_dev.csv"
    )
    assert urls["jmmlu/nutrition.csv"] == (
        f"{github}/nlp-waseda/JMMLU/bf5dc03e46b18b6145cfeffcb3e9825fdf91bed1/JMMLU/nutrition.csv"
    )
    assert urls["yakugakuqa/data/2024/109.jsonl"] == (
        f"{github}/EQUES-Inc/pharma-LLM-eval/998387e8fe73f775990ca11d0a45d2a6819bf4e3/data/2024/109.jsonl"
    )
    assert urls["jmedbench/usmleqa_jp/test.jsonl"] == (
        "https://huggingface.co/datasets/Coldog2333/JMedBench/resolve/"
        "b6acb5195050bf36e146b51cd2744a5d6638abd1/usmleqa_jp/test.jsonl"
    )


def test_checksums_are_those_of_the_real_data(shared: Path):
    pinned = [file for name in SHARED_SOURCES for file in SOURCES[name].files if file.sha256]
    assert [f.path for f in pinned if hash_file(shared / f.path) != f.sha256] == []
