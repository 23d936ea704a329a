"""Texts as numbers: spelling makes no difference, letters do, offsets point into the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.corpus.ngrams import Units, characters, grams, words


def parts(units: Units, text: str) -> list[str]:
    return [text[start:end] for start, end in zip(units.starts, units.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 45-year-old man's BP", ["A", "45", "year", "old", "man", "s", "BP"]),
        ("Sjo\u0308gren Sjögren", ["Sjo\u0308gren", "Sjögren"]),
        ("hyper\u00adtension\u200b", ["hyper\u00adtension"]),
        ("症例はpatient１です", ["症", "例", "は", "patient１", "で", "す"]),
        ("α-blocker 5μg", ["α", "blocker", "5μg"]),
        ("", []),
        ("日本、語。", ["日", "本", "語"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert parts(words(text), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ガス、 (Ａ)\n１.５", ["ガ", "ス", "Ａ", "１", "５"]),
        ("ｶﾞｽ", ["ｶ", "ｽ"]),
        ("５㎎ー", ["５", "㎎", "㎎", "ー"]),
        ("\U00020b9f😀", ["\U00020b9f"]),
        ("。、", []),
    ],
)
def test_characters(text: str, expected: list[str]) -> None:
    assert parts(characters(text), text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ＡＢＣ", "abc"),
        ("ｶﾞｽ中毒", "ガス中毒"),
        ("５㎎", "5mg"),
        ("A. 45歳の\n男性", "a45歳の男性"),
        ("Sjögren", "SJO\u0308GREN"),
        ("ﬁbrosis", "fibrosis"),
    ],
)
def test_one_spelling_is_like_another(one: str, other: str) -> None:
    assert characters(one).numbers.tolist() == characters(other).numbers.tolist()


@pytest.mark.parametrize(("one", "other"), [("か", "さ"), ("右", "左"), ("1", "2"), ("ツ", "つ"), ("ー", "一")])
def test_letters_differ(one: str, other: str) -> None:
    assert characters(one).numbers.tolist() != characters(other).numbers.tolist()


def test_ngrams_do_not_depend_on_their_position() -> None:
    found = grams(words("give oxygen now and again give oxygen now").numbers, 3).tolist()
    assert len(found) == 6
    assert found[0] == found[5]
    assert len(set(found)) == 5


def test_too_few_units_make_no_gram() -> None:
    assert grams(words("two words").numbers, 3).tolist() == []
    assert grams(words("").numbers, 1).tolist() == []


def test_numbers_are_the_same_on_every_machine() -> None:
    assert grams(characters("ビタミンCの欠乏").numbers, 8).tolist() == [1198753229625903139]
    assert grams(words("lack of vitamin C").numbers, 4).tolist() == [15643601959969668473]


@given(st.text(st.characters(), max_size=60))
def test_offsets_point_into_any_text(text: str) -> None:
    for units in (characters(text), words(text)):
        assert len(units.numbers) == len(units.starts) == len(units.ends)
        assert (units.starts >= 0).all()
        assert (units.starts < units.ends).all()
        assert (units.ends <= len(text)).all()
        assert (units.starts[1:] >= units.starts[:-1]).all()
