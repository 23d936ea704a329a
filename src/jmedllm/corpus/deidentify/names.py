"""Finds names of persons by rules: before titles, after roles, in kana beside kanji, and in half-width kana."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from jmedllm.corpus.deidentify.lexicon import Lexicon, to_katakana
from jmedllm.corpus.deidentify.spans import Span
from jmedllm.corpus.deidentify.titles import HAN, TITLE, is_no_name
from jmedllm.corpus.deidentify.tokens import Token, touching

_KATA = r"[ァ-ヴー]"
_HIRA = r"[ぁ-ゖー]"
_NO_UNIT = r"(?!(?<=\d)[年月日歳才時分代回階号床][ ])"
"""The end of a date or an age before a name: 5月1日 佐藤さん."""

_BEFORE_TITLE = re.compile(
    rf"((?<![一-龥々ァ-ヴーA-Za-z]){_NO_UNIT}{HAN}{{1,3}}[ ]?(?:{HAN}{{1,3}}|{_KATA}{{2,6}}|{_HIRA}{{2,6}})?"
    rf"|(?<![一-龥々ァ-ヴーぁ-んA-Za-z])(?:{_KATA}{{2,8}}|{_HIRA}{{2,5}}))\s?"
    rf"(さん|さま(?!で|ざま)|様|氏(?!名)|先生|殿(?!堂)|くん|君|ちゃん|夫人|Dr\.?)(?![一-龥])"
)
ROLE = (
    r"(?:主治医|担当医|担当|術者|執刀医?|第?[一二12]?助手|指導医|麻酔科?医?|(?:担当|受持|受け持ち|病棟|外来"
    r"|訪問)?看護師|外回り|器械出し|(?:担当)?薬剤師|読影医?|読影者|診断医|病理医|検査技師"
    r"|記載者?|記録者?|記入者|依頼医|紹介医|提出医|院長|施設長|病棟師長|師長|主任|管理者|責任者|通訳|助産師"
    r"|保健師|研修医|上級医|当直医?|救急隊長|署名|説明者|同席者?|立会人?|承認者|入力者|確認者"
    r"|漢字(?:氏名)?|病院長|理事長|所長|部長|科長|課長|室長|係長|事務長|技師長|校長|園長|社長|代表|担任|児名|新生児名"
    r"|本人署名|代理人?|代筆者?|通報者|目撃者|同伴者?|付添人?|運転者?|往診医|産業医|校医|嘱託医|細胞検査士"
    r"|臨床検査技師|面談者|対象者|人事|総務|事務|受付|運転|実施者|作成者|発行者|申請者|届出人|世帯主|宛先"
    r"|宛名"
    r"|文責|報告者|検査者|評価者|MSW|PSW|PT|OT|ST|CM|CE|ME|Ns|Nrs|Dr|ケアマネ(?:ジャー|ージャー)?|相談員"
    r"|理学療法士|作業療法士|言語聴覚士|管理栄養士|栄養士|臨床心理士|公認心理師"
    r"|(?:[一-龥]{1,5}の?)?(?:氏名|姓名|お名前|名前)|患者名?|利用者名?"
    r"|傷病者|受診者|キーパーソン|保護者|緊急連絡先"
    r"|妻|夫|長男|次男|三男|長女|次女|三女|実?父|実?母|義父|義母|兄|弟|姉|妹|祖父|祖母|後見人|配偶者)"
)
ROLE_BEFORE = re.compile(rf"{ROLE}[ ]?|(?:担当|当直|紹介|病棟|外来|専門)の?")
_WORD = (
    rf"(?:{HAN}{{1,4}}[ ](?!{ROLE}[ :：]){HAN}{{1,4}}|{HAN}{{1,3}}[ ]?(?:{_KATA}{{2,6}}|{_HIRA}{{2,6}})|{HAN}{{1,5}})"
)
_DEPARTMENT = rf"(?:{HAN}{{1,7}}(?:科|部|課|室)|病理|看護|薬剤|栄養|リハビリ|検査|事務)"
_AFTER_ROLE = re.compile(
    rf"((?:{ROLE}|(?<![一-龥]){_DEPARTMENT})(?:[（(](?:自署|署名|本人|漢字|代筆|続柄[^）)]{{0,4}})[）)])?"
    rf"|(?<![一-龥]){HAN}{{1,6}}(?:医師?|師|士|者|員|係|長|役|手)(?=[:：]))(\.?[ ]|[:：]\s{{0,3}}|\.|[ ]?["
    rf"|｜=＝\t][ ]?)"
    rf"({_WORD}(?:[、，・/][ ]?(?!{ROLE}|{_DEPARTMENT}){_WORD}){{0,5}})(?=$"
    rf"|[\s、。，,()（）/／・\]】」|｜]|様|殿|氏|より|に(?:報告|連絡|申し)|記)"
)
_SPREAD = re.compile(
    rf"(?:氏[ ]?名|姓[ ]?名|名[ ]?前|患[ ]?者[ "
    rf"]?名?)[)）】\]]?[ 　:：]{{1,6}}({HAN}(?:[ 　]{{1,2}}{HAN}){{2,5}})(?=$|[\s(（、。]|様|殿)"
)
"""A name with a space after each character: 氏 名　山 田 太 郎."""

_LISTED = re.compile(r"[・、/／&＆]")
_FURIGANA = re.compile(
    r"(?:フリガナ|ふりがな|カナ氏名|氏名カナ|(?<![ァ-ヴー])ヨミ"
    r"|(?<![ぁ-ん])よみ)[)）]?[\s:：]{0,3}([ァ-ヴーぁ-ゖ]{2,8}[ "
    r"]?[ァ-ヴーぁ-ゖ]{0,8}|[ｦ-ﾟ]+[ ]?[ｦ-ﾟ]*)"
)
KIN = (
    "(?:妻|夫|父|母|長男|次男|三男|長女|次女|三女|兄|弟|姉|妹|息子|娘|孫|叔父|叔母|伯父|伯母|婿|嫁|友人|知人|恋人"
    "|婚約者|家族|配偶者|実母|実父|義母|義父|祖母|祖父|姑|舅)"
)
_PROFESSION = (
    "(?:員|師|士|医|教諭|教員|技師|係|主事|隊員|部長|科長|課長|医長|院長|師長|室長|主任|係長|班長|会長|社長|園長"
    "|校長|所長|センター長|リーダー|ラボ)"
)
_PROFESSION_AFTER = re.compile(
    rf"{HAN}{{0,4}}{_PROFESSION}(?!{HAN})|(?:ME|CE|CDE|ICN|WOC|CW|SW|MSW|PSW|PT|OT|ST|CM|Ns|Nrs|Dr|Ph)(?![A-Za-z])"
    rf"|[（(](?:{HAN}{{0,6}}(?:師|士|医|員|者|長|係|記|調整|連携|支援|相談|薬剤部|看護部)|通訳|本人|代筆|代理|{KIN}|MSW|PT|OT|ST|CM|Ns|Dr|SW)[）)]"
    r"|(?:同席|立会|記載|記入|執刀|往診|診察(?!券|室|時)|訪室)"
)
_PROFESSION_BEFORE = re.compile(
    rf"{HAN}(?:{_PROFESSION}|長|隊|者|医)の?(?={HAN})|(?<!{HAN}){HAN}{{1,7}}[師士][ ]{{1,2}}(?={HAN})"
    rf"|(?:病院|センター|医院|クリニック|診療所|科|大学|病棟)の(?={HAN})"
    rf"|(?<![A-Za-z])(?:Ns|Nrs|Dr|PT|OT|ST|MSW|CM|PSW|CE|by)[. ]{{0,2}}(?={HAN})"
)
_DUTY = re.compile(
    r"(?:当直|日直|宿直|オンコール|リカバリー|リーダー|技工|器械|外回り|穿刺|返血|回診|診察|受付|夜勤|日勤"
    r"|準夜|深夜|介助|記録|挿管|処置|指示|確認|入力|監査|鑑査|調剤|投薬|採血|撮影|読影|司会|進行|書記"
    rf"|執刀|術者|助手|麻酔|担当|主治医|文責|署名|サイン|旧姓|窓口の|受付の|売店の)[:：]?[ ]?(?={HAN})"
)
_KIN_ALONE = re.compile(rf"(?<![一-龥]){KIN}({HAN})(?=[はがと、。(（])")
_NO_GIVEN = "親方側系子君様性児宅家達共等他歴型似譲"
"""Characters after a relation that are no name: 母親, 父方, 母子."""

_BEFORE_RELATION = re.compile(rf"(?<![一-龥])({HAN}{{1,3}})(?:様|さん|氏)[（(]{KIN}[）)]")
_AT_LINE_START = re.compile(rf"(?m)^[\[【<＜(（]({HAN}{{1,3}})[\]】>＞)）]")
_KANA_PAIR = re.compile(rf"(?<![ァ-ヴー]){_KATA}{{2,6}}[ ]{_KATA}{{2,6}}(?![ァ-ヴー])")
_HALF_KANA_NAMED = re.compile(
    rf"(?:氏名|患者名?|名前|様|ｶﾅ|ﾌﾘｶﾞﾅ|カナ)[:：]?[ ]?([ｦ-ﾟ]{{2,}}[ ]?[ｦ-ﾟ]{{2,}})|(?<![ｦ-ﾟ])((?!ｶﾅ"
    rf"|ﾌﾘｶﾞﾅ)[ｦ-ﾟ]{{2,}}[ ][ｦ-ﾟ]{{2,}})(?=[ "
    rf"]?[(（]{HAN}|[ ]?(?:様|殿|\d{{1,3}}[歳才]))"
)
_RELATIVE = re.compile(
    rf"{KIN}(?:[（(・:：の]|は、?)?({HAN}{{2,4}}|(?<=[（(]){HAN}(?=[）)])|{_KATA}{{2,5}}(?=さん|様|ちゃん"
    rf"|くん))(?=[）)、,。\s]|$|[がはをにとも](?!{HAN}?科)|さん|様|氏|ちゃん|くん|君)"
)
_QUOTED = re.compile(
    rf"「({HAN}{{1,3}})(?=[がはともに、](?!{HAN}{{2}}科)|さん|君|くん)"
    rf"|(?<![ァ-ヴー])({_KATA}{{2,5}})(?=[（(](?:{KIN}|友人|中学|高校|大学|職場|同僚|同級生|元夫|元妻|彼氏"
    rf"|彼女|孫))"
)
_IN_BRACKETS = re.compile(rf"[（(]({HAN}{{2,3}})[）)]")
_COMPANION = re.compile(
    rf"(?:{KIN}|交際相手|交際中|元[夫妻]|彼氏|彼女|内縁|里親|同級生|幼なじみ|友達|いとこ|従兄弟?|甥|姪|保証人"
    rf"|上司|部下|同僚|先輩|後輩|隣人|近所|隣家|隣室|職場|会社|担任|教師|主治医|担当|家主|大家|部長|師長|同室"
    rf"|ヘルパー|ケアマネ)の?(?={HAN})"
)
_TIME = re.compile(r"\d:\d\d[ ](?=[一-龥])")
_OBJECT = re.compile(
    rf"(?:(?<=[をは。、\n])|^)(?={HAN}{{1,3}}が(?:施行|担当|実施|確認|対応|行|執刀|説明|介助|処置|報告|交換"
    rf"|診察|同席|訪問|面談))"
)
_SENTENCE_BEGINS = re.compile(rf"(?:(?<=[。\n「])|^)(?={HAN}{{2,4}}(?:が(?=[^ん])|[:：]))")
_NAME_ENDS = re.compile(
    r"$|[\s、。，.()（）/／・\]】」:：]|から|まで|より|にて?(?=[^\s])|[がはをのもとへで]|氏|さん|様|先生|医師"
    r"|同席|記|ら(?=[がはにと])"
    r"|(?:了承|承認|確認|対応|報告|記載|記録|記入|実施|施行|診察|指示|訪室|訪問|介助|担当|連絡|説明|依頼|代行"
    r"|代診|立会|面談|来院|来訪|入電|受診|往診|処方|処置|交代|不在|退室|引継)(?:済み?|中|$|[\s、。()（）を])"
)
_GOES_ON = "長員者師士医係隊科室班中前所後時内外上下部用料式数元本会"
"""Surnames of one character that continue the word before them: 救急隊長, 調剤中."""

_BEFORE_NAMES = (
    (_PROFESSION_BEFORE, "name:profession"),
    (_DUTY, "name:duty"),
    (_COMPANION, "name:companion"),
    (_OBJECT, "name:subject"),
    (_TIME, "name:time"),
    (_SENTENCE_BEGINS, "name:subject"),
)
"""What comes before a name, in the order of the reports."""

_HIRAGANA_AFTER_KEY = re.compile(
    rf"(?:氏名|名前|患者名?|利用者名?)[ :：]{{1,3}}((?:{_HIRA}|{_KATA}){{2,6}}[ ](?:{_HIRA}"
    rf"|{_KATA}){{2,6}})(?=[（(\s、。様])"
)
_KANA_AFTER_KEY = re.compile(
    r"(?:氏名|姓名|名前|患者名?|傷病者|受診者|利用者)[:：]\s{0,3}([ァ-ヴー]{3,10}(?:[ "
    r"・][ァ-ヴー]{1,8}){0,2})(?=$|[\s(（、。様])"
)
_READING = re.compile(
    r"[ ]?[(（]([ァ-ヴーぁ-ゖ]{1,8}[ ・]?[ァ-ヴーぁ-ゖ]{1,8}|[A-Z][A-Za-z]+[ ,]{1,2}[A-Z][A-Za-z]+|[ｦ-ﾟ]+[ "
    r"]?[ｦ-ﾟ]*)[)）]"
)
_HALF_KANA = re.compile(r"(?<![ｦ-ﾟ])(?!ｶﾅ[ :：]|ﾌﾘｶﾞﾅ)[ｦ-ﾟ]{2,}(?:[ ][ｦ-ﾟ]{2,})?")
_LATIN_NAME = re.compile(r"(?<![A-Za-z])[A-Z][A-Za-z'-]+(?:(?:,?[ ]|\.[ ]?)[A-Z][A-Za-z'.-]*){1,3}")
_ROMAJI = re.compile(r"(?:(?:tch|ch|sh|ts|[kgnhbpmr]y|kk|ss|tt|pp|[kgsztdnhbpmrwjfy])?[aiueo]h?|n(?![aiueoy]))+")
"""Syllables of Japanese names in Latin letters."""

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
            or (
                match[2] in ("くん", "君", "ちゃん", "氏", "さん", "夫人")
                and not is_common(start, match.end(1), tokens)
            )
        ):
            yield Span(start, match.end(1), "NAME", "certain", "name:title")
    for match in _AFTER_ROLE.finditer(folded):
        yield from _after_role(match, names, tokens)
    for match in _HIRAGANA_AFTER_KEY.finditer(folded):
        yield Span(match.start(1), match.end(1), "NAME", "certain", "name:kana")
    for match in _KANA_AFTER_KEY.finditer(folded):
        yield Span(match.start(1), match.start(1) + len(match[1].rstrip()), "NAME", "certain", "name:kana")
    for match in _SPREAD.finditer(folded):
        yield Span(match.start(1), match.end(1), "NAME", "certain", "name:spread")
    for match in _FURIGANA.finditer(folded):
        yield Span(match.start(1), match.start(1) + len(match[1].rstrip()), "NAME", "certain", "name:reading")
    for match in _HALF_KANA.finditer(folded):
        if is_kana_name(unicodedata.normalize("NFKC", match[0]), names):
            yield Span(match.start(), match.end(), "NAME", "certain", "name:half-width")
    for match in _HALF_KANA_NAMED.finditer(folded):
        group = 1 if match[1] else 2
        yield Span(match.start(group), match.end(group), "NAME", "certain", "name:half-width")
    for match in _KANA_PAIR.finditer(folded):
        family, _, given = match[0].partition(" ")
        if family in names.surnames and given in names.given:
            yield Span(match.start(), match.end(), "NAME", "likely", "name:kana")
    for match in _LATIN_NAME.finditer(folded):
        parts = [part.lower() for part in re.findall(r"[A-Za-z]+", match[0])]
        if any(p in names.romaji_surnames for p in parts) and (
            any(p in names.romaji_given for p in parts[:1] + parts[-1:])
            or (len(parts) == 2 and all(map(_ROMAJI.fullmatch, parts)) and max(map(len, parts)) > 3)
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
        if (
            token.text in names.surnames
            and re.fullmatch(rf"{HAN}+", token.text)
            and not is_maker(folded, token.start, token.end)
        ):
            beside = bool(_PROFESSION_AFTER.match(folded, token.end)) and not is_no_name(token.text)
            if beside or (len(token.text) > 1 and token.kind == "姓"):
                yield Span(
                    token.start, token.end, "NAME", "likely", f"name:{'profession' if beside else 'dictionary'}"
                )
    for match in _KIN_ALONE.finditer(folded):
        if match[1] in names.given and match[1] not in _NO_GIVEN:
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:relative")
    for match in _BEFORE_RELATION.finditer(folded):
        if not is_no_name(match[1]):
            yield Span(match.start(1), match.end(1), "NAME", "certain", "name:title")
    for match in _AT_LINE_START.finditer(folded):
        if match[1] in names.surnames:
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:speaker")
    for match in _RELATIVE.finditer(folded):
        if is_like_name(match.start(1), match.end(1), tokens, names):
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:relative")
    for match in _QUOTED.finditer(folded):
        group = 1 if match[1] else 2
        if match[group] in names.given and not is_common(match.start(group), match.end(group), tokens):
            yield Span(match.start(group), match.end(group), "NAME", "likely", "name:given")
    yield from _in_list(folded, tokens, names)
    for match in _IN_BRACKETS.finditer(folded):
        if match[1] in names.given and not is_common(match.start(1), match.end(1), tokens):
            yield Span(match.start(1), match.end(1), "NAME", "likely", "name:brackets")
    for pattern, rule in _BEFORE_NAMES:
        for match in pattern.finditer(folded):
            at: int | None = match.end()
            while at is not None and (end := name_end(folded, at, names)) is not None:
                word = folded[at:end]
                if is_no_name(word) or (word not in names.surnames and is_common(at, end, tokens)):
                    break
                yield Span(at, end, "NAME", "likely", rule)
                at = end + 1 if folded[end : end + 1] in ("・", "、", "/", "／") else None


def _in_list(folded: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield the names of a list of surnames: 荒川・笠井で回診. Places that are surnames, too, are left: 広島・福岡."""
    edges = {token.start for token in tokens}
    places = {token.start for token in tokens if token.kind == "地名"}
    for token in tokens:
        if (token.start and folded[token.start - 1] not in " \n。、「（(:：【") or token.text[:1].isspace():
            continue
        found, at = [], token.start
        while at in edges and (size := names.longest(folded, at, names.surnames)) and re.match(HAN, folded[at]):
            found.append((at, at + size))
            at += size + 1
            if not _LISTED.match(folded, at - 1):
                break
        if len(found) > 1 and _NAME_ENDS.match(folded, found[-1][1]) and _is_list_of_names(folded, found, places):
            for start, end in found:
                yield Span(start, end, "NAME", "likely", "name:list")


def _is_list_of_names(folded: str, found: Sequence[tuple[int, int]], places: set[int]) -> bool:
    """Return whether most members have two characters and one is no place."""
    longer = sum(end - start > 1 for start, end in found)
    return longer * 2 >= len(found) and any(start not in places and end - start > 1 for start, end in found)


def is_like_name(start: int, end: int, tokens: Sequence[Token], names: Lexicon) -> bool:
    """Return whether a word is a given or full name: of the lists, or of no words of the dictionary that are longer
    than one character."""
    inside = [each for each in touching(tokens, start, end) if each.start < end and start < each.end]
    if any(each.start <= start and end <= each.end and _is_word(each) for each in inside):
        return False
    text = "".join(each.text for each in inside)
    family = names.longest(text, 0, names.surnames)
    return (
        text in names.given
        or (family > 0 and text[family:] in names.given)
        or all(len(each.text) == 1 or not _is_word(each) for each in inside)
    )


def _is_word(token: Token) -> bool:
    """Return whether the dictionary has a word, and not as a name."""
    return token.kind not in ("姓", "名") and not token.unknown


def is_maker(folded: str, start: int, end: int) -> bool:
    """Return whether a word is the maker in the name of a product: 錠5mg「持田」."""
    return folded[end : end + 1] == "」" and bool(
        re.match(r"[\dA-Za-zァ-ヴー錠液散末用剤mg%]「", folded[max(0, start - 2) : start])
    )


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
    pieces = list(re.finditer(_WORD, match[3]))
    if len(pieces) == 1 and (halves := match[3].split(" "))[1:] and _is_full_name(halves[0], names):
        pieces = list(re.finditer(r"[^ ]+", match[3]))  # two people: 稲田絢加 大橋衣未
    for word in pieces:
        start, end = match.start(3) + word.start(), match.start(3) + word.end()
        if not is_no_name(word[0]) and _may_be_name(
            word[0], names, start, tokens, colon=match[2].strip() in (":", "：")
        ):
            yield Span(start, end, "NAME", "certain", "name:role")


def _is_full_name(word: str, names: Lexicon) -> bool:
    """Return whether a word is a surname and a given name of the lists."""
    family = names.longest(word, 0, names.surnames)
    return 0 < family < len(word) and word[family:] in names.given


def _may_be_name(word: str, names: Lexicon, start: int, tokens: Sequence[Token], *, colon: bool = False) -> bool:
    """Return whether a word begins with a known name, or is no word that the dictionary has with another meaning."""
    bare = word.replace(" ", "")
    if " " in word and word.partition(" ")[0] in names.surnames:
        return True
    if bare not in names.surnames and is_common(start, start + len(word), tokens):
        return False  # 所見
    family = names.longest(bare, 0, names.surnames)
    if family and (family == len(bare) or bare[family:] in names.given or colon):
        return True
    if bare in names.given and len(bare) > 1:
        return True
    if family and " " not in word and len(bare) > 1 and is_like_name(start, start + len(word), tokens, names):
        return True
    inside = [
        each
        for each in touching(tokens, start, start + len(word))
        if each.start < start + len(word) and each.end > start and not each.text.isspace()
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
        for each in touching(tokens, start, end)
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
    title = re.compile(rf"\s?{TITLE}").match(folded, name.end)
    match = _READING.match(folded, title.end() if title else name.end)
    if match:
        yield Span(match.start(1), match.end(1), "NAME", "certain", "name:reading")
