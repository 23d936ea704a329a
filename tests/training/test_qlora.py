"""QLoRA in little memory: adapters in bfloat16, an embedding on the host, a base that nothing upcasts."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import rows
from test_loop import fail_at_call
from test_nf4_loading import build_in_shards
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from jmedllm.deploy.merge import merge
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_adapter, load_network, load_structure
from jmedllm.models.save import save_adapter
from jmedllm.precision import choose_precision
from jmedllm.report import collect
from jmedllm.training.batches import autocast, micro_batches
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, TrainResult, train
from jmedllm.training.lora import AdapterConfig, add_adapter, to_plain_lora
from jmedllm.training.loss import split, summed_loss
from jmedllm.training.memory import OffloadedEmbedding, offload_embedding, require_untied_embedding
from jmedllm.training.optim.build import build
from jmedllm.training.optim.weights import WEIGHT_FORMATS
from jmedllm.training.packing import TrainingSample, pack_examples
from test_pipeline import manifest, run, write_recipe

CPU = torch.device("cpu")
BFLOAT16 = choose_precision("bfloat16", "cpu")
FLOAT32 = choose_precision("float32", "cpu")
WIDTH, WORDS, FEED_FORWARD = 128, 320, 192


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in bfloat16 whose head is not its embedding, wide enough for 4 bits."""
    shape = {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 2, "intermediate_size": FEED_FORWARD}
    return build_in_shards(tmp_path_factory.mktemp("qlora") / "base", tiny_model, **shape)


def adapted(base: Path, *, weights: Any = "float32", quantization: Any = "nf4", **settings: Any) -> Any:
    network = load_network(base, torch.bfloat16, CPU, quantization=quantization)
    adapter = AdapterConfig(**{"r": 4, "alpha": 6, "quantization": quantization} | settings)
    return add_adapter(network, adapter, seed=1, dtype=WEIGHT_FORMATS[weights].dtype)


def learn(folder: Path, network: Any, **changes: Any) -> TrainResult:
    settings = {"steps": 6, "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 2, "save_steps": 2} | changes
    samples = [TrainingSample(str(i), [i + 1, i + 2, i + 3, i + 4], [False, True, True, True]) for i in range(16)]
    context = TrainContext("mpeft", folder, BFLOAT16, 0, "x")
    return train(network, pack_examples(samples, 16, 0), TrainingConfig(**settings), context)


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@torch.no_grad()
def logits(network: Any) -> torch.Tensor:
    return network.float().eval()(torch.arange(1, 33)[None]).logits


# Adapters in bfloat16

SMALLER = [("lora", "bfloat16-master"), ("dora", "bfloat16-stochastic")]
MORE = [
    ("lora", "bfloat16-stochastic"),
    ("rslora", "bfloat16-stochastic"),
    ("dora", "bfloat16-master"),
    ("pissa", "bfloat16-stochastic"),
]


@pytest.mark.parametrize(
    ("kind", "weights"), [*SMALLER, *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in MORE)]
)
def test_a_bfloat16_adapter_with_8_bit_moments_learns_and_resumes_to_the_same_bits(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, weights: str
) -> None:
    monkeypatch.setattr("jmedllm.training.optim.build.SMALL", 0)  # in 8 bits whatever can be
    technique = {"weight_format": weights, "optimizer": "adamw-8bit"}
    whole, stopped, resumed = (adapted(base, weights=weights, kind=kind) for _ in range(3))
    before = {name: p.dtype for name, p in whole.named_parameters() if "lora_" not in name}
    assert {p.dtype for name, p in whole.named_parameters() if "lora_" in name} == {torch.bfloat16}
    assert set(before.values()) == {torch.bfloat16, torch.uint8}
    start = deepcopy(whole)
    final = learn(tmp_path / "whole", whole, **technique).final_loss
    assert final < learn(tmp_path / "start", start, **technique | {"steps": 1}).final_loss - 0.1
    assert {name: p.dtype for name, p in whole.named_parameters() if "lora_" not in name} == before
    split(stopped)[0].register_forward_pre_hook(fail_at_call(3 + 1 + 4 * 2 + 1))  # checks, dry run, four steps
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", stopped, **technique)
    assert learn(tmp_path / "stopped", resumed, **technique).resumed_from == 4
    assert same(whole, resumed)


# Bytes of a trained number: weight, what the optimiser keeps beside it.
SIZES = {
    ("float32", "adamw"): (4, 8),
    ("bfloat16-master", "adamw"): (2, 12),
    ("bfloat16-stochastic", "adamw"): (2, 8),
    ("bfloat16-master", "adamw-8bit"): (2, 6 + 8 / 256),
    ("bfloat16-stochastic", "adamw-8bit"): (2, 2 + 8 / 256),
}


@pytest.mark.parametrize(("weights", "optimizer"), SIZES)
def test_a_trained_number_takes_so_many_bytes(base: Path, weights: str, optimizer: Any) -> None:
    network = adapted(base, weights=weights, r=64)
    trained = [p for p in network.parameters() if p.requires_grad]
    count = sum(p.numel() for p in trained)
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format=weights, optimizer=optimizer)  # type: ignore[arg-type]
    kept = sum(value.nbytes for value in build(network, settings, CPU).state().values())
    weight, state = SIZES[weights, optimizer]
    assert sum(p.nbytes for p in trained) == weight * count
    assert kept == pytest.approx(state * count, abs=8 * len(trained))  # and the number of each one's steps


@pytest.mark.parametrize(
    "kind", ["lora", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("dora", "pissa"))]
)
def test_it_is_saved_as_an_adapter_for_the_original_base(base: Path, tmp_path: Path, kind: str) -> None:
    network = adapted(base, weights="bfloat16-stochastic", quantization="none", kind=kind)
    learn(tmp_path / "stage", network, weight_format="bfloat16-stochastic")
    as_trained = logits(deepcopy(network))
    origin = {"base": str(base), "base_fingerprint": fingerprint(base)}
    save_adapter(to_plain_lora(network), tmp_path / "adapter", origin)
    plain = load_network(base, torch.float32, CPU)
    before = logits(plain)
    assert torch.allclose(logits(load_adapter(plain, tmp_path / "adapter", base)), as_trained, atol=1e-5)
    assert (as_trained - before).abs().max() > 1e-2
    assert merge(base, tmp_path / "adapter", tmp_path / "merged", FLOAT32).divergence.nats < 1e-4


@pytest.mark.exhaustive
def test_a_recipe_trains_one_and_merges_it(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("precision: float32", "precision: bfloat16")
    recipe.write_text(text.replace("\nmpeft:", "\nmpeft:\n  weight_format: bfloat16-stochastic"), encoding="utf-8")
    assert run(recipe, tmp_path / "run", until="merge")["merge"] == "done"
    assert manifest(tmp_path / "run")["merge"]["divergence"] < 1e-3


def test_a_recipe_evaluates_in_4_bits_what_was_trained_in_4_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    recipe = write_recipe(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("precision: float32", "precision: bfloat16")
    text = text.replace("\neval:", "\neval:\n  quantization: nf4")
    text = text.replace("hidden_size: 32", "hidden_size: 128").replace("feed_forward: 64", "feed_forward: 128")
    recipe.write_text(text, encoding="utf-8")
    folder = tmp_path / "run"
    run(recipe, folder)
    stored = {each.result.model: each.result.settings for each in collect([folder])}
    assert {settings["quantization"] for settings in stored.values()} == {"nf4"}
    assert stored["mpeft"]["fingerprint"] == stored["mfpt"]["fingerprint"]  # the base of the adapter, not the merged
    assert [name for name, settings in stored.items() if "adapter_fingerprint" in settings] == ["mpeft"]
    assert run(recipe, folder)["eval"] == "unchanged"


# The embedding on the host


@pytest.mark.parametrize("activations", ["none", pytest.param("recompute", marks=pytest.mark.exhaustive)])
def test_an_embedding_on_the_host_trains_to_the_same_bits(base: Path, tmp_path: Path, activations: str) -> None:
    here, there = adapted(base), offload_embedding(adapted(base))
    lookups: list[torch.device] = []
    [module] = [each for each in there.modules() if isinstance(each, OffloadedEmbedding)]
    module.embedding.register_forward_pre_hook(lambda _, ids: lookups.append(ids[0].device))
    losses = [
        learn(tmp_path / str(number), network, activation_checkpointing=activations).final_loss
        for number, network in enumerate((here, there))
    ]
    assert losses[0] == losses[1] and same(here, there)
    assert len(lookups) == 1 + 6 * 2  # dry run, six steps of two micro-batches
    assert module.weight.device == CPU and module.weight.dtype == torch.bfloat16
    with pytest.raises(KeyboardInterrupt):
        split(there)[0].register_forward_pre_hook(fail_at_call(4))
        learn(tmp_path / "1", there, steps=8)
    save_adapter(
        to_plain_lora(there), tmp_path / "adapter", {"base": str(base), "base_fingerprint": fingerprint(base)}
    )
    fresh = load_network(base, torch.bfloat16, CPU, quantization="nf4")
    assert load_adapter(fresh, tmp_path / "adapter", base).peft_config["default"].r == 4


def test_ids_on_a_gpu_go_to_the_host_and_rows_come_back() -> None:
    table = torch.nn.Embedding(8, 4).requires_grad_(False)
    module = OffloadedEmbedding(table)
    with FakeTensorMode(allow_non_fake_inputs=True):  # knows devices that are not there
        ids = torch.zeros(1, 2, dtype=torch.long, device="cuda")
        found = module(ids)
        assert (found.device.type, found.shape, module.weight.device.type) == ("cuda", (1, 2, 4), "cpu")
        with pytest.raises(RuntimeError, match="same device"):
            table(ids)


def test_an_embedding_that_is_the_head_or_is_trained_stays(tiny_model: Path, base: Path) -> None:
    tied = add_adapter(load_network(tiny_model, torch.bfloat16, CPU), AdapterConfig(r=2), seed=0)
    with pytest.raises(InputError, match="shares its weights with the output head; leave it out"):
        offload_embedding(tied)
    with pytest.raises(InputError, match="shares its weights"):
        require_untied_embedding(load_structure(tiny_model, quantization="nf4"))  # before weights are read
    with pytest.raises(InputError, match="needs a frozen embedding"):
        offload_embedding(load_network(base, torch.bfloat16, CPU))


# Nothing is upcast


class Made(TorchDispatchMode):
    """Notes every tensor that an operation gives: the operation's name, number format and how many numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[str, torch.dtype, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.tensors.append((function.overloadpacket.__name__, made.dtype, made.numel()))
        return made


@pytest.mark.parametrize("weights", ["float32", "bfloat16-stochastic"])
def test_a_step_makes_no_float32_copy_of_embedding_or_head_and_norms_compute_in_float32(
    base: Path, weights: str
) -> None:
    network = adapted(base, weights=weights).train()
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format=weights)  # type: ignore[arg-type]
    optimizer = build(network, settings, CPU)
    optimizer.begin_step(1e-3)
    with Made() as made, autocast(BFLOAT16):
        [batch] = micro_batches(rows(8), [0, 1], 2, CPU)
        summed_loss(network, *batch).backward()
        optimizer.step()
    decoder, head = split(network)
    kept = [decoder.embed_tokens.weight, head.layer.weight, *(n.weight for n in norms(network))]
    assert {weight.dtype for weight in kept} == {torch.bfloat16}
    assert not any(weight.requires_grad or weight.grad is not None for weight in kept)
    largest = max(count for _, dtype, count in made.tensors if dtype == torch.float32)
    assert 2 * WIDTH < largest < WORDS * WIDTH, "float32 is used, but for nothing as large as embedding or head"
    roots = [dtype for name, dtype, _ in made.tensors if name == "rsqrt"]
    assert roots == [torch.float32] * len(norms(network))


def norms(network: Any) -> list[Any]:
    return [module for module in network.modules() if type(module).__name__ == "LlamaRMSNorm"]


def test_float32_copies_of_norm_weights_give_the_layers_the_same_numbers(base: Path) -> None:
    network = load_network(base, torch.bfloat16, CPU, quantization="nf4")
    generator = torch.Generator().manual_seed(0)
    hidden = (3 * torch.randn(64, WIDTH, generator=generator)).to(torch.bfloat16)
    for norm in norms(network):
        norm.weight.data.copy_(1 + 0.3 * torch.randn(WIDTH, generator=generator))
        copy = deepcopy(norm).float()
        assert torch.equal(copy(hidden).to(torch.bfloat16), norm(hidden))  # as a linear layer takes it
        assert copy(hidden).dtype == torch.float32  # what alone is new: twice the bytes
        in_bfloat16 = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight
        assert not torch.equal(norm(hidden), in_bfloat16)
