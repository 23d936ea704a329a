"""The data of train_speed.py: a model, and samples of three lengths for both stages, as token ids on disk."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

DOCUMENTS = {"short": 64, "medium": 256, "long": 1024}
"""Mean tokens of a document."""

EXAMPLES = {
    "short": ("medmcqa", "en", "test"),
    "medium": ("yakugakuqa", "ja", "train"),
    "long": ("medqa", "en", "test"),
}
"""Benchmark, language and split of the questions. The model is deleted, so test items may be used."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A Qwen2 shape, and the number of rows and tokens of a step.

    Attributes:
        shape: fields of `RandomInit`; vocabulary None: Qwen2's tokenizer.
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
        loop: the training loop.
        stage: 1 for all parameters on documents, 2 for LoRA on examples.
        texts: short, medium or long.
        steps: all steps, with those that are not timed.
        examples: examples of a padded batch: the mean number of examples in a packed step.
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
        """The file with the token ids of all samples."""
        return Path(self.folder) / f"stage{self.stage}-{self.texts}.jsonl"


def prepare(name: str, data: str, asked: Job) -> dict[str, float]:
    """Build the model once and write the samples of one job. Returns their mean length, the share of trained
    tokens, and `Job.examples`."""
    from transformers import AutoTokenizer

    from jmedllm.models.random_init import RandomInit, build, build_around
    from jmedllm.models.tokenizer.encoding import encode
    from jmedllm.training.examples import example_sample
    from jmedllm.training.packing import pack_examples

    model = Path(asked.folder) / "model"
    if not model.exists():
        shape = {key: value for key, value in SCALES[name].shape.items() if value is not None}
        if "vocabulary" in shape:
            build(RandomInit.model_validate(shape), _texts(Path(data), 2_000_000), model, seed=0)
        else:
            own = AutoTokenizer.from_pretrained(Path(data) / "tokenizers" / "qwen2")
            build_around(own, RandomInit.model_validate(shape), model, seed=0)
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
    lines = (json.dumps({"ids": list(s.ids), "loss_mask": list(s.loss_mask)}) + "\n" for s in samples)
    asked.samples().write_text("".join(lines), encoding="utf-8")
    packed = len(pack_examples(samples, asked.block, 0)) if asked.stage == 2 else 1
    mean = sum(len(s.ids) for s in samples) / len(samples)
    share = sum(sum(s.loss_mask) for s in samples) / sum(len(s.ids) for s in samples)
    return {"mean": mean, "share": share, "examples": round(len(samples) / packed * asked.rows)}


def _texts(data: Path, characters: int) -> Iterator[str]:
    """Alternate Japanese and English documents until there are `characters` characters."""
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
    """Documents of `mean` tokens plus or minus half, each ending with EOS; the last one is truncated."""
    from jmedllm.training.packing import TrainingSample

    random, taken = Random(0), 0
    while taken < wanted:
        size = min(random.randint(mean // 2, mean + mean // 2), wanted - taken)
        yield TrainingSample("", [*islice(stream, size - 1), end], [False] + [True] * (size - 1))
        taken += size


def _pairs(benchmark: str, language: str, split: str, data: Path) -> list[tuple[str, str]]:
    """Prompts with their answers, in random order."""
    from jmedllm.evaluation.benchmarks import load
    from jmedllm.evaluation.prompts.format import PromptConfig, ask
    from jmedllm.evaluation.prompts.format import prepare as prepare_prompts
    from jmedllm.evaluation.prompts.render import answer_text
    from jmedllm.evaluation.selection import select

    prompt_format = prepare_prompts(PromptConfig(), data)
    questions = select(load(benchmark, language, data, split), "legacy")
    pairs = [(ask(prompt_format, q, str), answer_text(q, prompt_format.answer_as)) for q in questions if q.gold]
    Random(0).shuffle(pairs)
    return pairs


def read_samples(job: Job) -> list[dict[str, Any]]:
    """Samples as `prepare` wrote them: `ids` and `loss_mask`."""
    return [json.loads(line) for line in job.samples().read_text(encoding="utf-8").splitlines()]
