"""Each technique that saves memory resumes to the same bits, and is refused where it cannot work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CPU, fit, rows, same, tiny, weights
from safetensors.torch import load_file
from test_loop import fail_at_call, strip_speed

from fork_server import ForkServer
from jmedllm.errors import InputError
from jmedllm.recipe_file import load_recipe
from jmedllm.training import checkpoint, memory
from jmedllm.training.batches import micro_batches
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loss import chunked_loss, split
from jmedllm.training.optim.build import build
from jmedllm.training.optim.weights import cast_weights
from test_pipeline import run, write_recipe

FULL: dict[str, dict[str, Any]] = {
    "master": {"weight_format": "bfloat16-master"},
    "stochastic": {"weight_format": "bfloat16-stochastic"},
    "8-bit": {"optimizer": "adamw-8bit"},
    "8-bit stochastic": {"optimizer": "adamw-8bit", "weight_format": "bfloat16-stochastic", "micro_batch_size": 2},
    "recompute": {"activation_checkpointing": "recompute"},
    "offload": {"activation_checkpointing": "offload", "weight_format": "bfloat16-master"},
}
ADAPTER = {name: FULL[name] for name in ("8-bit", "recompute")} | {"offload": {"activation_checkpointing": "offload"}}
CASES = [("full", name) for name in FULL] + [("adapter", name) for name in ADAPTER]


def fresh(stage: str, technique: dict[str, Any]) -> Any:
    network = tiny(adapter=stage == "adapter")
    return network if stage == "adapter" else cast_weights(network, technique.get("weight_format", "float32"))


@pytest.mark.parametrize(("stage", "name"), CASES)
def test_resume_is_exact_to_the_bit(stage: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.training.optim.build.SMALL", 0)  # in 8 bits whatever can be
    technique = FULL[name] if stage == "full" else ADAPTER[name]
    whole, stopped, resumed = (fresh(stage, technique) for _ in range(3))
    fit(tmp_path / "whole", whole, **technique)
    assert not same(whole, fresh(stage, technique))
    calls = 3 + 1 + 4 * 4 // technique.get("micro_batch_size", 1) + 1  # checks, dry run, four steps and a part of one
    split(stopped)[0].register_forward_pre_hook(fail_at_call(calls))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", stopped, **technique)
    assert fit(tmp_path / "stopped", resumed, **technique).resumed_from == 4
    assert same(whole, resumed)
    metrics = [(tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("whole", "stopped")]
    assert [strip_speed(line) for line in metrics[0]] == [strip_speed(line) for line in metrics[1]]


@pytest.mark.parametrize("stage", ["full", "adapter"])
def test_activations_kept_otherwise_change_no_bit(stage: str, tmp_path: Path) -> None:
    networks = {name: tiny(adapter=stage == "adapter") for name in ("none", "recompute", "offload")}
    for name, network in networks.items():
        fit(tmp_path / name, network, activation_checkpointing=name)
    assert same(networks["none"], networks["recompute"])
    assert same(networks["none"], networks["offload"])


def saved_sizes(network: Any) -> list[int]:
    """Numbers of all tensors that a forward pass of the layers keeps for its backward pass, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no other tensor gets its address
        return tensor

    [(ids, positions, trained)] = micro_batches(rows(), [0, 1], 2, CPU.device)
    decoder, head = split(network)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    predicts = trained[:, 1:]
    chunked_loss(head, hidden[:, :-1][predicts], ids[:, 1:][predicts]).backward()
    return [tensor.numel() for tensor in kept.values()]


def test_recomputing_keeps_a_layers_input_and_offloading_puts_just_that_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers, hidden = 6, 2 * 32 * 16
    plain, recomputed, offloaded = (tiny(layers=layers).train() for _ in range(3))
    memory.apply_activation_checkpointing(recomputed, "recompute")
    whole, less = sum(saved_sizes(plain)), sum(saved_sizes(recomputed))
    assert whole > layers * 10 * hidden
    assert less < layers * hidden + 12 * hidden

    moved: list[int] = []

    class Host(torch.autograd.graph.saved_tensors_hooks):
        def __init__(self, pin_memory: bool) -> None:
            assert pin_memory == torch.cuda.is_available()
            super().__init__(lambda tensor: moved.append(tensor.numel()) or tensor.clone(), lambda tensor: tensor)

    monkeypatch.setattr(memory, "save_on_cpu", Host)
    memory.apply_activation_checkpointing(offloaded, "offload")
    left = sum(saved_sizes(offloaded))
    assert [size for size in moved if size > 1] == [hidden] * layers
    assert left <= less - (layers - 1) * hidden
    for one, other in zip(plain.parameters(), offloaded.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_the_default_is_the_plain_loop() -> None:
    settings = TrainingConfig(steps=1, learning_rate=1e-3)
    assert (settings.weight_format, settings.optimizer, settings.activation_checkpointing) == (
        "float32",
        "adamw",
        "none",
    )


# Refusals

RECIPE = """name: mine
precision: {precision}
base: {{path: model}}
corpus: {{inputs: [text.txt]}}
mfpt:
  steps: 1
  learning_rate: 1e-5
  {mfpt}
mpeft:
  instructions: [a.jsonl]
  steps: 1
  learning_rate: 1e-4
  {mpeft}
"""
REFUSED = {
    "bfloat16 weights multiplied in float32": (
        {"precision": "float32", "mfpt": "weight_format: bfloat16-master"},
        r"mfpt: weight_format bfloat16-master keeps .* cannot be multiplied in float32; set precision: bfloat16",
    ),
    "an adapter in bfloat16 multiplied in float32": (
        {"precision": "float32", "mpeft": "weight_format: bfloat16-stochastic"},
        r"mpeft: weight_format bfloat16-stochastic keeps .* cannot be multiplied in float32; set precision",
    ),
    "a technique there is none of": (
        {"mfpt": "activation_checkpointing: true"},
        r"mfpt.activation_checkpointing: input should be 'none', 'recompute' or 'offload', found True",
    ),
    "a number in quotes": (
        {"mfpt": "betas: [0.9, '0.95']"},
        r"mfpt.betas.1: input should be a valid number",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_settings_are_refused_when_the_recipe_is_read(case: str, tmp_path: Path) -> None:
    changes, message = REFUSED[case]
    recipe = tmp_path / "mine.yaml"
    values = {"precision": "auto", "mfpt": "batch_size: 2", "mpeft": "batch_size: 2"} | changes
    recipe.write_text(RECIPE.format(**values), encoding="utf-8")
    with pytest.raises(InputError, match=message) as printed:
        load_recipe(recipe)
    assert "\n" not in str(printed.value) and str(printed.value).startswith(f"{recipe}:")


@pytest.mark.parametrize("weight_format", ["bfloat16-master", "bfloat16-stochastic"])
def test_supported_settings_are_read(weight_format: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    technique = f"weight_format: {weight_format}\n  optimizer: adamw-8bit\n  activation_checkpointing: offload"
    recipe.write_text(
        RECIPE.format(precision="bfloat16", mfpt=technique, mpeft="optimizer: adamw-8bit"), encoding="utf-8"
    )
    mfpt = load_recipe(recipe).mfpt
    assert mfpt and (mfpt.weight_format, mfpt.optimizer, mfpt.activation_checkpointing) == (
        weight_format,
        "adamw-8bit",
        "offload",
    )


def test_stage_1_trains_bfloat16_weights_and_yields_the_dtype_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats: list[set[torch.dtype]] = []

    def note(network: Any, *rest: Any) -> Any:
        formats.append({p.dtype for p in network.parameters()})
        return build(network, *rest)

    monkeypatch.setattr("jmedllm.training.loop.build", note)
    recipe = write_recipe(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("precision: float32", "precision: bfloat16")
    text = text.replace("mfpt: {", "mfpt: {weight_format: bfloat16-stochastic, optimizer: adamw-8bit, ")
    recipe.write_text(text, encoding="utf-8")
    assert run(recipe, tmp_path / "run", until="mfpt")["mfpt"] == "done"
    assert formats == [{torch.bfloat16}]
    saved = load_file(tmp_path / "run" / "mfpt" / "model" / "model.safetensors")
    base = load_file(tmp_path / "run" / "base" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert all(not torch.equal(saved[name], base[name]) for name in base)


def test_stage_1_in_host_memory_yields_the_same_model(tmp_path: Path) -> None:
    def trained(name: str, settings: str) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        recipe = write_recipe(folder)
        text = recipe.read_text(encoding="utf-8").replace("precision: float32", "precision: bfloat16")
        text = text.replace(
            "mfpt: {", f"mfpt: {{weight_format: bfloat16-master, activation_checkpointing: recompute, {settings}"
        )
        recipe.write_text(text, encoding="utf-8")
        assert run(recipe, folder / "run", until="mfpt")["mfpt"] == "done"
        return (folder / "run" / "mfpt" / "model" / "model.safetensors").read_bytes()

    plain = trained("plain", "")
    assert trained("steps", "cpu_offload: optimizer, ") == plain
    assert trained("weights", "cpu_offload: layers, ") == plain


# Checkpoints


def test_a_checkpoint_of_another_recipe_is_one_line(tmp_path: Path) -> None:
    network = tiny()
    optimizer = build(network, TrainingConfig(steps=1, learning_rate=1e-3), torch.device("cpu"))
    checkpoint.save(tmp_path, network, optimizer, checkpoint.Progress(1, 10), "one recipe")
    before = weights(network)
    with pytest.raises(InputError, match=r"step-00000001: written for other inputs; choose another --output"):
        checkpoint.resume(tmp_path, network, optimizer, "another recipe")
    assert all(torch.equal(a, b) for a, b in zip(before, weights(network), strict=True))


FILLS_UP = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from loops import fit, tiny
from jmedllm.errors import InputError
from jmedllm.training import checkpoint

def save(folder, network, optimizer, done, *rest, whole=checkpoint.save):
    if done.step == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # in the middle of the tensors
    whole(folder, network, optimizer, done, *rest)

checkpoint.save = save
try:
    fit(Path(sys.argv[2]), tiny())
except InputError as error:
    print(error)
    sys.exit(2)
"""


def test_a_disk_that_fills_up_in_a_checkpoint_is_one_line_and_loses_nothing(tmp_path: Path, forks: ForkServer) -> None:
    here = str(Path(__file__).parent)
    ended = forks.run("-c", FILLS_UP, here, tmp_path / "full")
    assert ended.returncode == 2, ended.stderr
    [line] = ended.stdout.splitlines()
    assert "cannot write" in line and "step-00000004" in line and "free space or choose another place" in line
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-00000002"]
    whole, resumed = tiny(), tiny()
    fit(tmp_path / "whole", whole)
    assert fit(tmp_path / "full", resumed).resumed_from == 2
    assert same(whole, resumed)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from loops import fit, tiny
from jmedllm.training.optim.weights import cast_weights
folder, chance = Path(sys.argv[2]), random.Random(int(sys.argv[3]))
networks = cast_weights(tiny(), "bfloat16-stochastic")
settings = {"steps": 25, "save_steps": 1, "weight_format": "bfloat16-stochastic"}
kills = torn = 0
while True:
    child = os.fork()
    if not child:
        fit(folder, networks, **settings)
        torch.save([p.detach() for p in networks.parameters()], folder / "last")
        os._exit(0)
    time.sleep(chance.uniform(0.05, 0.4) + 0.02 * kills)  # on any machine it gets on at last
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] == 0:
        break
    kills += 1
    torn += any(path.name.startswith(".step-") for path in (folder / "checkpoints").glob(".*"))
print(kills, torn)
"""


@pytest.mark.exhaustive
def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path: Path, forks: ForkServer) -> None:
    whole = cast_weights(tiny(), "bfloat16-stochastic")
    fit(tmp_path / "whole", whole, steps=25, save_steps=1, weight_format="bfloat16-stochastic")
    here = str(Path(__file__).parent)
    ended = forks.run("-c", KILLED, here, tmp_path / "killed", 1)
    kills = int(ended.stdout.split()[0])
    assert kills > 0
    last = torch.load(tmp_path / "killed" / "last", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), last, strict=True))
    metrics = [(tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("whole", "killed")]
    assert [strip_speed(line) for line in metrics[0]] == [strip_speed(line) for line in metrics[1]]
