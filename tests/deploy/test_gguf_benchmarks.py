"""The model and its file answer the same items."""

import json
from pathlib import Path

import pytest

from conftest import write_questions
from jmedllm.deploy.gguf.proof import Coverage
from jmedllm.deploy.gguf.source import open_source
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision
from tiny_classes import TEXT, build_class

FLOAT32 = choose_precision("float32", "cpu")

SMALL = Coverage(exact_texts=1, texts=1, positions=8, chats=1)


def test_the_file_gives_the_models_responses_and_the_proof_says_so(tiny_model: Path, tmp_path: Path) -> None:
    from jmedllm.deploy.gguf.benchmarks import Benchmarks, compare_on_benchmarks
    from jmedllm.deploy.gguf.export import export_gguf, proof_file
    from jmedllm.evaluation.evaluate import EvalConfig
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.models.conversion.gguf import read_gguf

    questions = write_questions(tmp_path / "questions.jsonl", count=3)
    config = EvalConfig(benchmarks=[str(questions)], scorers=["answer"], max_new_tokens=12)
    benchmarks = Benchmarks(config, PromptConfig(), tmp_path)
    folders = [
        build_class(f"{name}ForCausalLM", tiny_model, tmp_path / name, TEXT | {"tie_word_embeddings": False})
        for name in ("Llama", "Qwen2")
    ]
    file = tmp_path / "tiny.gguf"
    with open_source(str(folders[0]), None, FLOAT32) as source:
        proof = export_gguf(source, file, "f16", coverage=SMALL, benchmarks=benchmarks).proof
    assert proof is not None
    found = [(each.language, each.scorer, each.n, each.same) for each in proof.benchmarks]
    assert found == [("ja", "answer", 3, 3), ("en", "answer", 3, 3)]
    assert all(each.trained == each.served and each.p == 1.0 for each in proof.benchmarks)
    record = json.loads(proof_file(file).read_text(encoding="utf-8"))
    assert record == json.loads(read_gguf(file).metadata["jmedllm.proof"])
    assert record["benchmarks"][0]["n"] == 3
    with open_source(str(folders[1]), None, FLOAT32) as other:
        assert sum(each.same for each in compare_on_benchmarks(file, other, benchmarks)) == 0


def test_missing_questions_are_reported_before_the_export(tiny_model: Path, tmp_path: Path) -> None:
    from jmedllm.deploy.gguf.benchmarks import benchmarks_of
    from jmedllm.deploy.gguf.export import export_gguf

    with open_source(str(tiny_model), None, FLOAT32) as source:
        benchmarks = benchmarks_of(str(tiny_model), source, ["igakuqa"], tmp_path / "none")
        with pytest.raises(InputError, match="igakuqa"):
            export_gguf(source, tmp_path / "tiny.gguf", "f16", benchmarks=benchmarks)
    assert not list(tmp_path.iterdir())
