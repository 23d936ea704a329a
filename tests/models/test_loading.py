"""Loading takes exactly the tensors in the files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import write_questions
from jmedllm.errors import InputError
from jmedllm.evaluation.model import model_settings
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.folder import adapter_fingerprint, fingerprint, require_unambiguous
from jmedllm.models.loading import load_from_disk, load_network, load_structure
from jmedllm.pipeline import check_pipeline
from jmedllm.planning.shape import config_of
from jmedllm.precision import choose_precision
from jmedllm.recipe import Recipe
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]

WAYS: dict[str, Callable[[Path], object]] = {
    "network": lambda folder: load_network(folder, "auto", CPU),
    "structure": load_structure,
    "4 bits": lambda folder: load_network(folder, "auto", CPU, quantization="nf4"),
    "from disk": lambda folder: load_from_disk(folder, torch.float32, CPU, folder.parent),
}


def changed(model: Path, folder: Path, change: Callable[[Tensors], Tensors], config: dict[str, Any]) -> Path:
    """A copy of a model with other tensors or another configuration."""
    shutil.copytree(model, folder)
    tensors = change(load_file(model / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(values | config), encoding="utf-8")
    return folder


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new, 1): value for name, value in tensors.items()}


def same(tensors: Tensors) -> Tensors:
    return tensors


# how the files differ from the class: the tensors, the configuration, what the message contains
WRONG: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "another prefix": (
        renamed("model.", "transformer."),
        {},
        "model.embed_tokens.weight, model.layers.0.input_layernorm.weight and 24 more are missing (for "
        "model.embed_tokens.weight there is transformer.embed_tokens.weight); transformer.embed_tokens.weight",
    ),
    "prefix of a wrapper": (
        renamed("", "module."),
        {},
        "(for model.embed_tokens.weight there is module.model.embed",
    ),
    "prefix of a trainer": (
        renamed("model.", "_orig_mod.model."),
        {},
        "there is _orig_mod.model.embed_tok",
    ),
    "a layer is renamed": (
        renamed("mlp.up_proj", "mlp.w3"),
        {},
        "model.layers.0.mlp.up_proj.weight, model.layers.1.mlp.up_proj.weight are missing (for "
        "model.layers.0.mlp.up_proj.weight there is model.layers.0.mlp.w3.weight); model.layers.0.mlp.w3.weight",
    ),
    "one is left out": (
        lambda tensors: {name: value for name, value in tensors.items() if "1.mlp.up_proj" not in name},
        {},
        "model.layers.1.mlp.up_proj.weight is missing; copy",
    ),
    "too few layers": (
        same,
        {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3},
        "model.layers.2.mlp.gate_proj.weight and 9 more are missing; copy",
    ),
    "too many layers": (
        same,
        {"num_hidden_layers": 1, "layer_types": ["full_attention"]},
        "model.layers.1.mlp.gate_proj.weight and 9 more are not in Qwen2ForCausalLM",
    ),
    "a head that is not tied": (same, {"tie_word_embeddings": False}, "lm_head.weight is missing; copy"),
    "another shape": (
        same,
        {"intermediate_size": 48},
        "model.layers.0.mlp.down_proj.weight is [32, 64], not [32, 48]",
    ),
    "another class": (
        same,
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        "model.layers.0.self_attn.v_proj.bias and 3 more are not in LlamaForCausalLM",
    ),
    "a head for scores": (
        lambda tensors: tensors | {"score.weight": torch.ones(2, 32)},
        {},
        "score.weight is not in Qwen2ForCausalLM",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_are_not_those_of_the_class_are_refused(tiny_model: Path, tmp_path: Path, case: str) -> None:
    change, config, expected = WRONG[case]
    folder = changed(tiny_model, tmp_path / "model", change, config)
    messages = set()
    for load in WAYS.values():
        with pytest.raises(InputError) as error:
            load(folder)
        messages.add(str(error.value))
    assert len(messages) == 1
    line = messages.pop()
    assert line.startswith(f"model {folder}: its tensors are not those of ") and expected in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["adapter", "no-adapter"])
def test_an_adapter_in_a_folder_of_a_model_is_not_applied(
    name: str, tiny_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(tiny_adapter, folder / name)
    assert not [each for each, _ in load_network(folder, "auto", CPU).named_parameters() if "lora" in each]


@pytest.mark.parametrize("way", WAYS)
def test_weights_of_whole_numbers_without_a_scale_are_refused(tiny_model: Path, tmp_path: Path, way: str) -> None:
    def in_8_bits(tensors: Tensors) -> Tensors:
        return {k: (v * 100).to(torch.int8) if "1.mlp.up_proj" in k else v for k, v in tensors.items()}

    folder = changed(tiny_model, tmp_path / "model", in_8_bits, {})
    with pytest.raises(InputError, match=r"1.mlp.up_proj.weight is stored as I8, without a scale"):
        WAYS[way](folder)


def test_a_head_that_config_json_ties_is_reported(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = torch.ones_like(load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"])
    folder = changed(tiny_model, tmp_path / "model", lambda tensors: tensors | {"lm_head.weight": other}, {})
    network = load_network(folder, "auto", CPU)
    assert torch.equal(network.get_output_embeddings().weight, other)
    assert "its files contain an output head other than the embedding, which is used" in capsys.readouterr().err
    load_network(tiny_model, "auto", CPU)
    assert not capsys.readouterr().err


# what a class computes by itself, or finds under the name of its inner model
RIGHT: dict[str, Callable[[Tensors], Tensors]] = {
    "a rotation of older files": lambda tensors: tensors | {"model.rotary_emb.inv_freq": torch.ones(4)},
    "one in each layer": lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    "a constant of older GPT-2 files": lambda tensors: tensors | {"h.0.attn.masked_bias": torch.tensor(-1e4)},
    "saved from the inner model": renamed("model.", ""),
    "a tied head in the files": lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 0},
}


@pytest.mark.parametrize("case", RIGHT)
def test_tensors_that_a_class_does_not_need_are_no_error(tiny_model: Path, tmp_path: Path, case: str) -> None:
    folder = changed(tiny_model, tmp_path / "model", RIGHT[case], {})
    loaded, original = load_network(folder, "auto", CPU), load_network(tiny_model, "auto", CPU)
    for (name, found), expected in zip(loaded.named_parameters(), original.parameters(), strict=True):
        assert torch.equal(found, expected), name
    load_structure(folder)


@pytest.fixture
def both(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> Path:
    """A whole model with an adapter's files beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "both")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(tiny_adapter / name, folder / name)
    return folder


def test_an_adapter_in_a_model_directory_is_never_applied_silently(both: Path, tiny_model: Path) -> None:
    for load in (WAYS["network"], WAYS["from disk"]):
        ids = torch.arange(1, 33)[None]
        with torch.no_grad():
            assert torch.equal(load(both)(ids).logits, load(tiny_model)(ids).logits)  # type: ignore[operator]


@pytest.mark.parametrize(
    "names", [["adapter_config.json"], ["adapter_model.safetensors"], ["adapter_config.json", "adapter_model.bin"]]
)
def test_a_model_directory_with_adapter_files_is_refused(tiny_model: Path, tmp_path: Path, names: list[str]) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    for name in names:
        (folder / name).write_bytes(b"{}")
    with pytest.raises(InputError) as error:
        require_unambiguous(folder)
    assert str(error.value) == (
        f"model {folder}: contains a whole model and the files of an adapter ({', '.join(names)}); apply the "
        f"adapter with --adapter {folder}, leave it out with --ignore-adapter (base.ignore_adapter in a recipe), "
        "or move its files elsewhere"
    )
    for refusing in (
        lambda: model_settings(ModelSpec(str(folder), "x", precision=choose_precision("float32", "cpu"))),
        lambda: config_of(str(folder)),
    ):
        with pytest.raises(InputError, match="contains a whole model and the files of an adapter"):
            refusing()


def test_the_user_decides_about_the_adapter(
    both: Path, tiny_model: Path, tiny_adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precision = choose_precision("float32", "cpu")
    alone = model_settings(ModelSpec(str(tiny_model), "x", precision=precision))
    assert model_settings(ModelSpec(str(both), "x", precision=precision, ignore_adapter=True)) == alone
    assert f"note: model {both}: its own adapter (adapter_config.json, adap" in capsys.readouterr().err
    applied = model_settings(ModelSpec(str(both), "x", precision=precision, adapter=both))
    assert applied == alone | {"adapter_fingerprint": adapter_fingerprint(tiny_adapter)}
    with pytest.raises(InputError, match="but --ignore-adapter ignores it; leave one out"):
        require_unambiguous(both, adapter=both, ignore_adapter=True)
    assert fingerprint(both) == fingerprint(tiny_model)


@pytest.mark.parametrize("case", ["one is left out", "an adapter beside it"])
def test_a_recipe_that_only_evaluates_is_checked_without_loading(
    tiny_model: Path, both: Path, tmp_path: Path, case: str
) -> None:
    if case in WRONG:
        change, config, expected = WRONG[case]
        folder = changed(tiny_model, tmp_path / "model", change, config)
    else:
        folder, expected = both, "contains a whole model and the files of an adapter"
    exam = write_questions(tmp_path / "exam.jsonl")
    values = {"name": "x", "eval": {"benchmarks": [str(exam)], "models": ["base"]}}
    with pytest.raises(InputError, match=re.escape(expected)):
        check(values | {"base": {"path": str(folder)}}, tmp_path / "run")
    check(values | {"base": {"path": str(tiny_model)}}, tmp_path / "run")
    check(values | {"base": {"path": str(both), "ignore_adapter": True}}, tmp_path / "run")


def check(values: dict[str, Any], folder: Path) -> None:
    run = Run(Recipe.model_validate(values), folder, choose_precision("float32", "cpu"), {})
    assert all(each.is_complete for each in check_pipeline(STAGES.values(), run))
    assert not folder.exists()
