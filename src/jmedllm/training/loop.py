"""The training loop of both stages."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.precision import Precision
from jmedllm.processes import is_main_process, summed
from jmedllm.progress import notice, progress
from jmedllm.training import checkpoint
from jmedllm.training.batches import Batch, autocast, learning_rate, rows_of_step
from jmedllm.training.checkpoint import keep_best, restore_best
from jmedllm.training.config import TrainingConfig, require_shardable
from jmedllm.training.distributed import is_finite, is_sharded, local_micro_batches, seed_step
from jmedllm.training.early_stopping import best_evaluation, require_measured, should_stop
from jmedllm.training.experts import Routers, StepExperts, balance_coefficient, counted_tokens, routers_of
from jmedllm.training.isolation import ISOLATIONS, isolate
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
from jmedllm.training.trainable import choose_isolation
from jmedllm.training.validation import Validation, run_validation


@dataclass(frozen=True, slots=True)
class TrainContext:
    """Environment of a training run, besides the network, the data and the settings.

    Attributes:
        title: name of the stage, for the progress line.
        folder: directory for `metrics.jsonl`, `evaluations.jsonl`, `checkpoints/` and `best/`.
        precision: device, and dtype of the matrix products; parameters keep their own dtype.
        seed: seed of the row order and of dropout.
        input_hash: hash of everything that must be unchanged when training resumes.
        validation: what is measured during training; it does not change the training itself.
    """

    title: str
    folder: Path
    precision: Precision
    seed: int
    input_hash: str
    validation: Validation | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Outcome of a training run.

    Attributes:
        steps: completed optimizer steps; fewer than configured after early stopping.
        final_loss: loss of the last step.
        best_step: the step whose weights the network has now, if the best weights were kept.
        resumed_from: the step from which training resumed; 0 if it started from the beginning.
    """

    steps: int
    trained_tokens: int
    final_loss: float
    best_step: int | None
    resumed_from: int


@dataclass(frozen=True, slots=True)
class _Trainer:
    """Objects that every step of a training run uses."""

    network: Any
    optimizer: Optimizer
    blocks: Blocks
    settings: TrainingConfig
    context: TrainContext
    routers: Routers | None

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps of the run."""
        return self.settings.total_steps(len(self.blocks))

    def save(self, step: int, trained_tokens: int) -> None:
        """Write the checkpoint after `step` steps."""
        folder, input_hash = self.context.folder / "checkpoints", self.context.input_hash
        checkpoint.save(folder, self.network, self.optimizer, checkpoint.Progress(step, trained_tokens), input_hash)


@dataclass(frozen=True, slots=True)
class _Logs:
    """Logs of steps and evaluations; rows are appended to files immediately."""

    metrics: MetricsLog
    evaluations: MetricsLog

    def sync(self) -> None:
        """Flush both files to the disk, before a checkpoint that relies on them."""
        self.metrics.sync()
        self.evaluations.sync()


def train(network: Any, blocks: Blocks, settings: TrainingConfig, context: TrainContext) -> TrainResult:
    """Train the parameters that require a gradient; resumes from the latest checkpoint in the context's folder.

    The loss of a step is the sum over its trained tokens divided by their number, regardless of the micro-batch
    size: four micro-batches of one row give the same step as one of four rows.

    Args:
        network: model on the context's device; on the CPU for `cpu_offload: layers`.
        blocks: packed rows. If a step needs more rows than there are, rows repeat.
        settings: how to train.
        context: where to train, and what to measure.

    Raises:
        InputError: there is nothing to train on, memory or disk space is insufficient, or the loss is not finite.
    """
    validation = context.validation
    if not blocks.loss_mask.any():
        raise InputError(f"{context.title}: the data contains no trained token")
    if is_sharded(network):
        require_shardable(settings, benchmarks=bool(validation and validation.in_loop_eval))
    coefficient = balance_coefficient(network, settings.router_aux_loss_coef)
    routers = routers_of(network, coefficient)
    trainer = _Trainer(network, _prepare(network, settings, context), blocks, settings, context, routers)
    torch.manual_seed(context.seed)
    resumed = checkpoint.resume(context.folder / "checkpoints", network, trainer.optimizer, context.input_hash)
    start = resumed or checkpoint.Progress(0, 0)
    network.train()
    if resumed:
        notice(f"{context.title} resumes from step {start.step:,} of {trainer.total_steps:,}")
    else:
        require_measured(settings.early_stopping, validation.measures if validation else ())
        _preflight(trainer)
    with _open_logs(trainer, start.step) as logs:
        end = _run_steps(trainer, logs, start)
    trainer.optimizer.close()
    best = best_evaluation(logs.evaluations.rows, settings.early_stopping)
    if best is not None:
        restore_best(context.folder / "best", network, best["step"])
    network.eval()
    loss = logs.metrics.rows[-1]["loss"]
    return TrainResult(end.step, end.trained_tokens, loss, best["step"] if best else None, start.step)


def _prepare(network: Any, settings: TrainingConfig, context: TrainContext) -> Optimizer:
    """Isolate the network's samples, apply the memory techniques to it and build its optimizer."""
    precision = context.precision
    if settings.cpu_offload == "layers":
        with explain_out_of_memory("the layers' weights in pinned host memory; `jmedllm plan` says what fits"):
            offload_layers(network, precision.device)
    isolation = choose_isolation(network.config, precision.device)
    isolate(network, isolation)
    notice(f"{context.title}: samples in a packed row are isolated by {ISOLATIONS[isolation].description}")
    reset_peak_memory(precision.device)
    apply_activation_checkpointing(network, settings.activation_checkpointing)
    with explain_out_of_memory("what the optimizer keeps; `jmedllm plan` says what fits"):
        return build(network, settings, precision.device)


def _preflight(trainer: _Trainer) -> None:
    """Try what would otherwise fail late; changes neither weights nor random state."""
    network, settings, context = trainer.network, trainer.settings, trainer.context
    with trainer.optimizer.without_gradient() as idle:
        try_longest_batch(network, trainer.blocks, settings.micro_batch_size, context.precision)
    trainer.optimizer.zero_grad()
    if idle:
        notice(
            f"{context.title}: a trial batch gives {len(idle)} trained weights no gradient, so they may stay as they "
            f"are: {', '.join(sorted(idle)[:MOST_NAMED])}"
        )
    for texts in context.validation.sets.values() if context.validation else ():
        try_evaluation_batch(network, texts.blocks, settings.micro_batch_size, context.precision)
    nothing_done = checkpoint.Progress(0, 0)
    written = try_checkpoint(
        lambda trial: checkpoint.save(trial, network, trainer.optimizer, nothing_done, "trial"), context.folder
    )
    # While the best weights are replaced, the disk has two copies of them, and the stage's model is a third.
    if is_main_process():
        copies = 3 if settings.early_stopping.metric else 1
        require_disk(context.folder, DiskUsage(written, trained_bytes(network), copies))


@contextmanager
def _open_logs(trainer: _Trainer, start: int) -> Iterator[_Logs]:
    """Open the logs, cut to the rows up to step `start`; if the settings enable TensorBoard, it gets the same rows."""
    folder = trainer.context.folder
    is_wanted = trainer.settings.tensorboard and is_main_process()
    with (
        tensorboard(folder / "tensorboard", start) if is_wanted else discard_rows() as also,
        MetricsLog(folder / METRICS, start, also) as metrics,
        MetricsLog(folder / EVALUATIONS, start, also) as evaluations,
    ):
        yield _Logs(metrics, evaluations)


def _run_steps(trainer: _Trainer, logs: _Logs, start: checkpoint.Progress) -> checkpoint.Progress:
    """Evaluate, save and step until the last step or early stopping; return the progress."""
    total, early_stopping, tokens = trainer.total_steps, trainer.settings.early_stopping, start.trained_tokens
    rows = logs.metrics.rows
    began = time.perf_counter() - (rows[-1]["seconds"] if rows else 0.0)
    with progress(trainer.context.title, total, start.step) as advance:
        for step in range(start.step, total + 1):  # `step` steps are complete here
            is_due = step % early_stopping.every == 0 or step == total
            if is_due and not logs.evaluations.has(step):
                _evaluate(trainer, logs, checkpoint.Progress(step, tokens))
            best = best_evaluation(logs.evaluations.rows, early_stopping)
            is_over = step == total or should_stop(logs.evaluations.rows, early_stopping)
            is_best = best is not None and best["step"] == step
            if step > start.step and (step % trainer.settings.save_steps == 0 or is_over or is_best):
                _require_finite(trainer.network, step)
                logs.sync()
                trainer.save(step, tokens)
            if is_best:
                keep_best(trainer.context.folder / "best", trainer.network, step)
            if is_over:
                break
            seed_step(trainer.context.seed, step)
            with explain_out_of_memory(
                f"step {step + 1}; lower micro_batch_size: the run resumes from its checkpoint"
            ):
                count, measured = _measured_step(trainer, step)
            tokens += count
            seconds = round(time.perf_counter() - began, 3)
            logs.metrics.add({"step": step + 1, "trained_tokens": tokens} | measured | {"seconds": seconds})
            advance(1, progress_note(rows[-1], logs.evaluations.rows))
    return checkpoint.Progress(step, tokens)


def _evaluate(trainer: _Trainer, logs: _Logs, done: checkpoint.Progress) -> None:
    """Run the validation, if there is one, and log its results."""
    context = trainer.context
    if context.validation:
        measured = run_validation(
            trainer.network, context.validation, context.precision, trainer.settings.micro_batch_size
        )
        logs.evaluations.add({"step": done.step, "trained_tokens": done.trained_tokens} | measured)


def _measured_step(trainer: _Trainer, step: int) -> tuple[int, dict[str, Any]]:
    """Run one optimizer step; returns its number of trained tokens and the measurements for `metrics.jsonl`."""
    blocks, settings, precision = trainer.blocks, trainer.settings, trainer.context.precision
    began, watch = time.perf_counter(), Stopwatch()
    with watch.waiting():
        rows = rows_of_step(step, settings.batch_size, len(blocks), trainer.context.seed)
        count = int(blocks.loss_mask[rows].sum())
    total = trainer.total_steps
    inputs = StepInputs(
        step,
        watch.waits(local_micro_batches(blocks, rows, settings.micro_batch_size, precision.device)),
        count,
        learning_rate(step, total, settings.learning_rate, round(settings.warmup_ratio * total)),
        settings.max_grad_norm,
        _step_experts(trainer, rows),
    )
    loss, norm = optimizer_step(trainer.network, trainer.optimizer, inputs, precision)
    seconds = time.perf_counter() - began
    of_experts = inputs.experts.measured() if inputs.experts else {}
    if trainer.routers and inputs.experts:
        load, tokens = of_experts["expert_load"], inputs.experts.tokens
        trainer.routers.report_collapsed(trainer.context.title, step + 1, load, tokens)
    return count, {
        "loss": loss,
        "gradient_norm": norm,
        "learning_rate": inputs.learning_rate,
        "tokens_per_second": round(count / seconds, 1),
        "waiting": round(watch.seconds / seconds, 5),
        "peak_memory": peak_memory(precision.device),
        **of_experts,
    }


def _step_experts(trainer: _Trainer, rows: npt.NDArray[np.int64]) -> StepExperts | None:
    if trainer.routers is None:
        return None
    positions, mask = (torch.from_numpy(each[rows]) for each in (trainer.blocks.positions, trainer.blocks.loss_mask))
    return StepExperts(trainer.routers, int(counted_tokens(positions, mask).sum()))


def _require_finite(network: Any, step: int) -> None:
    if not is_finite(p for p in network.parameters() if p.requires_grad):
        raise InputError(f"weights are no longer finite after step {step}; lower learning_rate")


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Inputs of one optimizer step.

    Attributes:
        step: number of the step, from 0.
        batches: this process's micro-batches.
        trained_tokens: trained tokens in the micro-batches of all processes.
        max_grad_norm: largest norm of the gradient; None disables clipping.
        experts: load and balance of the experts, to which the step adds; None for a dense model.
    """

    step: int
    batches: Iterable[Batch]
    trained_tokens: int
    learning_rate: float
    max_grad_norm: float | None
    experts: StepExperts | None = None


def _losses(network: Any, batch: Batch, inputs: StepInputs) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute a micro-batch's part of the mean loss, and of the load-balancing loss if there are experts."""
    tokens = max(1, inputs.trained_tokens)
    if inputs.experts is None:
        return summed_loss(network, *batch) / tokens, None
    with inputs.experts.recording() as calls:
        part = summed_loss(network, *batch) / tokens
    return part, inputs.experts.balance_loss(calls, *batch)


def optimizer_step(
    network: Any, optimizer: Optimizer, inputs: StepInputs, precision: Precision
) -> tuple[float, float]:
    """Run one optimizer step; returns the mean loss and the gradient norm before clipping.

    Raises:
        InputError: the loss or the gradient is not finite.
    """
    loss = 0.0
    optimizer.begin_step(inputs.learning_rate)
    for batch in inputs.batches:
        with autocast(precision):
            part, balance = _losses(network, batch, inputs)
        (part if balance is None else part + balance).backward()
        loss += part.item()
    loss = summed(loss)
    number = inputs.step + 1
    if not math.isfinite(loss):
        raise InputError(f"loss became {loss} at step {number}; lower learning_rate or use precision float32")
    norm = optimizer.clip(inputs.max_grad_norm)
    if not math.isfinite(norm):
        raise InputError(f"gradient became {norm} at step {number}; lower learning_rate or use precision float32")
    optimizer.step()
    optimizer.zero_grad()
    return loss, norm
