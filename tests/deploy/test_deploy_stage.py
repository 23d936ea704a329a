"""The stage deploy: files with proofs as part of a run, and what would fail after training is refused before it."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Cli
from jmedllm.deploy.gguf import export
from jmedllm.deploy.gguf.proof import Coverage
from jmedllm.errors import InputError
from jmedllm.recipe_file import load_recipe
from jmedllm.report.deployment import DeployedFile, deployment
from jmedllm.report.page import page
from test_pipeline import manifest, run, write_recipe

TRAINING = """
name: mine
base: {path: %s}
prompt: {pack: plain}
mpeft: {instructions: [talk.jsonl], block_size: 64, steps: 2, learning_rate: 1e-4, adapter: {targets: [q_proj]}}
deploy: {types: %s}
"""


def with_deploy(recipe: Path, section: str) -> Path:
    text = recipe.read_text(encoding="utf-8").split("deploy:")[0].split("controls:")[0]
    recipe.write_text(f"{text}deploy: {section}\n", encoding="utf-8")
    return recipe


@pytest.mark.slow
def test_a_killed_run_repeats_only_what_is_missing_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = write_recipe(tmp_path, steps=4), tmp_path / "run"
    with_deploy(recipe, "{types: [q8_0, bf16]}")
    # The proof itself is tested in test_gguf.py.
    monkeypatch.setattr(export, "prove", lambda *_, **__: SimpleNamespace(record=lambda: FILE.proof))
    exported, real = [], export.export_gguf

    def killed_at_the_second(source: Any, output: Path, kind: str, **settings: Any) -> Any:
        if exported:
            raise KeyboardInterrupt
        exported.append(kind)
        return real(source, output, kind, **settings)

    monkeypatch.setattr(export, "export_gguf", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, folder)
    files = {kind: folder / "deploy" / f"tiny-{kind}.gguf" for kind in ("q8_0", "bf16")}
    first = files["q8_0"].stat().st_mtime_ns
    assert "deploy" not in manifest(folder) and not files["bf16"].exists()

    monkeypatch.setattr(export, "export_gguf", real)
    assert run(recipe, folder)["deploy"] == "done"
    assert files["q8_0"].stat().st_mtime_ns == first
    recorded = manifest(folder)["deploy"]["deployed"]
    assert [each["file"] for each in recorded] == ["deploy/tiny-q8_0.gguf", "deploy/tiny-bf16.gguf"]
    assert all(each["proof"]["languages"]["ja"]["kl"] <= each["limit"] for each in recorded)
    assert set(run(recipe, folder).values()) == {"unchanged"}

    content = files["bf16"].read_bytes()
    files["bf16"].unlink()
    assert run(recipe, folder)["deploy"] == "done" and files["bf16"].read_bytes() == content

    with_deploy(recipe, "{types: [bf16]}")
    assert run(recipe, folder)["deploy"] == "done"
    assert files["bf16"].read_bytes() == content and not files["q8_0"].exists()

    card = (folder / "merge" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Deployment" in card and f"`{manifest(folder)['deploy']['deployed'][0]['sha256']}`" in card
    inside = export.read_gguf(files["bf16"]).metadata["jmedllm.model_card"]
    assert inside.startswith("---\n") and "## Deployment" not in inside
    assert '<section id="deployment">' in (folder / "report.html").read_text(encoding="utf-8")
    assert "tiny-bf16.gguf" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.exhaustive
def test_a_run_of_stage_1_alone_deploys_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "export_gguf", partial(export.export_gguf, coverage=Coverage(1, 1, 16, 2)))
    recipe, folder = write_recipe(tmp_path, steps=4), tmp_path / "run"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text[: text.index("mpeft:")], encoding="utf-8")
    assert run(with_deploy(recipe, "{types: [q8_0]}"), folder)["deploy"] == "done"
    inside = export.read_gguf(folder / "deploy" / "tiny-q8_0.gguf").metadata
    assert inside["jmedllm.fingerprint"] == manifest(folder)["mfpt"]["model"]
    readme = (folder / "mfpt" / "model" / "README.md").read_text(encoding="utf-8")
    assert inside["jmedllm.model_card"] == readme


def unigram(base: Path) -> None:
    written = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = [[piece, -1.0] for piece in sorted(written["model"]["vocab"], key=written["model"]["vocab"].get)]
    written["model"] = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}
    (base / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")


def other_class(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"architectures": ["FalconForCausalLM"]}))


def untouched(base: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "types", "problem"),
    [
        (untouched, "[q4_k_s]", "deploy.types: unknown type 'q4_k_s': did you mean q4_k_m"),
        (untouched, "[f16, f16]", "deploy.types: names a type twice; name each once"),
        (
            untouched,
            "[f16], benchmarks: [igakqa]",
            "deploy.benchmarks: unknown benchmark 'igakqa': did you mean igakuqa",
        ),
        (untouched, "[f16], wheels: w", "wheels are for a bundle; set bundle: true, or leave wheels out"),
        (untouched, "[f16], benchmarks: [medqa]", "no such file"),
        (
            untouched,
            "[f16], bundle: true, wheels: base",
            "deploy.wheels: base has no wheels; name a directory that has",
        ),
        (other_class, "[f16]", "the architecture FalconForCausalLM is not supported"),
        (unigram, "[f16]", "the tokenizer is Unigram (as of llm-jp)"),
    ],
)
def test_what_would_fail_after_training_is_refused_before_it(
    change: Callable[[Path], None], types: str, problem: str, cli: Cli, tiny_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("talk.jsonl").write_text('{"instruction": "説明せよ。", "output": "ビタミンC"}\n', encoding="utf-8")
    change(base := copytree(tiny_model, tmp_path / "base"))
    Path("mine.yaml").write_text(TRAINING % (base, types), encoding="utf-8")
    code, _, errors = cli("run", "mine.yaml", "--check")
    assert code == 2 and problem in errors and "Traceback" not in errors
    assert not Path("runs").exists()


def test_a_base_elsewhere_is_checked_by_its_published_config(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.jsonl").write_text('{"instruction": "説明せよ。", "output": "ビタミンC"}\n', encoding="utf-8")
    Path("mine.yaml").write_text(TRAINING % ("Qwen/Qwen2-7B-Instruct", "[f16]"), encoding="utf-8")
    code, output, errors = cli("run", "mine.yaml", "--check")
    assert code == 0 and "deploy  checked: llama.cpp, types, architecture\n" in output, errors


def test_without_llama_cpp_or_training_the_run_does_not_begin(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_deploy(write_recipe(tmp_path), "{types: [f16]}")
    monkeypatch.setattr("jmedllm.deploy.llama_cpp.find_spec", lambda name: None)
    with pytest.raises(InputError, match="deploy needs xllamacpp; install it with: pip install"):
        run(recipe, tmp_path / "run")
    monkeypatch.undo()
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(f"{text[: text.index('mfpt:')]}{text[text.index('eval:') :]}", encoding="utf-8")
    with pytest.raises(InputError, match="deploy exports a trained model, but no stage trains one; add mfpt or mpeft"):
        run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("corpus"))


def test_plan_knows_the_disk_of_the_files(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(TRAINING % (tiny_model, "[f16, q8_0]"), encoding="utf-8")
    code, output, errors = cli("plan", recipe, "--json", "--gpu", "24GiB")
    assert code == 0, errors
    planned = {part["name"]: part for part in json.loads(output)["deploy"]["parts"]}
    weights = planned["the model in float32, for the proof"]["disk"] // 4
    assert planned["files"]["disk"] == pytest.approx(weights * (2 + 2 + 8.5 / 8), rel=1e-3)


FIGURES = {"kl": 4.5e-6, "top1": 0.998, "positions": 2207}
FILE = DeployedFile(
    "deploy/mine-f16.gguf", "f16", 3 * 2**30, "ab" * 32, 1e-4,
    {
        "texts": 410, "normalized": 2, "exact": FIGURES | {"kl": 8e-12, "top1": 1.0}, "languages": {"ja": FIGURES},
        "top_tokens": 500, "answers": {"same": 49, "prompts": 50}, "chats": False,
        "benchmarks": [
            {
                "benchmark": "igakuqa", "language": "ja", "scorer": "answer", "n": 2000, "same": 1990,
                "trained": 0.5, "trained_interval": [0.478, 0.522], "served": 0.501, "served_interval": [0.479, 0.523],
                "only_trained": 4, "only_served": 6, "p": 0.754,
            },
        ],
    },
    {"folder": "deploy/bundle", "bytes": 46_000_000, "sha256": "cd" * 32},
)  # fmt: skip


def test_card_and_page_show_figures_beside_their_limits() -> None:
    shown = deployment([FILE])
    assert "| mine-f16.gguf | 3.00 GiB | 4.5e-06 | 99.8 | 0.0001 | 49 of 50 |" in shown
    assert (
        "KL 8e-12, top-1 100.0 % at 2,207 positions" in shown and f"SHA-256 of mine-f16.gguf: `{'ab' * 32}`" in shown
    )
    assert "| mine-f16.gguf | igakuqa ja | answer | 2,000 | 1,990 | 50.0 (47.8 to 52.2) |" in shown
    assert "| 4/6 | 0.754 |" in shown and "deploy/bundle, 46 MB, SHA-256 of its SHA256SUMS: `cdcd" in shown
    html = page([], {}, "deployed", (), [FILE])
    assert '<a href="#deployment">' in html and "jmedllm deploy serve deploy/mine-f16.gguf" in html
    assert all(each in html for each in ("49 of 50", "4.5e-06", "<h3>The same items</h3>", "1,990", "4/6", "46 MB"))
    assert 'id="deployment"' not in page([], {}, "not deployed") and deployment([]) == ""


def test_what_all_files_share_is_said_once() -> None:
    second = replace(FILE, file="deploy/mine-q4_k_m.gguf", proof=FILE.proof | {"chats": True}, bundle=None)
    shown = deployment([FILE, second])
    assert shown.count("The same token ids in 410 of 410 texts") == 1
    assert "- mine-f16.gguf: The 500" in shown and "- mine-q4_k_m.gguf: The 500" in shown


def test_the_section_has_defaults(tmp_path: Path) -> None:
    section = load_recipe(with_deploy(write_recipe(tmp_path), "{}")).deploy
    assert section is not None and (section.types, section.accept_divergence) == (["f16"], 0.1)
