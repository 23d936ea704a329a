"""The loops that train_speed.py compares, each in a process of its own: python train_speed_loops.py NAME ARGUMENTS

The loops of SFTTrainer run in an environment without jmedllm. Each loop prints one line of JSON.
"""

import json
import platform
import resource
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from train_speed_data import Job, prepare, read_samples

WARMUP = 3
"""Steps that are not timed: they allocate memory and choose kernels."""

RATE, BETAS, MAX_GRAD_NORM, SEED = 1e-4, (0.9, 0.95), 1.0, 0
LORA = {"r": 16, "alpha": 32}


def _print_json(**values: Any) -> None:
    print(json.dumps(values))


def work_machine() -> None:
    """The machine, and FLOP/s of a dense bfloat16 matrix product on it."""
    import torch

    gpu = torch.cuda.is_available()
    size = 8192 if gpu else 1536
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16, device="cuda" if gpu else "cpu")
    for _ in range(5):
        left @ right
    began, rounds = _now(), 20
    for _ in range(rounds):
        left @ right
    _print_json(
        gpu=torch.cuda.get_device_name() if gpu else None,
        processor=f"{platform.machine()}, {torch.get_num_threads()} threads",
        torch=torch.__version__,
        flops=rounds * 2 * size**3 / (_now() - began),
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _now() -> float:
    """The time, after a GPU has finished all its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak() -> int:
    """Peak bytes: of tensors on a GPU, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _network(job: Job) -> Any:
    """Stage 1: weights in float32, as the stage trains them. Stage 2: a bfloat16 base with a fresh adapter."""
    import torch

    from jmedllm.models.loading import load_network
    from jmedllm.training.lora import AdapterConfig, add_adapter

    folder, device = Path(job.folder) / "model", torch.device(_device())
    if job.stage == 1:
        return load_network(folder, torch.float32, device)
    return add_adapter(load_network(folder, torch.bfloat16, device), AdapterConfig.model_validate(LORA), seed=SEED)


def work_ours(job: Job) -> None:
    """`jmedllm.training.loop.train` on packed rows; the figures are those of its metrics.jsonl."""
    from tempfile import TemporaryDirectory

    import numpy as np

    from jmedllm.files import read_jsonl
    from jmedllm.precision import choose_precision
    from jmedllm.training.batches import rows_of_step
    from jmedllm.training.config import TrainingConfig
    from jmedllm.training.loop import TrainContext, train
    from jmedllm.training.packing import TrainingSample, pack_documents, pack_examples

    network = _network(job)
    samples = [TrainingSample(str(i), s["ids"], s["loss_mask"]) for i, s in enumerate(read_samples(job))]
    pack = pack_documents if job.stage == 1 else pack_examples
    settings = TrainingConfig(
        steps=job.steps,
        learning_rate=RATE,
        batch_size=job.rows,
        micro_batch_size=job.rows,
        betas=BETAS,
        max_grad_norm=MAX_GRAD_NORM,
    )
    precision = choose_precision("bfloat16")
    with TemporaryDirectory() as folder:
        blocks = pack(samples, job.block, 0)
        train(network, blocks, settings, TrainContext("speed", Path(folder), precision, SEED, "speed"))
        rows = [row for _, row in read_jsonl(Path(folder) / "metrics.jsonl")]
    timed = range(WARMUP, job.steps)
    lengths = job.block - np.argmax(blocks.positions[:, ::-1] > 0, axis=1)  # padding has position 0
    seconds = [rows[i]["seconds"] - rows[i - 1]["seconds"] for i in timed]
    _print_json(
        trained=rows[-1]["trained_tokens"] - rows[WARMUP - 1]["trained_tokens"],
        read=len(seconds) * job.rows * job.block,
        useful=sum(int(lengths[rows_of_step(i, job.rows, len(blocks), SEED)].sum()) for i in timed),
        seconds=sum(seconds),
        waiting=sum(rows[i]["waiting"] * s for i, s in zip(timed, seconds, strict=True)) / sum(seconds),
        peak=rows[-1]["peak_memory"],
        loss=sum(row["loss"] for row in rows) / len(rows),
        parameters=sum(p.numel() for p in network.parameters()),
    )


class Counted:
    """A collator that counts all tokens, tokens without padding, and trained tokens."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.read: list[int] = []
        self.useful: list[int] = []
        self.trained: list[int] = []

    def __call__(self, rows: Any) -> Any:
        """Collate and count."""
        batch = self.collate(rows)
        self.read.append(batch["input_ids"].numel())
        self.useful.append(int(batch["attention_mask"].sum()) if "attention_mask" in batch else self.read[-1])
        self.trained.append(int((batch["labels"][:, 1:] != -100).sum()))
        return batch


def _print_peer(network: Any, counted: Counted, ends: Sequence[float], loss: float) -> None:
    timed = slice(WARMUP, len(ends))
    _print_json(
        trained=sum(counted.trained[timed]),
        read=sum(counted.read[timed]),
        useful=sum(counted.useful[timed]),
        seconds=ends[-1] - ends[WARMUP - 1],
        peak=_peak(),
        loss=loss,
        parameters=sum(p.numel() for p in network.parameters()),
    )


def _plain_rows(job: Job) -> tuple[list[dict[str, list[int]]], int]:
    """Rows as one writes them without jmedllm, and their number per step: one stream of all documents, in rows that
    attend across documents, or single examples."""
    samples = read_samples(job)
    if job.stage == 1:
        stream = [token for sample in samples for token in sample["ids"]]
        cut = [stream[i : i + job.block] for i in range(0, len(stream) - job.block + 1, job.block)]
        return [{"input_ids": row, "labels": row} for row in cut], job.rows
    return [{"input_ids": s["ids"], "labels": _labels(s)} for s in samples], job.examples


def _labels(sample: dict[str, Any]) -> list[int]:
    return [i if trained else -100 for i, trained in zip(sample["ids"], sample["loss_mask"], strict=True)]


def _pad(rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows padded to the longest one, with a mask only if there is padding."""
    import torch

    size = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100}
    batch = {
        key: torch.tensor([row[key] + [pad] * (size - len(row[key])) for row in rows]) for key, pad in fill.items()
    }
    if any(len(row["input_ids"]) < size for row in rows):
        batch["attention_mask"] = torch.tensor(
            [[1] * len(r["input_ids"]) + [0] * (size - len(r["input_ids"])) for r in rows]
        )
    return batch


def work_bare(job: Job) -> None:
    """A loop as one writes it by hand: forward, backward, clipping, step."""
    import torch

    network = _network(job).train()
    rows, size = _plain_rows(job)
    Random(SEED).shuffle(rows)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, weight_decay=0.0, fused=True)
    counted, stream = Counted(_pad), cycle(rows)
    ends, losses = [], []
    for _ in range(job.steps):
        batch = {key: value.to(_device()) for key, value in counted(list(islice(stream, size))).items()}
        with torch.autocast(_device(), torch.bfloat16):
            loss = network(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        ends.append(_now())
    _print_peer(network, counted, ends, torch.stack(losses).mean().item())


def _arguments(job: Job, size: int) -> dict[str, Any]:
    """Settings of Trainer and SFTTrainer: those of the other loops."""
    return {
        "output_dir": str(Path(job.folder) / "peer"),
        "max_steps": job.steps,
        "per_device_train_batch_size": size,
        "learning_rate": RATE,
        "adam_beta2": BETAS[1],
        "max_grad_norm": MAX_GRAD_NORM,
        "optim": "adamw_torch_fused",
        "bf16": True,
        "use_cpu": _device() == "cpu",
        "gradient_checkpointing": job.loop == "SFTTrainer default",
        "dataloader_pin_memory": _device() == "cuda",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": SEED,
    }


def _follow(trainer: Any) -> tuple[Counted, list[float]]:
    """Count the tokens of a trainer's steps and record when each ends."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(_now())

    trainer.data_collator = Counted(trainer.data_collator)
    trainer.add_callback(Ends())
    return trainer.data_collator, ends


def work_trainer(job: Job) -> None:
    """transformers' Trainer on the rows of the plain loop, with examples in random order or grouped by length."""
    from transformers import Trainer, TrainingArguments

    network = _network(job)
    rows, size = _plain_rows(job)
    order = "group_by_length" if job.loop == "Trainer by length" else "random"
    arguments = TrainingArguments(**_arguments(job, size), train_sampling_strategy=order, remove_unused_columns=False)
    trainer = Trainer(network, arguments, data_collator=_pad, train_dataset=rows)
    counted, ends = _follow(trainer)
    loss = trainer.train().training_loss
    _print_peer(network, counted, ends, loss)


def work_sft(job: Job) -> None:
    """TRL's SFTTrainer, which packs documents separately as we do and keeps every token.

    Its default recomputes activations to save memory; the other variant has the settings of the other loops.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = Path(job.folder) / "model"
    dtype = torch.float32 if job.stage == 1 else torch.bfloat16
    lora = LoraConfig(
        r=LORA["r"], lora_alpha=LORA["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype),
        SFTConfig(**_arguments(job, job.rows), max_length=job.block, packing=True, packing_strategy="bfd_split"),
        train_dataset=Dataset.from_list([{"input_ids": s["ids"], "labels": _labels(s)} for s in read_samples(job)]),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=lora if job.stage == 2 else None,
    )
    counted, ends = _follow(trainer)
    loss = trainer.train().training_loss
    _print_peer(trainer.model, counted, ends, loss)


LOOPS = {
    "ours": work_ours,
    "bare": work_bare,
    "Trainer": work_trainer,
    "Trainer by length": work_trainer,
    "SFTTrainer": work_sft,
    "SFTTrainer default": work_sft,
}


def work(name: str, *arguments: str) -> None:
    """Run the worker that the command line names."""
    if name == "machine":
        work_machine()
    elif name == "prepare":
        scale, data, job = arguments
        _print_json(**prepare(scale, data, Job(**json.loads(job))))
    else:
        LOOPS[name](Job(**json.loads(arguments[0])))


if __name__ == "__main__":
    work(*sys.argv[1:])
