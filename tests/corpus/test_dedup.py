"""Repeated documents: the same, nearly the same, and those that only look so."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.dedup import SHORT, THRESHOLD, Duplicate, DuplicateIndex, signature

LETTERS = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほ心肺肝腎脳血圧薬量症例診断治療"


def prose(seed: int, length: int = 1000) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=length))


def second(one: str, other: str) -> Duplicate | None:
    seen = DuplicateIndex()
    assert seen.add("one", signature(one)) is None
    return seen.add("other", signature(other))


TEXT = prose(1)


@pytest.mark.parametrize(
    "other",
    [TEXT, f"\n {TEXT[:500]}\u3000\r\n{TEXT[500:]}", TEXT[:100] + "\u200b" + TEXT[100:]],
    ids=["copied", "white space", "invisible"],
)
def test_the_same_text(other: str) -> None:
    assert second(TEXT, other) == Duplicate("one", 1.0)


@pytest.mark.parametrize(("one", "other"), [("Aspirin 81 mg", "ＡＳＰＩＲＩＮ 81mg"), ("", " \n")])
def test_short_texts_are_compared_but_for_case_and_width(one: str, other: str) -> None:
    assert second(one, other) == Duplicate("one", 1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1日1.5 mgを投与する。", "1日15 mgを投与する。"), ("10² CFU", "102 CFU"), ("右腎", "左腎")],
)
def test_a_sign_that_changes_the_meaning_makes_another_text(one: str, other: str) -> None:
    assert second(one, other) is None


@pytest.mark.parametrize(
    ("other", "low", "high"),
    [
        (TEXT.replace("心", "、心"), 0.99, 0.995),
        ("改訂版　第2版\n" + TEXT, 0.97, 0.995),
        (TEXT[:480] + "急性期" + TEXT[500:], 0.9, 0.995),
        (TEXT[:900], 0.82, 0.97),
        (TEXT + prose(2, 100), 0.82, 0.97),
    ],
    ids=["punctuation", "heading", "one phrase", "shortened", "appended"],
)
def test_nearly_the_same(other: str, low: float, high: float) -> None:
    found = second(TEXT, other)
    assert found is not None
    assert found.name == "one"
    assert low <= found.similarity <= high


@pytest.mark.parametrize(
    "other", [TEXT[:600] + prose(3, 400), TEXT[:500], prose(4)], ids=["40 % new", "half", "all new"]
)
def test_not_the_same(other: str) -> None:
    assert second(TEXT, other) is None


def test_in_a_short_text_one_word_makes_a_difference() -> None:
    text = prose(5, SHORT - 1)
    assert second(text, "右" + text[1:]) is None
    text = prose(5, SHORT)
    assert second(text, "右" + text[1:]) is not None


def test_the_first_wins_and_the_most_similar_is_named() -> None:
    seen = DuplicateIndex()
    added = [
        ("a", TEXT),
        ("b", TEXT[:650] + prose(6, 350)),
        ("like b", TEXT[:650] + prose(6, 350)[:-20] + "終" * 20),
        ("like a", TEXT[:-20] + "終" * 20),
        ("a again", TEXT),
    ]
    found = {name: seen.add(name, signature(text)) for name, text in added}
    assert [name for name, duplicate in found.items() if duplicate is None] == ["a", "b"]
    assert [found[name].name for name in ("like b", "like a", "a again")] == ["b", "a", "a"]  # type: ignore[union-attr]


def test_texts_alike_only_by_way_of_one_that_was_left_out_both_stay() -> None:
    middle, far = TEXT[:-90] + prose(7, 90), prose(8, 80) + TEXT[80:-90] + prose(7, 90)
    assert second(TEXT, middle) is not None
    assert second(middle, far) is not None
    seen = DuplicateIndex()
    assert [
        seen.add(name, signature(text)) is None for name, text in zip("abc", (TEXT, middle, far), strict=True)
    ] == [
        True,
        False,
        True,
    ]


def test_estimates_come_near_the_true_similarity() -> None:
    errors = []
    for seed in range(40):
        text = prose(seed)
        changed = text[100:]  # 893 of 993 shingles are left
        found = second(text, changed)
        assert found is not None
        errors.append(found.similarity - 893 / 993)
    assert abs(sum(errors) / len(errors)) < 0.015
    assert max(map(abs, errors)) < 0.1


def test_a_text_longer_than_a_window_is_signed_whole() -> None:
    text = prose(9, 1_100_000)
    assert second(text[: 1 << 20], text) is not None
    assert second(text[:600_000], text) is None


def test_signatures_are_small_and_the_same_in_another_process() -> None:
    signed = signature(TEXT)
    assert len(signed.exact) + len(signed.least) == 272
    code = f"from jmedllm.corpus.dedup import signature; print(signature({TEXT!r}).least.hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == signed.least.hex()


def pharmacopoeia(shared: Path, *lines: int) -> list[str]:
    texts = (shared / "corpus" / "ja_pharmacopoeia.jsonl").read_text(encoding="utf-8").splitlines()
    return [clean(json.loads(texts[line - 1])["text"]).text for line in lines]


@pytest.mark.parametrize(
    ("first", "repeated"),
    [(244, 245), (267, 268), (211, 212), (276, 277), (278, 279), (214, 215), (293, 294), (241, 242), (197, 198)],
)
def test_monographs_that_occur_twice(shared: Path, first: int, repeated: int) -> None:
    assert second(*pharmacopoeia(shared, first, repeated)) is not None


@pytest.mark.parametrize(
    ("first", "another"),
    [(77, 80), (134, 309), (123, 21), (306, 261), (122, 154), (76, 14), (79, 61)],
    ids=[
        "カプセル/細粒",
        "細粒/錠",
        "末",
        "末/生薬",
        "アセトニド",
        "トウキ/センキュウ",
        "チアプリド/ブロマゼパム",
    ],
)
def test_monographs_of_other_drugs_and_forms_stay(shared: Path, first: int, another: int) -> None:
    assert second(*pharmacopoeia(shared, first, another)) is None


REPEATED = [
    (198, 197),
    (205, 204),
    (210, 209),
    (212, 211),
    (215, 214),
    (226, 225),
    (230, 229),
    (242, 241),
    (245, 244),
    (258, 18),
    (260, 195),
    (268, 267),
    (270, 269),
    (274, 273),
    (277, 276),
    (279, 278),
    (281, 280),
    (291, 290),
    (294, 293),
    (298, 297),
    (302, 301),
    (304, 303),
    (314, 313),
    (327, 326),
]
"""Lines that repeat earlier lines."""


def test_the_whole_pharmacopoeia(shared: Path) -> None:
    """23 pairs have a true similarity of 0.8 or more, all of them found: 22 are one monograph twice; 18 and 258
    are the liquid and the spray of one drug. 281 repeats 280 with a true similarity of 0.79."""
    seen = DuplicateIndex()
    texts = enumerate(pharmacopoeia(shared, *range(1, 332)), 1)
    found = {line: duplicate for line, text in texts if (duplicate := seen.add(str(line), signature(text)))}
    assert [(line, int(each.name)) for line, each in found.items()] == REPEATED
    assert all(THRESHOLD <= each.similarity <= 1 for each in found.values())
