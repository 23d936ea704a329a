"""Proof that a model directory, such as a copied or converted one, is the model that was trained."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from jmedllm.deploy.gguf.benchmarks import Benchmarks, compare_on_benchmarks
from jmedllm.deploy.gguf.chats import rendered
from jmedllm.deploy.gguf.parity import Agreement, Parity
from jmedllm.deploy.gguf.pretokenizer import trial_texts
from jmedllm.deploy.gguf.proof import FULL, LIMITS, Coverage, Limit, Proof, prompts, require_within
from jmedllm.deploy.gguf.source import Source, open_source
from jmedllm.deploy.gguf.texts import PROOF_TEXTS
from jmedllm.errors import InputError
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.precision import choose_precision
from jmedllm.training.batches import without_dropout

_LENGTH = 256
"""Largest number of tokens of a text."""

_ANSWER = 24
"""Tokens of a greedy answer."""

_STORED = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
"""Types of files with the limits of a directory by the dtype of its weights."""


def prove_directory(
    folder: Path, source: Source, *, coverage: Coverage = FULL, benchmarks: Benchmarks | None = None
) -> Proof:
    """Compare a model directory with the model, both computed by transformers in float32.

    Weights of the same dtype must predict the same. After a conversion to another dtype the limits are those of a GGUF
    file with that dtype.

    Args:
        folder: the directory.
        source: the model that it should be.
        coverage: how much is compared.
        benchmarks: benchmarks that both answer.

    Raises:
        InputError: the directory is not this model.
    """
    if benchmarks is not None:
        benchmarks.tasks()  # missing questions are reported before the long comparison
    with open_source(str(folder), None, choose_precision("float32", "cpu")) as found:
        texts = trial_texts(source.tokenizer, ())
        _require_same_tokens(folder, found, source, texts)
        limit = _limit(found, source)
        networks = [_network(each) for each in (source, found)]
        languages = {}
        for language, written in PROOF_TEXTS.items():
            ids = encode(source.tokenizer, written[: coverage.texts])
            languages[language] = _parity(networks, ids, coverage.positions)
            require_within(languages[language], limit, f"{folder}, {language}")
        asked = prompts(source, coverage.chats)
        same = sum(_is_same_answer(networks, prompt, source.ends) for prompt in asked)
        del networks  # the benchmarks load their own
    return Proof(
        len(texts),
        0,
        None,
        languages,
        source.config.vocab_size,
        Agreement(same, len(asked)),
        chats=bool(source.tokenizer.chat_template),
        benchmarks=compare_on_benchmarks(folder, source, benchmarks) if benchmarks else (),
    )


def _require_same_tokens(folder: Path, found: Source, source: Source, texts: Sequence[str]) -> None:
    for text in texts:
        if found.tokenizer(text)["input_ids"] != source.tokenizer(text)["input_ids"]:
            raise InputError(f"{folder}: token ids differ for {text[:40]!r}; copy the tokenizer of {source.folder}")
    if _chats(found.tokenizer) != _chats(source.tokenizer):
        raise InputError(f"{folder}: renders chats differently; copy chat_template.jinja of {source.folder}")
    if sorted(found.ends) != sorted(source.ends):
        raise InputError(
            f"{folder}: tokens {found.ends} end an answer, but {source.ends} in {source.folder}; copy "
            "generation_config.json"
        )


def _chats(tokenizer: Tokenizer) -> list[str]:
    return [text for _, text in rendered(tokenizer)] if tokenizer.chat_template else []


def _limit(found: Source, source: Source) -> Limit:
    stored = [_STORED.get(each.config.dtype, "f32") for each in (found, source)]
    return LIMITS["f32"] if stored[0] == stored[1] else LIMITS[stored[0]]


def _network(source: Source) -> Any:
    network = load_network(source.folder, torch.float32, torch.device("cpu"))
    without_dropout(network)
    return network


@torch.no_grad()
def _parity(networks: Sequence[Any], texts: Sequence[Sequence[int]], positions: int) -> Parity:
    divergence, same, count = 0.0, 0, 0
    for ids in texts:
        for expected, found in zip(*(_rows(network, ids[:_LENGTH], positions) for network in networks), strict=True):
            divergence += float((expected.exp() * (expected - found)).sum())
            same += int(expected.argmax() == found.argmax())
            count += 1
    return Parity(max(0.0, divergence / count), same / count, count)


def _rows(network: Any, ids: Sequence[int], positions: int) -> Iterator[torch.Tensor]:
    """Yield the log-probabilities at the last positions of a text, in double precision."""
    for row in network(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -positions:]:
        yield row.double().log_softmax(-1)


@torch.no_grad()
def _is_same_answer(networks: Sequence[Any], prompt: Sequence[int], ends: Sequence[int]) -> bool:
    """Return whether the second network's greedy answer is the first one's, which reads it once."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=_ANSWER, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0])
    given = torch.tensor([list(prompt)])
    written = networks[1].generate(given, attention_mask=torch.ones_like(given), generation_config=config)
    own = networks[0](input_ids=written[:, :-1], use_cache=False).logits[0, len(prompt) - 1 :].argmax(-1)
    return bool((own == written[0, len(prompt) :]).all())
