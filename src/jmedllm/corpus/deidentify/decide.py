"""Makes one decision a document: drops names in medical terms, completes names, and finds each name everywhere."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from jmedllm.corpus.deidentify.addresses import PREFECTURE, PRODUCT_AFTER
from jmedllm.corpus.deidentify.eponyms import eponyms, is_term
from jmedllm.corpus.deidentify.institutions import is_employer, is_provider
from jmedllm.corpus.deidentify.lexicon import Lexicon
from jmedllm.corpus.deidentify.names import ROLE_BEFORE, is_common, is_maker, readings
from jmedllm.corpus.deidentify.spans import Span, resolve
from jmedllm.corpus.deidentify.titles import HAN, TITLE, is_no_name
from jmedllm.corpus.deidentify.tokens import Token, touching

_TITLE = re.compile(rf"\s?{TITLE}")
_REST_OF_NAME = re.compile(rf"({HAN}{{1,2}})(?=$|[\s、。，()（）/／・\]】」:：]|{TITLE}|の)")
_GIVEN_AFTER_SPACE = re.compile(
    rf"([ ]{HAN}{{1,3}})(?=$|[\s、。，()（）/／・\]】」:：]|さん|様|氏|殿|先生|くん|ちゃん|Dr|医師)"
)
_ENDS_IN_TITLE = re.compile(r"(?:(?<=.)[ ]?(?:さん|さま|様|氏|先生|殿|くん|君|ちゃん|医師|看護師|師長|Dr\.?)|[ ]+)$")
_PERSONAL = re.compile(r"\s?(?:さん|さま|様|氏|先生|殿|くん|君|ちゃん|Dr)")
_BEFORE_ALONE = ("", "\n", "。", "、", "（", "(", "「", " ")
_ALONE = re.compile(r"[:：]|が(?=[^んぁ-ん])|[、，)）/／]")
"""What follows a surname of one character that the document has elsewhere: 原：手術を提案。"""

_BETWEEN = re.compile(r"(?:附属|付属|併設|内)?[ ・、（(]?(?:附属|付属|併設)?|[)）] ?")
_THING_AFTER = re.compile(
    r"(?:と(?:診断|考え|する|して)|を(?:認め|疑|発症|合併|投与|処方|内服|服用|使用|併用|伴|呈|含)|に罹患"
    r"|が疑われ|の(?:既往|所見|患者|症状|治療|投与|一覧)|[系類属科種型性症病炎湯丸散酸薬剤茶版体])"
)
"""What follows diseases and drugs, and no persons."""

_END_OF_TERM = re.compile(
    r".(?:細胞|神経|動脈|静脈|筋肉|[湯散飲茶丸膏酒皮仁姜朮枝翼鉤筎酸]|[一二三四五六七八九\d]号)$"
)
_REST_OF_TERM = re.compile(rf"{HAN}{{1,5}}?(?:細胞|[湯散飲茶丸])(?!{HAN})")
"""What follows the beginning of such a word: 安吉白茶."""

_MIXED = re.compile(rf"{HAN}{{1,2}}([ァ-ヴー]+)|([ァ-ヴー]+){HAN}")
_GAP = re.compile(r"[ ]{2,}|[\n\t]")
_LATIN_WORD = re.compile(r"(?:[ ]?[A-Z][a-z]+)+")
_LATIN = re.compile(r"[A-Za-z]")
_KATAKANA = re.compile(r"[ァ-ヴー]")


def decide(folded: str, tokens: Sequence[Token], spans: Sequence[Span], names: Lexicon) -> list[Span]:
    """Return the identifiers of a text, given all that rules and model have found."""
    terms = eponyms(folded)
    kept = [
        _complete(folded, span, names) if span.label == "NAME" else span
        for span in spans
        if span.label not in ("NAME", "ORG", "LOCATION") or not is_term(folded, span.start, span.end, terms)
    ]
    kept = [span for span in kept if span.rule != "context:hospital" or is_provider(folded[span.start : span.end])]
    kept = [span for span in kept if span.label != "LOCATION" or not PRODUCT_AFTER.match(folded, span.end)]
    kept = [span for span in kept if span.rule != "context:location" or not _is_country(folded, span)]
    kept = [span for span in kept if span.rule != "context:org" or is_employer(folded, span)]
    kept = [span for span in kept if span.label != "NAME" or _is_plausible(folded, tokens, span, names)]
    kept += [reading for span in kept if span.label == "NAME" for reading in readings(folded, span)]
    once = _joined(folded, resolve(kept))
    return resolve((*once, *_everywhere(folded, tokens, once, terms, names)))


def _is_country(folded: str, span: Span) -> bool:
    return folded[span.start : span.end].endswith("国") or folded.startswith("共和国", span.end)


def _joined(folded: str, spans: Sequence[Span]) -> list[Span]:
    """Join providers that only a space or a sign separates: 中島病院附属 なかじまクリニック."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last and last.label == span.label == "HOSPITAL" and _BETWEEN.fullmatch(folded, last.end, span.start):
            joined[-1] = replace(last, end=span.end)
        else:
            joined.append(span)
    return joined


def _complete(folded: str, span: Span, names: Lexicon) -> Span:
    """Return a name with the characters that clearly belong to it, up to a title, a space or a sign, and no others."""
    gap = _GAP.search(folded, span.start + 1, span.end)
    span = _without_title(folded, replace(span, end=gap.start()) if gap else span)
    end = span.end
    family = names.longest(folded, span.start, names.surnames)
    given = names.longest(folded, span.start + family, names.given) if family > 1 and span.start + family <= end else 0
    if given > 1 and re.fullmatch(rf"{HAN}+", folded[end - 1 : span.start + family + given]):
        end = max(end, span.start + family + given)
    rest = _REST_OF_NAME.match(folded, end)
    if (
        rest
        and re.fullmatch(HAN, folded[end - 1])
        and not _TITLE.match(folded, end)
        and end - span.start + len(rest[1]) <= 6
    ):
        end = rest.end(1)
    elif (
        (spaced := _GIVEN_AFTER_SPACE.match(folded, end))
        and folded[span.start : end] in names.surnames
        and spaced[1][1:] in names.given
    ):
        end = spaced.end(1)
    if _LATIN.match(folded[end - 1]) and (more := _LATIN_WORD.match(folded, end)):
        end = more.end()
    return replace(span, end=end)


def _without_title(folded: str, span: Span) -> Span:
    """Return a name without the title after it and the role or relation before it: 長女昭枝様."""
    text = folded[span.start : span.end]
    if text.isascii():
        return span
    title = _ENDS_IN_TITLE.search(text)
    role = ROLE_BEFORE.match(text)
    start = span.start + (role.end() if role and role.end() < len(text) else 0)
    end = span.start + title.start() if title and title.start() > _role_end(role) else span.end
    return replace(span, start=start, end=end) if start < end else span


def _role_end(role: "re.Match[str] | None") -> int:
    """Return where a role ends; 0 if there is none."""
    return role.end() if role else 0


def _is_plausible(folded: str, tokens: Sequence[Token], span: Span, names: Lexicon) -> bool:
    """Return whether a name that only the context suggests has the form of one."""
    if not span.rule.startswith("context"):
        return True
    text = folded[span.start : span.end]
    titled = bool(_TITLE.match(folded, span.end))
    if _is_cut_or_no_name(folded, span) or (not titled and _is_word(folded, tokens, span, names)):
        return False
    if (mixed := _MIXED.fullmatch(text)) and (mixed[1] or mixed[2]) not in names.given | names.surnames:
        return False  # 前カンファ
    words = re.findall(r"[A-Za-z]+", text)
    if words and not re.search(HAN, text):
        known = any(word.lower() in names.romaji_surnames or word.lower() in names.romaji_given for word in words)
        return known or (len(words) > 1 and all(word[0].isupper() for word in words))
    if titled and (_PERSONAL.match(folded, span.end) or not is_common(span.start, span.end, tokens)):
        return True
    if titled and text not in names.surnames:
        return False  # the word of a duty before that of a profession: 照会薬剤師
    return _has_name_inside(text, tokens, span, names)


def _is_cut_or_no_name(folded: str, span: Span) -> bool:
    """Return whether a span is no name in any context, or a piece of a word in katakana."""
    text = folded[span.start : span.end]
    if text[-1] in ",、" or not text.strip() or is_no_name(text) or PREFECTURE.match(text):
        return True
    if is_maker(folded, span.start, span.end):
        return True
    before, after = folded[span.start - 1 : span.start], folded[span.end : span.end + 1]
    if _KATAKANA.match(text[-1]) and (_KATAKANA.match(after) or after == "・"):
        return True
    return bool(_KATAKANA.match(text[0]) and before and _KATAKANA.match(before))


def _is_word(folded: str, tokens: Sequence[Token], span: Span, names: Lexicon) -> bool:
    """Return whether a span without a title is a disease, a drug or another common word."""
    text = folded[span.start : span.end]
    if len(text) == 1:
        return True
    if re.fullmatch(r"[ぁ-ゖー]+", text) and _ends_inside_word(span.end, tokens):
        return True
    if re.fullmatch("[ァ-ヴー]+", text) and is_common(span.start, span.end, tokens):
        return True  # タイム is also a name
    if text in names.surnames:
        return False
    if _THING_AFTER.match(folded, span.end) or _REST_OF_TERM.match(folded, span.end) or _is_term_by_end(text, names):
        return True
    return text not in names.given and is_common(span.start, span.end, tokens)


def _has_name_inside(text: str, tokens: Sequence[Token], span: Span, names: Lexicon) -> bool:
    """Return whether the lists or the dictionary have a part of a span as a name, or the dictionary lacks it."""
    family = names.longest(text, 0, names.surnames)
    if re.fullmatch(r"[ァ-ヴー ]+", text):
        return text in names.surnames or text in names.given or text[family:].strip() in names.given
    if family > 1 or "・" in text or (family and text[family:].strip() in names.given):
        return True
    return any(
        each.unknown or each.kind in ("姓", "名") or each.start < span.start or span.end < each.end
        for each in touching(tokens, span.start, span.end)
        if each.start < span.end and span.start < each.end and not each.text.isspace()
    )


def _ends_inside_word(end: int, tokens: Sequence[Token]) -> bool:
    return any(each.start < end < each.end for each in touching(tokens, end, end))


def _is_term_by_end(text: str, names: Lexicon) -> bool:
    """Return whether a word ends as drugs, plants and tissues do, and its end is no given name: 温清飲, 高山茶."""
    return bool(_END_OF_TERM.search(text)) and text[names.longest(text, 0, names.surnames) :] not in names.given


def parts(name: str, names: Lexicon) -> tuple[str, str]:
    """Return the surname and the given name of a full name; "" for what it lacks."""
    if " " in name:
        family, _, given = name.partition(" ")
        return family, given.strip()
    for size in range(min(4, len(name)), 0, -1):
        if name[:size] in names.surnames and (size == len(name) or name[size:] in names.given):
            return name[:size], name[size:]
    if name in names.given:
        return "", name
    size = names.longest(name, 0, names.surnames)
    return (name[:size], name[size:]) if size > 1 and len(name) - size in (2, 3) else ("", "")


def _everywhere(
    folded: str, tokens: Sequence[Token], spans: Sequence[Span], terms: Sequence[tuple[int, int]], names: Lexicon
) -> Iterator[Span]:
    """Yield further places of the names that were found with certainty, except inside medical terms."""
    known: set[str] = set()
    for span in spans:
        if span.label != "NAME":
            continue
        name = folded[span.start : span.end]
        family = names.longest(name, 0, names.surnames)
        if span.confidence == "likely" and not (family > 1 or _TITLE.match(folded, span.end)):
            continue
        known.add(name.replace(" ", ""))
        if span.confidence == "certain" or _TITLE.match(folded, span.end) or " " in name or len(name) > family > 1:
            known.update(parts(name, names))
    boundaries = {token.start for token in tokens} | {token.end for token in tokens}
    for name in sorted(known, key=lambda each: (-len(each), each)):
        if not any(map(str.isalpha, name)) or (name.isascii() and (len(name) < 3 or not name[0].isupper())):
            continue
        pattern = r"\s?".join(map(re.escape, name)) if len(name) > 3 else re.escape(name)
        for match in re.finditer(pattern, folded):
            titled = bool(_TITLE.match(folded, match.end()))
            whole = match.start() in boundaries and match.end() in boundaries
            if is_term(folded, match.start(), match.end(), terms) or re.match(
                r"[市区町村県駅]", folded[match.end() : match.end() + 1]
            ):
                continue
            alone = (
                len(name) == 1
                and bool(_ALONE.match(folded, match.end()))
                and folded[match.start() - 1 : match.start()] in _BEFORE_ALONE
            )
            if titled or alone or (whole and len(name) > 1 and re.search(HAN, name)) or len(name) > 3:
                yield Span(match.start(), match.end(), "NAME", "likely", "name:document")
