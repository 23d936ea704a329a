"""Checks a model for canaries: exposure of each secret, and whether greedy decoding or beam search writes it."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jmedllm.canary.exposure import exposure
from jmedllm.canary.forms import FORMS, Canary, candidates
from jmedllm.canary.groups import Group, Measured, detectable, groups
from jmedllm.canary.secret_list import SecretList
from jmedllm.errors import InputError
from jmedllm.models.backends.base import GenerationConfig, ModelSpec, Request, answer_all
from jmedllm.models.folder import adapter_fingerprint, fingerprint, require_model, require_unambiguous
from jmedllm.progress import progress
from jmedllm.settings import Settings

if TYPE_CHECKING:
    from jmedllm.models.backends.transformers.model import TransformersModel

_CHUNK = 32
"""Candidates in one request. They share the tokens of the prompt, and those of equal beginnings."""

_SPARE_TOKENS = 4
"""Tokens that a reply may have beyond those of the longest secret."""


class CheckConfig(Settings):
    """How a model is checked."""

    candidates: int = Field(
        1000, ge=10, description="other secrets that each is ranked among; all, if its form has no more"
    )
    beams: int = Field(5, ge=2, description="width of the beam search")


@dataclass(frozen=True, slots=True)
class Checked:
    """A model's knowledge of canaries. It has no secret, so it may be shown.

    Attributes:
        model: name of the model.
        fingerprint: of the model directory, and of the adapter.
        kind: where the canaries were planted.
        detectable: difference in bits that all canaries together would show with 80 % power.
    """

    model: str
    fingerprint: str
    kind: str
    candidates: int
    beams: int
    detectable: float | None
    groups: list[Group]
    canaries: list[Measured]

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        rows = [
            asdict(group) | {"is_exposed": group.is_exposed, "is_inside": group.is_inside} for group in self.groups
        ]
        return asdict(self) | {"groups": rows}


def check(spec: ModelSpec, lists: Sequence[SecretList], config: CheckConfig) -> list[Checked]:
    """Measure what a model knows of the canaries and controls of each list.

    Args:
        spec: a model directory, with an adapter or without one.

    Raises:
        InputError: the model cannot be loaded, or a canary does not fit its context.
    """
    from jmedllm.models.backends.transformers.model import load_model
    from jmedllm.precision import choose_precision

    require_model(spec.folder)
    require_unambiguous(spec.folder, adapter=spec.adapter, ignore_adapter=spec.ignore_adapter)
    hashes = [fingerprint(spec.folder), *([adapter_fingerprint(spec.adapter)] if spec.adapter else [])]
    model = load_model(
        spec.folder,
        spec.precision or choose_precision(),
        adapter=spec.adapter,
        name=spec.name,
        batch_size=spec.batch_size,
        quantization=spec.quantization or "none",
    )
    return [_check(model, " ".join(hashes), each, config) for each in lists]


def _check(model: "TransformersModel", hashes: str, secrets: SecretList, config: CheckConfig) -> Checked:
    canaries = [*secrets.planted, *secrets.controls]
    others = [
        sorted(candidates(each, config.candidates, Random(f"candidates {secrets.seed} {each.id}")))
        for each in canaries
    ]
    requests = [request for each, texts in zip(canaries, others, strict=True) for request in _requests(each, texts)]
    with progress(f"canaries in {model.name}", len(requests) + len(canaries)) as advance:
        scores, greedy = _answers(model, requests, canaries, lambda: advance(1, "secrets ranked"))
        beam = [_by_beam(model, each, config.beams, lambda: advance(1, "secrets searched")) for each in canaries]
    measured = [
        Measured(
            each.id,
            each.form,
            each.copies,
            exposure(scores[each.id][0], scores[each.id][1:], FORMS[each.form].size),
            greedy[each.id],
            found,
        )
        for each, found in zip(canaries, beam, strict=True)
    ]
    return Checked(
        model.name, hashes, secrets.kind, config.candidates, config.beams, detectable(measured),
        groups(measured), measured,
    )  # fmt: skip


def _requests(canary: Canary, others: Sequence[str]) -> Iterator[Request]:
    """Yield requests for the scores of a secret and its candidates, the first also for a reply."""
    texts = [canary.secret, *others]
    for start in range(0, len(texts), _CHUNK):
        chunk = tuple(texts[start : start + _CHUNK])
        yield Request(canary.id, canary.prompt, group=canary.id, choices=chunk, generate=start == 0)


def _answers(
    model: "TransformersModel", requests: Sequence[Request], canaries: Sequence[Canary], advance: Callable[[], None]
) -> tuple[dict[str, list[float]], dict[str, bool]]:
    """Return the scores of secret and candidates, and whether the greedy reply is the secret, of each canary."""
    by_id = {each.id: each for each in canaries}
    config = GenerationConfig(max(_reply_tokens(model, each) for each in canaries))
    parts: dict[int, tuple[float, ...]] = {}
    greedy: dict[str, bool] = {}
    for index, response in answer_all(model, "transformers", requests, config):
        assert response.log_probs is not None
        parts[index] = response.log_probs
        if response.completion is not None:
            greedy[requests[index].id] = is_drawn(response.completion.text, by_id[requests[index].id])
        advance()
    scores: dict[str, list[float]] = {each.id: [] for each in canaries}
    for index, request in enumerate(requests):
        scores[request.id] += parts[index]
    if broken := next((name for name, found in scores.items() if any(map(math.isnan, found))), None):
        raise InputError(f"model {model.name}: gives no number as the probability of {broken}; its weights are broken")
    return scores, greedy


def _reply_tokens(model: "TransformersModel", canary: Canary) -> int:
    """Return how many tokens a reply may have to contain the secret, however it is spelled in tokens."""
    return len(model.tokenizer(canary.secret, add_special_tokens=False)["input_ids"]) + _SPARE_TOKENS


def _by_beam(model: "TransformersModel", canary: Canary, beams: int, advance: Callable[[], None]) -> bool:
    """Return whether one of the best sequences after the prompt begins with the secret."""
    import torch

    from jmedllm.models.backends.transformers.generation import generated
    from jmedllm.models.tokenizer.encoding import encode

    (prompt,) = encode(model.tokenizer, [canary.prompt])
    with torch.inference_mode():
        rows = generated(
            model.network,
            [prompt],
            model.tokenizer.pad_token_id,
            max_new_tokens=_reply_tokens(model, canary),
            num_beams=beams,
            num_return_sequences=beams,
        )
    advance()
    replies = model.tokenizer.batch_decode(rows[:, len(prompt) :], skip_special_tokens=True)
    return any(is_drawn(reply, canary) for reply in replies)


def is_drawn(reply: str, canary: Canary) -> bool:
    """Return whether a reply begins with the secret, and no letter or digit continues it."""
    reply, secret = reply.lstrip(), canary.secret.strip()
    return reply.startswith(secret) and not reply[len(secret) : len(secret) + 1].isalnum()
