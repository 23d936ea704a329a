"""What gpu.py measures: the models, the settings of each training part, and how much of each is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

GIB = 2**30

Model = Literal["base", "large"]


@dataclass(frozen=True, slots=True)
class Training:
    """A stage that is trained for a few steps.

    Attributes:
        title: what it is, for the table.
        model: which of the two.
        settings: of the recipe's stage; an `adapter` among them makes it stage 2.
        cap: GiB of the whole GPU that it may use, CUDA's own share included; None: all.
        seconds: most that it may take, start included.
    """

    title: str
    model: Model
    settings: Mapping[str, Any]
    cap: int | None
    seconds: int

    @property
    def stage(self) -> Literal["mfpt", "mpeft"]:
        """The stage that has such settings."""
        return "mpeft" if "adapter" in self.settings else "mfpt"


_ON_GPU = {"weight_format": "bfloat16-stochastic", "optimizer": "adamw-bf16"}
_ON_HOST = {"weight_format": "bfloat16-master", "optimizer": "adamw-bf16", "activation_checkpointing": "recompute"}
_LORA = {"r": 16, "alpha": 32}
_NF4 = {**_LORA, "quantization": "nf4"}

TRAININGS: Mapping[str, Training] = {
    "full": Training("(a) 7B, all parameters, all on the GPU", "base", _ON_GPU, None, 90),
    "cpu-master": Training(
        "(b) 7B, all parameters, stepped on the host", "base", {**_ON_HOST, "cpu_offload": "optimizer"}, 24, 150
    ),
    "streaming": Training(
        "(c) 7B, all parameters, layers fetched from the host", "base", {**_ON_HOST, "cpu_offload": "layers"}, 12, 150
    ),
    "lora": Training("(d) 7B, LoRA", "base", {"activation_checkpointing": "recompute", "adapter": _LORA}, 24, 60),
    "qlora": Training("(d) 7B, QLoRA", "base", {"activation_checkpointing": "recompute", "adapter": _NF4}, 24, 60),
    "qlora-70b": Training(
        "(e) 70B, QLoRA", "large", {"activation_checkpointing": "recompute", "adapter": _NF4}, 48, 120
    ),
    "full-recompute": Training(
        "(a) with recomputation", "base", {**_ON_GPU, "activation_checkpointing": "recompute"}, None, 90
    ),
    "full-8bit": Training("(a) with moments in 8 bits", "base", {**_ON_GPU, "optimizer": "adamw-8bit"}, None, 90),
}
"""By name. The last two show what (a) gains and loses by one technique."""

SECONDS = {"ceilings": 60, "exam": 90, "peer-trl": 90, "peer-paged": 90}
"""Most that each part may take that trains nothing of ours, start included."""

PARTS = (
    "ceilings",
    *(name for name in TRAININGS if not name.startswith("full-")),
    "exam",
    "peer-trl",
    "peer-paged",
    "full-recompute",
    "full-8bit",
)
"""In the order in which they are run; where time runs out, the last ones are left out."""


@dataclass(frozen=True, slots=True)
class Questions:
    """An exam, in tokens.

    Attributes:
        count: questions whose choices are scored.
        prompt: tokens of a prompt.
        choices: of each question.
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
    """How large all of it is.

    Attributes:
        models: a name that `jmedllm plan` knows, or a config.
        block: tokens of a row, in stage 1 and in stage 2.
        rows: of a step, likewise; passes of one row each.
        large_rows: of a step of the large model.
        document: tokens of each document in a row.
        steps: that are timed.
        product: width of the square matrices of the measured product.
        copied: bytes of the measured copies.
        seconds: most that one call may take.
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
"""65,536 tokens a step in stage 1. Ends within 10 minutes, whatever is slow."""

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
"""The dry mode: every line is run, in seconds, and no figure means anything."""
