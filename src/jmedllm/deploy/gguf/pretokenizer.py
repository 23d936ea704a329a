"""Find the name of llama.cpp's rule that splits text as the model's tokenizer does, by trying.

llama.cpp does not read the pre-tokenizer of a model; a file names one of the rules that it has built in. A wrong name
gives other token ids for some texts only, without any error.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from jmedllm.deploy.divergence import TEXTS
from jmedllm.deploy.gguf.chats import CHATS, rendered
from jmedllm.deploy.gguf.vocabulary import MERGE_LIST, Vocabulary, normalization_of
from jmedllm.deploy.gguf.write import write_vocabulary
from jmedllm.deploy.llama_cpp import LlamaServer, serving
from jmedllm.errors import InputError
from jmedllm.models.tokenizer.encoding import Tokenizer

TRICKY = (
    *("", " ", "  ", "\n", "\r\n", "\t", " \n ", "a  b   c", "   indented", "trailing   "),
    *(
        "\r\n a\r\n\r\nb",
        "line\n\n\nline",
        "tab\tand　全角　空白　",
        "　",
        "1",
        "12",
        "123",
        "1234567890",
        "3.14 10⁻³ ½ ①②",
    ),
    *(
        "１２３４５",
        "二〇二六年十一月",
        "HbA1c 7.9%、SpO₂ 93％",
        "don't I'LL we've O'Brien 'tis",
        "CamelCase snake_case",
    ),
    *("ガギグゲゴ パピプペポ", "カ\u3099キ\u3099 ハ\u309a", "ｶﾞｷﾞ ﾊﾟﾋﾟ", "ゝゞ々〻ー〜～", "髙橋さん 𠮷田さん 齋藤さん"),
    *(
        "cafe\u0301 nai\u0308ve Å",
        "café naïve Å",
        "👩‍⚕️🩺💊 🇯🇵 👍🏽",
        "Здравствуйте ΑΒΓ مرحبا שלום",
        "한국어 中文",
    ),
    *(
        "a\u200bb\ufeffc\u00a0d\u2028e",
        "x=y+z;//(a[0]){b}<c>&d",
        "!!!???...",
        "「括弧」『二重』（丸）【隅付き】",
        "\u0000\u0001\u007f",
    ),
    "mixed漢字かなカナABC123、。.,",
)
"""Texts on which rules differ: white space, digits, apostrophes, sound marks, accents, emoji, scripts, signs."""

SCRIPTS: Mapping[str, str] = {"Devanagari": "हिन्दी भाषा", "Thai": "ภาษาไทย", "Tamil": "தமிழ் மொழி"}
"""Text in scripts with combining vowels by the name of the script. A rule may split it differently, which is reported:
llama.cpp has no exact rule for gpt-oss."""

_CANDIDATES = (
    *("default", "gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o", "tiny_aya", "dbrx"),
    *("deepseek-llm", "deepseek-v3", "deepseek-coder", "starcoder", "command-r", "falcon", "stablelm2"),
    *("poro-chat", "viking", "superbpe", "trillion", "seed-coder", "hunyuan", "chatglm-bpe", "bloom", "mpt"),
    *("olmo", "exaone", "minerva-7b"),
)
"""Names of rules that differ from each other, in the order of trial; those with the tokenizer's pattern come first."""

_SENTENCEPIECE = ("default", MERGE_LIST)
"""Names of rules for SentencePiece BPE: by scores, by the list of merges."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A text whose token ids differ.

    Attributes:
        text: the text.
        expected: its ids by the model's tokenizer.
        found: its ids by llama.cpp.
        around: the text around the first difference; the beginning of the text if it is not known.
    """

    text: str
    expected: tuple[int, ...]
    found: tuple[int, ...]
    around: str = ""

    @property
    def place(self) -> int:
        """Number of tokens before the first difference."""
        pairs = enumerate(zip(self.expected, self.found, strict=False))
        return next((at for at, (a, b) in pairs if a != b), min(len(self.expected), len(self.found)))

    def __str__(self) -> str:
        shown, after = self.around or self.text[:40], slice(self.place, self.place + 4)
        expected, found = list(self.expected[after]), list(self.found[after])
        return f"{shown!r}: from token {self.place} on {expected} in the model, {found} in llama.cpp"

    def located(self, tokenizer: Tokenizer) -> "Difference":
        """Return the difference with the text around it."""
        near = self.expected[max(0, self.place - 4) : self.place + 8]
        return replace(self, around=str(tokenizer.decode(near, skip_special_tokens=False)))


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """A rule of llama.cpp that gives the model's token ids.

    Attributes:
        name: value of `tokenizer.ggml.pre`.
        texts: number of texts with the same ids.
        normalized: how many of them llama.cpp encodes so only in another form, such as composed Unicode (NFC), see
            `TextNormalization`.
        scripts: names of `SCRIPTS` in which token ids can differ.
    """

    name: str
    texts: int
    normalized: int
    scripts: tuple[str, ...] = ()


def special_texts(tokenizer: Tokenizer) -> list[str]:
    """Return texts with the tokenizer's special tokens inside."""
    return [f"前{token}後 {token} a{token}{token}" for token in tokenizer.added_tokens_encoder]


def trial_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Return the texts on which rules are tried: `TRICKY`, special tokens in text, chats, built-in texts, `texts`."""
    chats = [text for _, text in rendered(tokenizer, CHATS[:2])]
    tried = (*TRICKY, *special_texts(tokenizer)[:20], *chats, *TEXTS, *texts)
    normalization = normalization_of(tokenizer)
    return [text for text in tried if normalization.can_express(text)]


def find_pre_tokenizer(tokenizer: Tokenizer, vocabulary: Vocabulary, texts: Sequence[str]) -> PreTokenizer:
    """Try llama.cpp's rules on `trial_texts` until one gives the model's token ids for all of them.

    Raises:
        InputError: none does; the message has the first difference of the rule that agreed longest.
    """
    tried = trial_texts(tokenizer, texts)
    best: tuple[int, str, Difference | None] = (-1, "", None)
    with TemporaryDirectory(prefix="jmedllm-gguf-") as folder:
        for name in candidates(tokenizer) if vocabulary.is_byte_level else _SENTENCEPIECE:
            file = Path(folder) / "vocabulary.gguf"
            write_vocabulary(vocabulary, name, file)
            with serving(file, context=256) as server:
                agreed, difference = _agreement(server, tokenizer, tried)
                others = _other_scripts(server, tokenizer) if difference is None else ()
            if difference is None:
                return PreTokenizer(name, len(tried), normalized_count(tokenizer, tried), others)
            if agreed > best[0]:
                best = agreed, name, difference
    raise InputError(
        f"gguf: llama.cpp has no rule that splits text as this tokenizer does; the nearest is {best[1]}, with "
        f"{best[2]}; serve the model directory with vLLM or transformers"
    )


def _other_scripts(server: LlamaServer, tokenizer: Tokenizer) -> tuple[str, ...]:
    found = zip(SCRIPTS, token_differences(server, tokenizer, tuple(SCRIPTS.values())), strict=True)
    return tuple(script for script, difference in found if difference is not None)


def _agreement(server: LlamaServer, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, Difference | None]:
    """Return the number of texts before the first difference, and that difference."""
    for agreed, difference in enumerate(token_differences(server, tokenizer, texts)):
        if difference is not None:
            return agreed, difference
    return len(texts), None


def token_differences(server: LlamaServer, tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Difference | None]:
    """Yield for each text the difference of its token ids in the served file, or None."""
    normalization = normalization_of(tokenizer)
    for text in texts:
        expected, found = tuple(tokenizer(text)["input_ids"]), tuple(server.token_ids(normalization.normalized(text)))
        yield None if expected == found else Difference(text, expected, found).located(tokenizer)


def normalized_count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """Return how many texts must be given to llama.cpp in another form."""
    normalization = normalization_of(tokenizer)
    return sum(normalization.normalized(text) != text for text in texts)


def candidates(tokenizer: Tokenizer) -> list[str]:
    """Return llama.cpp's rules in the order of trial: those with the tokenizer's own pattern first."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    description = json.loads(tokenizer.backend_tokenizer.to_str())
    written = json.dumps(description.get("pre_tokenizer"))
    same = [name for name, pattern in GGUF_PRE_TOKENIZER_SPLITS.items() if json.dumps(pattern)[1:-1] in written]
    digits = ["smollm"] if '"Digits"' in written else []
    plain = ["gpt-2"] if '"use_regex": true' in written else []
    return list(dict.fromkeys((*same, *digits, *plain, *_CANDIDATES)))
