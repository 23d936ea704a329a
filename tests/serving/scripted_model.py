"""A model for tests of the server: a token is a character, and the script is its answer to everything."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from jmedllm.serving.model import Format, Listed, Piece, Sampling, TokenLogprob, Unavailable

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
THINKING = CHAT + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
END = 0


@dataclass
class ScriptedModel:
    """See `ServedModel`.

    Attributes:
        script: the answer.
        pause_s: time for each token.
        fails_after: number of tokens after which the model is lost.
        score_of: log-probability of a continuation.
    """

    script: str = "はい。"
    format: Format = field(default_factory=lambda: Format(CHAT, ends=(END,), vocabulary=0x110000))
    context: int = 200
    slots: int = 1
    pause_s: float = 0.0
    fails_after: int | None = None
    score_of: Callable[[str], float] = lambda text: -float(len(text))
    name: str = "scripted"
    backend: str = "script"
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    prompts: list[str] = field(default_factory=list)

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        return [*([1] if add_special else []), *map(ord, text)]

    async def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        self.prompts.append("".join(map(chr, ids)))
        self.running += 1
        try:
            for place, character in enumerate(self.script[: sampling.max_tokens]):
                await asyncio.sleep(self.pause_s)
                if place == self.fails_after:
                    raise Unavailable("the script fails here")
                token = TokenLogprob(ord(character), character.encode(), -0.5)
                yield Piece(character, listed=() if sampling.top_logprobs is None else (Listed(token, (token,)),))
            is_whole = len(self.script) < sampling.max_tokens
            yield Piece("", int(is_whole), finish_reason="stop" if is_whole else "length")
        finally:
            self.running -= 1

    async def score(self, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        self.prompts.append("".join(map(chr, ids)))
        return [self.score_of("".join(map(chr, each))) for each in continuations]

    async def close(self) -> None:
        pass
