"""How fast is training beside a bare PyTorch loop, transformers' Trainer and TRL's SFTTrainer? As a table.

    python benchmarks/train_speed.py --data ../shared/data --output build/train_speed

The same untrained model, texts and settings for all, ratios from one run: stage 1 on documents, stage 2 (LoRA) on
questions with their answers, each in three lengths. On a GPU the model is larger. TRL is installed into a place of
its own. Every measurement is a fresh process and leaves out start, loading and the first steps. A trained token is
one whose loss counts.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

TRL = "trl==1.16.0"
HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]

WARMUP = 3
"""Steps that nobody is timed on: the first ones allocate memory and choose kernels."""

RATE, BETAS, CLIP = 1e-4, (0.9, 0.95), 1.0
LORA = {"r": 16, "alpha": 32}
DOCUMENTS = {"short": 64, "medium": 256, "long": 1024}
"""Mean tokens of a document."""

EXAMPLES = {
    "short": ("medmcqa", "en", "test"),
    "medium": ("yakugakuqa", "ja", "train"),
    "long": ("medqa", "en", "test"),
}
"""Benchmark, language and split of the questions. The model is thrown away, so test items do no harm."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What is trained: a Qwen2 shape on so many rows of so many tokens a step.

    Attributes:
        shape: fields of `Scratch`; a vocabulary of None is that of Qwen2's own tokenizer.
    """

    shape: dict[str, int | None]
    block: int
    rows: int


SCALES = {
    "tiny": Scale({"vocabulary": 320, "hidden_size": 32, "layers": 2, "feed_forward": 64}, block=512, rows=2),
    "38 M": Scale(
        {
            "vocabulary": 8000,
            "hidden_size": 512,
            "layers": 8,
            "feed_forward": 2048,
            "heads": 8,
            "key_value_heads": 8,
        },
        block=512,
        rows=4,
    ),
    "1.5 B": Scale(
        {
            "vocabulary": None,
            "hidden_size": 1536,
            "layers": 28,
            "feed_forward": 8960,
            "heads": 12,
            "key_value_heads": 2,
        },
        block=2048,
        rows=4,
    ),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement.

    Attributes:
        loop: who trains.
        stage: 1 for all parameters on documents, 2 for LoRA on examples.
        texts: short, medium or long.
        steps: all of them, `WARMUP` included.
        examples: how many make up a padded batch: as many as a packed step holds on average.
    """

    loop: str
    stage: int
    texts: str
    folder: str
    steps: int
    block: int
    rows: int
    examples: int = 0

    def samples(self) -> Path:
        """Where the token ids of all samples lie."""
        return Path(self.folder) / f"stage{self.stage}-{self.texts}.jsonl"


def main() -> None:
    """Measure, print the table, keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "train_speed")
    parser.add_argument("--steps", type=int, default=20, help=f"steps that are timed, after {WARMUP} that are not")
    parser.add_argument("--tiny", action="store_true", help="try the script out: a toy, our loop and the bare one")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    # This process stays small: a child's peak memory counts what its parent held when it was started.
    machine = _worker(sys.executable, "machine")
    name = "tiny" if options.tiny else "1.5 B" if machine["gpu"] else "38 M"
    scale, folder = SCALES[name], options.output / name.replace(" ", "")
    folder.mkdir(parents=True, exist_ok=True)
    steps = WARMUP + options.steps
    pythons = {"ours": sys.executable, "bare": sys.executable}
    if not options.tiny:
        pythons |= {"Trainer": sys.executable, "Trainer by length": sys.executable}
        pythons |= dict.fromkeys(("SFTTrainer", "SFTTrainer as it comes"), _peer_environment(options.output))
    print(f"{name}, {machine}\n\n{HEAD}", flush=True)
    rows = []
    for stage in (1, 2):
        for texts in DOCUMENTS:
            common = Job("", stage, texts, str(folder), steps, scale.block, scale.rows)
            prepared = _worker(sys.executable, "prepare", name, str(options.data), json.dumps(asdict(common)))
            for loop, python in pythons.items():
                if (loop, stage) == ("Trainer by length", 1):  # rows of a stream all have one length
                    continue
                job = asdict(common) | {"loop": loop, "examples": prepared["examples"]}
                rows.append({**job, **prepared, **_worker(python, loop, json.dumps(job))})
                print(_line(rows[-1], rows, machine), flush=True)
    if not machine["gpu"]:
        print("| 1.5 B on a GPU | | *not measured* | | | | | | |")
    result = {
        "date": date.today().isoformat(),
        "machine": machine,
        "model": name,
        "gpu": "measured" if machine["gpu"] else "not measured",
        "rows": rows,
    }
    (options.output / "train_speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


HEAD = """| stage, texts | loop | trained tokens/s | ours over it | memory | ours over it | waited | FLOPs | loss |
|---|---|---|---|---|---|---|---|---|"""


def _line(row: dict[str, Any], rows: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    ours = next(r for r in rows if (r["stage"], r["texts"]) == (row["stage"], row["texts"]))
    waiting = f"{row['waiting']:.2%}" if "waiting" in row else ""
    flops = 6 * row["parameters"] * row["read"] / row["seconds"]
    used = f"{flops / machine['flops']:.0%}" if row["stage"] == 1 else ""
    return (
        f"| {row['stage']}, {row['texts']} ({row['mean']:.0f} tokens) | {row['loop']} | {_speed(row):,.0f} | "
        f"{_speed(ours) / _speed(row):.2f}x | {row['peak'] / 2**20:,.0f} MiB | {ours['peak'] / row['peak']:.2f} | "
        f"{waiting} | {used} | {row['loss']:.3f} |"
    )


def _speed(row: dict[str, Any]) -> float:
    return float(row["trained"] / row["seconds"])


def _peer_environment(folder: Path) -> str:
    python = folder / "trl" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "trl"], check=True)
        packages = [TRL, "peft", "torch==2.13.0", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def _worker(python: str, *arguments: str) -> Any:
    command = [python, str(HERE), "--worker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _tell(**values: Any) -> None:
    print(json.dumps(values))


# Workers: each a process of its own; those of SFTTrainer live where jmedllm is not installed.


def work_machine() -> None:
    """The machine, and floating-point operations a second of a dense bfloat16 matrix product on it."""
    import torch

    gpu = torch.cuda.is_available()
    size = 8192 if gpu else 1536
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16, device="cuda" if gpu else "cpu")
    for _ in range(5):
        left @ right
    began, rounds = _now(), 20
    for _ in range(rounds):
        left @ right
    _tell(
        gpu=torch.cuda.get_device_name() if gpu else None,
        processor=f"{platform.machine()}, {torch.get_num_threads()} threads",
        torch=torch.__version__,
        flops=rounds * 2 * size**3 / (_now() - began),
    )


def work_prepare(name: str, data: str, job: str) -> None:
    """Build the model once, and write the samples of one job."""
    from transformers import AutoTokenizer

    from jmedllm.corpus.pack import pack_examples
    from jmedllm.models.encoding import encode
    from jmedllm.models.scratch import Scratch, build, build_around
    from jmedllm.training.examples import example_sample

    asked = Job(**json.loads(job))
    model = Path(asked.folder) / "model"
    if not model.exists():
        shape = {key: value for key, value in SCALES[name].shape.items() if value is not None}
        if "vocabulary" in shape:
            build(Scratch.model_validate(shape), _texts(Path(data), 2_000_000), model, seed=0)
        else:
            own = AutoTokenizer.from_pretrained(Path(data) / "tokenizers" / "qwen2")
            build_around(own, Scratch.model_validate(shape), model, seed=0)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    wanted = asked.steps * asked.rows * asked.block
    samples: list[Any] = []
    if asked.stage == 1:
        texts = list(_texts(Path(data), 4 * wanted))
        stream = cycle(token for ids in encode(tokenizer, texts) for token in ids)
        samples = list(_cut(stream, DOCUMENTS[asked.texts], wanted, tokenizer.eos_token_id))
    else:
        pairs = _pairs(*EXAMPLES[asked.texts], Path(data))
        encoded = [example_sample(tokenizer, "", *pair) for pair in pairs[: wanted // 32]]
        fitting = cycle(s for s in encoded if len(s.ids) <= asked.block)
        total = 0
        while total < wanted:
            samples.append(next(fitting))
            total += len(samples[-1].ids)
    lines = (json.dumps({"ids": list(s.ids), "trained": list(s.trained)}) + "\n" for s in samples)
    asked.samples().write_text("".join(lines), encoding="utf-8")
    packed = len(pack_examples(samples, asked.block, 0)) if asked.stage == 2 else 1
    mean = sum(len(s.ids) for s in samples) / len(samples)
    _tell(mean=mean, examples=round(len(samples) / packed * asked.rows))


def _texts(data: Path, characters: int) -> Iterator[str]:
    """Japanese and English documents in turn, until there are so many characters."""
    from jmedllm.files import read_jsonl

    japanese, english = (
        cycle([row["text"] for _, row in read_jsonl(data / "corpus" / name)])
        for name in ("ja_pharmacopoeia.jsonl", "en_medquad.jsonl")
    )
    while characters > 0:
        for text in (next(japanese), next(english)):
            yield text
            characters -= len(text)


def _cut(stream: Iterator[int], mean: int, wanted: int, end: int) -> Iterator[Any]:
    """Documents of `mean` tokens give or take a half, each ending with EOS."""
    from jmedllm.corpus.pack import Sample

    random, taken = Random(0), 0
    while taken < wanted:
        size = random.randint(mean // 2, mean + mean // 2)
        yield Sample("", [*islice(stream, size - 1), end], [False] + [True] * (size - 1))
        taken += size


def _pairs(benchmark: str, language: str, split: str, data: Path) -> list[tuple[str, str]]:
    """Prompts with their answers, in random order."""
    from jmedllm.exam.benchmarks import load
    from jmedllm.exam.prompts.asking import Prompting, ask, prepare
    from jmedllm.exam.prompts.render import answer_text
    from jmedllm.exam.selection import select

    asking = prepare(Prompting(), data)
    questions = select(load(benchmark, language, data, split), "legacy")
    pairs = [(ask(asking, q, str), answer_text(q, asking.answer_as)) for q in questions if q.gold]
    Random(0).shuffle(pairs)
    return pairs


def _samples(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in job.samples().read_text(encoding="utf-8").splitlines()]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _now() -> float:
    """The time, once a GPU has done all it was told."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak() -> int:
    """Bytes: tensors on a GPU, else all of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _network(job: Job) -> Any:
    """Stage 1: weights in float32, as the stage trains them. Stage 2: a bfloat16 base with a fresh adapter."""
    import torch

    from jmedllm.models.loading import load_network
    from jmedllm.training.adapter import Adapter, add_adapter

    folder, device = Path(job.folder) / "model", torch.device(_device())
    if job.stage == 1:
        return load_network(folder, torch.float32, device)
    return add_adapter(load_network(folder, torch.bfloat16, device), Adapter.model_validate(LORA), seed=0)


def work_ours(job: Job) -> None:
    """`jmedllm.training.loop.train` on packed rows; the figures are those of its metrics.jsonl."""
    from tempfile import TemporaryDirectory

    from jmedllm.corpus.pack import Sample, pack_documents, pack_examples
    from jmedllm.files import read_jsonl
    from jmedllm.precision import choose_precision
    from jmedllm.training.loop import train
    from jmedllm.training.optimization import Optimization

    network = _network(job)
    samples = [Sample(str(i), s["ids"], s["trained"]) for i, s in enumerate(_samples(job))]
    pack = pack_documents if job.stage == 1 else pack_examples
    settings = Optimization(
        steps=job.steps, learning_rate=RATE, batch=job.rows, micro_batch=job.rows, betas=BETAS, clip=CLIP
    )
    precision = choose_precision("bfloat16")
    with TemporaryDirectory() as folder:
        blocks = pack(samples, job.block, 0)
        train(network, blocks, settings, precision, Path(folder), seed=0, identity="speed", title="speed")
        rows = [row for _, row in read_jsonl(Path(folder) / "metrics.jsonl")]
    timed = range(WARMUP, job.steps)
    seconds = [rows[i]["seconds"] - rows[i - 1]["seconds"] for i in timed]
    _tell(
        trained=rows[-1]["trained_tokens"] - rows[WARMUP - 1]["trained_tokens"],
        read=len(seconds) * job.rows * job.block,
        seconds=sum(seconds),
        waiting=sum(rows[i]["waiting"] * s for i, s in zip(timed, seconds, strict=True)) / sum(seconds),
        peak=rows[-1]["peak_memory"],
        loss=sum(row["loss"] for row in rows) / len(rows),
        parameters=sum(p.numel() for p in network.parameters()),
    )


class Counted:
    """A collator that notes how many tokens it handed out, and how many of them are trained."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.read: list[int] = []
        self.trained: list[int] = []

    def __call__(self, rows: Any) -> Any:
        """Collate, and count."""
        batch = self.collate(rows)
        self.read.append(batch["input_ids"].numel())
        self.trained.append(int((batch["labels"][:, 1:] != -100).sum()))
        return batch


def _tell_peer(network: Any, counted: Counted, ends: Sequence[float], loss: float) -> None:
    timed = slice(WARMUP, len(ends))
    _tell(
        trained=sum(counted.trained[timed]),
        read=sum(counted.read[timed]),
        seconds=ends[-1] - ends[WARMUP - 1],
        peak=_peak(),
        loss=loss,
        parameters=sum(p.numel() for p in network.parameters()),
    )


def _plain_rows(job: Job) -> tuple[list[dict[str, list[int]]], int]:
    """What one trains on without jmedllm, and how many of it a step: one stream of all documents in rows that
    see across documents, or examples one by one."""
    samples = _samples(job)
    if job.stage == 1:
        stream = [token for sample in samples for token in sample["ids"]]
        cut = [stream[i : i + job.block] for i in range(0, len(stream) - job.block + 1, job.block)]
        return [{"input_ids": row, "labels": row} for row in cut], job.rows
    return [{"input_ids": s["ids"], "labels": _labels(s)} for s in samples], job.examples


def _labels(sample: dict[str, Any]) -> list[int]:
    return [i if trained else -100 for i, trained in zip(sample["ids"], sample["trained"], strict=True)]


def _pad(rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows padded to the longest of them; a mask only where there is padding to hide."""
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
    """The loop one writes by hand: forward, backward, clip, step."""
    import torch

    network = _network(job).train()
    rows, size = _plain_rows(job)
    Random(0).shuffle(rows)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, weight_decay=0.0, fused=True)
    counted, stream = Counted(_pad), cycle(rows)
    ends, losses = [], []
    for _ in range(job.steps):
        batch = {key: value.to(_device()) for key, value in counted(list(islice(stream, size))).items()}
        with torch.autocast(_device(), torch.bfloat16):
            loss = network(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        ends.append(_now())
    _tell_peer(network, counted, ends, torch.stack(losses).mean().item())


def _arguments(job: Job, size: int) -> dict[str, Any]:
    """Settings that Trainer and SFTTrainer share: those of the other loops."""
    return {
        "output_dir": str(Path(job.folder) / "peer"),
        "max_steps": job.steps,
        "per_device_train_batch_size": size,
        "learning_rate": RATE,
        "adam_beta2": BETAS[1],
        "max_grad_norm": CLIP,
        "optim": "adamw_torch_fused",
        "bf16": True,
        "use_cpu": _device() == "cpu",
        "gradient_checkpointing": job.loop == "SFTTrainer as it comes",
        "dataloader_pin_memory": _device() == "cuda",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }


def _follow(trainer: Any) -> tuple[Counted, list[float]]:
    """Count what a trainer's steps are given and note when each ends."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(_now())

    trainer.data_collator = Counted(trainer.data_collator)
    trainer.add_callback(Ends())
    return trainer.data_collator, ends


def work_trainer(job: Job) -> None:
    """transformers' Trainer on the same rows as the bare loop, examples in random order or grouped by length."""
    from transformers import Trainer, TrainingArguments

    network = _network(job)
    rows, size = _plain_rows(job)
    order = "group_by_length" if job.loop == "Trainer by length" else "random"
    arguments = TrainingArguments(
        **_arguments(job, size), train_sampling_strategy=order, remove_unused_columns=False
    )
    trainer = Trainer(network, arguments, data_collator=_pad, train_dataset=rows)
    counted, ends = _follow(trainer)
    loss = trainer.train().training_loss
    _tell_peer(network, counted, ends, loss)


def work_sft(job: Job) -> None:
    """TRL's SFTTrainer, packing documents apart as we do and keeping every token.

    As it comes, it computes activations twice to save memory; otherwise it has the other loops' settings.
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
        train_dataset=Dataset.from_list([{"input_ids": s["ids"], "labels": _labels(s)} for s in _samples(job)]),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=lora if job.stage == 2 else None,
    )
    counted, ends = _follow(trainer)
    loss = trainer.train().training_loss
    _tell_peer(trainer.model, counted, ends, loss)


LOOPS = {
    "ours": work_ours,
    "bare": work_bare,
    "Trainer": work_trainer,
    "Trainer by length": work_trainer,
    "SFTTrainer": work_sft,
    "SFTTrainer as it comes": work_sft,
}


def work(name: str, *arguments: str) -> None:
    """Do what a worker is started for."""
    if name == "machine":
        work_machine()
    elif name == "prepare":
        work_prepare(*arguments)
    else:
        LOOPS[name](Job(**json.loads(arguments[0])))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
