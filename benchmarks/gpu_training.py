"""Stages trained for a few steps by the functions of the training loop."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gpu_meter import cap, device, now, peaks, reset_peaks
from gpu_models import config, random_network, random_nf4_network
from gpu_sizes import TRAININGS, Sizes, Training

from jmedllm.files import to_json
from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.hours import AdapterSize, flops
from jmedllm.planning.machine import this_machine
from jmedllm.planning.needs import plan_stage
from jmedllm.planning.shape import shape_of, structure
from jmedllm.precision import Precision
from jmedllm.recipe import MfptConfig, MpeftConfig
from jmedllm.training import loop
from jmedllm.training.batches import micro_batches
from jmedllm.training.lora import add_adapter
from jmedllm.training.memory import apply_activation_checkpointing, offload_layers
from jmedllm.training.optim.build import build
from jmedllm.training.packing import Blocks, TrainingSample, pack_documents

WARMUP = 2
"""Rows of the first step, which is not timed: it allocates memory and chooses kernels."""

RATE = 1e-5


def train(name: str, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Train some steps of a stage. Yields settings, peaks and speed, then the estimate of `jmedllm plan`.

    Raises:
        InputError: the stage cannot be trained on this machine.
        ImportError: bitsandbytes is needed and not installed.
    """
    part = TRAININGS[name]
    cap(part.cap)
    began = now()
    network = network_of(part, sizes)
    built = now() - began
    reset_peaks()
    step, rows = stepping(network, settings_of(part, sizes)), sizes.rows_of(part)
    blocks = packed(sizes, part.stage, rows, network.config.vocab_size)
    step(blocks, range(min(WARMUP, rows)))
    seconds = []
    for _ in range(sizes.steps):
        began = now()
        step(blocks, range(rows))
        seconds.append(now() - began)
    measured = {**peaks(), **speed(blocks, seconds), "seconds_built": built}
    needed = flops_of_token(network, part, sizes)
    measured |= {"flops_of_token": needed, "flops": needed * measured["tokens_per_second"]}
    settings = {**part.settings, "block": sizes.block[part.stage], "rows": rows, "cap": part.cap}
    yield {"settings": settings, "measured": measured}
    yield {"predicted": planned(part, sizes)}


def speed(blocks: Blocks, seconds: Sequence[float]) -> dict[str, Any]:
    """Tokens per second over steps that each read all of `blocks`."""
    mean, trained = sum(seconds) / len(seconds), int(blocks.loss_mask.sum())
    return {
        "seconds": list(seconds),
        "tokens_per_second": blocks.ids.size / mean,
        "trained_tokens_per_second": trained / mean,
    }


def packed(sizes: Sizes, stage: str, rows: int, vocabulary: int) -> Blocks:
    """Full rows of random documents that do not attend to one another; all but their first tokens are trained."""
    random, length = np.random.default_rng(0), sizes.document
    samples = (
        TrainingSample(str(i), random.integers(0, vocabulary, length).tolist(), [True] * length)
        for i in range(-(-rows * sizes.block[stage] // length))
    )
    blocks = pack_documents(samples, sizes.block[stage], 0)
    return Blocks(blocks.ids[:rows], blocks.positions[:rows], blocks.loss_mask[:rows])


def settings_of(part: Training, sizes: Sizes) -> MfptConfig | MpeftConfig:
    """The settings of the stage, as in a recipe."""
    common = {"steps": sizes.steps, "learning_rate": RATE, "batch_size": sizes.rows_of(part), **part.settings}
    if part.stage == "mfpt":
        return MfptConfig.model_validate(common)
    return MpeftConfig.model_validate({"instructions": ["none.json"], "block_size": sizes.block["mpeft"], **common})


def network_of(part: Training, sizes: Sizes) -> Any:
    """The network that the part trains, with random weights."""
    values, place, settings = config(sizes.models[part.model]), device(), settings_of(part, sizes)
    if isinstance(settings, MpeftConfig):
        quantized = settings.adapter.quantization == "nf4"
        base = random_nf4_network(values, place) if quantized else random_network(values, place, place)
        return add_adapter(base, settings.adapter, seed=0)
    return random_network(values, place, torch.device("cpu") if settings.cpu_offload == "layers" else place)


def stepping(network: Any, settings: MfptConfig | MpeftConfig) -> Callable[[Blocks, Sequence[int]], None]:
    """Make ready what `training.loop.train` makes ready, and hand out one of its steps over given rows."""
    precision = Precision(device(), torch.bfloat16, "requested")
    if settings.cpu_offload == "layers":
        offload_layers(network, precision.device)
    apply_activation_checkpointing(network, settings.activation_checkpointing)
    optimizer = build(network, settings, precision.device)
    network.train()

    def step(blocks: Blocks, rows: Sequence[int]) -> None:
        chosen = np.array(rows)
        batches = micro_batches(blocks, chosen, settings.micro_batch_size, precision.device)
        count = int(blocks.loss_mask[chosen].sum())
        inputs = loop.StepInputs(0, batches, count, RATE, settings.max_grad_norm)
        loop.optimizer_step(network, optimizer, inputs, precision)

    return step


def flops_of_token(network: Any, part: Training, sizes: Sizes) -> float:
    """FLOPs that a token needs, forward and backward: nothing computed twice, attention within documents only."""
    shape = shape_of(structure(config(sizes.models[part.model]), part.title, torch.bfloat16))
    once = settings_of(part, sizes).model_copy(update={"activation_checkpointing": "none"})
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return flops(shape, once, sizes.document, AdapterSize(trained) if part.stage == "mpeft" else None)


def planned(part: Training, sizes: Sizes) -> dict[str, Any]:
    """The estimate of `jmedllm plan` for the same steps on this machine: peak bytes, and seconds of a step.

    The model is not saved here, so saving it is left out.
    """
    machine, settings, block = this_machine(device()), settings_of(part, sizes), sizes.block[part.stage]
    base = PlannedBase(part.title, to_json(config(sizes.models[part.model])), torch.bfloat16)
    plan = plan_stage(part.stage, settings, block, base, machine)
    parts = [each for each in plan.parts if "written" not in each.name]
    hours = plan.hours(machine, settings.batch_size * block)
    return {
        "gpu": sum(each.gpu for each in parts),
        "host": sum(each.host for each in parts),
        "seconds": [3600 * each for each in hours] if hours else None,
        "parts": [{"name": each.name, "gpu": each.gpu, "host": each.host} for each in parts],
    }
