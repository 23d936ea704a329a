"""Serves a GGUF file with llama.cpp."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jmedllm.deploy.gguf.header import read_header
from jmedllm.deploy.llama_cpp import start
from jmedllm.deploy.text_normalization import TextNormalization, normalization_of_file
from jmedllm.deploy.trust import require_trusted
from jmedllm.serving.backends.child_server import ChildServer
from jmedllm.serving.backends.gguf_text import bytes_of_tokens, spellings, text_format
from jmedllm.serving.model import (
    FinishReason,
    Format,
    Listed,
    Piece,
    Sampling,
    ServeOptions,
    TokenLogprob,
    context_of,
)
from jmedllm.serving.threads import usable_cores

_FINISH: dict[str, FinishReason] = {"eos": "stop", "word": "stop", "limit": "length"}
_FLOAT32 = 0
"""llama.cpp's number of the type of such a file."""

_ANY = 1000.0
"""Bias that makes llama.cpp choose a token. Log-probabilities are reported without it."""

_LISTED = 256
"""Most likely tokens to request where several continuations are scored; others are asked for one by one."""


@dataclass
class LlamaCppModel:
    """A GGUF file in a process of llama.cpp.

    Attributes:
        server: the process.
        normalization: what the model's tokenizer does with text and llama.cpp does not.
        spelled: bytes of each token.
        ids: tokens by their bytes.
        whole: id of a token that is a whole character.
        name, context, slots, format, backend, failed: see `ServedModel`.
    """

    server: ChildServer
    name: str
    context: int
    slots: int
    format: Format
    normalization: TextNormalization
    spelled: Sequence[bytes]
    ids: Mapping[bytes, int]
    whole: int
    backend: str = "llama.cpp"

    @property
    def failed(self) -> asyncio.Event:
        """Set when the process has ended and is not started again."""
        return self.server.failed

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """See `ServedModel`."""
        content = self.normalization.normalized(text)
        answer = await self.server.post(
            "/tokenize", {"content": content, "add_special": add_special, "parse_special": True}
        )
        return [int(number) for number in answer["tokens"]]

    async def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """See `ServedModel`."""
        body = {"prompt": list(ids), "stream": True, "return_tokens": True, **self._fields(sampling)}
        done, before = 0, list(ids)
        async with aclosing(self.server.events("/completion", body)) as events:
            async for event in events:
                total = int(event["tokens_predicted"])
                listed = tuple(map(self._listed, event.get("completion_probabilities", ())))
                finish = _FINISH[event["stop_type"]] if event["stop"] else None
                missing = total - done - len(listed)
                if missing > 0 and sampling.top_logprobs is not None:
                    raw = event["content"].encode()
                    raw = raw.removesuffix(listed[0].token.bytes) if listed else b""
                    listed = (*await self._unlisted(before, raw, missing, sampling), *listed)
                before += [each.token.id for each in listed]
                yield Piece(event["content"], total - done, listed, finish)
                done = total
                if finish is not None:
                    return
        raise self.server.lost()

    async def _unlisted(self, before: list[int], raw: bytes, count: int, sampling: Sampling) -> tuple[Listed, ...]:
        """Return the tokens that llama.cpp does not list because each ends within a character.

        Where their bytes are no text, they are known in greedy answers only.

        Args:
            before: prompt and answer before them.
            raw: their bytes.
            count: their number.
            sampling: settings of the answer.
        """
        found: list[tuple[int, ...]] = list(spellings(raw, count, self.ids))
        if len(found) > 1:  # nearly always there is one
            scores = await self.score(before, found)
            found = [found[scores.index(max(scores))]]
        is_greedy = sampling.temperature == 0 and sampling.repetition_penalty == 1
        listed: list[Listed] = []
        for place in range(count if found or is_greedy else 0):
            ids = [*before, *(each.token.id for each in listed)]
            top = await self._position(ids, found[0][place] if found else None)
            token = top[0] if not found else next(each for each in top if each.id == found[0][place])
            listed.append(Listed(token, top[: sampling.top_logprobs or 0]))
        return tuple(listed)

    async def _position(self, ids: list[int], token: int | None) -> tuple[TokenLogprob, ...]:
        """Return the most likely tokens after a prompt, with this one."""
        for count in (_LISTED, len(self.spelled)):
            found = await self._first(ids, self.whole, count)
            top = () if found is None else found.top
            if any(token in (None, each.id) for each in top):
                return top
        raise RuntimeError(f"llama.cpp lists {len(self.spelled)} tokens without the token {token}")

    async def score(self, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """See `ServedModel`."""
        following: dict[tuple[int, ...], set[int]] = {}
        for each in continuations:
            for place, token in enumerate(each):
                following.setdefault(tuple(each[:place]), set()).add(token)
        found = {
            (*prefix, token): logprob
            for prefix in sorted(following)  # neighbours share what is already computed
            for token, logprob in (await self._logprobs([*ids, *prefix], following[prefix])).items()
        }
        return [sum(found[(*each[: place + 1],)] for place in range(len(each))) for each in continuations]

    async def _logprobs(self, ids: list[int], wanted: Set[int]) -> dict[int, float]:
        """Return the log-probabilities of these tokens after a prompt."""
        found: dict[int, float] = {}
        for token in sorted(wanted):
            if token not in found:
                found |= await self._top(ids, token, _LISTED)
        if not wanted <= found.keys():  # llama.cpp reports nothing where it chose a part of a character
            found |= await self._top(ids, self.whole, len(self.spelled))
        return {token: found[token] for token in wanted}

    async def _top(self, ids: list[int], chosen: int, count: int) -> dict[int, float]:
        """Return the log-probabilities of a token and of the most likely ones after a prompt; none for a part of a
        character."""
        found = await self._first(ids, chosen, count)
        return {} if found is None else {each.id: each.logprob for each in (found.token, *found.top)}

    async def _first(self, ids: list[int], chosen: int, count: int) -> Listed | None:
        """Return a token and the most likely ones after a prompt; None for a part of a character."""
        body = {"prompt": ids, "logit_bias": [[chosen, _ANY]], **self._fields(Sampling(1, top_logprobs=count))}
        positions = (await self.server.post("/completion", body)).get("completion_probabilities", ())
        return self._listed(positions[0]) if positions else None

    def _listed(self, position: Mapping[str, Any]) -> Listed:
        return Listed(self._token(position), tuple(map(self._token, position["top_logprobs"])))

    def _token(self, each: Mapping[str, Any]) -> TokenLogprob:
        # The bytes in the answer are those of a whole character where a token ends one.
        return TokenLogprob(int(each["id"]), self.spelled[int(each["id"])], float(each["logprob"]))

    async def close(self) -> None:
        """See `ServedModel`."""
        await self.server.close()

    def _fields(self, sampling: Sampling) -> dict[str, Any]:
        """Return the fields of llama.cpp, in the order in which transformers applies them."""
        is_random = sampling.temperature > 0
        return {
            "n_predict": sampling.max_tokens,
            "samplers": ["penalties", "temperature", *(("top_k", "top_p", "min_p") if is_random else ())],
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repetition_penalty,
            "repeat_last_n": self.context,  # all tokens
            "seed": -1 if sampling.seed is None else sampling.seed,
            "n_probs": 0 if sampling.top_logprobs is None else max(1, sampling.top_logprobs),
            "preserved_tokens": list(sampling.visible),
            "cache_prompt": sampling.seed is None,  # what is computed again can differ in the last bits
        }


async def open_llama_cpp(file: Path, options: ServeOptions) -> LlamaCppModel:
    """Load a GGUF file.

    Raises:
        InputError: see `require_trusted`, `read_header` and `ChildServer.start`; or the model has a shorter context.
    """
    digest = require_trusted(file, options.trust)
    metadata = read_header(file)
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    context = context_of(options, trained, file)
    spelled = bytes_of_tokens(metadata)
    ids = {raw: number for number, raw in reversed(list(enumerate(spelled)))}
    begin = partial(
        start,
        file,
        slots=options.slots,
        context=context,
        threads=options.threads or usable_cores(),
        exact=metadata.get("general.file_type") == _FLOAT32,  # then everything else is kept in float32, too
    )
    model = LlamaCppModel(
        server=ChildServer("llama.cpp", begin, options.report),
        name=options.name or file.stem,
        context=context,
        slots=options.slots,
        format=replace(text_format(metadata), fingerprint=digest),
        normalization=normalization_of_file(metadata),
        spelled=spelled,
        ids=ids,
        whole=ids.get(b"a", 0),
    )
    await model.server.start()
    return model
