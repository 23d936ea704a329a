"""Write the Modelfile with which Ollama runs a GGUF file as transformers runs the model.

Whatever Ollama would otherwise choose itself is written: the template, the ends of an answer, the sampling and the
context. https://docs.ollama.com/modelfile
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.deploy.gguf.header import read_header
from jmedllm.deploy.gguf.vocabulary import ENDS
from jmedllm.deploy.ollama.chat_template import GoTemplate, go_template
from jmedllm.errors import InputError
from jmedllm.files import write_atomic
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.models.conversion.gguf import Gguf
from jmedllm.models.conversion.gguf_tokens import CONTROL, USER_DEFINED

_FIRST_LINE = "# Modelfile of Ollama, written by jmedllm "
_CACHE = 2 * 2**30
"""Bytes of keys and values up to which the whole context of the model is used."""
_STEP = 256
"""A smaller context is a multiple of this."""

_OWN_PROMPTS = ("gemma4", "laguna", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni")
"""Architectures for which Ollama has a renderer that comes before the template (`server/create.go`)."""

_BARE = GoTemplate(
    "{{ .Prompt }}",
    conversations=0,
    notes=("the model has no chat template: Ollama sends it the text of a request as it is",),
)
"""For models that continue a text."""


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A Modelfile and what it is made of.

    Attributes:
        template: the chat template in Go.
        stops: texts that end an answer.
        context: number of tokens of prompt and answer.
        cache: bytes of keys and values for these, in float16.
        notes: what Ollama does differently, one line each.
        text: the file.
    """

    template: GoTemplate
    stops: tuple[str, ...]
    context: int
    cache: int
    notes: tuple[str, ...]
    text: str


def write_modelfile(file: Path, output: Path, *, context: int | None = None, today: str) -> Modelfile:
    """Write a Modelfile for a GGUF file.

    Args:
        file: the GGUF file.
        output: the Modelfile.
        context: number of tokens of prompt and answer; None for the model's, or for as many as take 2 GiB.
        today: date as YYYY-MM-DD, see `go_template`.

    Raises:
        InputError: the file cannot be read, Ollama cannot render its chat template, or `output` is a file that this
            function did not write.
    """
    if output.exists() and not (output.is_file() and output.read_bytes().startswith(_FIRST_LINE.encode())):
        raise InputError(f"{output}: exists and was not written by jmedllm; choose another --output")
    found = modelfile(_read(file), output.parent, context=context, today=today)
    write_atomic(output, found.text)
    return found


def _read(file: Path) -> Gguf:
    """Read the metadata of a file.

    Raises:
        InputError: it is not a GGUF file of a language model, or one of several parts.
    """
    metadata = read_header(file)
    if missing := {"general.architecture", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} - metadata.keys():
        raise InputError(f"{file}: no {min(missing)} in its metadata; give the GGUF file of a language model")
    if (parts := int(metadata.get("split.count", 1))) > 1:
        raise InputError(f"{file}: one of {parts} parts; join them with: llama-gguf-split --merge FIRST_PART OUTPUT")
    return Gguf(file, metadata, {})


def modelfile(gguf: Gguf, folder: Path, *, context: int | None, today: str) -> Modelfile:
    """Return the Modelfile for a GGUF file.

    Args:
        gguf: the file.
        folder: where the Modelfile will be.
        context: see `write_modelfile`.
        today: see `go_template`.

    Raises:
        InputError: see `write_modelfile`.
    """
    if gguf.architecture in _OWN_PROMPTS:
        raise InputError(
            f"{gguf.path}: Ollama writes the prompts of {gguf.architecture} models itself, whatever a Modelfile says; "
            "use jmedllm deploy serve"
        )
    tokenizer = _tokenizer(gguf)
    template = ChatTemplate(tokenizer)
    adds_bos = bool(gguf.of_tokenizer("add_bos_token", gguf.of_tokenizer("model") == "llama"))
    go = go_template(template, adds_bos=adds_bos, today=today) if tokenizer.chat_template else _BARE
    stops, notes = _stops(gguf, template), list(go.notes)
    if gguf.metadata.get("jmedllm.normalizer") == "NFC":
        notes.append("the model's tokenizer composes Unicode (NFC) and Ollama does not; send composed text")
    length, per_token = _context(gguf, context), _cache_per_token(gguf)
    lines = [
        f"{_FIRST_LINE}{__version__}: ollama create NAME -f Modelfile",
        *(f"# {note}" for note in notes),
        f"FROM {_relative(gguf.path, folder)}",
        f'TEMPLATE """{go.text}"""',
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        f"PARAMETER num_ctx {length}",
        f"PARAMETER num_predict {max(1, length // 2)}",
        *(f"PARAMETER {name} {value:g}" for name, value in _sampling(gguf)),
    ]
    if licence := gguf.metadata.get("general.license"):
        lines.append(f'LICENSE """{licence}"""')
    return Modelfile(go, stops, length, length * per_token, tuple(notes), "\n".join(lines) + "\n")


def _tokenizer(gguf: Gguf) -> Any:
    """Return a tokenizer with the file's chat template and the tokens that it names, and no others."""
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    source = gguf.metadata.get("tokenizer.chat_template") or ""
    tokens = gguf.of_tokenizer("tokens")
    numbers = {name: gguf.of_tokenizer(f"{name}_token_id") for name in ("bos", "eos")}
    names = {f"{name}_token": tokens[number] for name, number in numbers.items() if number is not None}
    kinds = gguf.of_tokenizer("token_type")
    named = [
        AddedToken(token, normalized=False, special=kind == CONTROL)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (CONTROL, USER_DEFINED) and token.strip() and token in source
    ]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **names)
    tokenizer.add_tokens(named)
    tokenizer.chat_template = source or None
    return tokenizer


def _stops(gguf: Gguf, template: ChatTemplate) -> tuple[str, ...]:
    """Return the texts that end an answer: the file's end tokens, and what the chat template writes after one.

    Ollama ends at the file's end tokens by itself. A token that is ordinary text ends no answer that quotes it.

    Raises:
        InputError: nothing ends an answer, or an end cannot be written in a Modelfile.
    """
    tokens, kinds = gguf.of_tokenizer("tokens"), gguf.of_tokenizer("token_type")
    numbers = [gguf.of_tokenizer(f"{name}_token_id") for name in ENDS]
    ends = [tokens[number] for number in numbers if number is not None and kinds[number] in (CONTROL, USER_DEFINED)]
    turn = turn_end(template)
    if turn.token is not None:
        ends.append(template.tokenizer.convert_ids_to_tokens(turn.token))
    stops = tuple(dict.fromkeys(filter(None, (*ends, turn.words))))
    if not stops:
        raise InputError(f"{gguf.path}: no token ends an answer (tokenizer.ggml.eos_token_id); export the model again")
    for stop in stops:
        if '"' in stop or not all(each.isprintable() or each == "\n" for each in stop):
            raise InputError(f"{gguf.path}: {stop!r} ends an answer, but a Modelfile cannot contain it")
    return stops


def _context(gguf: Gguf, wanted: int | None) -> int:
    """Return the number of tokens of prompt and answer.

    Raises:
        InputError: the model was not trained for so many.
    """
    trained = int(gguf.of_architecture("context_length") or 0)
    if wanted is not None:
        if trained and wanted > trained:
            raise InputError(
                f"--context {wanted}: the model was trained for {trained} tokens; choose at most {trained}"
            )
        return wanted
    affordable = _CACHE // max(1, _cache_per_token(gguf)) // _STEP * _STEP
    return min(trained or affordable, max(_STEP, affordable))


def _cache_per_token(gguf: Gguf) -> int:
    """Return the bytes of keys and values of one token in float16."""
    layers = int(gguf.of_architecture("block_count") or 0)
    heads = gguf.of_architecture("attention.head_count") or 1
    grouped = gguf.of_architecture("attention.head_count_kv") or heads
    width = int(gguf.of_architecture("embedding_length") or 0) // max(1, _largest(heads))
    sizes = [int(gguf.of_architecture(f"attention.{name}_length") or width) for name in ("key", "value")]
    total = sum(grouped) if isinstance(grouped, list) else layers * int(grouped)
    return 2 * total * sum(sizes)


def _largest(number: Any) -> int:
    return int(max(number) if isinstance(number, list) else number)


def _sampling(gguf: Gguf) -> Iterator[tuple[str, float]]:
    """Yield the parameters of sampling: those that the file names, else greedy decoding without any filter."""
    for name, (key, default) in _SAMPLING.items():
        value = gguf.metadata.get(f"general.sampling.{key}", default)
        yield name, float(value)
        if name == "repeat_penalty" and value != default:
            yield "repeat_last_n", -1  # transformers looks at the whole context


_SAMPLING = {
    "temperature": ("temp", 0),
    "top_k": ("top_k", 0),
    "top_p": ("top_p", 1),
    "min_p": ("min_p", 0),
    "repeat_penalty": ("penalty_repeat", 1),
}
"""Ollama's names of parameters; their names in GGUF files and their values for greedy decoding without filters."""


def _relative(file: Path, folder: Path) -> str:
    """Return the path of a file as seen from a folder.

    Raises:
        InputError: a Modelfile cannot contain it.
    """
    path = os.path.relpath(file.resolve(), folder.resolve())
    if not path.isprintable() or '"' in path:
        raise InputError(f"{file}: Ollama cannot read this path in a Modelfile; rename the file or its folder")
    return path if path.startswith("..") else f"./{path}"
