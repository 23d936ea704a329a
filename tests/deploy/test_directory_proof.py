"""A copied or converted model directory is the model; another one is refused."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import write_questions
from jmedllm.deploy.directory_proof import prove_directory
from jmedllm.deploy.gguf.proof import Coverage
from jmedllm.deploy.gguf.source import open_source
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision

SMALL = Coverage(texts=1, chats=2)


def lose_an_end(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 66]}', encoding="utf-8")


def swap_the_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")


def change_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.001
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


FAULTS: dict[Callable[[Path], None], str] = {
    lose_an_end: r"tokens \[0, 66\] end an answer, but \[0\] in",
    swap_the_template: "renders chats differently",
    change_a_weight: r"ja: differs from the model by .* \(limit 1e-09\)",
}


def test_a_copy_is_the_model_and_a_fault_is_refused_by_name(tiny_model: Path, tmp_path: Path) -> None:
    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as source:
        found = prove_directory(Path(copytree(tiny_model, tmp_path / "copy")), source, coverage=SMALL)
        assert all(each.kl == 0 and each.top1 == 1 for each in found.languages.values())
        assert found.answers.same == found.answers.prompts == 2
        for fault, message in FAULTS.items():
            folder = Path(copytree(tiny_model, tmp_path / fault.__name__))
            fault(folder)
            with pytest.raises(InputError, match=message):
                prove_directory(folder, source, coverage=SMALL)


def test_a_directory_in_another_dtype_has_the_limits_of_its_dtype_and_answers_the_same_items(
    tiny_model: Path, tmp_path: Path
) -> None:
    from jmedllm.deploy.gguf.benchmarks import Benchmarks
    from jmedllm.evaluation.evaluate import EvalConfig
    from jmedllm.evaluation.prompts.format import PromptConfig

    folder = Path(copytree(tiny_model, tmp_path / "half"))
    weights = {name: each.to(torch.bfloat16) for name, each in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"float32"', '"bfloat16"'), encoding="utf-8")
    questions = write_questions(tmp_path / "questions.jsonl", count=2)
    settings = EvalConfig(benchmarks=[str(questions)], scorers=["answer"], max_new_tokens=4)
    benchmarks = Benchmarks(settings, PromptConfig(), tmp_path)
    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as source:
        found = prove_directory(folder, source, coverage=SMALL, benchmarks=benchmarks)
    assert all(0 < each.kl <= 1e-2 for each in found.languages.values())
    assert [(each.language, each.n) for each in found.benchmarks] == [("ja", 2), ("en", 2)]
