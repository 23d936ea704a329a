"""Proof that a running server serves the model, from what its interface shows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import torch

from jmedllm.deploy.divergence import TEXTS
from jmedllm.deploy.endpoint import Endpoint
from jmedllm.deploy.gguf import chats
from jmedllm.deploy.gguf.parity import Agreement
from jmedllm.deploy.gguf.pretokenizer import Difference, trial_texts
from jmedllm.deploy.gguf.proof import Proof, prove_server
from jmedllm.deploy.gguf.source import Source
from jmedllm.deploy.llama_cpp import LlamaServer
from jmedllm.deploy.servers.base import Interface, Message, Prompt, UnseenError
from jmedllm.deploy.servers.compare import (
    ListedParity,
    continues,
    greedy_answers,
    ids_of_texts,
    is_same_answer,
    listed_parity,
)
from jmedllm.deploy.servers.connect import LLAMA_CPP, chosen_model, interface, served_models
from jmedllm.errors import InputError
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.training.batches import without_dropout

POSITIONS = 64
"""Number of positions compared in each text, its last ones."""

_LENGTH = 256
"""Largest number of tokens of a text."""

LEAST_TOP1 = 0.5
"""Smallest share of positions with the same most likely token. A list of few tokens says little about the divergence;
types of four bits keep about nine of ten, and a base model has a quarter in common with a model trained from it."""

ANSWERS = 50
"""Number of greedy answers."""

_ANSWER = 24
"""Tokens of a greedy answer."""

CHATS: Sequence[Sequence[Message]] = (
    *chats.CHATS[:2],
    [{"role": "system", "content": "You are a careful assistant."}, {"role": "user", "content": "Is 3.14 > π?\n- no"}],
    [{"role": "user", "content": "  def f(x):\n      return '{x}' # <b>\n"}],
)
"""Chats whose rendering is compared: one turn, several, a system message, and white space that must be kept."""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class ServerProof:
    """What of a server was compared, and the differences that remain within the limits.

    Attributes:
        server: name and version of the server.
        texts: number of texts whose token ids are the same; None if the server shows none.
        chats: number of chats that are rendered the same; None if the server shows none.
        ends: number of tokens at which an answer ends as with the model; None if the server does not show it.
        languages: predictions, by language.
        answers: greedy answers.
        unseen: what could not be compared, with the reason.
    """

    server: str
    texts: int | None
    chats: int | None
    ends: int | None
    languages: Mapping[str, ListedParity]
    answers: Agreement
    unseen: Sequence[str]

    def record(self) -> dict[str, Any]:
        """Return the values for reports."""
        return asdict(self)


def prove_url(endpoint: Endpoint, model: str | None, source: Source, *, ceiling: float) -> Proof | ServerProof:
    """Compare a running server with a model directory, by what kind of server it is.

    Args:
        endpoint: where it answers.
        model: name of the model on the server; None for its only one.
        source: the model that it should be.
        ceiling: largest accepted KL divergence, in nats per token.

    Raises:
        InputError: it does not serve this model, or cannot be proved.
    """
    models = served_models(endpoint)
    name = chosen_model(endpoint, models, model)
    if models[name] == LLAMA_CPP:
        return prove_server(LlamaServer(endpoint.url, endpoint.key, endpoint.options), source, ceiling=ceiling)
    network = load_network(source.folder, torch.float32, torch.device("cpu"))
    without_dropout(network)
    served = interface(endpoint, name, models[name])
    return prove_served(served, network, source, ceiling=ceiling)


def prove_served(
    server: Interface,
    network: Any,
    source: Source,
    *,
    ceiling: float,
    answers: int = ANSWERS,
    positions: int = POSITIONS,
) -> ServerProof:
    """Compare a served model with a model directory.

    Args:
        server: the served model.
        network: the model in transformers, in float32.
        source: its directory.
        ceiling: largest accepted KL divergence, in nats per token.
        answers: number of greedy answers.
        positions: number of positions to compare in each text, its last ones.

    Raises:
        InputError: the server serves another model or renders another template, or shows no predictions.
    """
    unseen: list[str] = []

    def seen(what: str, compare: Callable[[], _Found]) -> _Found | None:
        try:
            return compare()
        except UnseenError as error:
            unseen.append(f"{what}: {error}")
            return None

    prompts = list(_prompts(source, server.takes_ids))
    texts = seen("token ids", lambda: _require_same_ids(server, source.tokenizer))
    same_chats = seen("chat template", lambda: _require_same_chats(server, source.tokenizer))
    ends = seen("end tokens", lambda: _require_same_ends(server, source, prompts[0]))
    languages = seen("predictions", lambda: _require_close(server, network, source, ceiling, positions))
    if languages is None:
        raise InputError(f"server {server.url}: it cannot be proved: {unseen[-1]}")
    agreement = _compare_answers(server, network, source, prompts[:answers])
    return ServerProof(server.title, texts, same_chats, ends, languages, agreement, unseen)


def _require_same_ids(server: Interface, tokenizer: Tokenizer) -> int:
    texts = [text for text in trial_texts(tokenizer, ()) if text]
    for text in texts:
        expected, found = tuple(tokenizer(text)["input_ids"]), tuple(server.token_ids(text))
        if expected != found:
            raise InputError(
                f"server {server.url}: token ids differ for {Difference(text, expected, found)}; serve the model with "
                "its own tokenizer"
            )
    return len(texts)


def _require_same_chats(server: Interface, tokenizer: Tokenizer) -> int:
    if not tokenizer.chat_template:
        if (added := server.chat(CHATS[0])) is not None and added != CHATS[0][0]["content"]:
            raise InputError(
                f"server {server.url}: it renders chats with a template, and the model has none; serve it without one"
            )
        raise UnseenError("the model has none")
    expected_texts = list(chats.rendered(tokenizer, CHATS))
    for messages, expected in expected_texts:
        found = server.chat(messages)
        wanted: str | list[int] = expected
        if isinstance(found, list):
            wanted = tokenizer(expected, add_special_tokens=False)["input_ids"]
        elif found is not None:
            wanted, found = _without_bos(tokenizer, expected), _without_bos(tokenizer, found)
        if found != wanted:
            shown = "no chat template" if found is None else "another chat template"
            text = tokenizer.decode(found) if isinstance(found, list) else found or ""
            raise InputError(
                f"server {server.url}: it has {shown}: a chat becomes {str(text)[:60]!r} instead of "
                f"{expected[:60]!r}; serve the model with its own template"
            )
    return len(expected_texts)


def _without_bos(tokenizer: Tokenizer, text: str) -> str:
    return text.removeprefix(tokenizer.bos_token) if tokenizer.bos_token else text


def _require_same_ends(server: Interface, source: Source, prompt: Prompt) -> int:
    for token in source.ends:
        spelled = str(source.tokenizer.decode([token]))
        if not server.stops_at(token, spelled, prompt):
            raise InputError(
                f"server {server.url}: an answer does not end at {spelled!r} (token {token}); serve the model with "
                "its generation_config.json, or export it again"
            )
    return len(source.ends)


@torch.no_grad()
def _require_close(
    server: Interface, network: Any, source: Source, ceiling: float, positions: int
) -> dict[str, ListedParity]:
    ids_by_text = {} if server.takes_ids else ids_of_texts(source.tokenizer, source.config.vocab_size)
    found = {}
    for language, texts in {"ja": TEXTS[::2], "en": TEXTS[1::2]}.items():
        expected: list[torch.Tensor] = []
        prompts: list[Prompt] = []
        for ids in (each[:_LENGTH] for each in encode(source.tokenizer, list(texts))):
            logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
            longest_first = _places(source.tokenizer, ids, server.takes_ids, range(len(ids), 0, -1))
            places = list(islice(longest_first, positions))[::-1]
            expected += [logits[len(prompt.ids) - 1] for prompt in places]
            prompts += places
        if not prompts:
            raise UnseenError("no beginning of a text has the same token ids as text")
        found[language] = listed_parity(expected, server.listed(prompts), ids_by_text)
        if not (found[language].kl <= ceiling and found[language].top1 >= LEAST_TOP1):
            raise InputError(
                f"server {server.url}, {language}: differs from the model by at least {found[language].kl:.2g} nats "
                f"per token (limit {ceiling:g}), with {found[language].top1:.1%} of the most likely tokens the same "
                f"(limit {LEAST_TOP1:.0%}); it does not serve this model"
            )
    return found


def _places(tokenizer: Tokenizer, ids: Sequence[int], takes_ids: bool, lengths: Iterable[int]) -> Iterator[Prompt]:
    """Yield beginnings of a text; for a server that takes text, only those that it reads as these ids."""
    bos = 1 if tokenizer.bos_token_id is not None and list(ids[:1]) == [tokenizer.bos_token_id] else 0
    for length in lengths:
        if length <= bos:
            continue
        text = str(tokenizer.decode(ids[bos:length]))
        if takes_ids or encode(tokenizer, [text]) == [list(ids[:length])]:
            yield Prompt(text, tuple(ids[:length]))


def _prompts(source: Source, takes_ids: bool) -> Iterator[Prompt]:
    """Yield prompts for greedy answers: rendered chats, then beginnings of the texts of different lengths."""
    tokenizer = source.tokenizer
    for _, text in chats.rendered(tokenizer, CHATS):
        plain = _without_bos(tokenizer, text)
        yield Prompt(plain, tuple(encode(tokenizer, [plain])[0]))
    lengths = range(7, 63, 4)
    beginnings = [
        list(islice(_places(tokenizer, ids, takes_ids, range(1, len(ids) + 1)), lengths.stop))
        for ids in encode(tokenizer, list(TEXTS))
    ]
    for length in lengths:
        yield from (places[length] for places in beginnings if length < len(places))


def _compare_answers(server: Interface, network: Any, source: Source, prompts: Sequence[Prompt]) -> Agreement:
    same = 0
    expected = greedy_answers(network, [prompt.ids for prompt in prompts], source.ends, _ANSWER)
    for prompt, ids in zip(prompts, expected, strict=True):
        written = server.written(prompt, _ANSWER)
        if continues(ids, written, source.ends, source.tokenizer):
            raise InputError(
                f"server {server.url}: an answer continues after {source.tokenizer.decode(ids[-1:])!r}, where the "
                "model ends it; serve the model with its generation_config.json, or export it again"
            )
        same += is_same_answer(ids, written, source.ends, source.tokenizer)
    if prompts and not same:
        raise InputError(f"server {server.url}: no greedy answer is the model's; it does not serve this model")
    return Agreement(same, len(prompts))
