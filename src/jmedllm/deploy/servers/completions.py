"""Any other server with OpenAI's completions: text in and out, tokens by their text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.deploy.servers.base import Listed, Message, Prompt, Served, UnseenError, Written

TOP = 5
"""Number of log-probabilities that OpenAI's interface allows."""


@dataclass(frozen=True, slots=True)
class Completions(Served):
    """A model on an OpenAI-compatible server; see `Interface`."""

    def token_ids(self, text: str) -> list[int]:
        """Raise `UnseenError`."""
        raise UnseenError("OpenAI's interface has no token ids")

    def chat(self, messages: Sequence[Message]) -> str | None:
        """Raise `UnseenError`."""
        raise UnseenError("OpenAI's interface does not show a rendered chat")

    def stops_at(self, token: int, spelled: str, prompt: Prompt) -> bool:
        """Raise `UnseenError`."""
        raise UnseenError("OpenAI's interface does not show them")

    def listed(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Return the most likely tokens after each prompt, by text."""
        return [_listed(self._complete(prompt, max_tokens=1, logprobs=TOP)) for prompt in prompts]

    def written(self, prompt: Prompt, tokens: int) -> Written:
        """Return the greedy answer."""
        choice = self._complete(prompt, max_tokens=tokens)
        return Written(choice["text"], None, choice.get("finish_reason") == "stop")

    def _complete(self, prompt: Prompt, **fields: Any) -> Any:
        body = {"model": self.model, "prompt": prompt.text, "temperature": 0, **fields}
        return self.endpoint.post("/v1/completions", body)["choices"][0]


def _listed(choice: Any) -> Listed:
    """Return the first list of log-probabilities, in the form of completions or in that of chats."""
    found = choice.get("logprobs") or {}
    if found.get("top_logprobs"):
        return [(str(text), float(value)) for text, value in found["top_logprobs"][0].items()]
    if found.get("content"):
        return [(each["token"], float(each["logprob"])) for each in found["content"][0].get("top_logprobs") or []]
    raise UnseenError("it returns no log-probabilities")
