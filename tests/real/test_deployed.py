"""Files of real weights are the model: SmolLM2, and what the demo trains."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jmedllm.deploy.gguf.export import export_gguf
from jmedllm.deploy.gguf.proof import FULL, Coverage
from jmedllm.deploy.gguf.source import open_source
from jmedllm.precision import choose_precision

pytestmark = pytest.mark.exhaustive

FEWER = Coverage(exact_texts=1, texts=3, positions=64, chats=5)

LARGEST = {"f16": 1e-4, "q8_0": 2e-2, "q4_k_m": 0.1}
"""Largest KL divergence in nats per token. SmolLM2's columns fill no block of 256, which costs it more than others."""


@pytest.mark.parametrize(("kind", "coverage"), [("f16", FULL), ("q8_0", FEWER), ("q4_k_m", FEWER)])
def test_files_of_smollm2_are_the_model(kind: str, coverage: Coverage, smollm2: Path, tmp_path: Path) -> None:
    file = tmp_path / "smollm2.gguf"
    with open_source(str(smollm2), None, choose_precision("float32", "cpu")) as source:
        proof = export_gguf(source, file, kind, coverage=coverage).proof
    assert proof is not None and proof.exact is not None and file.is_file()
    assert proof.exact.kl <= 1e-9 and proof.exact.top1 == 1.0
    assert {language: each.kl <= LARGEST[kind] for language, each in proof.languages.items()} == {
        "ja": True,
        "en": True,
    }
    if kind == "f16":
        assert min(each.top1 for each in proof.languages.values()) >= 0.995
        assert sum(each.positions for each in proof.languages.values()) >= 2200
        assert proof.answers.same >= 48 and proof.answers.prompts == 50


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of recipes/demo.yaml."""
    import subprocess
    import sys

    run, root = tmp_path_factory.mktemp("demo") / "run", Path(__file__).parents[2]
    command = [sys.executable, "-m", "jmedllm", "run", str(root / "recipes/demo.yaml"), "--output", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize(("kind", "fewest"), [("f16", 280), ("q4_k_m", 200)])
def test_the_demos_file_answers_its_exam_as_the_model_does(
    kind: str, fewest: int, demo: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    file = tmp_path / "demo.gguf"
    code, output, errors = cli("deploy", "gguf", demo, "--output", file, "--type", kind, "--exam", "demo")
    assert code == 0, errors
    proof: dict[str, Any] = json.loads(file.with_suffix(".proof.json").read_text(encoding="utf-8"))
    assert proof["exact"]["kl"] <= 1e-9 and proof["exact"]["top1"] == 1.0
    assert max(each["kl"] for each in proof["languages"].values()) <= LARGEST[kind]
    assert [(each["language"], each["n"]) for each in proof["benchmarks"]] == [("ja", 143), ("en", 143)]
    assert sum(each["same"] for each in proof["benchmarks"]) >= fewest
    assert min(each["p"] for each in proof["benchmarks"]) > 0.05
    assert re.search(r"exam demo ja, 143 items", output)


def test_the_file_of_the_model_before_tuning_is_refused(
    demo: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    file = tmp_path / "demo.gguf"
    code, _, errors = cli("deploy", "gguf", demo / "mfpt/model", "--output", file, "--no-proof")
    assert code == 0, errors
    code, _, errors = cli("deploy", "prove", file, "--against", demo)
    assert code == 2 and "demo.gguf" in errors and "Traceback" not in errors
