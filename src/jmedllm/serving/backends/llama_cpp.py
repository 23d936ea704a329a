"""Serves a GGUF file with llama.cpp, in a process that is started again if it ends."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence, Set
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx

from jmedllm.deploy.gguf.header import read_header
from jmedllm.deploy.llama_cpp import LlamaProcess, start
from jmedllm.deploy.text_normalization import TextNormalization, normalization_of_file
from jmedllm.deploy.trust import require_trusted
from jmedllm.errors import InputError
from jmedllm.serving.backends.gguf_text import bytes_of_tokens, spellings, text_format
from jmedllm.serving.model import (
    FinishReason,
    Format,
    Listed,
    Piece,
    Sampling,
    ServeOptions,
    TokenLogprob,
    Unavailable,
    context_of,
)
from jmedllm.serving.threads import usable_cores

RESTARTS = 3
"""How often the process is started again before the server gives up."""

_FINISH: dict[str, FinishReason] = {"eos": "stop", "word": "stop", "limit": "length"}
_POLL_S = 0.1
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
        file: the GGUF file.
        threads: number of threads for computing.
        normalization: what the model's tokenizer does with text and llama.cpp does not.
        spelled: bytes of each token.
        ids: tokens by their bytes.
        whole: id of a token that is a whole character.
        is_float32: whether the file's matrices are float32, so that everything else is kept so, too.
        report: prints a line for the person who runs the server.
        failed: set when the process has ended and is not started again.
        name, context, slots, format, backend: see `ServedModel`.
    """

    file: Path
    name: str
    context: int
    slots: int
    threads: int
    format: Format
    normalization: TextNormalization
    spelled: Sequence[bytes]
    ids: Mapping[bytes, int]
    whole: int
    is_float32: bool
    report: Callable[[str], None]
    backend: str = "llama.cpp"
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    _process: LlamaProcess | None = None
    _client: httpx.AsyncClient | None = None
    _watching: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        """Load the file, and load it again whenever the process ends.

        Raises:
            InputError: llama.cpp is not installed, or does not load the file.
        """
        await self._load()
        self._watching = asyncio.create_task(self._watch())

    async def _load(self) -> None:
        process = start(self.file, slots=self.slots, context=self.context, threads=self.threads, exact=self.is_float32)
        self._process = process
        address = await asyncio.to_thread(process.address, self.file)
        self._client = httpx.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {process.key}"},
            timeout=None,  # the server limits the time of a request
            limits=httpx.Limits(max_connections=None),
            trust_env=False,  # a proxy of the environment must not see requests to this machine
        )

    async def _watch(self) -> None:
        for restart in range(1, RESTARTS + 2):
            code = await self._exit_code()
            client, self._client = self._client, None
            if client is not None:
                await client.aclose()
            ended = f"llama.cpp ended by itself ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
            if restart > RESTARTS:
                self.report(f"{ended}; it was started again {RESTARTS} times, which is the limit")
                break
            self.report(f"{ended}; starting it again ({restart} of {RESTARTS})")
            try:
                await self._load()
            except InputError as error:
                self.report(str(error))
                break
        self.failed.set()

    async def _exit_code(self) -> int:
        assert self._process is not None
        while (code := self._process.process.poll()) is None:
            await asyncio.sleep(_POLL_S)
        self._process.kill()
        return code

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """See `ServedModel`."""
        content = self.normalization.normalized(text)
        answer = await self._post("/tokenize", {"content": content, "add_special": add_special, "parse_special": True})
        return [int(number) for number in answer["tokens"]]

    async def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """See `ServedModel`."""
        body = {"prompt": list(ids), "stream": True, "return_tokens": True, **self._fields(sampling)}
        done, before = 0, list(ids)
        async with aclosing(self._events("/completion", body)) as events:
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
        raise Unavailable(_LOST)

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
        positions = (await self._post("/completion", body)).get("completion_probabilities", ())
        return self._listed(positions[0]) if positions else None

    def _listed(self, position: Mapping[str, Any]) -> Listed:
        return Listed(self._token(position), tuple(map(self._token, position["top_logprobs"])))

    def _token(self, each: Mapping[str, Any]) -> TokenLogprob:
        # The bytes in the answer are those of a whole character where a token ends one.
        return TokenLogprob(int(each["id"]), self.spelled[int(each["id"])], float(each["logprob"]))

    async def close(self) -> None:
        """See `ServedModel`."""
        if self._watching is not None:
            self._watching.cancel()
        if self._process is not None:
            await asyncio.to_thread(self._process.kill)
        if self._client is not None:
            await self._client.aclose()

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        with _failures():
            answer = await self._connected().post(path, json=body)
            _require_ok(answer.status_code, answer.content)
            return answer.json()

    async def _events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        with _failures():
            async with self._connected().stream("POST", path, json=body) as answer:
                if answer.status_code != 200:
                    _require_ok(answer.status_code, await answer.aread())
                rest = b""
                async for part in answer.aiter_bytes():
                    *lines, rest = (rest + part).split(b"\n")  # not at U+2028, which JSON strings may contain
                    for line in lines:
                        if line.startswith((b"error:", b'data: {"error"')):
                            raise Unavailable(f"llama.cpp: {line.decode(errors='replace')[:300]}")
                        if line.startswith(b"data: {"):
                            yield json.loads(line[len(b"data: ") :])

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

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            raise Unavailable("llama.cpp ended and is being started again; retry in some seconds")
        return self._client


_LOST = "llama.cpp ended during this answer, which is lost; ask again"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise Unavailable(_LOST) from error


def _require_ok(status: int, content: bytes) -> None:
    if status != 200:
        text = content.decode(errors="replace")[:300]
        raise RuntimeError(f"llama.cpp refuses a request of this server with {status}: {text}")


async def open_llama_cpp(file: Path, options: ServeOptions) -> LlamaCppModel:
    """Load a GGUF file.

    Raises:
        InputError: see `require_trusted`, `read_header` and `LlamaCppModel.start`; or the model has a shorter context.
    """
    digest = require_trusted(file, options.trust)
    metadata = read_header(file)
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    context = context_of(options, trained, file)
    spelled = bytes_of_tokens(metadata)
    ids = {raw: number for number, raw in reversed(list(enumerate(spelled)))}
    model = LlamaCppModel(
        file=file,
        name=file.stem,
        context=context,
        slots=options.slots,
        threads=options.threads or usable_cores(),
        format=replace(text_format(metadata), fingerprint=digest),
        normalization=normalization_of_file(metadata),
        spelled=spelled,
        ids=ids,
        whole=ids.get(b"a", 0),
        is_float32=metadata.get("general.file_type") == _FLOAT32,
        report=options.report,
    )
    try:
        await model.start()
    except BaseException:
        await model.close()
        raise
    return model
