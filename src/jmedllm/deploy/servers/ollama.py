"""Ollama's own interface (0.12.11 or later for log-probabilities): text in and out, tokens by their text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.deploy.servers.base import Listed, Message, Prompt, Served, UnseenError, Written
from jmedllm.errors import InputError

TOP = 20
"""Largest number of log-probabilities that Ollama returns."""

_GREEDY = {"temperature": 0, "top_k": 1, "repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0, "seed": 0}
"""Every setting is sent: Ollama takes those that are missing from the model's Modelfile."""


@dataclass(frozen=True, slots=True)
class Ollama(Served):
    """A model on Ollama; see `Interface`."""

    def token_ids(self, text: str) -> list[int]:
        """Raise `UnseenError`."""
        raise UnseenError("Ollama shows no token ids")

    def chat(self, messages: Sequence[Message]) -> str | None:
        """Return the text of a rendered chat, without an answer; None if the model has no template."""
        body = {"model": self.model, "messages": list(messages), "stream": False, "think": False}
        if "think" not in self._shown("capabilities", list):
            del body["think"]
        answer = self.endpoint.post("/api/chat", {**body, "_debug_render_only": True, "options": {"num_predict": 1}})
        rendered = (answer.get("_debug_info") or {}).get("rendered_template")
        if rendered is None:
            raise UnseenError("this version of Ollama does not show a rendered chat")
        return str(rendered)

    def stops_at(self, token: int, spelled: str, prompt: Prompt) -> bool:
        """Return whether the model's metadata name this token as an end, or its Modelfile stops at this text."""
        lines = self._shown("parameters", str).splitlines()
        if any(line.split(maxsplit=1) in (["stop", spelled], ["stop", json.dumps(spelled)]) for line in lines):
            return True
        named = self._shown("model_info", dict)
        keys = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
        lists = named.get("tokenizer.ggml.eos_token_ids") or []
        if not any(key in named for key in keys):
            raise UnseenError("this version of Ollama does not show the end tokens")
        return token in [named.get(key) for key in keys] or token in lists

    def listed(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Return the most likely tokens after each prompt, by text."""
        found: list[Listed] = []
        for prompt in prompts:
            answer = self._generate(prompt, 1, logprobs=True, top_logprobs=TOP)
            if not answer.get("logprobs"):
                raise UnseenError("this version of Ollama returns no log-probabilities; update it to 0.12.11 or later")
            found.append([(_text(each), float(each["logprob"])) for each in answer["logprobs"][0]["top_logprobs"]])
        return found

    def written(self, prompt: Prompt, tokens: int) -> Written:
        """Return the greedy answer."""
        answer = self._generate(prompt, tokens)
        return Written(answer["response"], None, answer.get("done_reason") == "stop")

    def _generate(self, prompt: Prompt, tokens: int, **fields: Any) -> Mapping[str, Any]:
        body = {"model": self.model, "prompt": prompt.text, "raw": True, "stream": False, **fields}
        answer: Mapping[str, Any] = self.endpoint.post(
            "/api/generate", {**body, "options": {**_GREEDY, "num_predict": tokens}}
        )
        counted, expected = answer.get("prompt_eval_count") or 0, len(prompt.ids)
        if counted > expected:  # fewer are counted if the beginning was in the cache
            raise InputError(
                f"server {self.url}: it reads {counted} tokens where the model reads {expected}, in a text that ends "
                f"with {prompt.text[-40:]!r}; export the model again"
            )
        return answer

    def _shown(self, name: str, kind: type) -> Any:
        found = self.endpoint.post("/api/show", {"model": self.model}).get(name)
        return found if isinstance(found, kind) else kind()


def _text(entry: Mapping[str, Any]) -> str:
    """Return the text of a token; its bytes are exact where the text has a replacement character."""
    return bytes(entry["bytes"]).decode(errors="replace") if entry.get("bytes") else str(entry["token"])
