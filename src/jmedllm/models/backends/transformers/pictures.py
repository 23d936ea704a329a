"""Requests with pictures: the model's own processor expands the prompt and prepares the pictures.

Each sequence is computed alone and with the network's own cache, exactly as transformers would compute it.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Completion, Request
from jmedllm.models.backends.transformers.generation import generate
from jmedllm.models.backends.transformers.reading import score_labels
from jmedllm.models.backends.transformers.replies import Decoder
from jmedllm.models.backends.transformers.sequences import TokenPath
from jmedllm.models.layers import inside_adapter
from jmedllm.models.loading import loading
from jmedllm.models.pictures import read_picture
from jmedllm.models.processor import Processor
from jmedllm.models.tokenizer.encoding import Tokenizer, encode, kept

_SEEN = 0.15
"""Standard deviation of a difference of logits, relative to theirs, that is not rounding. Rounding to bfloat16 stays
below 0.04; PaliGemma's prompt, which sees the answer, differs by 0.28 and more with random weights."""


class _RecordingTokenizer:
    """A tokenizer that records the text that a processor gives it, in which each picture is a run of tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, text: Any, **options: Any) -> Any:
        self.text = text if isinstance(text, str) else text[0]
        return self.tokenizer(text, **options)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request whose pictures have been prepared.

    Attributes:
        request: the request with the expanded prompt.
        length: number of tokens of the expanded prompt.
        by_token: inputs with values for each token of the prompt, [1, length, ...], such as token types.
        inputs: other inputs, such as pixel values.
    """

    request: Request
    length: int
    by_token: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]


def prepare(processor: Processor, tokenizer: Tokenizer, request: Request) -> Prepared:
    """Prepare the pictures of a request and expand its prompt.

    Raises:
        InputError: a picture cannot be read, or the processor does not support the prompt.
    """
    what = f"question {request.id}: its pictures"
    recorder = _RecordingTokenizer(tokenizer)
    recording = copy(processor)
    recording.tokenizer = recorder
    with loading(what):
        images = [read_picture(path) for path in request.images]
        found = dict(recording(text=[request.text], images=[images], return_tensors="pt"))
    ids = found.pop("input_ids")
    for name in ("attention_mask", "labels"):  # PaliGemma's processor also returns labels, for training
        found.pop(name, None)
    part = kept(tokenizer, recorder.text, ids[0].tolist())
    if [ids[0, part].tolist()] != encode(tokenizer, [recorder.text]):
        raise InputError(
            f"{what}: processor {type(processor).__name__} encodes the prompt otherwise than its tokenizer"
        )
    spaces = request.prompt[len(request.text) :]
    by_token = {name: value[:, part] for name, value in found.items() if value.shape[:2] == ids.shape}
    return Prepared(
        replace(request, prompt=recorder.text + spaces),
        len(ids[0, part]),
        by_token,
        {name: value for name, value in found.items() if name not in by_token},
    )


@dataclass(frozen=True, slots=True)
class PictureReader:
    """The network with what it needs to see pictures."""

    network: Any
    device: torch.device
    decoder: Decoder

    @torch.inference_mode()
    def read(self, prepared: Prepared, paths: Sequence[TokenPath]) -> Completion | None:
        """Compute the scores of the task of these paths, which are those of one request; return its completion."""
        completion = None
        inputs = {name: self._placed(value) for name, value in prepared.inputs.items()}
        for path in paths:
            logits = self._logits(prepared, inputs, path)
            table = torch.log_softmax(logits.float(), dim=-1)
            if path.choice is not None:
                steps = range(len(table) - len(path.wanted), len(table))
                path.task.scores[path.choice].append(table[[*steps], path.wanted].double().sum().item())
                continue
            score_labels(path.task, table[-1])
            if path.task.request.generate:
                completion = self._write(prepared, inputs, path)
        return completion

    @torch.inference_mode()
    def require_causal(self, prepared: Prepared, path: TokenPath) -> None:
        """Check that the tokens before a choice do not see the choice.

        They would if the processor marked the prompt as visible to all its tokens, and the choice were marked alike.

        Args:
            prepared: the request of the path.
            path: a choice of at least two tokens.

        Raises:
            InputError: they do, so that the network gives no log-probabilities of the choice.
        """
        inputs = {name: self._placed(value) for name, value in prepared.inputs.items()}
        before = replace(path, ids=path.ids[: 1 - len(path.wanted)], wanted=path.wanted[:1])
        expected = self._logits(prepared, inputs, before)[-1].float()
        difference = self._logits(prepared, inputs, path)[-len(path.wanted)].float() - expected
        if difference.std() > _SEEN * expected.std():
            raise InputError(
                f"question {prepared.request.id}: {type(self.network).__name__} lets its prompt see the answer, so "
                "whole choices have no log-probabilities; ask for letters (--answer-as letter), or use another scorer "
                "than likelihood"
            )

    def _logits(self, prepared: Prepared, inputs: dict[str, Any], path: TokenPath) -> torch.Tensor:
        """Compute the logits [tokens, vocabulary] at the end of a path: at least those that are read."""
        keep: dict[str, Any] = {}
        if "logits_to_keep" in signature(inside_adapter(self.network).forward).parameters:
            keep = {"logits_to_keep": max(1, len(path.wanted))}
        ids = torch.tensor([path.ids], device=self.device)
        found: torch.Tensor = self.network(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_cache=False,
            **inputs,
            **self._by_token(prepared, len(path.ids)),
            **keep,
        ).logits[0]
        return found

    def _write(self, prepared: Prepared, inputs: dict[str, Any], path: TokenPath) -> Completion:
        reply = self.decoder.reply(path.ids, path.task.request.text, path.task.request.seed)
        generate(self.network, self.decoder, [reply], inputs | self._by_token(prepared, len(path.ids)))
        return self.decoder.completion(reply)

    def _by_token(self, prepared: Prepared, length: int) -> dict[str, torch.Tensor]:
        """Return the inputs by token for a sequence that begins with the prompt; further tokens are like its last."""
        places = torch.arange(length).clamp(max=prepared.length - 1)
        return {name: value[:, places].to(self.device) for name, value in prepared.by_token.items()}

    def _placed(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(self.device, self.network.dtype if value.is_floating_point() else None)
        return value
