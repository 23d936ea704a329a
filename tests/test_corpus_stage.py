"""The corpus stage of a recipe: files come out clean and without benchmark questions, the demo as it is."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from conftest import write_questions
from jmedllm.corpus import demo
from jmedllm.corpus.documents import Document
from jmedllm.corpus.pipeline.build import BuildConfig, build
from jmedllm.errors import InputError
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.progress import notice
from jmedllm.recipe import Recipe
from jmedllm.stages import STAGES
from jmedllm.stages.corpus import CorpusOutputs, read_corpus
from jmedllm.stages.stage import Run
from jmedllm.training.packing import load_blocks, pack_documents


def run(model: Path, folder: Path, **more: Any) -> Run:
    recipe = {"name": "t", "data": str(folder), "base": {"path": str(model)}, "threads": 1} | more
    made = Run(Recipe.model_validate(recipe), folder / "run", choose_precision("float32", "cpu"), {})
    run_pipeline(STAGES.values(), made, "corpus", lambda stage, message: None)
    return made


def test_the_demo_is_packed_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.training.examples import document_samples

    made = run(tiny_model, tmp_path, corpus={"inputs": ["demo"], "block_size": 256})
    documents = list(demo.documents())
    assert list(read_corpus(made)) == documents
    Random(0).shuffle(documents)
    tokenizer = load_tokenizer(tiny_model)
    expected = pack_documents(document_samples(tokenizer, documents), 256, tokenizer.pad_token_id)
    packed = load_blocks(made.folder / "corpus" / "blocks")
    for name in ("ids", "positions", "loss_mask"):
        assert np.array_equal(getattr(packed, name), getattr(expected, name))
    assert made.output("corpus", CorpusOutputs).documents == len(documents) == 4576


def test_files_come_out_clean(tiny_model: Path, tmp_path: Path) -> None:
    stem = "ビタミンCの長期にわたる欠乏によって起こり、歯肉からの出血を主な症状とする疾患はどれか。"
    exam = write_questions(tmp_path / "exam.jsonl")
    row = json.loads(exam.read_text(encoding="utf-8").splitlines()[0]) | {"id": "x", "question": stem}
    exam.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    story = [f"第{n}の症例では{n * 37 % 91}日目に解熱し、{n % 7 + 2}週後に退院した。\n" for n in range(60)]
    leaking = "".join([*story[:30], stem, "\n", *story[30:]])
    bodies = ["壊血病は<b>ビタミンＣ</b>の欠乏で起こる。", "壊血病はビタミンCの欠乏で起こる。", leaking]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"body": body}) + "\n" for body in bodies))
    corpus = {"inputs": [str(tmp_path / "text.jsonl")], "field": "body", "block_size": 64}
    exams = {"benchmarks": [str(exam)], "languages": ["ja"], "models": ["base"]}
    made = run(tiny_model, tmp_path, corpus=corpus, eval=exams)
    first, *rest = list(read_corpus(made))
    assert first == Document("text.jsonl:1", "壊血病はビタミンCの欠乏で起こる。", "ja", "text.jsonl")
    assert len(rest) == 2 and not any(stem in document.text for document in rest)
    counts = made.outputs["corpus"].to_dict()
    assert [counts[name] for name in ("read_errors", "duplicates", "benchmark_items_removed")] == [0, 1, 1]
    with pytest.raises(InputError, match=r"unknown text field 'text': known: body; choose it with"):
        run(tiny_model, tmp_path, corpus=corpus | {"field": "text"})


def test_the_stage_says_once_that_personal_data_is_still_in_the_text(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("medical", "general"):
        (tmp_path / f"{name}.txt").write_text(f"{name}: 壊血病はビタミンCの欠乏で起こる。", encoding="utf-8")
    mixing = {"general": [str(tmp_path / "general.txt")], "replay": 0.5}
    notice.cache_clear()
    run(tiny_model, tmp_path, corpus={"inputs": [str(tmp_path / "medical.txt")], "block_size": 64, "mixing": mixing})
    assert capsys.readouterr().err.count("personal data: nothing has removed it from this text") == 1


def test_a_corpus_that_was_built_is_an_input(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("壊血病はビタミンCの欠乏で起こる。<br>予防は野菜。", encoding="utf-8")
    build(BuildConfig((tmp_path / "a.txt",)), [], tmp_path / "built", 1)
    made = run(tiny_model, tmp_path, corpus={"inputs": [str(tmp_path / "built")], "block_size": 64})
    expected = Document("a.txt", "壊血病はビタミンCの欠乏で起こる。\n予防は野菜。", "ja", tmp_path.name)
    assert list(read_corpus(made)) == [expected]
