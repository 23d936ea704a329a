"""vLLM's server: token ids in and out, so that nothing depends on how a token is spelled (seen with vLLM 0.32)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.deploy.endpoint import RefusedError
from jmedllm.deploy.servers.base import Listed, Message, Prompt, Served, UnseenError, Written

TOP = 20
"""Number of log-probabilities that vLLM returns without `--max-logprobs`."""

_GREEDY = {
    "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "return_token_ids": True,
    "return_tokens_as_token_ids": True,
}  # fmt: skip
"""Every setting is sent: vLLM takes those that are missing from the model's generation_config.json."""

_FORCED = 100
"""Bias of a token that an answer must begin with, the largest that vLLM takes."""


@dataclass(frozen=True, slots=True)
class Vllm(Served):
    """A model on vLLM's server; see `Interface`."""

    takes_ids: bool = True

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return [int(each) for each in self.endpoint.post("/tokenize", {"model": self.model, "prompt": text})["tokens"]]

    def chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Return the ids of a rendered chat; None if the server has no template."""
        body = {"model": self.model, "messages": list(messages), "add_generation_prompt": True}
        try:
            return [int(each) for each in self.endpoint.post("/tokenize", body)["tokens"]]
        except RefusedError as error:
            if error.status == 400 and "chat template" in str(error):
                return None
            raise

    def stops_at(self, token: int, spelled: str, prompt: Prompt) -> bool:
        """Return whether an answer that is forced to begin with this token ends there."""
        [choice] = self._complete([prompt], max_tokens=2, logit_bias={str(token): _FORCED})
        if choice["token_ids"][:1] != [token]:
            raise UnseenError("it does not write a token that logit_bias forces")
        return bool(choice["finish_reason"] == "stop" and len(choice["token_ids"]) == 1)

    def listed(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Return the most likely tokens after each prompt, by id."""
        choices = self._complete(prompts, max_tokens=1, logprobs=TOP)
        if any(not (each.get("logprobs") or {}).get("top_logprobs") for each in choices):
            raise UnseenError("it returns no log-probabilities")
        tops = [each["logprobs"]["top_logprobs"][0] for each in choices]
        ranked = [sorted(top.items(), key=lambda pair: -pair[1]) for top in tops]
        return [[(int(name.removeprefix("token_id:")), value) for name, value in top] for top in ranked]

    def written(self, prompt: Prompt, tokens: int) -> Written:
        """Return the greedy answer."""
        [choice] = self._complete([prompt], max_tokens=tokens)
        return Written(choice["text"], tuple(choice["token_ids"]), choice["finish_reason"] == "stop")

    def _complete(self, prompts: Sequence[Prompt], **fields: Any) -> list[Any]:
        body = {"model": self.model, "prompt": [list(each.ids) for each in prompts], **_GREEDY, **fields}
        choices = self.endpoint.post("/v1/completions", body)["choices"]
        return sorted(choices, key=lambda choice: choice["index"])
