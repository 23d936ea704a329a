"""Byte-pair encoding, continued from the tokens that a tokenizer has (Purason et al. 2025, arXiv 2512.03989).

Of all pairs of neighbouring tokens the most frequent is joined to a new token, which saves one token wherever it
occurs; then the next one (Sennrich et al. 2016, arXiv 1508.07909). The new merges rank behind all old ones: a text
is cut as before and then joined further, and no new token is out of reach.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from jmedllm.models.tokenizer.encoding import Tokenizer, batches
from jmedllm.models.tokenizer.pieces import pieces, whole

Word = tuple[bytes, ...]
"""Tokens, by the bytes they spell, of which neighbours may be joined."""

LEAST = 10
"""Times that a pair occurs at least: a token that is hardly ever seen cannot be trained."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Two neighbouring tokens that become one, by the bytes they spell."""

    left: bytes
    right: bytes

    @property
    def joined(self) -> bytes:
        """What the new token spells."""
        return self.left + self.right


def words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[Word]:
    """How often each stretch of two or more tokens occurs that may be joined: letters beyond ASCII, or parts of
    such characters, within one word of the tokenizer's own pre-tokenisation."""
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
    """The merges that save most, until they have made `count` tokens that are not `known`, or no more save any.

    The same for words in any order: of pairs equally frequent the one that spells less in order of bytes is first.
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
        if pairs[pair] != -frequency:  # it has changed since, and stands in the queue again
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
    """A word with every occurrence of the pair joined, from the left."""
    held = None
    for token in line:
        if held is not None and (held, token) == pair:
            yield held + token
            held = None
        else:
            if held is not None:
                yield held
            held = token
    if held is not None:
        yield held


def _is_allowed(pair: tuple[bytes, bytes]) -> bool:
    """Whether a token may be made of this: letters, one character of any kind, or the beginning of one."""
    joined = pair[0] + pair[1]
    text = whole(joined)
    if text is not None:
        return text.isalnum() or len(text) == 1
    return joined[0] >= 0xC0 and len(joined) < _length(joined[0])


def _length(lead: int) -> int:
    """Bytes of a character in UTF-8 by its first one."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
