"""What gpu.py measures: the models, the settings of each training part, and how much of each is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

GIB = 2**30

Model = Literal["base", "large"]


@dataclass(frozen=True, slots=True)
class Training:
    """A stage, trained for a few steps.

    Attributes:
        title: its name in the table.
        model: one of the two models.
        settings: settings of the recipe's stage; with an `adapter` it is stage 2.
        cap: limit of GPU memory in GiB, CUDA's own share included; None: no limit.
        seconds: time limit, start-up included.
    """

    title: str
    model: Model
    settings: Mapping[str, Any]
    cap: int | None
    seconds: int

    @property
    def stage(self) -> Literal["mfpt", "mpeft"]:
        """The stage that has these settings."""
        return "mpeft" if "adapter" in self.settings else "mfpt"


_ON_GPU = {"weight_format": "bfloat16-stochastic", "optimizer": "adamw-bf16"}
_OFFLOADED = {"weight_format": "bfloat16-master", "optimizer": "adamw-bf16", "activation_checkpointing": "recompute"}
_LORA = {"r": 16, "alpha": 32}
_NF4 = {**_LORA, "quantization": "nf4"}

TRAININGS: Mapping[str, Training] = {
    "full": Training("(a) 7B, all parameters, all on the GPU", "base", _ON_GPU, None, 90),
    "cpu-master": Training(
        "(b) 7B, all parameters, optimizer on the host", "base", {**_OFFLOADED, "cpu_offload": "optimizer"}, 24, 150
    ),
    "layer-offload": Training(
        "(c) 7B, all parameters, optimizer and layers on the host",
        "base",
        {**_OFFLOADED, "cpu_offload": "layers"},
        12,
        150,
    ),
    "lora": Training("(d) 7B, LoRA", "base", {"activation_checkpointing": "recompute", "adapter": _LORA}, 24, 60),
    "qlora": Training("(d) 7B, QLoRA", "base", {"activation_checkpointing": "recompute", "adapter": _NF4}, 24, 60),
    "qlora-70b": Training(
        "(e) 70B, QLoRA", "large", {"activation_checkpointing": "recompute", "adapter": _NF4}, 48, 120
    ),
    "full-recompute": Training(
        "(a) with activation checkpointing", "base", {**_ON_GPU, "activation_checkpointing": "recompute"}, None, 90
    ),
    "full-8bit": Training("(a) with 8-bit moments", "base", {**_ON_GPU, "optimizer": "adamw-8bit"}, None, 90),
}
"""By name. The last two show what one technique changes in (a)."""

SECONDS = {"ceilings": 60, "eval": 90, "peer-trl": 90, "peer-paged": 90}
"""Time limits of the other parts, start-up included."""

PARTS = (
    "ceilings",
    *(name for name in TRAININGS if not name.startswith("full-")),
    "eval",
    "peer-trl",
    "peer-paged",
    "full-recompute",
    "full-8bit",
)
"""In the order in which they run; if time runs out, the last ones are left out."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A benchmark, in tokens.

    Attributes:
        count: questions whose choices are scored.
        prompt: tokens of a prompt.
        choices: choices of each question.
        choice: tokens of a choice.
        written: prompts that are continued.
        new: tokens of each continuation.
    """

    count: int
    prompt: int
    choices: int
    choice: int
    written: int
    new: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all parts.

    Attributes:
        models: a name that `jmedllm plan` knows, or a config.
        block: tokens of a row in stage 1 and in stage 2.
        rows: rows of a step in each stage, one in each forward pass.
        large_rows: rows of a step of the large model.
        document: tokens of each document in a row.
        steps: timed steps.
        product: width of the square matrices whose product is timed.
        copied: bytes of the timed copies.
        seconds: time limit of one call.
    """

    models: Mapping[Model, str | Mapping[str, Any]]
    block: Mapping[str, int]
    rows: Mapping[str, int]
    large_rows: int
    document: int
    steps: int
    product: int
    copied: int
    questions: Questions
    seconds: int

    def rows_of(self, part: Training) -> int:
        """Rows of a step of this part."""
        return self.large_rows if part.model == "large" else self.rows[part.stage]


REAL = Sizes(
    models={"base": "Qwen/Qwen2-7B", "large": "meta-llama/Meta-Llama-3-70B"},
    block={"mfpt": 4096, "mpeft": 2048},
    rows={"mfpt": 16, "mpeft": 8},
    large_rows=4,
    document=1024,
    steps=2,
    product=8192,
    copied=4 * GIB,
    questions=Questions(count=512, prompt=200, choices=5, choice=12, written=256, new=128),
    seconds=570,
)
"""65,536 tokens per step in stage 1. A call ends within 10 minutes, even if a part is slow."""

SMALL = Sizes(
    models={
        "base": {
            "model_type": "qwen2",
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 256,
            "vocab_size": 640,
            "tie_word_embeddings": False,
        },
        "large": {
            "model_type": "llama",
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 384,
            "vocab_size": 512,
            "tie_word_embeddings": False,
        },
    },
    block={"mfpt": 128, "mpeft": 64},
    rows={"mfpt": 2, "mpeft": 2},
    large_rows=2,
    document=48,
    steps=1,
    product=256,
    copied=2**22,
    questions=Questions(count=4, prompt=24, choices=3, choice=4, written=3, new=6),
    seconds=300,
)
"""The dry run: every part runs in seconds, and the figures have no meaning."""
