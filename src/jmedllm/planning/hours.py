"""Estimate the time of a stage from rated speeds and assumed utilization."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from jmedllm.planning.machine import Machine
from jmedllm.planning.shape import Shape
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import OptimizerName, TrainingConfig

REACHED = (0.25, 0.7)
"""Assumed utilization of a GPU's rated FLOP/s, at worst and at best. Not measured; published values for models of 8 B
parameters are between 0.3 (H100) and 0.7 (RTX 4090)."""

LINK_REACHED = (0.5, 0.9)
"""Assumed utilization of the rated link bandwidth. Not measured."""

MEMORY_REACHED = (0.3, 0.8)
"""Assumed utilization of a GPU's rated memory bandwidth in generation. Not measured."""

HOST_BANDWIDTH = (20e9, 150e9)
"""Assumed host memory bandwidth of the optimizer step in bytes per second, from two channels to a server. Not
measured."""

HOST_CORES = (8, 64)
"""Assumed number of cores of an unknown host, at worst and at best."""

HOST_STEP: Mapping[OptimizerName, float] = {"adamw": 1.17e-9, "adamw-bf16": 1.87e-9, "adamw-8bit": 27e-9}
"""Seconds of one thread per parameter of an optimizer step on the host, measured by benchmarks/host_step.py on one
machine."""

Hours = tuple[float, float]
"""Hours at best and at worst."""


@dataclass(frozen=True, slots=True)
class Work:
    """Work of a stage.

    Attributes:
        flops: floating-point operations per token, forward and backward.
        row_tokens: tokens per row.
        batch_size: rows per optimizer step, over all processes.
        micro_batch_size: maximum rows per pass of one process.
        pass_bytes: bytes over the link to the host and back, per micro-batch.
        step_bytes: bytes over the link, per step.
        host_bytes: bytes that the host reads and writes per step.
        host_seconds: seconds of the host's step on one core, if memory bandwidth is no limit.
    """

    flops: float
    row_tokens: int
    batch_size: int
    micro_batch_size: int
    pass_bytes: int = 0
    step_bytes: int = 0
    host_bytes: int = 0
    host_seconds: float = 0.0

    def hours(self, machine: Machine, tokens: int) -> Hours | None:
        """Estimate the hours for a number of tokens; None if the GPU's speed is unknown.

        The processes with the most rows determine the time of a step; those without rows wait. At best, transfers
        overlap with computation on the GPU, and new weights are sent while the host updates the others; the host's
        step starts after all gradients have arrived, because it needs their norm. At worst nothing overlaps.
        """
        rates = machine.gpu.rates
        if rates is None:
            return None
        steps = tokens / (self.batch_size * self.row_tokens)
        rows = ceil(self.batch_size / machine.processes)
        passes = ceil(rows / self.micro_batch_size)
        cores = HOST_CORES if machine.cores is None else (machine.cores, machine.cores)
        found = [
            (
                rows * self.row_tokens * self.flops / (rates.flops * reached),
                passes * self.pass_bytes / (rates.link * link),
                max(self.host_bytes / host, self.host_seconds / threads),
                self.step_bytes / (rates.link * link),
            )
            for reached, link, host, threads in zip(REACHED, LINK_REACHED, HOST_BANDWIDTH, cores, strict=True)
        ]
        worst, (computing, leaving, stepping, coming) = sum(found[0]), found[1]
        return (max(computing, leaving) + max(stepping, coming)) * steps / 3600, worst * steps / 3600


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """Number of parameters of an adapter, in all and in its update of routed experts."""

    numbers: int
    in_experts: int = 0


def flops(shape: Shape, settings: TrainingConfig, block_size: int, adapter: AdapterSize | None) -> float:
    """Estimate the FLOPs per token, forward and backward (Kaplan et al. 2020, arXiv 2001.08361).

    Attention is counted over half a row on average, and the routed experts that a token passes through. peft adds the
    update of all experts to their weights in each pass, and computes the gradient of the sum.

    Args:
        shape: sizes of the model.
        settings: settings of the stage, such as activation checkpointing.
        block_size: tokens per row.
        adapter: size of the adapter; None if all weights are trained.
    """
    products = shape.linear + (shape.head or shape.embedding)
    attention = shape.layers * shape.queries * block_size / 2
    again = 1 if settings.activation_checkpointing != "none" else 0
    if adapter is None:
        return (products + shape.active_experts) * 2 * (3 + again) + attention * 4 * (3 + again)
    weights: float = products * 2 * (2 + again) + (adapter.numbers - adapter.in_experts) * 6
    if adapter.in_experts and isinstance(settings, AdapterTrainingConfig):
        pass_tokens = settings.micro_batch_size * block_size
        weights += shape.active_experts * 2 * (3 + again)
        weights += shape.experts * settings.adapter.r * 2 * (3 + again) / pass_tokens
    else:
        weights += shape.active_experts * 2 * (2 + again)
    return weights + attention * 4 * (3 + again)


def reading_flops(shape: Shape, length: int) -> float:
    """Estimate the FLOPs per token read in a text of `length` tokens, without the head, which processes few of
    them."""
    return 2 * (shape.linear + shape.active_experts) + 4 * shape.layers * shape.queries * length / 2
