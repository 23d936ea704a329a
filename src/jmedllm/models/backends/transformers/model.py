"""A causal language model on this machine, run by transformers.

Each question needs one forward pass: the log-probabilities of its choices or labels and the first token of the
completion come from the same logits, and generation continues from the same keys and values. The beginning that all
questions share (instructions of the prompt pack, solved examples) is computed once.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models.backends.base import (
    ContextLimit,
    GenerationConfig,
    Request,
    Response,
    does_not_fit,
)
from jmedllm.models.backends.completion import NOTHING, Ends, ends_of
from jmedllm.models.backends.transformers.capabilities import Capabilities, context_length, detect_capabilities
from jmedllm.models.backends.transformers.pictures import PictureReader, Prepared, prepare
from jmedllm.models.backends.transformers.reading import Reader
from jmedllm.models.backends.transformers.replies import Decoder, closing_tokens
from jmedllm.models.backends.transformers.scheduler import Limits, answered
from jmedllm.models.backends.transformers.sequences import TokenPath, encode_requests
from jmedllm.models.folder import Quantization
from jmedllm.models.loading import load_adapter, load_network
from jmedllm.models.memory import free_memory, token_bytes
from jmedllm.models.processor import load_processor
from jmedllm.models.thoughts import Thought, thoughts_of_template
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import Precision
from jmedllm.progress import notice

TOKENS_PER_FORWARD = {"cpu": 2048, "cuda": 16384, "mps": 8192}
"""Maximum number of padded tokens in a forward pass: on a CPU larger passes only add padding, a GPU needs larger
ones."""

COMPLETIONS_AT_ONCE = {"cpu": 32, "cuda": 256, "mps": 64}
"""Default maximum number of completions in one batch."""


@dataclass(frozen=True)
class TransformersModel:
    """A loaded model with its tokenizer.

    Attributes:
        context: maximum number of tokens of prompt and continuation.
        capabilities: fast methods that reproduce the network's numbers, detected when loading.
        batch_size: maximum number of completions in one batch; None for the default of the device.
        ends: stop conditions of a completion.
        thoughts: markers of thoughts that only this model's template has.
        folder: the model directory, from which the processor of pictures is loaded when it is first needed.
    """

    name: str
    network: Any
    tokenizer: Tokenizer
    device: torch.device
    context: int
    capabilities: Capabilities
    batch_size: int | None = None
    ends: Ends = NOTHING
    thoughts: tuple[Thought, ...] = ()
    folder: Path | None = None

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses with the index of their request, longest prompts first; see `InferenceModel`.

        Batches are as large as the estimate of free memory allows, and are halved if memory runs out. Replies that
        end leave the batch, and others join it, see `scheduler`.

        Raises:
            InputError: a request does not fit the context, and `generation_config` does not skip it.
        """
        expanded = [self._prepared(each).request if each.images else each for each in requests]
        paths, too_long = encode_requests(
            expanded, generation_config, ContextLimit(self.name, self.tokenizer, self.context)
        )
        if too_long and not generation_config.skip_invalid:
            raise does_not_fit(too_long.values())
        paths = [path for path in paths if path.task.index not in too_long]
        for index in too_long:
            yield index, Response(failure="too long")
        reader = Reader(self.network, self.device, self.capabilities, self._decoder(generation_config))
        with_pictures = [path for path in paths if path.task.request.images]
        yield from self._answer_with_pictures(requests, with_pictures, reader.decoder)
        paths = [path for path in paths if not path.task.request.images]
        if any(path.task.request.generate for path in paths):
            self._report_waiting()
        limits = Limits(
            free_memory(self.device),
            self.batch_size or COMPLETIONS_AT_ONCE[self.device.type],
            TOKENS_PER_FORWARD[self.device.type],
            token_bytes(self.network.config, self.network.dtype),
        )
        for task in answered(reader, paths, limits):
            yield task.index, task.response()

    def _decoder(self, generation_config: GenerationConfig) -> Decoder:
        closing = closing_tokens(self.tokenizer, generation_config)
        return Decoder(self.tokenizer, self.ends, generation_config, self.thoughts, closing)

    def _report_waiting(self) -> None:
        """Print how replies are written, if they cannot be batched continuously."""
        if not self.capabilities.joining:
            how = "in batches that wait for the longest reply" if self.capabilities.generating else "one at a time"
            kind = self.network.config.model_type
            notice(f"{self.name}: replies are written {how}, because the caches of {kind} cannot be joined")

    def _answer_with_pictures(
        self, requests: Sequence[Request], paths: Sequence[TokenPath], decoder: Decoder
    ) -> Iterator[tuple[int, Response]]:
        """Yield the responses to those of `requests` that have paths, one at a time.

        Pictures are prepared a second time here, because those of all requests together may not fit in memory.
        """
        reader = PictureReader(self.network, self.device, decoder)
        is_causal = False
        for index, group in groupby(paths, key=lambda path: path.task.index):
            of_task, start = list(group), time.monotonic()
            task, prepared = of_task[0].task, self._prepared(requests[index])
            choices = [path for path in of_task if len(path.wanted) > 1]
            if choices and not is_causal:
                reader.require_causal(prepared, choices[0])
                is_causal = True
            task.completion = reader.read(prepared, of_task)
            task.seconds = time.monotonic() - start
            yield index, task.response()

    def _prepared(self, request: Request) -> Prepared:
        assert self.folder is not None  # only models from a directory are shown pictures
        return prepare(load_processor(self.folder), self.tokenizer, request)


def load_model(
    folder: Path,
    precision: Precision,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    batch_size: int | None = None,
    quantization: Quantization = "none",
    dequantize: bool = False,
) -> TransformersModel:
    """Load a model directory for evaluation, with or without an adapter.

    Raises:
        InputError: the model cannot be loaded, or its weights are quantized and this machine cannot compute with them.
    """
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(folder, adapter)
    network = load_network(folder, precision.dtype, precision.device, quantization=quantization, dequantize=dequantize)
    if adapter is not None:
        network = load_adapter(network, adapter, folder)
    network.eval().requires_grad_(False)
    ends = _ends(network, tokenizer)
    network.generation_config = GenerationConfig()  # without the model's other decoding settings (penalties, bans)
    return TransformersModel(
        name=name or folder.name,
        network=network,
        tokenizer=tokenizer,
        device=precision.device,
        context=context_length(network.config),
        capabilities=detect_capabilities(network, tokenizer, precision.device),
        batch_size=batch_size,
        ends=ends,
        thoughts=thoughts_of_template(tokenizer.chat_template),
        folder=folder,
    )


def _ends(network: Any, tokenizer: Tokenizer) -> Ends:
    """Return the stop conditions of a model: its generation config, EOS, and the end of a turn in its chat
    template."""
    own = network.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    if not all(each is None or isinstance(each, int) for each in ends):
        raise InputError(f"generation_config.json: eos_token_id {ends!s:.60} is not the number of a token; fix it")
    return ends_of(tokenizer, ends)
