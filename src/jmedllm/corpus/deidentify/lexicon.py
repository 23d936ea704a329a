"""Looks up Japanese surnames and given names: in kanji, old and new, in kana, and in Latin letters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from jmedllm.corpus.deidentify.lists import rows

LONGEST = 7
"""Characters of the longest name that is looked up."""

_PAIRS = (
    "髙高 﨑崎 邊辺 邉辺 齋斎 齊斉 濵浜 濱浜 廣広 櫻桜 澤沢 關関 冨富 𠮷吉 國国 眞真 惠恵 德徳 嶋島 嶌島 "
    "龍竜 瀧滝 榮栄 壽寿 條条 桒桑 曾曽 渕淵 槇槙 栁柳 實実 萬万 與与 學学 豐豊 藏蔵 圓円 嶽岳 靜静 黑黒 "
    "淺浅 增増 內内 鄕郷 戶戸 槗橋 吳呉 亞亜 來来 兒児 佛仏 會会 假仮 彌弥 "
)
VARIANTS = str.maketrans({pair[0]: pair[1] for pair in _PAIRS.split()})
"""Old and variant forms of kanji in names, and the form that lists have. One character stands for one."""

_TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
_ROWS = {
    "": "あいうえお", "k": "かきくけこ", "s": "さしすせそ", "t": "たちつてと", "n": "なにぬねの", "h": "はひふへほ",
    "m": "まみむめも",
    "r": "らりるれろ", "g": "がぎぐげご", "z": "ざじずぜぞ", "d": "だぢづでど", "b": "ばびぶべぼ", "p": "ぱぴぷぺぽ",
}  # fmt: skip
_HEPBURN = {kana: row + vowel for row, line in _ROWS.items() for kana, vowel in zip(line, "aiueo", strict=True)} | {
    "し": "shi", "ち": "chi", "つ": "tsu", "ふ": "fu", "じ": "ji", "ぢ": "ji", "づ": "zu", "や": "ya", "ゆ": "yu",
    "よ": "yo",
    "わ": "wa", "を": "o", "ん": "n", "ゔ": "vu", "ぁ": "a", "ぃ": "i", "ぅ": "u", "ぇ": "e", "ぉ": "o",
}  # fmt: skip
_SMALL = {"ゃ": "a", "ゅ": "u", "ょ": "o"}


def to_katakana(text: str) -> str:
    """Return hiragana as katakana."""
    return text.translate(_TO_KATAKANA)


def to_romaji(kana: str) -> str:
    """Return hiragana in Hepburn's spelling, with long vowels as they are spelt (ou, oo)."""
    pieces: list[str] = []
    double = False
    for char in kana:
        if char == "っ":
            double = True
            continue
        if char in _SMALL and pieces:
            stem = pieces.pop().removesuffix("i")
            pieces.append(stem + ("" if stem in ("sh", "ch", "j") else "y") + _SMALL[char])
            continue
        piece = _HEPBURN.get(char, "")
        if double and piece:
            piece = ("t" if piece.startswith("ch") else piece[0]) + piece
            double = False
        pieces.append(piece)
    return "".join(pieces)


def romaji_spellings(kana: str) -> set[str]:
    """Return the usual spellings of a name in Latin letters: ohno, ono, oono; saito, saitou."""
    full = to_romaji(kana)
    short = full.replace("ou", "o").replace("oo", "o").replace("uu", "u")
    aitch = full.replace("ou", "oh").replace("oo", "oh").replace("uu", "u")
    return {full, short, aitch} | {
        each.replace("nb", "mb").replace("np", "mp").replace("nm", "mm") for each in (short,)
    }


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Names in kanji (new forms) and kana, and in lower-case Latin letters."""

    surnames: frozenset[str]
    given: frozenset[str]
    romaji_surnames: frozenset[str]
    romaji_given: frozenset[str]

    def longest(self, text: str, start: int, names: frozenset[str]) -> int:
        """Return the length of the longest of `names` that begins at `start`; 0 if none does."""
        return next((n for n in range(min(LONGEST, len(text) - start), 0, -1) if text[start : start + n] in names), 0)


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Return the names of the lists in this package."""
    return build_lexicon(surname_rows(), given_rows())


def surname_rows() -> Iterator[tuple[str, str]]:
    """Yield (surname, reading in hiragana)."""
    for row in rows("surnames.tsv"):
        yield row[0], row[1]


def given_rows() -> Iterator[tuple[str, str]]:
    """Yield (given name, reading in hiragana)."""
    for name in ("given_names_male.tsv", "given_names_female.tsv"):
        for reading, *spellings in rows(name):
            for spelling in spellings:
                yield spelling, reading


def build_lexicon(surnames: Iterable[tuple[str, str]], given: Iterable[tuple[str, str]]) -> Lexicon:
    """Return a lexicon of (name, reading) pairs, with all spellings of each."""
    families, firsts = set[str](), set[str]()
    romaji_families, romaji_firsts = set[str](), set[str]()
    for names, found, latin in ((surnames, families, romaji_families), (given, firsts, romaji_firsts)):
        for spelling, reading in names:
            found.add(spelling.translate(VARIANTS))
            if len(reading) > 1:
                found.update((reading, to_katakana(reading)))
                latin.update(each for each in romaji_spellings(reading) if len(each) > 2)
    return Lexicon(frozenset(families), frozenset(firsts), frozenset(romaji_families), frozenset(romaji_firsts))
