"""Finds names of persons by rules: before titles, after roles, in kana beside kanji, and in half-width kana."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from jmedllm.corpus.deidentify.lexicon import Lexicon, to_katakana
from jmedllm.corpus.deidentify.spans import Span
from jmedllm.corpus.deidentify.tokens import Token

HAN = r"[一-龥々〆ヶ\U00020000-\U0003ffff]"
_KATA = r"[ァ-ヴー]"
_HIRA = r"[ぁ-ゖー]"
TITLE = (
    r"(?:さん|さま|様|氏|先生|医師|Dr\.?|殿|くん|君|ちゃん|看護師|看護主任|師長|主任|薬剤師|技師|教授|准教授"
    r"|院長|部長|医長|主治医|助産師|保健師|理学療法士|作業療法士"
    r"|言語聴覚士|栄養士|ケアマネ(?:ジャー|ージャー)?|MSW|PT|OT|ST|Ns\.?|Nrs|夫妻|家)"
)
_BEFORE_TITLE = re.compile(
    rf"((?<![一-龥々ァ-ヴーA-Za-z]){HAN}{{1,3}}[ ]?(?:{HAN}{{1,3}}|{_KATA}{{2,6}}|{_HIRA}{{2,6}})?"
    rf"|(?<![一-龥々ァ-ヴーぁ-んA-Za-z])(?:{_KATA}{{2,8}}|{_HIRA}{{2,5}}))\s?"
    rf"(さん|さま(?!で|ざま)|様|氏(?!名)|先生|殿(?!堂)|くん|君|ちゃん|Dr\.?)(?![一-龥])"
)
_NO_NAMES = (
    r"(?:患者|家族|ご家族|奥|皆|お子|子供|子ども|お客|神|王|仏|本人|ご本人|娘|息子|嫁|婿|妻|夫|父|母|兄|弟|姉"
    r"|妹|孫|祖父|祖母|叔父|叔母|伯父|伯母|親|両親|義母|義父|長男|次男"
    r"|三男|長女|次女|三女|主治医|担当|担当医|看護師|看護婦|医師|薬剤師|師長|院長|助産師|保健師|先方|利用者"
    r"|入所者|職員|研修医|学生|大家|隣|近所|店員|社長|会社|病院|何|多|同|一|別|異|仕"
    r"|模|有|無|上|下|左|右|前|後|今|昨|今日|昨日|明日|紹介|専門|外来|当直|担任|学校|先|若|外科|内科|整形"
    r"|眼科|皮膚科|小児科|産科|技師|介護士|ヘルパー|ケアマネ|相談員|各位|関係|業者"
    r"|貴|殿|両|諸|嬢|坊|赤|お|ご|み|たく|たくさ|じいさ|ばあさ|じい|ばあ|かあ|とう|にい|ねえ|おじ|おば|おかあ"
    r"|おとう|お母|お父|お兄|お姉|お祖母|お祖父|おばあ|おじい|赤ちゃ|こ|その|この|あの"
    r"|花嫁|患児|児|幼児|乳児|被害者|加害者|被検者|被験者|様々|有|王|仏|網目状|喘息|同|多|まち|ひと|だん|えん"
    r"|せ|ま|と)"
)
_NO_NAME_ENDS = (
    r"(?:患者|家族|主治医|担当医?|看護師|看護婦|医師|薬剤師|師長|院長|助産師|保健師|利用者|入所者|職員|研修医"
    r"|学生|社長|技師|介護士|ヘルパー|相談員|患児|乳児|被害者|奥|皆|屋|手|主|客)"
)
_NOT_A_NAME = re.compile(rf"{_NO_NAMES}|.*{_NO_NAME_ENDS}")


def is_no_name(word: str) -> bool:
    """Return whether a word before a title is that of a role or a relation, or part of another word: 奥様, 多様."""
    return bool(_NOT_A_NAME.fullmatch(word.strip()))


_ROLE = (
    r"(?:主治医|担当医|担当|術者|執刀医?|第?[一二12]?助手|指導医|麻酔科?医?|(?:担当|受持|受け持ち|病棟|外来"
    r"|訪問)?看護師|外回り|器械出し|(?:担当)?薬剤師|読影医?|読影者|診断医|病理医|検査技師"
    r"|記載者?|記録者?|記入者|依頼医|紹介医|提出医|院長|施設長|病棟師長|師長|主任|管理者|責任者|通訳|助産師"
    r"|保健師|研修医|上級医|当直医?|救急隊長|署名|説明者|同席者?|立会人?|承認者|入力者|確認者"
    r"|文責|報告者|検査者|評価者|MSW|PSW|PT|OT|ST|CM|CE|ME|Ns|Nrs|Dr|ケアマネ(?:ジャー|ージャー)?|相談員"
    r"|理学療法士|作業療法士|言語聴覚士|管理栄養士|栄養士|臨床心理士|公認心理師"
    r"|(?:患者|受診者|利用者|被保険者|本人|児の?|母の?|父の?)?(?:氏名|姓名|お名前|名前)|患者名?|利用者名?"
    r"|傷病者|受診者|キーパーソン|保護者|緊急連絡先"
    r"|妻|夫|長男|次男|三男|長女|次女|三女|実?父|実?母|義父|義母|兄|弟|姉|妹|祖父|祖母|後見人|配偶者)"
)
ROLE_BEFORE = re.compile(rf"{_ROLE}[ ]?|(?:担当|当直|紹介|病棟|外来|専門)の?")
_WORD = rf"(?:{HAN}{{1,4}}[ ]{HAN}{{1,4}}|{HAN}{{1,3}}[ ]?(?:{_KATA}{{2,6}}|{_HIRA}{{2,6}})|{HAN}{{1,5}})"
_DEPARTMENT = rf"(?:{HAN}{{1,7}}(?:科|部|課|室)|病理|看護|薬剤|栄養|リハビリ|検査|事務)"
_AFTER_ROLE = re.compile(
    rf"({_ROLE}|(?<![一-龥]){_DEPARTMENT})(\.?[ ]|[:：]\s{{0,3}}|\.)"
    rf"({_WORD}(?:[、，・/][ ]?(?!{_ROLE}|{_DEPARTMENT}){_WORD}){{0,5}})(?=$"
    rf"|[\s、。，()（）/／・\]】」]|様|殿|氏|より|に(?:報告|連絡|申し)|記)"
)
_FURIGANA = re.compile(
    r"(?:フリガナ|ふりがな|カナ氏名|氏名カナ|ヨミ|よみ)[)）]?[\s:：]{0,3}([ァ-ヴーぁ-ゖ]{2,8}[ "
    r"]?[ァ-ヴーぁ-ゖ]{0,8}|[ｦ-ﾟ]+[ ]?[ｦ-ﾟ]*)"
)
_PROFESSION = "(?:員|師|士|医|教諭|教員|技師|係|主事|隊員|部長|科長|課長)"
_PROFESSION_AFTER = re.compile(
    rf"{HAN}{{0,4}}{_PROFESSION}(?!{HAN})|(?:同席|立会|記載|記入|執刀|往診|診察(?!券|室|時)|訪室)"
)
_PROFESSION_BEFORE = re.compile(
    rf"{HAN}(?:{_PROFESSION}|長|隊|者|医)の?(?={HAN})"
    rf"|(?<![A-Za-z])(?:Ns|Nrs|Dr|PT|OT|ST|MSW|CM|PSW|CE|by)[. ]{{0,2}}(?={HAN})"
)
_DUTY = re.compile(
    r"(?:穿刺|返血|回診|診察|受付|夜勤|日勤|準夜|深夜|介助|記録|挿管|処置|指示|確認|入力|監査|鑑査|調剤|投薬|採血|撮影|読影|司会|進行|書記"
    rf"|執刀|術者|助手|麻酔|担当|主治医|文責|署名|サイン|旧姓|窓口の|受付の|売店の)[:：]?[ ]?(?={HAN})"
)
_KIN = (
    "(?:妻|夫|父|母|長男|次男|三男|長女|次女|三女|兄|弟|姉|妹|息子|娘|孫|叔父|叔母|伯父|伯母|婿|嫁|友人|知人|恋人"
    "|婚約者)"
)
_RELATIVE = re.compile(rf"{_KIN}[（(]({HAN}{{2,4}})[）)、,]")
_IN_BRACKETS = re.compile(rf"[（(]({HAN}{{2,3}})[）)]")
_COMPANION = re.compile(
    rf"(?:{_KIN}|上司|部下|同僚|先輩|後輩|隣人|担任|教師|主治医|担当|家主|大家|部長|師長|同室|ヘルパー|ケアマネ)の(?={HAN})"
)
_OBJECT = re.compile(
    rf"(?:(?<=[をは。、\n])|^)(?={HAN}{{1,3}}が(?:施行|担当|実施|確認|対応|行|執刀|説明|介助|処置|報告|交換|診察|同席|訪問|面談))"
)
_SENTENCE_BEGINS = re.compile(rf"(?:(?<=[。\n「])|^)(?={HAN}{{2,4}}(?:が(?=[^ん])|[:：]))")
_NAME_ENDS = re.compile(
    r"$|[\s、。，.()（）/／・\]】」:：]|から|まで|より|にて?(?=[^\s])|[がはをのもとへで]|氏|さん|様|先生|医師|同席|記|ら(?=[がはにと])"
)
_GOES_ON = "長員者師士医係隊科室班中前所後時内外上下部用料式数元本会"
"""Surnames of one character that continue the word before them: 救急隊長, 調剤中."""

_BEFORE_NAMES = (
    (_PROFESSION_BEFORE, "name:profession"),
    (_DUTY, "name:duty"),
    (_COMPANION, "name:companion"),
    (_OBJECT, "name:subject"),
    (_SENTENCE_BEGINS, "name:subject"),
)
"""What comes before a name, in the order of the reports."""

_KANA_AFTER_KEY = re.compile(
    r"(?:氏名|姓名|名前|患者名?|傷病者|受診者|利用者)[:：]\s{0,3}([ァ-ヴー]{3,10}(?:[ "
    r"・][ァ-ヴー]{1,8}){0,2})(?=$|[\s(（、。様])"
)
_READING = re.compile(
    r"[ ]?[(（]([ァ-ヴーぁ-ゖ]{2,8}[ ・]?[ァ-ヴーぁ-ゖ]{1,8}|[A-Z][A-Za-z]+[ ,]{1,2}[A-Z][A-Za-z]+|[ｦ-ﾟ]+[ "
    r"]?[ｦ-ﾟ]*)[)）]"
)
_HALF_KANA = re.compile(r"[ｦ-ﾟ]{2,}(?:[ ][ｦ-ﾟ]{2,})?")
_LATIN_NAME = re.compile(r"(?<![A-Za-z])[A-Z][A-Za-z'-]+(?:(?:,?[ ]|\.[ ]?)[A-Z][A-Za-z'.-]*){1,3}")
_INITIALS = re.compile(
    r"(?<![A-Za-z.])[A-Z][.・]\s?[A-Z]\.?(?=\s?(?:さん|様|氏|[、,]\s?\d{1,3}\s?歳|[(（]\d{1,3}\s?歳))"
)
_KATA_FOREIGN = re.compile(
    rf"(?<![ァ-ヴー・]){_KATA}{{2,}}(?:[・ ]{_KATA}{{1,}}){{1,3}}(?=\s?(?:さん|様|氏|先生|殿(?!堂)))"
)


def find_names(folded: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield names of persons in a text whose widths and kanji are folded."""
    yield from _in_dictionary(folded, tokens, names)
    for match in _BEFORE_TITLE.finditer(folded):
        role = ROLE_BEFORE.match(match[1])
        start = match.start(1) + (role.end() if role and role.end() < len(match[1]) else 0)
        word = folded[start : match.end(1)].strip()
        if not is_no_name(word) and (
            start > match.start(1)
            or _may_be_name(word, names, start, tokens)
            or (match[2] in ("くん", "君", "ちゃん", "氏", "さん") and not is_common(start, match.end(1), tokens))
        ):
            yield Span(start, match.end(1), "NAME", "certain", "name:title")
    for match in _AFTER_ROLE.finditer(folded):
        yield from _after_role(match, names, tokens)
    for match in _KANA_AFTER_KEY.finditer(folded):
        yield Span(match.start(1), match.start(1) + len(match[1].rstrip()), "NAME", "certain", "name:kana")
    for match in _FURIGANA.finditer(folded):
        yield Span(match.start(1), match.start(1) + len(match[1].rstrip()), "NAME", "certain", "name:reading")
    for match in _HALF_KANA.finditer(folded):
        if is_kana_name(unicodedata.normalize("NFKC", match[0]), names):
            yield Span(match.start(), match.end(), "NAME", "certain", "name:half-width")
    for match in _LATIN_NAME.finditer(folded):
        parts = [part.lower() for part in re.findall(r"[A-Za-z]+", match[0])]
        if any(p in names.romaji_surnames for p in parts) and any(
            p in names.romaji_given for p in parts[:1] + parts[-1:]
        ):
            yield Span(match.start(), match.end(), "NAME", "likely", "name:romaji")
    for pattern, rule in ((_INITIALS, "name:initials"), (_KATA_FOREIGN, "name:foreign")):
        for match in pattern.finditer(folded):
            yield Span(match.start(), match.end(), "NAME", "likely", rule)


def _in_dictionary(folded: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield surnames that the dictionary takes for such, and those beside the word of a profession: 救急隊内山.

    In 320,000 characters of examination items, 7 words are surnames by the dictionary and by the list. Those of one
    character, and those that are also other words, need the profession.
    """
    for token in tokens:
        if token.text in names.surnames and re.fullmatch(rf"{HAN}+", token.text):
            beside = bool(_PROFESSION_AFTER.match(folded, token.end))
            if beside or (len(token.text) > 1 and token.kind == "姓"):
                yield Span(
                    token.start, token.end, "NAME", "likely", f"name:{'profession' if beside else 'dictionary'}"
                )
    for match in _RELATIVE.finditer(folded):
        if match[1] in names.given or (not is_common(match.start(1), match.end(1), tokens) and len(match[1]) < 4):
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:relative")
    for match in _IN_BRACKETS.finditer(folded):
        if match[1] in names.given and not is_common(match.start(1), match.end(1), tokens):
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:brackets")
    for pattern, rule in _BEFORE_NAMES:
        for match in pattern.finditer(folded):
            at: int | None = match.end()
            while at is not None and (end := name_end(folded, at, names)) is not None:
                if folded[at:end] not in names.surnames and is_common(at, end, tokens):
                    break
                yield Span(at, end, "NAME", "likely", rule)
                at = end + 1 if folded[end : end + 1] in ("・", "、", "/", "／") else None


def name_end(folded: str, at: int, names: Lexicon) -> int | None:
    """Return the end of the surname, or the full name, that begins at `at` and ends as names do; None if none does."""
    size = names.longest(folded, at, names.surnames)
    if not size or (size == 1 and folded[at] in _GOES_ON):
        return None
    given = names.longest(folded, at + size, names.given)
    given = given if size > 1 or given > 1 else 0  # 所見, 関節 are no names
    return next((end for end in (at + size + given, at + size) if _NAME_ENDS.match(folded, end)), None)


def _after_role(match: "re.Match[str]", names: Lexicon, tokens: Sequence[Token]) -> Iterator[Span]:
    """Yield the names of a list after a role: 助手：佐藤、鈴木."""
    for word in re.finditer(_WORD, match[3]):
        start, end = match.start(3) + word.start(), match.start(3) + word.end()
        if not is_no_name(word[0]) and _may_be_name(
            word[0], names, start, tokens, colon=match[2].strip() in (":", "：")
        ):
            yield Span(start, end, "NAME", "certain", "name:role")


def _may_be_name(word: str, names: Lexicon, start: int, tokens: Sequence[Token], *, colon: bool = False) -> bool:
    """Return whether a word begins with a known name, or is no word that the dictionary has with another meaning."""
    bare = word.replace(" ", "")
    family = names.longest(bare, 0, names.surnames)
    if family and (family == len(bare) or bare[family:] in names.given or colon):
        return True
    if bare in names.given and len(bare) > 1:
        return True
    inside = [
        each for each in tokens if each.start < start + len(word) and each.end > start and not each.text.isspace()
    ]
    return bool(inside) and (
        all(each.kind in ("姓", "名") for each in inside)
        or (len(bare) > 1 and inside[0].kind in ("姓", "名"))
        or all(each.unknown for each in inside)
    )


def is_common(start: int, end: int, tokens: Sequence[Token]) -> bool:
    """Return whether a word is one that the dictionary has, and no name there."""
    return any(
        each.start <= start and each.end >= end and each.kind not in ("姓", "名") and not each.unknown
        for each in tokens
    )


def is_kana_name(text: str, names: Lexicon) -> bool:
    """Return whether kana are a surname and a given name of the lists."""
    kana = to_katakana(text)
    if " " in kana:
        family, _, given = kana.partition(" ")
        return family in names.surnames or given in names.given
    return any(kana[:at] in names.surnames and kana[at:] in names.given for at in range(2, len(kana) - 1))


def readings(folded: str, name: Span) -> Iterator[Span]:
    """Yield the reading in brackets after a name: 佐藤花子（さとう はなこ）."""
    match = _READING.match(folded, name.end)
    if match:
        yield Span(match.start(1), match.end(1), "NAME", "certain", "name:reading")
