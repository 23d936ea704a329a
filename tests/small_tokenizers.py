"""Small tokenizers that work like well-known ones."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
LETTERS = "abcdeAnswr"


def sentencepiece(*, dummy_prefix: bool, merges: tuple[tuple[str, str], ...] = ()) -> Any:
    """BPE with byte fallback, in which a word begins with its space; with a dummy prefix, as Llama 2 has it, so
    does a text."""
    joined = [("▁", letter) for letter in LETTERS] + list(merges)
    pieces = [*SPECIAL, *(f"<0x{number:02X}>" for number in range(256)), "▁", ":", "(", *LETTERS]
    pieces += ["".join(pair) for pair in joined]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, joined, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces: list[Any] = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁")] * dummy_prefix + spaces)
    plain: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(plain + [decoders.Strip(" ", 1, 0)] * dummy_prefix)
    return _named(tokenizer)


def byte_level(*, merges: tuple[tuple[str, str], ...] = ()) -> Any:
    """BPE over bytes, as GPT-2 has it."""
    joined = [("Ġ", letter) for letter in LETTERS] + list(merges)
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, joined)]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, joined))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _named(tokenizer)


def _named(tokenizer: Tokenizer) -> Any:
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
    return fast
