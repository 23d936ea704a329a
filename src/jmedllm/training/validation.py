"""Validation during training: bits per byte of held-out texts, and accuracy on small benchmarks by likelihood.

The bits of a text are the sum of -log2 p(token | preceding tokens) over all of its tokens except the first, which
has no context. Its bytes are the UTF-8 bytes that follow the characters of that first token. If the tokenizer adds a
BOS token, BOS is the first token and every byte counts. Bits per byte of a set are its total bits divided by its
total bytes. Unlike a loss per token, they compare across tokenizers and languages (Gao et al. 2020 use them for the
Pile, arXiv 2101.00027, section 3.1).

A text longer than a window is split into windows that share one token, so that each token is predicted once, from
the preceding tokens of its window. The end of a text is not predicted.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.question import label
from jmedllm.evaluation.scorers.likelihood import score_log_probs
from jmedllm.evaluation.task import EvalTask
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.transformers.capabilities import context_length, detect_capabilities
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.chat import ChatText, no_template
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.precision import Precision
from jmedllm.processes import summed
from jmedllm.training.batches import autocast, evaluating
from jmedllm.training.distributed import local_micro_batches
from jmedllm.training.early_stopping import ACCURACY, BITS_PER_BYTE
from jmedllm.training.loss import summed_loss
from jmedllm.training.packing import Blocks, TrainingSample, pack_examples

InLoopEval = Callable[[Any], dict[str, float]]
"""Evaluates a network; returns the accuracy of each task."""


@dataclass(frozen=True, slots=True)
class TextSet:
    """Held-out texts, tokenized and packed.

    Attributes:
        blocks: packed windows; every token of a window except its first is predicted.
        documents: number of texts.
        bytes: UTF-8 bytes of the predicted tokens.
    """

    blocks: Blocks
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Validation:
    """What the training loop measures.

    Attributes:
        sets: texts by name, such as ja, en, general.
        tasks: names of the benchmark tasks.
        in_loop_eval: evaluates the tasks; None if there are none.
    """

    sets: Mapping[str, TextSet]
    tasks: tuple[str, ...] = ()
    in_loop_eval: InLoopEval | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of all metrics, such as bits_per_byte.ja and accuracy.igakuqa.ja."""
        return (*(f"{BITS_PER_BYTE}.{name}" for name in self.sets), *(f"{ACCURACY}.{name}" for name in self.tasks))

    def sizes(self) -> dict[str, dict[str, int]]:
        """Return the number of texts and bytes of each set."""
        return {name: {"documents": each.documents, "bytes": each.bytes} for name, each in self.sets.items()}


def text_set(tokenizer: Tokenizer, name: str, texts: Sequence[str], window: int) -> TextSet:
    """Pack texts into rows of `window` tokens.

    Raises:
        InputError: no text has more than one token.
    """
    encoded = encode(tokenizer, texts)
    kept = [(text, ids) for text, ids in zip(texts, encoded, strict=True) if len(ids) > 1]
    if not kept:
        raise InputError(f"validation texts {name}: every text has fewer than two tokens; give more text")
    samples = [
        TrainingSample(f"{name} {number}", part, [False] + [True] * (len(part) - 1))
        for number, (_, ids) in enumerate(kept)
        for part in windows(ids, window)
    ]
    total = sum(len(text.encode()) - first_bytes(tokenizer, text, ids[0]) for text, ids in kept)
    return TextSet(pack_examples(samples, window, tokenizer.pad_token_id), len(kept), total)


def windows(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """Split ids into windows of at most `size` tokens; each starts with the last token of the previous one."""
    return [ids[start : start + size] for start in range(0, len(ids) - 1, size - 1)]


def first_bytes(tokenizer: Tokenizer, text: str, first: int) -> int:
    """Return the UTF-8 bytes of the characters that the first token of `text` covers, even in part; 0 for a BOS."""
    if first == tokenizer.bos_token_id:
        return 0
    [offsets] = tokenizer([text[:1000]], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return len(text[: offsets[0][1]].encode())


def bits_per_byte(network: Any, texts: TextSet, precision: Precision, micro_batch_size: int) -> float:
    """Measure the bits per byte of one set, without dropout.

    Raises:
        InputError: the result is not finite.
    """
    nats = 0.0
    with evaluating(network), autocast(precision):
        for batch in local_micro_batches(
            texts.blocks, np.arange(len(texts.blocks)), micro_batch_size, precision.device
        ):
            nats += summed_loss(network, *batch).item()
    if not math.isfinite(nats):
        raise InputError("bits per byte are no longer finite; lower learning_rate or use precision float32")
    return summed(nats) / math.log(2) / texts.bytes


def run_validation(
    network: Any, evaluation: Validation, precision: Precision, micro_batch_size: int
) -> dict[str, Any]:
    """Run an evaluation; return its row for `evaluations.jsonl`."""
    bits = {name: bits_per_byte(network, each, precision, micro_batch_size) for name, each in evaluation.sets.items()}
    if evaluation.in_loop_eval is None:
        return {BITS_PER_BYTE: bits}
    with evaluating(network):
        return {BITS_PER_BYTE: bits, ACCURACY: evaluation.in_loop_eval(network)}


_NOTHING_WRITTEN = GenerationConfig(1)


def make_in_loop_eval(tasks: Sequence[EvalTask], tokenizer: Tokenizer, precision: Precision) -> InLoopEval:
    """Create a function that evaluates a network during training, with the prompts of the eval stage.

    Args:
        tasks: tasks with the scorer likelihood.

    Raises:
        InputError: the tasks use chat prompts, but the tokenizer has no chat template.
    """
    prompt_format = tasks[0].prompt_format
    chat_text = prompt_format.template(tokenizer).prompt if prompt_format.chat else no_template

    def evaluate_task(network: Any) -> dict[str, float]:
        capabilities = detect_capabilities(network, tokenizer, precision.device)
        context = context_length(network.config)
        model = TransformersModel("in-loop", network, tokenizer, precision.device, context, capabilities)
        return {task.name: _accuracy(model, task, chat_text) for task in tasks}

    return evaluate_task


def _accuracy(model: TransformersModel, task: EvalTask, chat_text: ChatText) -> float:
    requests = [
        Request(
            id=question.id,
            prompt=ask(task.prompt_format, question, chat_text),
            group=question.id,
            choices=() if task.by_label else question.choices,
            labels=tuple(map(label, range(len(question.choices)))) if task.by_label else (),
        )
        for question in task.questions
    ]
    right = sum(
        score_log_probs(task.questions[index], response.log_probs or (), by_label=task.by_label).correct
        for index, response in model.answer(requests, _NOTHING_WRITTEN)
    )
    return right / len(requests)
