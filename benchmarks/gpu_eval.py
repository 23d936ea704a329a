"""Backend transformers on random questions, compared with the least time that the arithmetic needs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gpu_meter import cap, device, now, peaks, reset_peaks
from gpu_models import config, random_network, word_tokenizer
from gpu_sizes import Questions, Sizes

from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.transformers.capabilities import context_length, detect_capabilities
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.memory import token_bytes
from jmedllm.planning.shape import shape_of


def evaluate_task(name: str, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Score the choices of questions and continue prompts. Yields seconds, and the FLOPs and bytes that this needs."""
    cap(None)
    place, asked = device(), sizes.questions
    network = random_network(config(sizes.models["base"]), place, place).eval().requires_grad_(False)
    tokenizer = word_tokenizer(network.config.vocab_size)
    capabilities = detect_capabilities(network, tokenizer, place)
    model = TransformersModel(name, network, tokenizer, place, context_length(network.config), capabilities)
    scored, written = requests(asked, network.config.vocab_size)
    answered(model, scored[:8], 1)  # the first requests are not timed
    answered(model, written[:8], 2)
    reset_peaks()
    scoring = answered(model, scored, 1)
    scoring_peak = peaks()["gpu"]
    generation = answered(model, written, asked.new)
    measured = {
        **peaks(),
        "scoring_gpu": scoring_peak,
        "scoring_seconds": scoring,
        "questions_per_second": asked.count / scoring,
        "generation_seconds": generation,
        "written_tokens_per_second": asked.written * asked.new / generation,
        "longest_tree": capabilities.longest_tree,
    }
    yield {"measured": measured | least(network, asked)}


def requests(asked: Questions, vocabulary: int) -> tuple[list[Request], list[Request]]:
    """Random questions with choices to score, and random prompts to continue."""
    random = np.random.default_rng(0)

    def words(count: int) -> str:
        return "".join(f" w{i}" for i in random.integers(1, vocabulary, count))

    scored = [
        Request(str(i), words(asked.prompt), str(i), tuple(words(asked.choice) for _ in range(asked.choices)))
        for i in range(asked.count)
    ]
    return scored, [Request(str(i), words(asked.prompt), str(i), generate=True) for i in range(asked.written)]


def answered(model: TransformersModel, asked: list[Request], new: int) -> float:
    """Seconds that the model takes to answer all requests."""
    began = now()
    for _ in model.answer(asked, GenerationConfig(new)):
        pass
    return now() - began


def least(network: Any, asked: Questions) -> dict[str, float]:
    """FLOPs of each token read once; for each generated token, bytes of all weights and of its keys and values."""
    shape = shape_of(network)
    head = shape.head or shape.embedding
    inner = asked.choices * (asked.choice - 1)  # a choice's last token is predicted and never read
    read, predicting = asked.count * (asked.prompt + inner), asked.count * (1 + inner)
    lengths = range(asked.prompt, asked.prompt + asked.new - 1)  # the last generated token is not read either
    kept = token_bytes(network.config, network.dtype).cache_bytes
    return {
        "scoring_flops": 2 * (shape.linear * read + head * predicting),
        "generation_flops": 2 * asked.written * (shape.linear * asked.prompt + head),
        "generation_bytes": len(lengths) * (shape.linear + head) * torch.bfloat16.itemsize
        + asked.written * kept * sum(lengths),
    }
