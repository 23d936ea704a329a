"""Token sequences of requests: what the network computes for each, and whether it fits the context."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jmedllm.errors import InputError
from jmedllm.models.backends.base import (
    Completion,
    ContextLimit,
    GenerationConfig,
    Request,
    Response,
    does_not_fit,
)
from jmedllm.models.backends.top_logprobs import log_sum
from jmedllm.models.backends.transformers.replies import Reply, closing_tokens
from jmedllm.models.tokenizer.encoding import Spelled, encode, most_tokens, shared_length, spell_labels


@dataclass(slots=True)
class Task:
    """A request and its results.

    Attributes:
        next_tokens: tokens after the prompt that spell each label; empty if labels are read as texts.
        scores: log-probability of each choice, or of each spelling of each label.
        began: when its prompt was first read, by the monotonic clock; 0 if it has not been.
        seconds: time since then.
    """

    index: int
    request: Request
    next_tokens: list[list[int]]
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    completion: Completion | None = None
    began: float = 0.0
    seconds: float | None = None

    def response(self) -> Response:
        """Return the response to the request."""
        names = self.request.choices or self.request.labels
        log_probs = tuple(log_sum(self.scores[name]) for name in names) if names else None
        return Response(self.completion, log_probs, seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class TokenPath:
    """A sequence to compute.

    Attributes:
        ids: input tokens; the last token of a choice is only predicted.
        choice: the choice, or the label, at its end; None for the prompt alone.
        wanted: tokens of the choice, of which all but the last are the end of `ids`.
        interrupted: reply of which `ids` already contains the beginning.
    """

    task: Task
    ids: list[int]
    choice: str | None
    wanted: list[int]
    interrupted: Reply | None = None


def require_context(requests: Sequence[Request], generation_config: GenerationConfig, limits: ContextLimit) -> None:
    """Check that requests fit the context of a model that is not loaded; only those that may not fit are encoded.

    Raises:
        InputError: a request does not fit, or its prompt or a choice has no token.
    """

    new_tokens = _new_tokens(generation_config, limits)

    def may_be_too_long(request: Request) -> bool:
        longest = max((*request.choices, *request.labels), key=lambda text: len(text.encode()), default="")
        most = most_tokens(limits.tokenizer, f"{request.answer_prompt} {longest}")
        return most is None or most + new_tokens > limits.context

    _, too_long = encode_requests(list(filter(may_be_too_long, requests)), generation_config, limits)
    if too_long:
        raise does_not_fit(too_long.values())


def encode_requests(
    requests: Sequence[Request], generation_config: GenerationConfig, limits: ContextLimit
) -> tuple[list[TokenPath], dict[int, str]]:
    """Encode all sequences to compute; return them with the reason, by index, why a request does not fit."""
    texts = list(dict.fromkeys(text for each in requests for text in (each.answer_prompt, each.text, *_wholes(each))))
    ids = dict(zip(texts, encode(limits.tokenizer, texts), strict=True))
    new_tokens = _new_tokens(generation_config, limits)
    spelled = spell_labels(limits.tokenizer, [(request.answer_prompt, request.labels) for request in requests])
    found: list[TokenPath] = []
    too_long: dict[int, str] = {}
    for index, (request, labels) in enumerate(zip(requests, spelled, strict=True)):
        paths = _paths_of(index, request, labels, ids)
        found += paths
        needs = [_needs(path, new_tokens) for path in paths]
        if excess := next(((what, tokens) for what, tokens in needs if tokens > limits.context), None):
            limit = f"the context of {limits.name} is {limits.context}"
            too_long[index] = f"question {request.id}: {excess[0]} {excess[1]} tokens, {limit}"
    return found, too_long


def _new_tokens(generation_config: GenerationConfig, limits: ContextLimit) -> int:
    """Return the maximum number of tokens of a completion, with those that close a thought at the budget."""
    return generation_config.max_new_tokens + len(closing_tokens(limits.tokenizer, generation_config))


def _wholes(request: Request) -> list[str]:
    return [request.answer_prompt + choice for choice in request.choices]


def _paths_of(index: int, request: Request, labels: Spelled, ids: Mapping[str, list[int]]) -> list[TokenPath]:
    """Return the sequences that a request needs, from the tokens of its texts.

    Raises:
        InputError: the prompt or a choice has no token.
    """
    is_next = labels.is_next_token and not request.answer_opening.strip(" ")  # labels are spelled with a space, too
    tokens = [[first for (first,) in each] for each in labels.labels] if is_next else []
    task = Task(index, request, tokens)
    prompt, wholes = ids[request.text], [ids[text] for text in _wholes(request)]
    # If the tokenizer merges the prompt's last characters with a choice, less of the prompt is shared.
    shared = shared_length(ids[request.answer_prompt], wholes)
    if not prompt or not labels.prompt or not shared or any(len(whole) == shared for whole in wholes):
        raise InputError(f"question {request.id}: a choice or the prompt is empty for this tokenizer")
    paths = [TokenPath(task, prompt, None, [])] if request.generate or tokens else []
    paths += [
        TokenPath(task, whole[:-1], choice, whole[shared:])
        for choice, whole in dict(zip(request.choices, wholes, strict=True)).items()
    ]
    for name, sequences in zip(request.labels, labels.labels, strict=True) if not tokens else ():
        paths += [TokenPath(task, labels.prompt + rest[:-1], name, rest) for rest in map(list, sequences)]
    return paths


def _needs(path: TokenPath, new_tokens: int) -> tuple[str, int]:
    """Return what has to fit into the context for a sequence, as subject and verb, and its number of tokens."""
    request = path.task.request
    if path.choice is not None:
        what = "prompt and longest choice need" if path.choice in request.choices else "the prompt and a label need"
        return what, len(path.ids) + 1
    if request.generate:
        return f"prompt and {new_tokens} new tokens need", len(path.ids) + new_tokens
    return "the prompt needs", len(path.ids)
