"""Adapters match their configuration and their base, and use their own tokenizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from conftest import build_tiny
from jmedllm.deploy.merge import merge
from jmedllm.errors import InputError
from jmedllm.evaluation.model import model_settings
from jmedllm.models.adapters import require_adapter
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.backends.transformers.model import load_model
from jmedllm.models.loading import load_adapter, load_network, load_structure
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import choose_precision

CPU = torch.device("cpu")
FLOAT32 = choose_precision("float32", "cpu")
Tensors = dict[str, torch.Tensor]
UP = "base_model.model.model.layers.1.mlp.up_proj"


def foreign(adapter: Path, folder: Path, change: Callable[[Tensors], Tensors], config: dict[str, Any]) -> Path:
    """The adapter as another trainer would leave it, without what we note beside it, and changed."""
    folder.mkdir()
    save_file(change(load_file(adapter / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    values = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")) | config
    (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def same(tensors: Tensors) -> Tensors:
    return tensors


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


# how the tensors differ from what the configuration promises: the tensors, the configuration, the message
WRONG: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "a layer is left out": (without("1.mlp.up_proj"), {}, f"{UP}.lora_A.weight, {UP}.lora_B.weight are missing;"),
    "half of a product": (without("1.mlp.up_proj.lora_B"), {}, f": {UP}.lora_B.weight is missing;"),
    "a layer too many": (
        lambda tensors: tensors | {f"{UP.replace('1', '7')}.lora_A.weight": torch.ones(4, 32)},
        {},
        f": {UP.replace('1', '7')}.lora_A.weight is not in its adapter_config.json;",
    ),
    "another prefix": (
        renamed("base_model.model.", ""),
        {},
        "and 25 more are missing (for base_model.model.model.layers.0.mlp.down_proj.lora_A.weight there is "
        "model.layers.0.mlp.down_proj.lora_A.weight);",
    ),
    "another architecture": (
        renamed("model.layers", "transformer.h"),
        {},
        "and 25 more are missing (for ",
    ),
    "another rank": (same, {"r": 8}, "size mismatch for base_model.model.model.layers.0.self_attn.q_proj.lora_A"),
    "fewer layers promised": (
        same,
        {"target_modules": ["q_proj"]},
        "and 21 more are not in its adapter_conf",
    ),
    "no layer of this base": (same, {"target_modules": ["c_attn"]}, "not found in the base model"),
    "DoRA without its lengths": (
        same,
        {"use_dora": True},
        "lora_magnitude_vector.weight and 11 more are",
    ),
    "whole numbers": (
        lambda tensors: {name: value.to(torch.int8) for name, value in tensors.items()},
        {},
        "down_proj.lora_A.weight is stored as I8, without a scale",
    ),
    "an embedding promised": (same, {"modules_to_save": ["embed_tokens"]}, "embed_tokens.weight' is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_adapter_that_does_not_match_its_config_is_refused(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, case: str
) -> None:
    change, config, expected = WRONG[case]
    adapter = foreign(tiny_adapter, tmp_path / "adapter", change, config)
    for network in (load_structure(tiny_model), load_network(tiny_model, "auto", CPU)):
        with pytest.raises(InputError) as error:
            load_adapter(network, adapter, tiny_model)
        line = str(error.value)
        assert line.startswith(f"adapter {adapter}") and expected in line and "\n" not in line


def test_a_merge_of_a_broken_adapter_writes_nothing(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    adapter = foreign(tiny_adapter, tmp_path / "adapter", without("1.mlp.up_proj"), {})
    with pytest.raises(InputError, match=r"1.mlp.up_proj.lora_A\S* is missing, though its config names it"):
        merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)
    assert not (tmp_path / "merged").exists()


# what makes an adapter of no effect, or of some
EFFECTS: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], bool]] = {
    "as it was trained": (same, {}, True),
    "never trained": (lambda t: {name: value * ("lora_B" not in name) for name, value in t.items()}, {}, False),
    "without scale": (same, {"lora_alpha": 0}, False),
}


@pytest.mark.parametrize("case", EFFECTS)
def test_an_adapter_that_changes_nothing_is_reported(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, config, changes = EFFECTS[case]
    adapter = foreign(tiny_adapter, tmp_path / "adapter", change, config)
    merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)
    line = f"note: adapter {adapter}: changes nothing: its scale, or one factor of every product, is zero\n"
    assert (line in capsys.readouterr().err) is not changes


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    return build_tiny(tmp_path_factory.mktemp("models") / "another", seed=3)


# the base that the configuration names, by a placeholder: what is said when it is put on another model
NAMED: dict[str, tuple[str | None, str]] = {
    "the other directory": ("TINY", "whose weights are not those of"),
    "this very directory": ("ANOTHER", ""),
    "a copy of it": ("COPY", ""),
    "its name in the hub": ("org/Another", ""),
    "a name that is not here": (
        "org/base-7b",
        "note: adapter ADAPTER: was trained on org/base-7b (adapter",
    ),
    "none": (None, "note: adapter ADAPTER: does not name its base; only the shapes of its tensors"),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_foreign_adapter_is_compared_with_the_base_that_it_names(
    tiny_model: Path,
    another: Path,
    tiny_adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    named, expected = NAMED[case]
    copy = tmp_path / "copy"
    places = {"TINY": tiny_model, "ANOTHER": another, "COPY": copy}
    if named == "COPY":  # saved anew in several files
        load_network(another, "auto", CPU).save_pretrained(copy, max_shard_size="20KB")
    config = {"base_model_name_or_path": str(places.get(named or "", named)) if named else None}
    adapter = foreign(tiny_adapter, tmp_path / "adapter", same, config)
    if named == "TINY":
        with pytest.raises(InputError, match=expected):
            require_adapter(adapter, another)
        return
    require_adapter(adapter, another)
    printed = capsys.readouterr().err.replace(str(adapter), "ADAPTER")
    assert printed.startswith(expected) if expected else printed == ""


TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def with_tokenizer(base: Path, folder: Path, kind: str) -> tuple[Path, torch.Tensor]:
    """An adapter that comes with a chat template and, but for one, with two new tokens; and its logits."""
    torch.manual_seed(0)
    tokenizer, network = load_tokenizer(base), load_network(base, "auto", CPU)
    tokenizer.chat_template = TEMPLATE
    first = len(tokenizer)
    options: dict[str, Any] = {}
    if kind != "template":
        tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
        tokenizer.eos_token = "<|im_end|>"
        if kind != "no rows":
            network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        if kind == "saved modules":
            options = {"modules_to_save": ["embed_tokens", "lm_head"]}
        if kind == "single tokens":
            options = {"trainable_token_indices": [first, first + 1]}
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **options))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = torch.tensor([[1, 2, first + 1 if kind in ("rows", "saved modules", "single tokens") else 3]])
    with torch.no_grad():
        return folder, adapted.eval()(ids).logits


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["template", "rows", "saved modules", "single tokens"])
def test_the_tokenizer_of_an_adapter_is_used_with_its_new_tokens(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    adapter, expected = with_tokenizer(tiny_model, tmp_path / "adapter", kind)
    loaded = load_model(tiny_model, FLOAT32, adapter=adapter)
    differing = "another chat template"
    if kind != "template":
        differing = f"2 new tokens, <|im_end|> as EOS, {differing}"
    assert f"adapter {adapter}: its own tokenizer is used, which differs by {differing}\n" in capsys.readouterr().err
    assert loaded.tokenizer.chat_template == TEMPLATE
    ids = torch.tensor([[1, 2, 3 if kind == "template" else len(load_tokenizer(tiny_model)) + 1]])
    with torch.no_grad():
        assert torch.equal(loaded.network(ids).logits, expected)
    settings = model_settings(ModelSpec(str(tiny_model), "x", precision=FLOAT32, adapter=adapter))
    assert settings["adapter_tokenizer"] == differing


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_new_tokens_without_rows_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter, _ = with_tokenizer(tiny_model, tmp_path / "adapter", "no rows")
    rows = len(load_tokenizer(tiny_model))
    expected = f"its tokenizer has {rows + 2} tokens, but the embedding has only {rows} rows, and the"
    with pytest.raises(InputError, match=expected):
        load_tokenizer(tiny_model, adapter)


def test_a_merged_model_has_the_template_of_its_adapter(tiny_model: Path, tmp_path: Path) -> None:
    adapter, expected = with_tokenizer(tiny_model, tmp_path / "adapter", "template")
    merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)
    assert load_tokenizer(tmp_path / "merged").chat_template == TEMPLATE
    with torch.no_grad():
        logits = load_network(tmp_path / "merged", "auto", CPU)(torch.tensor([[1, 2, 3]])).logits
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_merge_that_would_drop_new_tokens_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter, _ = with_tokenizer(tiny_model, tmp_path / "adapter", "rows")
    with pytest.raises(InputError, match="weight, a full tensor besides the updates"):
        merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)


def test_the_same_tokenizer_in_an_adapter_is_no_difference(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    load_tokenizer(tiny_model).save_pretrained(adapter)  # as trainers do; other bytes, the same tokens
    load_tokenizer(tiny_model, adapter)
    assert capsys.readouterr().err == ""
    assert "adapter_tokenizer" not in model_settings(
        ModelSpec(str(tiny_model), "x", precision=FLOAT32, adapter=adapter)
    )
