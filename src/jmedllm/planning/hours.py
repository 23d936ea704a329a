"""How long a stage takes: arithmetic over rated speeds, and assumptions of how much of them is reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from jmedllm.planning.machine import Machine
from jmedllm.planning.shape import Shape
from jmedllm.training.config import OptimizerName, TrainingConfig

REACHED = (0.25, 0.7)
"""Share of a GPU's rated products that is assumed to be reached, at worst and at best. Not measured; rates that
others have published for models of 8 B parameters are between 0.3 (H100) and 0.7 (RTX 4090)."""

LINK_REACHED = (0.5, 0.9)
"""Share of the rated link that is assumed to be reached. Not measured."""

MEMORY_REACHED = (0.3, 0.8)
"""Share of a GPU's rated memory bandwidth that writing is assumed to reach. Not measured."""

HOST_BANDWIDTH = (20e9, 150e9)
"""Bytes a second that a host's step is assumed to read and write, from two channels to a server. Not measured."""

HOST_CORES = (8, 64)
"""Cores of a host that nothing is known of, at worst and at best. Assumed."""

HOST_STEP: Mapping[OptimizerName, float] = {"adamw": 1.17e-9, "adamw-bf16": 1.87e-9, "adamw-8bit": 27e-9}
"""Seconds of one thread for a number of a host's step, measured by benchmarks/host_step.py on one machine."""

Hours = tuple[float, float]
"""At best and at worst."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage does, by tokens.

    Attributes:
        flops: of a token, forward and backward.
        row_tokens: of a row.
        batch_size: rows of an optimizer step, of all processes.
        micro_batch_size: most rows of a pass, of one process.
        pass_bytes: over the link to the host and back, for a micro-batch.
        step_bytes: over the link, for a step.
        host_bytes: that the host reads and writes in a step.
        host_seconds: that its step would take on one core, were memory no bound.
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
        """Hours that so many tokens take; None where the GPU's speed is not known.

        A step takes as long as the processes that have most of its rows; those that have none only wait.
        At best the link works while the GPU computes, and new weights leave while the host makes the others; its
        step waits for all gradients, whose norm it needs. At worst all waits for all.
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


def flops(shape: Shape, settings: TrainingConfig, block_size: int, adapter: int | None) -> float:
    """Of a token, forward and backward (Kaplan et al. 2020, arXiv 2001.08361, with attention over half a row).

    Args:
        shape: of the model.
        settings: whether activations are computed again.
        block_size: tokens that see one another.
        adapter: parameters that are trained; None for all.
    """
    products = shape.linear + (shape.head or shape.embedding)
    attention = shape.layers * shape.queries * block_size / 2
    again = 1 if settings.activation_checkpointing != "none" else 0
    weights = products * 2 * (3 + again) if adapter is None else products * 2 * (2 + again) + adapter * 6
    return weights + attention * 4 * (3 + again)


def reading_flops(shape: Shape, length: int) -> float:
    """Of a token that is read in a text of so many; the head sees few of them and is left out."""
    return 2 * shape.linear + 4 * shape.layers * shape.queries * length / 2
