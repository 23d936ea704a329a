"""Finds names by what is beside them: an age, siblings, a relation with a title, the role of a foreigner."""

import re
from collections.abc import Iterator, Sequence

from jmedllm.corpus.deidentify.lexicon import Lexicon
from jmedllm.corpus.deidentify.names import KIN, ROLE, is_common, is_like_name
from jmedllm.corpus.deidentify.spans import Span
from jmedllm.corpus.deidentify.titles import HAN, is_no_name
from jmedllm.corpus.deidentify.tokens import Token

_RELATIVE_TITLED = re.compile(rf"{KIN}[の・　 ]({HAN}{{1,4}})(?:さん|様|氏|ちゃん|くん)")
"""妻の結実様: a word that is also a name is one between a relation and a title."""

_MOVES = re.compile(rf"(?:(?<=[（(、。\n])|^)({HAN}{{1,3}})(?:より|から|と|へ)(?:転室|転床|申し送|申送|引き?継|交代)")
_SIBLINGS = re.compile(
    rf"(?:きょうだい|兄弟姉妹|同胞|子ども|子供)[ :：]{{1,2}}((?:{HAN}{{1,3}}[（(]\d{{1,2}}(?:歳|か月)[）)][、 ]?)+)"
)
_BEFORE_AGE = re.compile(
    rf"(?m)(?:^|(?<=。))({HAN}{{2,5}})(?=(?:様|さん|氏|殿)?(?:[、 （(]{{1,2}}\d{{1,3}}[歳才]"
    rf"|[（(](?:[明大昭平令]|[MTSHR]\d)))"
)
"""What begins a line before an age or a day of birth: 西憂南、43歳."""

_FOREIGN_AFTER_ROLE = re.compile(
    rf"(?:{ROLE}|(?<![ァ-ヴー])(?:チャプレン|ボランティア|ヘルパー|カウンセラー|コーディネーター|スタッフ|ドクター"
    rf"|ナース))"
    rf"[ :：]{{1,3}}([ァ-ヴー]{{2,}}(?:・[ァ-ヴー]+){{1,3}}|[A-Z][a-z]+(?:[ -][A-Z][a-z]+){{1,3}})"
    r"(?=$|[\s、。，,()（）/／])"
)
_NO_PERSON = re.compile("[人性児者例炎症癌病瘤]$")


def find_beside(folded: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield names of persons in a text whose widths and kanji are folded."""
    for match in _RELATIVE_TITLED.finditer(folded):
        if not is_no_name(match[1]):
            yield Span(match.start(1), match.end(1), "NAME", "certain", "name:title")
    for match in _SIBLINGS.finditer(folded):
        for name in re.finditer(rf"{HAN}+(?=[(（])", match[1]):
            start, end = match.start(1) + name.start(), match.start(1) + name.end()
            if not is_no_name(name[0]) and (name[0] in names.given or not is_common(start, end, tokens)):
                yield Span(start, end, "NAME", "likely", "name:relative")
    for match in _BEFORE_AGE.finditer(folded):
        start, end = match.span(1)
        begins = names.longest(match[1], 0, names.surnames) and not _NO_PERSON.search(match[1])
        if begins and not is_common(start, end, tokens) and is_like_name(start, end, tokens, names):
            yield Span(start, end, "NAME", "likely", "name:age")
    for match in _MOVES.finditer(folded):
        if match[1] in names.surnames:
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:subject")
    for match in _FOREIGN_AFTER_ROLE.finditer(folded):
        yield Span(match.start(1), match.end(1), "NAME", "certain", "name:foreign")
