"""Chats as the model's template renders them, and as llama.cpp does on its own."""

from collections.abc import Iterator, Mapping, Sequence

from jmedllm.deploy.endpoint import RefusedError
from jmedllm.deploy.llama_cpp import LlamaServer
from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.sandbox import TemplateLimitError
from jmedllm.models.tokenizer.encoding import Tokenizer

_ASKED = {"role": "user", "content": "糖尿病の合併症を三つ挙げてください。"}

CHATS: Sequence[Sequence[Mapping[str, str]]] = (
    [_ASKED],
    [_ASKED, {"role": "assistant", "content": "網膜症、腎症、神経障害です。"}, _ASKED],
    [{"role": "system", "content": "You are a careful assistant.\n"}, {"role": "user", "content": " Is 3.14 > π? "}],
)
"""One turn, several turns, and a system message with white space that must be kept."""


def rendered(
    tokenizer: Tokenizer, chats: Sequence[Sequence[Mapping[str, str]]] = CHATS
) -> Iterator[tuple[Sequence[Mapping[str, str]], str]]:
    """Yield those chats that the model's template takes, with their text; some templates take no system message."""
    for messages in chats if tokenizer.chat_template else ():
        try:
            yield messages, ChatTemplate(tokenizer).as_given(messages)
        except TemplateLimitError:
            raise
        except InputError:
            continue


def renders_as_template(server: LlamaServer, tokenizer: Tokenizer) -> bool | None:
    """Return whether llama.cpp on its own renders chats as the model's template does; None without a
    template that takes such chats.

    It matters to people who send messages to llama.cpp. The proof and `jmedllm deploy serve` send token ids.
    """
    chats = list(rendered(tokenizer))
    if not chats:
        return None
    start = tokenizer.bos_token or ""  # llama.cpp leaves it to the tokenizer
    for messages, expected in chats:
        try:
            found = str(server.post("/apply-template", {"messages": list(messages)})["prompt"])
        except RefusedError:  # it cannot read the template
            return False
        if found.removeprefix(start) != expected.removeprefix(start):
            return False
    return True


def require_same_template(server: LlamaServer, tokenizer: Tokenizer, what: str) -> None:
    """Check that a server has the model's chat template.

    Raises:
        InputError: it has another one.
    """
    if not tokenizer.chat_template:
        return
    found = str(server.get("/props").get("chat_template") or "")
    if found.strip() != str(tokenizer.chat_template).strip():
        raise InputError(
            f"{what}: its chat template is not the model's: it begins with {found[:40]!r} instead of "
            f"{tokenizer.chat_template[:40]!r}; serve the model with its own template"
        )
