"""Sizes from a config alone are those of the real model."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jmedllm.errors import InputError
from jmedllm.planning.shape import config_of, shape_of, structure

SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 320}
GATED = SMALL | {"intermediate_size": 96, "num_key_value_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": GATED | {"tie_word_embeddings": True},
    "qwen3": GATED | {"head_dim": 32, "tie_word_embeddings": False},
    "llama": GATED | {"tie_word_embeddings": False},
    "mistral": GATED | {"tie_word_embeddings": False},
    "gemma": GATED | {"head_dim": 16},
    "gpt_neox": SMALL | {"intermediate_size": 128},
}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_parameter_is_counted(architecture: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {"model_type": architecture} | CONFIGS[architecture]
    shape = shape_of(structure(values, "small", torch.float32))
    network: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    assert shape.total == sum(p.numel() for p in network.parameters())
    layers = [p for name, p in network.named_parameters() if ".layers." in name]
    assert shape.linear == sum(p.numel() for p in layers if p.ndim == 2)
    assert shape.largest_matrix == max(p.numel() for p in layers)
    assert shape.largest_layer * 3 == sum(p.numel() for p in layers)
    tied = network.get_output_embeddings().weight is network.get_input_embeddings().weight
    assert (shape.embedding, shape.head) == (320 * 64, 0 if tied else 320 * 64)
    out = next(m for n, m in network.named_modules() if n.endswith(("o_proj", "attention.dense")))
    assert (shape.layers, shape.queries) == (3, out.in_features)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2-7B-Instruct", 7.616),
        ("cyberagent/open-calm-7b", 6.872),
        ("meta-llama/Llama-2-70b-hf", 68.977),
        ("tokyotech-llm/Swallow-70b-instruct-hf", 69.160),
        ("meta-llama/Meta-Llama-3-70B", 70.554),
        ("Qwen/Qwen3.5-9B", 9.410),
        ("Qwen/Qwen3.5-35B-A3B", 35.107),
        ("openai/gpt-oss-20b", 20.915),
        ("Qwen/Qwen3-30B-A3B", 30.532),
        ("google/medgemma-27b-it", 27.432),
        ("tokyotech-llm/Llama-3.3-Swallow-70B-Instruct-v0.4", 70.554),
    ],
)
def test_the_recipes_bases_are_known_before_they_are_downloaded(name: str, billions: float) -> None:
    network = structure(config_of(name), name, torch.bfloat16)
    assert all(p.is_meta for p in network.parameters())
    shape = shape_of(network)
    assert round(shape.total / 1e9, 3) == billions
    assert shape.period == (4 if "Qwen3.5" in name else 1)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-30B-A3B", 3.353),  # its card: 3.3
        ("Qwen/Qwen3.5-35B-A3B", 3.902),  # its card: 3, without the embedding (0.5) and the vision tower (0.4)
        ("openai/gpt-oss-20b", 4.193),  # its card: 3.6, without the embedding (0.6)
        ("Qwen/Qwen2-7B-Instruct", 7.616),
    ],
)
def test_active_parameters_are_those_of_one_token(name: str, billions: float) -> None:
    assert round(shape_of(structure(config_of(name), name, torch.bfloat16)).active / 1e9, 3) == billions


def test_a_config_without_a_size_is_refused() -> None:
    values = {"model_type": "qwen2"} | {k: v for k, v in GATED.items() if k not in ("hidden_size", "vocab_size")}
    with pytest.raises(InputError) as error:
        structure(values, "mine", torch.float32)
    assert str(error.value) == (
        "config of mine: lacks hidden_size, vocab_size; take the config.json of a causal model"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_hidden_layers": 0},
            "config of mine: num_hidden_layers is 0, not a number above 0; take the config.json",
        ),
        (
            {"hidden_size": "wide"},
            "config of mine: hidden_size is 'wide', not a number above 0; take the config.json",
        ),
        ({"model_type": "gpt2"}, "architecture 'gpt2' has no linear layers in its decoder layers; choose a base"),
    ],
)
def test_a_model_that_cannot_be_counted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        shape_of(structure({"model_type": "qwen2"} | GATED | changes, "mine", torch.float32))
    assert str(error.value).startswith(message)


def test_a_config_that_is_no_object_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json: is not a JSON object; take the config.json of a causal"):
        config_of(str(tmp_path / "base"))


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(InputError) as error:
        config_of("some/unknown-7b")
    assert str(error.value) == (
        "base some/unknown-7b: no such directory, and not in the local Hugging Face cache; "
        "give a directory with the model's config.json"
    )


def test_a_config_on_disk_is_read(tiny_model: Path) -> None:
    shape = shape_of(structure(config_of(str(tiny_model)), "tiny", torch.float32))
    stored = load_file(tiny_model / "model.safetensors")
    assert shape.total == sum(tensor.numel() for tensor in stored.values())
