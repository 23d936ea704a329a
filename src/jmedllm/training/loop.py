"""The training loop of both stages."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.precision import Precision
from jmedllm.processes import is_main_process, summed
from jmedllm.progress import progress
from jmedllm.training import checkpoint
from jmedllm.training.batches import Batch, autocast, learning_rate, rows_of_step
from jmedllm.training.checkpoint import keep_best, restore_best
from jmedllm.training.config import TrainingConfig, require_shardable
from jmedllm.training.distributed import is_finite, is_sharded, local_micro_batches, seed_step
from jmedllm.training.early_stopping import best_evaluation, require_measured, should_stop
from jmedllm.training.loss import summed_loss
from jmedllm.training.memory import apply_activation_checkpointing, offload_layers
from jmedllm.training.metrics import (
    EVALUATIONS,
    METRICS,
    MetricsLog,
    Stopwatch,
    discard_rows,
    peak_memory,
    progress_note,
    reset_peak_memory,
    tensorboard,
)
from jmedllm.training.optim.build import build
from jmedllm.training.optim.optimizer import Optimizer
from jmedllm.training.packing import Blocks
from jmedllm.training.preflight import (
    DiskUsage,
    explain_out_of_memory,
    require_disk,
    trained_bytes,
    try_checkpoint,
    try_evaluation_batch,
    try_longest_batch,
)
from jmedllm.training.trainable import require_trainable
from jmedllm.training.validation import Validation, run_validation


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run did.

    Attributes:
        steps: optimiser steps done; fewer than asked for where nothing got better.
        final_loss: of the last step.
        best_step: the step whose weights the network has now, where the best ones were kept.
        resumed_from: the step a killed run went on at, 0 for a whole run.
    """

    steps: int
    trained_tokens: int
    final_loss: float
    best_step: int | None
    resumed_from: int

    def summary(self) -> dict[str, Any]:
        """What a run's manifest keeps: the same for a whole and for a resumed run."""
        told = {"steps": self.steps, "trained_tokens": self.trained_tokens, "final_loss": self.final_loss}
        return told if self.best_step is None else told | {"best_step": self.best_step}


def train(
    network: Any,
    blocks: Blocks,
    settings: TrainingConfig,
    precision: Precision,
    folder: Path,
    *,
    seed: int,
    input_hash: str,
    title: str,
    evaluation: Validation | None = None,
) -> TrainResult:
    """Train the parameters that require a gradient; goes on from the latest checkpoint in `folder`.

    The loss of a step is the sum over its trained tokens divided by their number, whatever the
    micro-batches: four of one row equal one of four.

    Args:
        network: model on `precision.device`; on the CPU for `cpu_offload: layers`.
        blocks: packed rows; N may be smaller than the batch, rows then repeat.
        settings: how to train.
        precision: number format of the matrix products; parameters keep theirs.
        folder: gets `metrics.jsonl`, `evaluations.jsonl`, `checkpoints/` and `best/`.
        seed: draws the order of rows and dropout.
        input_hash: hash of everything else that must be the same for a run to go on.
        title: name of the stage in the progress line.
        evaluation: what is measured on the way; it changes nothing of the training itself.

    Raises:
        InputError: there is nothing to train on, memory or disk will not do, or the loss is not finite.
    """
    if not blocks.loss_mask.any():
        raise InputError(f"{title}: nothing to train on, the data has no trained token")
    if is_sharded(network):
        require_shardable(settings, exam=bool(evaluation and evaluation.in_loop_eval))
    if settings.cpu_offload == "layers":
        with explain_out_of_memory("the layers' weights in pinned host memory; `jmedllm plan` says what fits"):
            offload_layers(network, precision.device)
    require_trainable(network.config, precision.device)
    reset_peak_memory(precision.device)
    apply_activation_checkpointing(network, settings.activation_checkpointing)
    with explain_out_of_memory("what the optimizer keeps; `jmedllm plan` says what fits"):
        optimizer = build(network, settings, precision.device)
    torch.manual_seed(seed)
    resumed = checkpoint.resume(folder / "checkpoints", network, optimizer, input_hash)
    start, tokens = (resumed.step, resumed.trained_tokens) if resumed else (0, 0)
    total, watch = settings.total_steps(len(blocks)), settings.early_stopping
    network.train()
    if not resumed:
        require_measured(watch, evaluation.measures if evaluation else ())
        _rehearse(network, optimizer, blocks, settings, precision, folder, evaluation)
    outcome = (
        tensorboard(folder / "tensorboard", start) if settings.tensorboard and is_main_process() else discard_rows()
    )
    with (
        outcome as also,
        MetricsLog(folder / METRICS, start, also) as metrics,
        MetricsLog(folder / EVALUATIONS, start, also) as evaluations,
        progress(title, total, start) as advance,
    ):
        began = time.perf_counter() - (metrics.rows[-1]["seconds"] if metrics.rows else 0.0)
        for step in range(start, total + 1):  # so many steps are done here
            if evaluation and (step % watch.every == 0 or step == total) and not evaluations.has(step):
                measured = run_validation(network, evaluation, precision, settings.micro_batch_size)
                evaluations.add({"step": step, "trained_tokens": tokens} | measured)
            leading = best_evaluation(evaluations.rows, watch)
            is_over = step == total or should_stop(evaluations.rows, watch)
            is_best = leading is not None and leading["step"] == step
            if step > start and (step % settings.save_steps == 0 or is_over or is_best):
                _require_finite(network, step)
                metrics.sync()
                evaluations.sync()
                checkpoint.save(folder / "checkpoints", network, optimizer, step, tokens, input_hash)
            if is_best:
                keep_best(folder / "best", network, step)
            if is_over:
                break
            seed_step(seed, step)
            with explain_out_of_memory(
                f"step {step + 1}; lower micro_batch_size: the run goes on from its last checkpoint"
            ):
                count, measured = _measured_step(network, optimizer, blocks, step, total, settings, precision, seed)
            tokens += count
            elapsed = round(time.perf_counter() - began, 3)
            metrics.add({"step": step + 1, "trained_tokens": tokens} | measured | {"seconds": elapsed})
            advance(1, progress_note(metrics.rows[-1], evaluations.rows))
    optimizer.close()
    if leading is not None:
        restore_best(folder / "best", network, leading["step"])
    network.eval()
    return TrainResult(step, tokens, metrics.rows[-1]["loss"], leading["step"] if leading else None, start)


def _rehearse(
    network: Any,
    optimizer: Optimizer,
    blocks: Blocks,
    settings: TrainingConfig,
    precision: Precision,
    folder: Path,
    evaluation: Validation | None,
) -> None:
    """Try out what would otherwise fail late; changes neither weights nor random numbers."""
    try_longest_batch(network, blocks, settings.micro_batch_size, precision)
    optimizer.zero_grad()
    for texts in evaluation.sets.values() if evaluation else ():
        try_evaluation_batch(network, texts.blocks, settings.micro_batch_size, precision)
    model = trained_bytes(network)
    written = try_checkpoint(lambda trial: checkpoint.save(trial, network, optimizer, 0, 0, "trial"), folder)
    # The best weights lie there twice while they are replaced, the stage's model once.
    if is_main_process():
        require_disk(folder, DiskUsage(written, model, 3 if settings.early_stopping.metric else 1))


def _measured_step(
    network: Any,
    optimizer: Optimizer,
    blocks: Blocks,
    step: int,
    total: int,
    settings: TrainingConfig,
    precision: Precision,
    seed: int,
) -> tuple[int, dict[str, float]]:
    """One optimiser step: its trained tokens, and all that its line in `metrics.jsonl` tells of it alone."""
    began, watch = time.perf_counter(), Stopwatch()
    with watch.waiting():
        rows = rows_of_step(step, settings.batch_size, len(blocks), seed)
        count = int(blocks.loss_mask[rows].sum())
    batches = watch.waits(local_micro_batches(blocks, rows, settings.micro_batch_size, precision.device))
    rate = learning_rate(step, total, settings.learning_rate, round(settings.warmup_ratio * total))
    loss, norm = _step(network, optimizer, batches, count, step, rate, settings.max_grad_norm, precision)
    seconds = time.perf_counter() - began
    return count, {
        "loss": loss,
        "gradient_norm": norm,
        "learning_rate": rate,
        "tokens_per_second": round(count / seconds, 1),
        "waiting": round(watch.seconds / seconds, 5),
        "peak_memory": peak_memory(precision.device),
    }


def _require_finite(network: Any, step: int) -> None:
    if not is_finite(p for p in network.parameters() if p.requires_grad):
        raise InputError(f"weights are no longer finite after step {step}; lower learning_rate")


def _step(
    network: Any,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    count: int,
    step: int,
    rate: float,
    clip: float | None,
    precision: Precision,
) -> tuple[float, float]:
    """One optimiser step; returns mean loss and gradient norm before clipping.

    Args:
        batches: this process's micro-batches of the step.
        count: trained tokens among those of all processes.
        rate: learning rate.
        clip: largest norm of the gradient; None for any.
    """
    loss = 0.0
    optimizer.begin_step(rate)
    for ids, positions, trained in batches:
        with autocast(precision):
            part = summed_loss(network, ids, positions, trained) / max(1, count)
        part.backward()
        loss += part.item()
    loss = summed(loss)
    if not math.isfinite(loss):
        raise InputError(f"loss became {loss} at step {step + 1}; lower learning_rate or use precision float32")
    norm = optimizer.clip(clip)
    if not math.isfinite(norm):
        raise InputError(f"gradient became {norm} at step {step + 1}; lower learning_rate or use precision float32")
    optimizer.step()
    optimizer.zero_grad()
    return loss, norm
