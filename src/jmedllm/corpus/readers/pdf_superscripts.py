"""Finds superscripts and subscripts on the pages of a PDF file by baseline and size.

The text layer of 10⁹/L is "109/L", which changes a dose. PDFium gives the origin of each character. A run whose
baseline is above or below that of its neighbour, by less than a line, is a superscript or a subscript. Only digits,
signs, their neighbours and the ends of lines are checked, since reading all origins takes longer than reading the
text.
"""

import ctypes
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jmedllm.corpus.cleaning.markup import lowered, raised

_SIGNS = r"+\-\u2010-\u2015\u2212"
_SUSPECTS = re.compile(rf"[A-Za-z]?[{_SIGNS}(]*[0-9][0-9{_SIGNS}.,()*]*[A-Za-z]{{0,2}}|[{_SIGNS}](?![A-Za-z])")
"""Text that changes its meaning if it, or a part of it, is raised or lowered."""

_DIGITS = re.compile(rf"[0-9{_SIGNS}()]+(?:[.,][0-9]+)*")
_DRAWN = re.compile(rf"(?<=[^\W_])[0-9{_SIGNS}]*[0-9]", re.ASCII)

_JAPANESE = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_LINE_END = re.compile(r"\r?\n")
_FLAT = 0.1
"""Maximum difference between the baselines of one line, in points."""

_SMALLER = (0.4, 0.9)
"""Size of a superscript relative to its base; text behind a drop capital is smaller still."""

_RAISED, _LOWERED = (0.15, 0.8), (-0.5, -0.06)
"""Rise of the baseline in sizes of the base, for characters that are smaller than the base."""

_RAISED_ALONE, _LOWERED_ALONE = (0.2, 0.6), (-0.5, -0.15)
"""The same for characters as large as the base, which must be digits or signs."""

_NEAR, _TOUCHING = (-0.3, 0.6), (-0.2, 0.3)
"""Gap to the base in sizes of the base."""

_LONGEST = 12
"""Maximum length of a superscript; longer runs are lines of smaller text."""

_SPACE = 0.15
"""Minimum gap between two characters that is a space, in sizes of the base."""

_GLYPH_RISE = 0.5
"""Minimum height above the baseline of a digit that the font itself draws raised, in heights of the digit."""


@dataclass(frozen=True, slots=True)
class _Glyph:
    """A character on the page. Lengths are in points, along and across the direction of its line."""

    along: float
    across: float
    end: float
    size: float
    cosine: float
    sine: float


class _Layer:
    """The characters of a text layer by index, each looked up once and only when needed."""

    def __init__(self, layer: Any, text: str) -> None:
        from pypdfium2 import raw

        self._raw, self._handle = raw, layer.raw
        self._x, self._y = ctypes.c_double(), ctypes.c_double()
        self._origins: dict[int, tuple[float, float]] = {}
        self._glyphs: dict[int, _Glyph] = {}
        # Characters without a code have an index but no position in the text.
        count = layer.count_chars()
        self._indices = None if count == len(text) else self._mapped(len(text))
        self.cosine, self.sine = self._direction(self._matrix(len(text) - len(text.lstrip())))

    def _mapped(self, length: int) -> list[int]:
        return [self._raw.FPDFText_GetCharIndexFromTextIndex(self._handle, place) for place in range(length)]

    def _index(self, place: int) -> int:
        return place if self._indices is None else self._indices[place]

    @staticmethod
    def _direction(matrix: Any) -> tuple[float, float]:
        length = math.hypot(matrix.a, matrix.b) or 1.0
        return (matrix.a / length, matrix.b / length) if matrix.a or matrix.b else (1.0, 0.0)

    def _matrix(self, place: int) -> Any:
        matrix = self._raw.FS_MATRIX()
        self._raw.FPDFText_GetMatrix(self._handle, self._index(place), ctypes.byref(matrix))
        return matrix

    def origin(self, place: int) -> tuple[float, float]:
        """Return the position of a character, along and across the direction of the first line of the page."""
        found = self._origins.get(place)
        if found is None:
            self._raw.FPDFText_GetCharOrigin(
                self._handle, self._index(place), ctypes.byref(self._x), ctypes.byref(self._y)
            )
            x, y = self._x.value, self._y.value
            found = self._origins[place] = _turned(x, y, self.cosine, self.sine)
        return found

    def glyph(self, place: int) -> _Glyph:
        """Return all of a character, along and across its own line."""
        found = self._glyphs.get(place)
        if found is None:
            matrix = self._matrix(place)
            cosine, sine = self._direction(matrix)
            x, y = _turned(*self.origin(place), self.cosine, -self.sine)
            along, across = _turned(x, y, cosine, sine)
            size = self._raw.FPDFText_GetFontSize(self._handle, self._index(place))
            size *= math.hypot(matrix.c, matrix.d)
            end = self._end(place, cosine, sine, along)
            found = self._glyphs[place] = _Glyph(along, across, end, abs(size), cosine, sine)
        return found

    def _end(self, place: int, cosine: float, sine: float, along: float) -> float:
        """Return the position where the next character would start: the advance counts, since "、" has little ink."""
        box = self._raw.FS_RECTF()
        if not self._raw.FPDFText_GetLooseCharBox(self._handle, self._index(place), box):
            return along
        # The box of slanted text is wider than the text, but it has the same centre.
        centre = _turned((box.left + box.right) / 2, (box.bottom + box.top) / 2, cosine, sine)
        return 2 * centre[0] - along

    def corners(self, place: int, cosine: float, sine: float) -> list[tuple[float, float]]:
        """Two opposite corners of the ink of a character, in a direction; None if they are unknown."""
        left, right, bottom, top = (ctypes.c_double() for _ in range(4))
        if not self._raw.FPDFText_GetCharBox(self._handle, self._index(place), left, right, bottom, top):
            return []
        return [_turned(x.value, y.value, cosine, sine) for x, y in ((left, bottom), (right, top))]

    def is_drawn_raised(self, place: int) -> bool:
        """Return whether the glyph of a digit is above the line in the font itself, as with OpenType's `sups`."""
        base = self.origin(place)[1]
        heights = sorted(corner[1] for corner in self.corners(place, self.cosine, self.sine))
        if not heights or heights[1] - heights[0] < _FLAT:
            return False
        return heights[0] - base > _GLYPH_RISE * (heights[1] - heights[0])


def _turned(x: float, y: float, cosine: float, sine: float) -> tuple[float, float]:
    return x * cosine + y * sine, y * cosine - x * sine


def marked_text(layer: Any) -> str:
    """Return the text of a layer, its raised digits as ⁹ and its lowered ones as ₂.

    What has no such signs is put in <sup> tags, of which cleaning makes 10^6.5; lowered letters stay, as in HbA1c.
    A line that PDFium broke at a superscript is whole again.

    Args:
        layer: a text page of pypdfium2.
    """
    text: str = layer.get_text_range()
    if not text.strip():
        return text
    page = _Page(_Layer(layer, text), text)
    for place in page.candidates():
        page.look_at(place)
    page.look_at_glyphs()
    return page.written()


class _Page:
    """The analysis of one page.

    Attributes:
        rises: 1 for each raised character, -1 for each lowered one, by place.
        bases: for each of them a character on the line that it belongs to.
        breaks: by place the line ends that a superscript alone has made, and what belongs there instead.
    """

    def __init__(self, layer: _Layer, text: str) -> None:
        self.layer, self.text = layer, text
        self.rises: dict[int, int] = {}
        self.bases: dict[int, int] = {}
        self.breaks: dict[int, str] = {}

    def candidates(self) -> Iterator[int]:
        """Yield the positions at which a baseline may change, in order."""
        places = {match.end() for match in _LINE_END.finditer(self.text)}
        for match in _SUSPECTS.finditer(self.text):
            places.update(range(match.start(), match.end() + 1))
        seen = -1
        for place in sorted(places):
            while place < len(self.text) and self.text[place] <= " ":
                place += 1
            if place < len(self.text) and place > seen:
                seen = place
                yield place

    def look_at(self, place: int) -> None:
        """Find out whether a raised or lowered run ends before a position or starts at it."""
        before = place - 1
        while before >= 0 and self.text[before] <= " ":
            before -= 1
        if before < 0 or place in self.rises:
            return
        (along, across), (next_along, next_across) = self.layer.origin(before), self.layer.origin(place)
        gap = self.text[before + 1 : place]
        if before not in self.rises:
            if abs(across - next_across) < _FLAT or ("\n" in gap and next_along < along):
                return
            base = before
        else:
            base = self.bases[before]
            one, other = self.layer.glyph(base), self.layer.glyph(place)
            if abs(one.across - other.across) < _FLAT:
                distance = self._distance(before, place, base) if one.size else 1
                if "\n" in gap and _within(distance, _NEAR):
                    self._join(before, place, distance)
                return
        behind = self._run(place, 1)
        if rise := self._rise(behind, base, before, place):
            self._note(behind, rise, base, before, place)
        elif before not in self.rises and not gap.strip("\r\n"):
            ahead = self._run(before, -1)  # the mass number of ¹³¹I belongs to what follows
            if self._rise(ahead, place, before, place) > 0:
                self._note(ahead, 1, place, before, place)

    def _note(self, run: range, rise: int, base: int, before: int, place: int) -> None:
        self.rises.update(dict.fromkeys(run, rise))
        self.bases.update(dict.fromkeys(run, base))
        if "\n" in self.text[before + 1 : place]:
            self._join(before, place, self._distance(before, place, base))

    def _distance(self, before: int, place: int, base: int) -> float:
        """Return the gap between two characters, in sizes of their base."""
        return (self.layer.glyph(place).along - self.layer.glyph(before).end) / self.layer.glyph(base).size

    def _join(self, before: int, place: int, distance: float) -> None:
        """Remove a line end; if the page shows a gap that is not a space of the text, leave a space."""
        gap, around = self.text[before + 1 : place], self.text[before] + self.text[place]
        words = self.text[place].isalnum() and not _JAPANESE.search(around)
        apart = distance > _SPACE and not gap.strip("\r\n") and words
        self.breaks.update(dict.fromkeys(range(before + 1, place), "") | {place - 1: " " * apart})

    def _run(self, place: int, step: int) -> range:
        """Return the positions from one on, in one direction, that share its baseline without a space between them."""
        across, last = self.layer.origin(place)[1], place
        for _ in range(_LONGEST):
            following = last + step
            if not 0 <= following < len(self.text) or self.text[following] <= " " or following in self.rises:
                break
            if abs(self.layer.origin(following)[1] - across) >= _FLAT:
                break
            last = following
        return range(min(place, last), max(place, last) + 1)

    def _rise(self, run: range, base: int, before: int, place: int) -> int:
        """Return 1 for a run that is raised relative to its base, -1 for a lowered one, 0 for any other.

        Args:
            before: the character ahead of the place where run and base meet, and `place` the one behind it.
        """
        first, base_glyph = self.layer.glyph(run[0]), self.layer.glyph(base)
        turned = abs(first.cosine - base_glyph.cosine) + abs(first.sine - base_glyph.sine) > 0.01
        if len(run) > _LONGEST or not base_glyph.size or turned:
            return 0
        shift, ratio = (first.across - base_glyph.across) / base_glyph.size, first.size / base_glyph.size
        distance = self._distance(before, place, base)
        if before in self.rises:  # an exponent above an index: both begin where their base ends
            reach = (self.layer.glyph(before).end - self.layer.glyph(base).end) / base_glyph.size
            near = _NEAR[0] - reach <= distance <= _NEAR[1]
        else:
            near = _within(distance, _NEAR)
        if near and _within(ratio, _SMALLER):
            return _sign(shift, _RAISED, _LOWERED)
        touches = place == before + 1 and _within(distance, _TOUCHING)
        same = _SMALLER[1] < ratio <= 1.1 and _DIGITS.fullmatch(self.text[run.start : run.stop])
        return _sign(shift, _RAISED_ALONE, _LOWERED_ALONE) if touches and same else 0

    def look_at_glyphs(self) -> None:
        """Find digits that a font draws raised although they are on the line, after a character that is not raised."""
        for match in _DRAWN.finditer(self.text):
            places = [place for place in range(*match.span()) if place not in self.rises]
            if not places or not self.layer.is_drawn_raised(places[-1]):
                continue
            high = {place for place in places if self.text[place].isdigit() and self.layer.is_drawn_raised(place)}
            if not self.layer.is_drawn_raised(match.start() - 1):
                for place in reversed(places):  # a sign is as high as the digit after it
                    if place + 1 in high and not self.text[place].isdigit():
                        high.add(place)
                self.rises.update(dict.fromkeys(high, 1))

    def written(self) -> str:
        """Return the text with its signs, and without false line ends."""
        pieces: list[str] = []
        done = 0
        for start, stop, rise in _runs(self.rises):
            pieces.append(self._kept(done, start))
            inner = self._kept(start, stop)
            known = not _JAPANESE.search(inner)
            pieces.append((raised if rise > 0 else lowered)(inner) if known else inner)
            done = stop
        return "".join((*pieces, self._kept(done, len(self.text))))

    def _kept(self, start: int, stop: int) -> str:
        """Return a part of the text; of a false line end only the space after it is kept."""
        if not self.breaks:
            return self.text[start:stop]
        return "".join(self._character(place) for place in range(start, stop))

    def _character(self, place: int) -> str:
        character = self.text[place]
        return self.breaks.get(place, "") if place in self.breaks and character in "\r\n" else character


def _runs(rises: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Start, end and rise of each run of neighbours with the same rise."""
    start = stop = rise = 0
    for place in sorted(rises):
        if rise and (place != stop or rises[place] != rise):
            yield start, stop, rise
        if not rise or place != stop or rises[place] != rise:
            start, rise = place, rises[place]
        stop = place + 1
    if rise:
        yield start, stop, rise


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _sign(shift: float, up: tuple[float, float], down: tuple[float, float]) -> int:
    return 1 if _within(shift, up) else -1 if _within(shift, down) else 0
