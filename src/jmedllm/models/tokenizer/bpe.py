"""Byte-pair encoding that continues from the tokens of a tokenizer (Purason et al. 2025, arXiv 2512.03989).

The most frequent pair of neighbouring tokens is merged into a new token, which saves one token at each occurrence;
then the next pair (Sennrich et al. 2016, arXiv 1508.07909). The new merges rank after all old ones: a text is split
as before and then merged further, and every new token can be produced.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from jmedllm.models.tokenizer.encoding import Tokenizer, batches
from jmedllm.models.tokenizer.pieces import pieces, whole

Word = tuple[bytes, ...]
"""Tokens, as the bytes they spell, of which neighbours may be merged."""

LEAST = 10
"""Minimum number of occurrences of a pair, because a token that almost never occurs cannot be trained."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge of two neighbouring tokens, given as the bytes they spell."""

    left: bytes
    right: bytes

    @property
    def joined(self) -> bytes:
        """Return the bytes that the new token spells."""
        return self.left + self.right


def words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[Word]:
    """Count each run of two or more tokens that may be merged: non-ASCII letters, or parts of such characters, within
    one word of the tokenizer's own pre-tokenization."""
    spelled = pieces(tokenizer)
    may_join = [_is_material(piece) for piece in spelled]
    found = Counter[Word]()
    for batch in batches(texts):
        for encoding in tokenizer.backend_tokenizer.encode_batch(batch, add_special_tokens=False):
            places = zip(encoding.word_ids, encoding.ids, strict=True)
            for (_, joins), members in groupby(places, key=lambda place: (place[0], may_join[place[1]])):
                if joins:
                    found[tuple(spelled[number] for _, number in members)] += 1
    return Counter({word: times for word, times in found.items() if len(word) > 1})


def _is_material(piece: bytes) -> bool:
    text = whole(piece)
    return all(byte >= 0x80 for byte in piece) and (text is None or text.isalnum())


def learn_merges(counted: Mapping[Word, int], known: Iterable[bytes], count: int) -> list[Merge]:
    """Learn the merges that save most tokens, until `count` tokens that are not `known` exist or no merge saves any.

    The result does not depend on the order of words: of equally frequent pairs the one with the smaller bytes is
    first.
    """
    lines, times = [list(word) for word in counted], list(counted.values())
    pairs, places = Counter[tuple[bytes, bytes]](), defaultdict[tuple[bytes, bytes], set[int]](set)
    for number, line in enumerate(lines):
        for pair in pairwise(line):
            pairs[pair] += times[number]
            places[pair].add(number)
    queue = [(-n, pair) for pair, n in pairs.items() if n >= LEAST and _is_allowed(pair)]
    heapq.heapify(queue)
    merges, left, made = list[Merge](), count, set(known)
    while queue and left:
        frequency, pair = heapq.heappop(queue)
        if pairs[pair] != -frequency:  # it has changed, and is in the queue again
            continue
        merges.append(Merge(*pair))
        left -= merges[-1].joined not in made
        made.add(merges[-1].joined)
        changed = set[tuple[bytes, bytes]]()
        for number in places.pop(pair):
            old, new = lines[number], list(_join(lines[number], pair))
            for each in pairwise(old):
                pairs[each] -= times[number]
            for each in pairwise(new):
                pairs[each] += times[number]
                places[each].add(number)
            changed.update(pairwise(old), pairwise(new))
            lines[number] = new
        for each in changed:
            if pairs[each] >= LEAST and _is_allowed(each):
                heapq.heappush(queue, (-pairs[each], each))
    return merges


def _join(line: list[bytes], pair: tuple[bytes, bytes]) -> Iterator[bytes]:
    """Yield a word with every occurrence of the pair merged, from the left."""
    previous = None
    for token in line:
        if previous is not None and (previous, token) == pair:
            yield previous + token
            previous = None
        else:
            if previous is not None:
                yield previous
            previous = token
    if previous is not None:
        yield previous


def _is_allowed(pair: tuple[bytes, bytes]) -> bool:
    """Return whether this may become a token: letters, one character of any kind, or the beginning of one."""
    joined = pair[0] + pair[1]
    text = whole(joined)
    if text is not None:
        return text.isalnum() or len(text) == 1
    return joined[0] >= 0xC0 and len(joined) < _length(joined[0])


def _length(lead: int) -> int:
    """Return the number of bytes of a character in UTF-8, by its first byte."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
