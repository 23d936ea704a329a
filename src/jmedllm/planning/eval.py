"""Memory and time of a recipe's eval stage: memory for one model at a time, hours for all of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom
from jmedllm.evaluation.evaluate import split_language, tasks
from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.question import LANGUAGES, Language
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.task import MAX_NEW_TOKENS, EvalTask
from jmedllm.manifest import BASE
from jmedllm.models.backends import BACKENDS
from jmedllm.models.backends.base import DEFAULT_BACKEND
from jmedllm.models.backends.transformers.model import COMPLETIONS_AT_ONCE, TOKENS_PER_FORWARD
from jmedllm.models.chat import ChatTemplate, plain_text
from jmedllm.models.chat_format import chat_format
from jmedllm.models.folder import resolve
from jmedllm.models.memory import TokenBytes, token_bytes
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.planning.counts import PlannedBase, adapter_numbers
from jmedllm.planning.hours import MEMORY_REACHED, REACHED, Hours, reading_flops
from jmedllm.planning.machine import Machine
from jmedllm.planning.needs import (
    CONTEXT,
    CUDA,
    LIBRARIES,
    NF4,
    PYTHON,
    WITHOUT_CUDA,
    Component,
    Needs,
    in_4_bits,
)
from jmedllm.planning.shape import Shape, shape_of, structure
from jmedllm.recipe import AdapterTrainingConfig, EvalSection, Recipe

CHARACTERS = {"ja": 1.3, "en": 4.0}
"""Characters per token if the tokenizer is missing. The tokenizers of Qwen2 and llm-jp v2.2 have 1.24 to 1.43 and 3.6
to 4.2 on IgakuQA, MedQA and JMMLU."""

ASSUMED = 250
"""Mean number of tokens of an item if the benchmark's files are missing."""

ASSUMED_LONGEST = 1_000
"""Number of tokens of the longest such item."""

THOUGHT = 1_100
"""Number of tokens of a thought at best: 4,500 characters, which thinking models write in the median, in English."""

SAMPLED = 100
"""Number of items of a task whose length is measured."""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Tokens that one model reads and generates on one task.

    Attributes:
        items: number of items, with rotations and samples; None if unknown.
        read: mean number of tokens of an item with its choices.
        longest: number of tokens of the longest measured item.
        writes: whether completions are generated.
        is_there: whether the benchmark's files are on disk; otherwise `items` is the number in the catalogue, before
            any selection.
    """

    name: str
    items: int | None
    read: float
    longest: int
    writes: bool
    is_there: bool


@dataclass(frozen=True, slots=True)
class EvalPlan(Needs):
    """Memory and time of the eval stage.

    Attributes:
        models: number of models, evaluated one after another.
        tasks: tasks of each model.
        max_new_tokens: maximum number of generated tokens per item.
        expected_tokens: number of generated tokens per item at best.
        at_once: number of completions in a batch; 0 if not even one fits.
        pass_flops: floating-point operations per token read.
        pass_bytes: bytes read from memory to generate one token of all completions in a batch.
    """

    models: int
    tasks: tuple[TaskPlan, ...]
    max_new_tokens: int
    at_once: int
    pass_flops: float
    pass_bytes: int
    expected_tokens: int = 1

    @property
    def read(self) -> int:
        """Tokens that all models read, on tasks with a known number of items."""
        return round(self.models * sum((task.items or 0) * task.read for task in self.tasks))

    @property
    def written(self) -> int:
        """Maximum number of tokens that all models generate."""
        return self.models * sum((each.items or 0) * self.max_new_tokens for each in self.tasks if each.writes)

    def hours(self, machine: Machine) -> Hours | None:
        """Estimate hours at best, if answers have one token after the thought, and at worst, if all have the maximum
        length.

        None if the GPU's speed is unknown, or if nothing fits.
        """
        rates = machine.gpu.rates
        if rates is None or not self.at_once:
            return None
        worst, best = (self.read * self.pass_flops / (rates.flops * share) for share in REACHED)
        rounds = sum(ceil((task.items or 0) / self.at_once) for task in self.tasks if task.writes)
        lengths = self.max_new_tokens, self.expected_tokens - 1
        more = [
            self.models * rounds * tokens * self.pass_bytes / (rates.bandwidth * share)
            for tokens, share in zip(lengths, MEMORY_REACHED, strict=True)
        ]
        worst, best = worst + more[0], best + more[1]
        return best / machine.processes / 3600, worst / machine.processes / 3600


@dataclass(frozen=True, slots=True)
class EvalAdvice:
    """Plan of a recipe's eval stage.

    Attributes:
        planned: plan of the recipe as configured.
        in_4_bits: plan with `quantization: nf4`; None if the recipe already has it.
        least: needs of the smallest machine, with one item at a time.
        backend: inference backend of the recipe.
    """

    planned: EvalPlan
    in_4_bits: EvalPlan | None
    least: Needs
    backend: str = DEFAULT_BACKEND

    @property
    def note(self) -> str | None:
        """Note on the figures if they are not for the recipe's backend, else None."""
        if BACKENDS[self.backend].capabilities.estimated:
            return None
        able = " or ".join(name for name, each in BACKENDS.items() if each.capabilities.estimated)
        return f"backend {self.backend} is not estimated; these figures are for backend {able}"


def plan_eval(recipe: Recipe, base: PlannedBase, machine: Machine) -> EvalAdvice | None:
    """Plan the eval stage of a recipe; None if it has none.

    The run loads one model at a time: the base, the model of stage 1, and the merged model, all of one shape. In 4
    bits the adapter is not merged.

    Raises:
        InputError: the prompt pack or a benchmark is invalid.
    """
    if recipe.eval is None:
        return None
    network = structure(json.loads(base.config), base.name, base.dtype)
    shape, token = shape_of(network), token_bytes(network.config, base.dtype)
    whole = base.dtype.itemsize * shape.total
    packed = [Component(f"weights, {in_4_bits(shape)}", whole - int(shape.linear * (base.dtype.itemsize - NF4)))]
    for section in map(recipe.section, recipe.eval.models or ()):
        if isinstance(section, AdapterTrainingConfig):
            packed.append(Component("adapter", 4 * adapter_numbers(base, section.adapter)))
    variants = (
        [packed]
        if recipe.eval.quantization == "nf4"
        else [[Component(f"weights, {base.precision.name}", whole)], packed]
    )
    inputs = _Inputs(recipe.eval, machine, shape, token, tuple(_tasks(recipe)), _thinks(recipe))
    first, *other = (_plan(inputs, weights) for weights in variants)
    least = Needs(tuple(_least(inputs, packed)))
    return EvalAdvice(first, other[0] if other else None, least, recipe.eval.backend)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Inputs of the plan of an evaluation."""

    settings: EvalSection
    machine: Machine
    shape: Shape
    token: TokenBytes
    tasks: tuple[TaskPlan, ...]
    thinks: bool

    @property
    def max_new_tokens(self) -> int:
        """Maximum length of a response."""
        return self.settings.max_new_tokens or MAX_NEW_TOKENS[self.thinks]

    @property
    def expected_tokens(self) -> int:
        """Number of tokens of a response at best."""
        return min(THOUGHT, self.max_new_tokens) if self.thinks else 1

    @property
    def longest(self) -> int:
        """Maximum number of tokens of an item with its completion."""
        new = self.max_new_tokens
        return max(task.longest + (new if task.writes else 0) for task in self.tasks)

    @property
    def longest_pass(self) -> int:
        """Maximum number of tokens that go through the network at once: a long response is written token by token."""
        new = min(self.max_new_tokens, MAX_NEW_TOKENS[False])
        return max(task.longest + (new if task.writes else 0) for task in self.tasks)


def _plan(inputs: _Inputs, weights: Sequence[Component]) -> EvalPlan:
    """Divide the memory that is free after the weights, like the transformers backend."""
    machine, token, settings = inputs.machine, inputs.token, inputs.settings
    kind = "cpu" if machine.is_shared else "cuda"
    longest = inputs.longest
    weight_bytes = sum(part.gpu for part in weights)
    free = machine.gpu.memory - weight_bytes - (0 if machine.is_shared else CONTEXT)
    tokens = min(free // 2 // token.forward_bytes, TOKENS_PER_FORWARD[kind])
    at_once = min(free // 8 // (longest * token.cache_bytes), settings.batch_size or COMPLETIONS_AT_ONCE[kind])
    parts = tuple(_least(inputs, weights))
    fits = at_once >= 1 and tokens >= inputs.longest_pass
    if fits:
        parts = (
            *(part for part in parts if not part.name.startswith("one item")),
            Component(f"passes over {tokens:,} tokens", tokens * token.forward_bytes),
        )
        if any(task.writes for task in inputs.tasks):
            # Joining caches copies them.
            copies = 2 * at_once * longest * token.cache_bytes
            parts = (*parts, Component(f"keys and values of {at_once} answers", copies))
    return EvalPlan(
        parts,
        len(settings.models or [BASE]),
        inputs.tasks,
        inputs.max_new_tokens,
        at_once if fits else 0,
        reading_flops(inputs.shape, longest),
        weight_bytes + max(0, at_once) * longest * token.cache_bytes,
        inputs.expected_tokens,
    )


def _least(inputs: _Inputs, weights: Sequence[Component]) -> Iterator[Component]:
    """Yield the minimum needs of an evaluation, with one item at a time."""
    machine, token, longest = inputs.machine, inputs.token, inputs.longest
    yield from weights
    yield Component(
        "one item at a time", max(2 * inputs.longest_pass * token.forward_bytes, 8 * longest * token.cache_bytes)
    )
    if machine.is_shared:
        yield Component(PYTHON, host=WITHOUT_CUDA * machine.gpus)
    else:
        yield Component(CUDA, CONTEXT)
        yield Component(PYTHON, host=LIBRARIES * machine.gpus)


def _tasks(recipe: Recipe) -> Iterator[TaskPlan]:
    settings = recipe.eval
    assert settings is not None
    tokenizer = _tokenizer(recipe)
    writes = any(SCORERS[scorer].needs == "response" for scorer in settings.scorers)
    for name, own in map(split_language, settings.benchmarks):
        spoken = _spoken(name, settings)
        for language in own or settings.languages:
            if language not in spoken:
                continue
            one = settings.model_copy(update={"benchmarks": [f"{name}:{language}"]})
            try:
                [task] = tasks(one, recipe.prompt, Path(recipe.data))
            except InputError:
                known = BENCHMARKS[name].expected_counts if name in BENCHMARKS else {}
                items = known.get((language, settings.split))
                label = f"{Path(name).stem}.{language}"
                yield TaskPlan(label, _limited(items, recipe), ASSUMED, ASSUMED_LONGEST, writes, is_there=False)
            else:
                yield replace(_sampled(task, language, tokenizer), writes=writes)


def _spoken(name: str, settings: EvalSection) -> Sequence[Language]:
    """Return the languages of a benchmark, or of a file of custom questions; all if it cannot be read."""
    if name in BENCHMARKS:
        return BENCHMARKS[name].languages
    try:
        return custom.read_file(Path(name), settings.read_options).languages
    except InputError:
        return LANGUAGES


def _limited(items: int | None, recipe: Recipe) -> int | None:
    if items is None or recipe.eval is None:
        return None
    return min(items, recipe.eval.limit or items) * recipe.eval.rotations * recipe.eval.samples


def _sampled(task: EvalTask, language: Language, tokenizer: Tokenizer | None) -> TaskPlan:
    """Measure a task on evenly sampled items."""
    presented = task.presented()
    some = presented[:: max(1, len(presented) // SAMPLED)]
    scored = not task.by_label and any(SCORERS[name].needs == "log_probs" for name in task.scorers)
    # Without the tokenizer, the joined messages are about as long as the text of the chat template.
    chat_text = task.prompt_format.template(tokenizer).prompt if tokenizer and task.prompt_format.chat else plain_text
    texts = [
        ask(task.prompt_format, each.permuted, chat_text) + ("".join(each.permuted.choices) if scored else "")
        for each in some
    ]
    sizes = [len(ids) for ids in encode(tokenizer, texts)] if tokenizer else []
    sizes = sizes or [ceil(len(text) / CHARACTERS[language]) for text in texts]
    return TaskPlan(task.name, len(presented), sum(sizes) / len(sizes), max(sizes), writes=False, is_there=True)


def _thinks(recipe: Recipe) -> bool:
    """Return whether the models think before they answer; False if only a missing tokenizer would show it."""
    if not recipe.prompt.chat or recipe.prompt.thinking != "default":
        return recipe.prompt.chat and recipe.prompt.thinking == "on"
    tokenizer = _tokenizer(recipe)
    if tokenizer is None or not tokenizer.chat_template:
        return False
    return chat_format(ChatTemplate(tokenizer, recipe.prompt.template_args)).thinks


def _tokenizer(recipe: Recipe) -> Tokenizer | None:
    """Return the tokenizer of the base, if the base is on disk."""
    try:
        return load_tokenizer(resolve(recipe.base.path or "", revision=recipe.base.revision))
    except InputError:
        return None
