"""Proof that a GGUF file is the model that was trained: metadata, token ids, predictions and greedy answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import torch

from jmedllm.deploy.gguf.chats import renders_as_template, require_same_template
from jmedllm.deploy.gguf.parity import Agreement, BenchmarkAgreement, Parity, greedy_agreement, parity, require_ends
from jmedllm.deploy.gguf.pretokenizer import (
    PreTokenizer,
    normalized_count,
    token_differences,
    trial_texts,
)
from jmedllm.deploy.gguf.rounding import rounding_as_ggml
from jmedllm.deploy.gguf.source import Source
from jmedllm.deploy.gguf.texts import PROOF_TEXTS, proof_questions
from jmedllm.deploy.gguf.types import FILE_TYPES, FileType
from jmedllm.deploy.gguf.vocabulary import vocabulary
from jmedllm.deploy.gguf.write import file_metadata, write_gguf
from jmedllm.deploy.llama_cpp import LlamaServer, serving
from jmedllm.errors import InputError
from jmedllm.files import hash_text, temporary_folder_beside, to_json
from jmedllm.manifest import versions
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.conversion.gguf import Gguf, read_gguf
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.training.batches import without_dropout

EXACT = "f32"
"""Type of the file with which the conversion itself is proved."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a file must reach.

    Attributes:
        kl: largest mean KL divergence from transformers in float32, in nats per token.
        top1: smallest share of positions with the same most likely token.
    """

    kl: float
    top1: float


CEILING = 0.1
"""Largest accepted KL divergence of types without an own limit, in nats per token."""

LIMITS: Mapping[str, Limit] = {
    "f32": Limit(1e-9, 1.0),
    "f16": Limit(1e-4, 0.995),
    "bf16": Limit(1e-2, 0.95),
    "q8_0": Limit(2e-2, 0.0),
}
"""Limits by the type of the file."""

TOP_TOKENS = 500
"""Number of most likely tokens that are compared one by one in a served file; the others count as one."""

ROUNDED = Limit(1e-7, 1.0)
"""Limit of the float32 file of a model with GELU, which ggml reads from a table of float16 numbers."""

_ANSWER = 24
"""Tokens of a greedy answer."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much is compared.

    Attributes:
        exact_texts: texts of each language on which the whole vocabulary is compared in float32, at the last
            `POSITIONS` of each.
        texts: texts of each language on which the served file is compared.
        positions: positions compared in each of them, its last ones.
        chats: number of greedy answers.
    """

    exact_texts: int = 2
    texts: int = 12
    positions: int = 128
    chats: int = 50


FULL = Coverage()


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared, and the differences that remain within the limits.

    Attributes:
        texts: number of texts whose token ids are the same.
        normalized: how many of them are the same only in another form, see `TextNormalization`.
        exact: predictions of the model in float32 in llama.cpp, all languages; None for a server.
        languages: predictions of the file, by language.
        top_tokens: number of most likely tokens that `languages` compares one by one; the others count as one, which
            makes its KL divergence a lower bound.
        answers: greedy answers of the file.
        chats: whether the answers are to chats, rendered by the model's template, and not to plain questions.
        same_chats: whether llama.cpp on its own renders chats as the template does; None without a template.
        benchmarks: results on benchmarks that the model and the file both answered.
        trace: what the figures depend on, see `trace_of`; empty for a server.
    """

    texts: int
    normalized: int
    exact: Parity | None
    languages: Mapping[str, Parity]
    top_tokens: int
    answers: Agreement
    chats: bool
    same_chats: bool | None = None
    benchmarks: tuple[BenchmarkAgreement, ...] = ()
    trace: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the values for metadata and reports."""
        return asdict(self)


def prove(
    file: Path, source: Source, pre: PreTokenizer, *, ceiling: float = CEILING, coverage: Coverage = FULL
) -> Proof:
    """Compare a GGUF file with a model directory.

    Args:
        file: the GGUF file.
        source: the model that it should be.
        pre: the rule that gives the model's token ids.
        ceiling: largest accepted KL divergence of types without an own limit.
        coverage: how much is compared.

    Raises:
        InputError: the file is not this model, or further from it than its type explains.
    """
    kind = require_same_metadata(read_gguf(file), source, pre.name)
    network = _network(source)
    with temporary_folder_beside(file) as folder:
        plain = folder / "exact.gguf"
        write_gguf(source.folder, source.config, _vocabulary(source), pre.name, FILE_TYPES[EXACT], plain, {})
        with serving(plain, exact=True) as server, rounding_as_ggml(network) as is_rounded:
            exact = _together(parity(server, network, _texts(source, coverage.exact_texts), _whole_character(source)))
    require_within(exact, ROUNDED if is_rounded else LIMITS[EXACT], f"{source.folder} in llama.cpp in float32")
    # The keys and values of a served model are float16 even if its file is float32.
    served = LIMITS.get("f16" if kind == EXACT else kind, Limit(ceiling, 0.0))
    with serving(file) as server:
        found = _prove_served(server, network, source, str(file), served, coverage)
    trace = trace_of(source, served)
    return replace(found, texts=pre.texts, normalized=pre.normalized, exact=exact, trace=trace)


def trace_of(source: Source, limit: Limit) -> dict[str, Any]:
    """Return what the figures of a proof depend on: the model, the limits, the texts, and versions of packages.

    There is no date in it, so that two exports are the same bytes.
    """
    texts = to_json({"predictions": PROOF_TEXTS, "questions": proof_questions(FULL.chats)})
    return {
        "model": fingerprint(source.folder),
        "limit": asdict(limit),
        "texts_hash": hash_text(texts),
        "versions": versions() | {name: version(name) for name in ("gguf", "xllamacpp")},
    }


def prove_server(server: LlamaServer, source: Source, *, ceiling: float = CEILING, coverage: Coverage = FULL) -> Proof:
    """Compare a running server of llama.cpp with a model directory: token ids, predictions and greedy answers.

    Raises:
        InputError: it does not serve this model, or is not a server of llama.cpp.
    """
    return _prove_served(server, _network(source), source, server.url, Limit(ceiling, 0.0), coverage)


def _prove_served(
    server: LlamaServer, network: Any, source: Source, what: str, limit: Limit, coverage: Coverage
) -> Proof:
    tried = trial_texts(source.tokenizer, ())
    require_same_tokens(server, source, tried, what)
    require_same_template(server, source.tokenizer, what)
    require_ends(server, _texts(source, 1)["en"][0], source.ends, what)
    languages = {}
    for language, ids in _texts(source, coverage.texts).items():
        found = parity(
            server,
            network,
            {language: ids},
            _whole_character(source),
            positions=coverage.positions,
            top_tokens=TOP_TOKENS,
        )[language]
        require_within(found, limit, f"{what}, {language}")
        languages[language] = found
    answers = greedy_agreement(server, network, prompts(source, coverage.chats), source.ends, _ANSWER)
    return Proof(
        len(tried),
        normalized_count(source.tokenizer, tried),
        None,
        languages,
        min(TOP_TOKENS, source.config.vocab_size),
        answers,
        chats=bool(source.tokenizer.chat_template),
        same_chats=renders_as_template(server, source.tokenizer),
    )


def _network(source: Source) -> Any:
    network = load_network(source.folder, torch.float32, torch.device("cpu"))
    without_dropout(network)
    return network


def _texts(source: Source, count: int) -> dict[str, list[list[int]]]:
    """Return the token ids of the first built-in texts of each language."""
    return {language: encode(source.tokenizer, texts[:count]) for language, texts in PROOF_TEXTS.items()}


def _vocabulary(source: Source) -> Any:
    return vocabulary(source.tokenizer, source.config.vocab_size, source.ends)


def require_same_metadata(gguf: Gguf, source: Source, pre: str) -> str:
    """Check that a file has the values that an export of the model has, and return its type.

    Raises:
        InputError: a value differs, such as the rotary base, an epsilon, the pre-tokenizer or the chat template.
    """
    number = gguf.metadata.get("general.file_type")
    kinds: dict[int, tuple[str, FileType]] = {each.file_type: (name, each) for name, each in FILE_TYPES.items()}
    if number not in kinds:
        raise InputError(
            f"{gguf.path}: files of type {number} are not supported; export one of {', '.join(FILE_TYPES)}"
        )
    name, kind = kinds[int(number)]
    expected = file_metadata(source.config, _vocabulary(source), pre, kind)
    described = (f"{gguf.architecture}.", "tokenizer.")
    added = {key: None for key in gguf.metadata if key.startswith(described) and key not in expected}
    for key, value in (expected | added).items():
        found = gguf.metadata.get(key, "" if value == "" else None)  # a file stores no empty texts
        is_same = abs(found - value) <= 1e-6 * abs(value) if isinstance(value, float) and found else found == value
        if not is_same:
            key, found, value = _first_difference(key, found, value)
            there = "missing" if value is None else shortened(value)
            raise InputError(
                f"{gguf.path}: {key} is {shortened(found)}, but {there} in {source.folder}; export the model again"
            )
    return name


def _first_difference(key: str, found: Any, value: Any) -> tuple[str, Any, Any]:
    """Return the key and values to show; of lists of the same length the first place that differs."""
    if not (isinstance(found, list) and isinstance(value, list) and len(found) == len(value)):
        return key, found, value
    at = next(at for at, (a, b) in enumerate(zip(found, value, strict=True)) if a != b)
    return f"{key}[{at}]", found[at], value[at]


def require_same_tokens(server: LlamaServer, source: Source, texts: Sequence[str], what: str) -> None:
    """Check that a served file encodes texts as the model's tokenizer does.

    Raises:
        InputError: it encodes one differently.
    """
    for difference in token_differences(server, source.tokenizer, texts):
        if difference is not None:
            raise InputError(f"{what}: token ids differ for {difference}; export the model again")


def _together(languages: Mapping[str, Parity]) -> Parity:
    positions = sum(each.positions for each in languages.values())
    return Parity(
        sum(each.kl * each.positions for each in languages.values()) / positions,
        sum(each.top1 * each.positions for each in languages.values()) / positions,
        positions,
    )


def require_within(found: Parity, limit: Limit, what: str) -> None:
    """Check predictions against a limit.

    Raises:
        InputError: they differ more.
    """
    if not (found.kl <= limit.kl and found.top1 >= limit.top1):
        raise InputError(
            f"{what}: differs from the model by {found.kl:.2g} nats per token (limit {limit.kl:g}), with "
            f"{found.top1:.1%} of the most likely tokens the same (limit {limit.top1:.1%}); it is not this "
            "model as its type would store it"
        )


def _whole_character(source: Source) -> int:
    """Return a token that is text on its own."""
    return int(source.tokenizer("a", add_special_tokens=False)["input_ids"][0])


def prompts(source: Source, count: int) -> list[list[int]]:
    """Return prompts for greedy answers: chats as the template renders them, or plain questions without a template."""
    tokenizer, questions = source.tokenizer, proof_questions(count)
    if not tokenizer.chat_template:
        return encode(tokenizer, questions)
    asked = ([{"role": "user", "content": question}] for question in questions)
    rendered = [ChatTemplate(tokenizer).as_given(each) for each in asked]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in rendered]
