"""Text is given to llama.cpp in the form in which it gets the model's token ids."""

import pytest

from jmedllm.deploy.text_normalization import TextNormalization, normalization_of_file

SPECIALS = frozenset({"<s>", "</s>", "<s>x"})


@pytest.mark.parametrize(
    ("normalization", "text", "expected"),
    [
        (TextNormalization(), " e\u0301", " e\u0301"),
        (TextNormalization("NFC"), "cafe\u0301 カ\u3099", "café ガ"),
        (TextNormalization("NFC", "trim", SPECIALS), " e\u0301", "é"),
        (TextNormalization("", "trim", SPECIALS), "  a", " a"),
        (TextNormalization("", "trim", SPECIALS), "a b", "a b"),
        (TextNormalization("", "trim", SPECIALS), "<s>[INST] a </s> b", "<s>[INST] a </s>b"),
        (TextNormalization("", "trim", SPECIALS), "<s>x a", "<s>xa"),
        (TextNormalization("", "prepend", SPECIALS), "a", " a"),
        (TextNormalization("", "prepend", SPECIALS), " a", " a"),
        (TextNormalization("", "prepend", SPECIALS), "<s>a", "<s>a"),
        (TextNormalization("", "prepend", SPECIALS), "", ""),
        (TextNormalization("", "prepend"), "a", " a"),
    ],
)
def test_text_gets_its_form(normalization: TextNormalization, text: str, expected: str) -> None:
    assert normalization.normalized(text) == expected


@pytest.mark.parametrize(("text", "expected"), [(" ", False), ("a</s> </s>", False), ("  ", True), ("a ", True)])
def test_a_single_space_cannot_be_expressed_if_one_is_added(text: str, expected: bool) -> None:
    assert TextNormalization("", "trim", SPECIALS).can_express(text) is expected
    assert TextNormalization("", "prepend", SPECIALS).can_express(text)


def test_a_file_names_its_normalization() -> None:
    tokens = {"tokenizer.ggml.tokens": ["a", "<s>", "<x>"], "tokenizer.ggml.token_type": [1, 3, 4]}
    assert normalization_of_file({"jmedllm.normalizer": "NFC"} | tokens) == TextNormalization("NFC")
    assert normalization_of_file({"jmedllm.space": "trim"} | tokens) == TextNormalization(
        "", "trim", frozenset({"<s>", "<x>"})
    )
    assert normalization_of_file({}) == TextNormalization()
