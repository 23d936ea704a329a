"""Byte-pair encoding continued: which pairs are joined, and in which order."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.models.tokenizer.bpe import LEAST, Merge, learn_merges


def word(*tokens: str | bytes) -> tuple[bytes, ...]:
    return tuple(token.encode() if isinstance(token, str) else token for token in tokens)


def merged(*pairs: tuple[str | bytes, str | bytes]) -> list[Merge]:
    return [Merge(*word(*pair)) for pair in pairs]


LEARNT = {
    "the most frequent pair first": (
        {word("急", "性"): 30, word("慢", "性"): 20},
        merged(("急", "性"), ("慢", "性")),
    ),
    "joined tokens are joined further": (
        {word("糖", "尿", "病"): 20, word("糖", "尿"): 5},
        merged(("糖", "尿"), ("糖尿", "病")),
    ),
    "of equals the lower in bytes": (
        {word("い", "う"): 10, word("あ", "い"): 10},
        merged(("あ", "い"), ("い", "う")),
    ),
    "too seldom": ({word("急", "性"): LEAST - 1}, []),
    "a kanji in two parts, never a part with its neighbour": (
        {word(b"\xe5\x80", b"\xa4", "の"): 50},
        merged((b"\xe5\x80", b"\xa4"), ("値", "の")),
    ),
    "a kanji in three parts, from its beginning": (
        {word(b"\xe5", b"\x80", b"\xa4"): 20, word("あ", b"\x80", b"\xa4"): 90},
        merged((b"\xe5", b"\x80"), (b"\xe5\x80", b"\xa4")),
    ),
    "an overlap from the left": ({word("ア", "ア", "ア"): 20}, merged(("ア", "ア"), ("アア", "ア"))),
    "a sign alone, but with no letter": (
        {word(b"\xe2\x84", b"\x83", "で"): 20},
        merged((b"\xe2\x84", b"\x83")),
    ),
}


@pytest.mark.parametrize("name", LEARNT)
def test_learned_merges(name: str) -> None:
    counted, expected = LEARNT[name]
    assert learn_merges(counted, (), 10) == expected


def test_only_new_tokens_count_and_stop() -> None:
    counted = {word("糖", "尿", "病"): 20, word("糖", "尿"): 5, word("脚", "気"): 15}
    assert [each.joined.decode() for each in learn_merges(counted, ["糖尿".encode()], 1)] == ["糖尿", "糖尿病"]
    assert [each.joined.decode() for each in learn_merges(counted, [], 1)] == ["糖尿"]


WORDS = st.dictionaries(st.lists(st.sampled_from("急性慢炎"), min_size=2, max_size=7).map(tuple), st.integers(1, 40))


@settings(deadline=None, max_examples=80)
@given(WORDS, st.integers(1, 8), st.randoms(use_true_random=False))
def test_each_merge_is_the_best_there_is(raw: dict[tuple[str, ...], int], count: int, random: Random) -> None:
    """Against a slow learner that counts all pairs anew at each step."""
    counted = {word(*tokens): times for tokens, times in raw.items()}
    found = learn_merges(counted, (), count)
    lines, made = {key: list(key) for key in counted}, set()
    expected: list[Merge] = []
    while len(made) < count:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for key, line in lines.items():
            for pair in pairwise(line):
                pairs[pair] += counted[key]
        best = min(((-n, pair) for pair, n in pairs.items() if n >= LEAST), default=None)
        if best is None:
            break
        expected.append(Merge(*best[1]))
        made.add(expected[-1].joined)
        for line in lines.values():
            place = 0
            while place < len(line) - 1:
                if (line[place], line[place + 1]) == best[1]:
                    line[place : place + 2] = [expected[-1].joined]
                place += 1
    assert found == expected
    shuffled = list(counted.items())
    random.shuffle(shuffled)
    assert learn_merges(dict(shuffled), (), count) == found
