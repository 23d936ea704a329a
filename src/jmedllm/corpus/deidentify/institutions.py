"""Finds hospitals and other providers, wards, and employers and schools, by the words that their names end with."""

import re
from collections.abc import Iterator, Sequence

from jmedllm.corpus.deidentify.addresses import municipality_at, short_municipalities
from jmedllm.corpus.deidentify.lexicon import Lexicon
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.tokens import Token, touching

_LEGAL = (
    r"(?:(?:特定|社会)?医療法人(?:社団|財団)?|社会福祉法人|独立行政法人|地方独立行政法人|国立研究開発法人"
    r"|公益(?:社団|財団)法人|一般(?:社団|財団)法人"
    r"|学校法人|国立大学法人|公立大学法人|国家公務員共済組合連合会|宗教法人|生活協同組合|企業組合|(?:株式"
    r"|有限|合同)会社)"
)
_PROVIDER = re.compile(
    r"(?:病院(?!機構)|醫院|医院|クリニ[ッツ]?[クー]ク?|診療所|医療センター|医療ｾﾝﾀｰ|(?:がん|こども|小児|母子|周産期"
    r"|健診|健康管理|福祉|療育|リハビリ(?:テーション)?|透析|循環器病?"
    r"|呼吸器病?|脳卒中|精神(?:保健福祉)?|成人病|救命救急|女性|眼科|画像診断)センター|療養所|療育園"
    r"|薬局(?!方)|調剤薬局|助産院|整骨院|接骨院|鍼灸院|保健所|保健センター"
    r"|(?i:clinic|hospital)|デンタルオフィス|歯科(?!衛生|技工|医師|口腔|治療|受診))"
)
_DEPARTMENT = (
    r"(?:消化器|循環器|呼吸器|脳神経|脳|整形|形成|美容|心臓血管|血管|乳腺|肛門|胃腸|大腸|内視鏡|糖尿病|内分泌"
    r"|代謝|腎臓?|リウマチ|アレルギー|血液|腫瘍"
    r"|小児|産婦人?|婦人|産|眼|皮膚|皮フ|皮ふ|ひふ|耳鼻(?:咽喉|いんこう)?|泌尿器|精神|心療|神経|麻酔|放射線"
    r"|リハビリ(?:テーション)?|(?<!ス)ペイン|歯|口腔|在宅|訪問|総合"
    r"|老年|人工透析|透析|スポーツ|漢方|一般|外来|救急|こども|レディース|女性)"
)
_PRACTICE = re.compile(rf"(?:{_DEPARTMENT}*(?:内|外|{_DEPARTMENT})(?:科|か)(?:外科|内科)?)+")
_ANY_PROVIDER = re.compile(r"センター|医療|法人|健診|ホーム|ステーション|施設|[苑園荘]$|薬局|老健|特養")
_PREFIXED = re.compile(
    r"(?:特別養護老人ホーム|養護老人ホーム|介護付?有料老人ホーム|有料老人ホーム|老人ホーム|介護老人(?:保健"
    r"|福祉)施設|老人保健施設|老健|特養|介護医療院"
    r"|グループホーム|ケアハウス|サービス付き高齢者向け住宅|デイサービス(?:センター)?|デイケア"
    r"|小規模多機能(?:型居宅介護)?|ケアプランセンター|居宅介護支援事業所"
    r"|(?:訪問看護|看護|ケア|ヘルパー)ステーション|地域包括支援センター|(?:障害者)?支援施設|児童養護施設|作業所)"
)
_COMPANY = re.compile(
    r"(?:株式会社|有限会社|合同会社|小学校|中学校|高等学校|高校|中等教育学校|特別支援学校|大学院|大学(?!病院"
    r"|生|図書|入試|名誉|教授|卒)|専門学校|幼稚園|保育園|保育所|こども園|製作所"
    r"|建設|工業|運送|商事|銀行|信用金庫|工務店|電機|自動車|食品|物産|印刷|運輸|交通|鉄道|不動産|証券"
    r"|化学|商店|商会|市役所|区役所|町役場|村役場|県庁|消防署|警察署|郵便局|農協)(?!方式|[式法]|分類|基準)"
    r"|水産|精機|産業|機械|金属工業|電子|通信|観光|タクシー|バス(?=株式|会社)|警備|塗装|鉄工所?|石油|ガス"
    r"|電力|生命|損保|紡績|造船|製鉄|製紙"
    r"|新聞社?|放送局?|協同組合|事務所|学園|学院|牧場|農園|ストア|マート|ホテル|旅館|ロジスティクス"
    r"|ホールディングス|フーズ|リース|運輸|組(?![織合みえ換替])|法律事務所|サービス(?=株式|を|に)|システムズ?|テック"
)
_COMPANY_FIRST = re.compile(
    r"(?<![一-龥々ァ-ヴーA-Za-z])(?:株式|有限|合同)会社\s?[^\s、。，"
    r"．,()（）「」:：;\n]{1,14}?(?=[\sにをはがでのへと、。，．,()（）「」:：;\n]|勤務|社員|$)"
)
_WORKS_AT = re.compile(
    r"(?:勤務先|職場|就業先|勤め先|学校|通学先|通園先|所属|職業|会社員|社員|パート|アルバイト)[^。\n]{0,4}$"
)
_WORKS_THERE = re.compile(
    r"[（(]?(?:に|を|へ|の)?(?:[\d/.年月末頃]{0,9}に?)?(?:勤務|勤め|入社|退職|就職|転職|通う|通って|休職|健診"
    r"|産業医|社員|通い|で(?:技能)?実習|で働|を経営|には?戻|に復帰|に復職)"
)
_SCHOOL = re.compile("株式会社|有限会社|合同会社|小学校|中学校|高等学校|高校|幼稚園|保育園|こども園|専門学校")
_FOREIGN = re.compile(r"[ァ-ヴー・＝=A-Za-z ]+州?")
_MIDDLE = re.compile(
    r"(?:総合|中央|第[一二三]|記念|市民|厚生|赤十字|済生会|徳洲会|共立|協同|温泉|循環器|救急|医師会|労災"
    r"|社会保険|市立|町立|村立|県立|国際|地域|医療|南|北|東|西)+$"
)
_EMPLOYER = re.compile(
    r"(?:勤務先|職場|就業先|勤め先|学校名|通学先|通園先|所属|就労先|会社名)(?:名)?(?:[:：]\s{0,3}|[ "
    r"])([^\s、。，．,()（）「」:：;\n]{2,20}?)(?=[\s、。，．,()（）;\n]|勤務|$)"
)
_GENERIC = re.compile(
    r"^(?:当|他|近|前|同|本|各|某|両|別|その|この|あの|元|旧|新|総合|大学|専門|地域|近隣|一般|関連|協力|市中"
    r"|紹介元|搬送先|精神科?|救急|急性期|慢性期"
    r"|単科|拠点|支援|基幹|中核|地方|都市|診療|連携|系列|提携|教育|研修|施設|二次|三次|高次|民間|公立|公的"
    r"|国立|私立|市立|県立|都立|町立|村立|個人|有床|無床"
    r"|かかりつけ|家庭|付属|附属|中小|小規模|大規模|地元|近所|移転|複数|特定|機能|療養(?:型)?|感染症|指定"
    r"|医療機関|医科|歯科|医学部|開業|入院|通院|初診|転院|退院|保険"
    r"|調剤|院外|院内|門前|企業|日本|全国|動物|夜間|休日|急患|へき地|僻地|結核|ハンセン病|リハビリ"
    r"|リハビリテーション|内科|外科|眼科|小児科|産婦人科|皮膚科|整形外科|透析"
    r"|レディース|メンタル|デンタル|スポーツ|ファミリー|スキン|ホーム|メディカル|キッズ|ハート|オンライン"
    r"|サテライト|チェーン|ドラッグ|モール|プライマリ・?ケア|ストレスケア"
    r"|発熱|物忘れ|ワクチン|ペイン|フットケア|ストーマ|医療|高度|集中|がん(?:診療)?|ガン|癌|専攻|女子|短期"
    r"|国公立|理系|文系|義務|進学|食品|市販|一貫|医師会|先|側|数|多|大|小"
    r"|・|の|と|型|用|等|など|患者|職員|医師|看護師|\d|[、。\s])*$"
)
_NO_STATION = re.compile(
    r".*(?:最寄り?|各|同|当|始発|終着|無人|隣|近く?の?|地下鉄|電車の?|降車|乗換|途中の?|ある|道の|の)"
)
_STATION_END = re.compile(r"駅(?!伝|員|弁)")
_WARD = re.compile(
    r"(?<![A-Za-z\d/.-])(?:第?\d{1,2}(?:階[ -]?)?(?:[東西南北新本旧中][館棟]?|[A-F])?"
    r"|[東西南北][\s-]?\d{1,2}[A-F]?|[A-F]\d{0,2}|新?館?\d{1,2}[A-F])(?:階)?病棟"
    r"|(?<!\d)\d{3,4}\s?号(?:病?室|床)|(?:病室|部屋番号|ベッド番号|号室)\s?[:：]?\s?[A-Z]?\d{2,4}(?:-\d+)?(?!\d)"
)
_DEPARTMENTS_BEFORE = re.compile(
    rf"(?:{_DEPARTMENT}+(?:内科|外科|科)?[・、])*{_DEPARTMENT}*(?:内科|外科|科)[ ・]?$|総合病院 $"
)
_BRANCH = re.compile(
    r"[ ](?:[一-龥ぁ-んァ-ヴーA-Za-z\d]{1,8})店(?![一-龥])|[一-龥ぁ-んァ-ヴーA-Za-z\d]{0,10}?(?:店|分院|支店"
    r"|院|センター|診療所|病院|クリニック)(?![一-龥])"
)
_ENDS_NAME = re.compile(r"[\s、。，．,()（）「」『』【】\[\]:：;；<>＜＞/／=＝→⇒|■◆●○□\n「」~〜]")
_PROPER = {"固有名詞", "地名", "姓", "名"}
_OUTSIDE = {"助動詞", "動詞", "副詞", "連体詞", "接続詞", "感動詞"}
_KANJI = re.compile(r"[一-龥々]")
_LATIN_BEFORE = re.compile(r"[A-Za-z][A-Za-z&'.-]* $")
"""The last word before Clinic in Latin letters."""

_LONGEST_NAME = 100
"""Characters of the name after the kind of a home or a station."""

_HIRAGANA_BEFORE = re.compile(r"[ぁ-ゖ]{2,}$")


def find_institutions(folded: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield providers of care, wards, employers, schools and stations."""
    for pattern, label in (
        (_PROVIDER, "HOSPITAL"),
        (_PRACTICE, "HOSPITAL"),
        (_COMPANY, "ORG"),
        (_STATION_END, "LOCATION"),
    ):
        for match in pattern.finditer(folded):
            start = _name_start(folded, tokens, match.start(), names)
            core = folded[start : match.start()]
            if label == "ORG" and match[0].endswith("会社") and not core:
                continue
            if match[0] == "大学" and _FOREIGN.fullmatch(core) and not _works_there(folded, start, match.end()):
                continue  # Harvard and the like are seldom a patient's school
            if label == "ORG" and _SCHOOL.search(match[0]) and len(core) > 1 and not _GENERIC.match(core):
                yield Span(start, match.end(), "ORG", "likely", "institution:school")
                continue
            is_station = label == "LOCATION" and core and not _NO_STATION.fullmatch(core)
            if (
                label == "ORG"
                and len(core) > 1
                and not _GENERIC.match(core)
                and _works_there(folded, start, match.end())
            ):
                yield Span(start, match.end(), "ORG", "likely", "institution:employer")
                continue
            if not is_station and (
                _GENERIC.match(core)
                or not (
                    _is_proper(core, start, match.start(), tokens, names)
                    or (label == "HOSPITAL" and _is_made_up(folded, start, match.start(), tokens))
                )
            ):
                continue
            yield Span(
                _with_legal(folded, start),
                _branch_end(folded, match.end(), label),
                _as_label(label),
                "likely",
                f"institution:{label.lower()}",
            )
    for match in _PREFIXED.finditer(folded):
        end = _name_end(folded, tokens, match.end())
        start = _with_legal(folded, _name_start(folded, tokens, match.start(), names))
        if end > match.end():
            yield Span(start, end, "HOSPITAL", "likely", "institution:home")
    for match in _EMPLOYER.finditer(folded):
        yield Span(match.start(1), match.end(1), "ORG", "likely", "institution:employer")
    for match in _COMPANY_FIRST.finditer(folded):
        yield Span(match.start(), match.end(), "ORG", "likely", "institution:company")
    for match in _WARD.finditer(folded):
        yield Span(match.start(), match.end(), "WARD", "certain", "ward")


def is_employer(folded: str, span: Span) -> bool:
    """Return whether an employer or school that the context suggests has the form of one, or is called one."""
    return bool(_COMPANY.search(folded, span.start, span.end)) or _works_there(folded, span.start, span.end)


def _works_there(folded: str, start: int, end: int) -> bool:
    return bool(_WORKS_AT.search(folded, max(0, start - 10), start) or _WORKS_THERE.match(folded, end))


def is_provider(text: str) -> bool:
    """Return whether a name has a word that names of providers have, and is no department: 消化器外科."""
    return not _PRACTICE.fullmatch(text) and bool(
        _PROVIDER.search(text) or _PRACTICE.search(text) or _PREFIXED.search(text) or _ANY_PROVIDER.search(text)
    )


def _as_label(label: str) -> Label:
    return {"HOSPITAL": "HOSPITAL", "ORG": "ORG", "LOCATION": "LOCATION"}[label]  # type: ignore[return-value]


def _name_start(folded: str, tokens: Sequence[Token], end: int, names: Lexicon) -> int:
    """Return where a name that ends at `end` begins: after a particle, a verb or a sign."""
    run = _HIRAGANA_BEFORE.search(folded, max(0, end - 8), end)
    if run:
        # Words of kana are cut anyhow by the dictionary: にすやま眼科. A reading of the lists is a surname.
        # 近くの眼科 has none: its first kana ends a word that begins in kanji.
        near = touching(tokens, run.start(), end)
        first = run.start() + bool(_KANJI.match(folded[run.start() - 1 : run.start()]))
        words = {each.start for each in near if each.end == end and each.part == "名詞" and end - each.start > 2}
        known = (at for at in range(first, end - 1) if folded[at:end] in names.surnames or at in words)
        begins = run.start() == 0 or bool(_ENDS_NAME.match(folded[run.start() - 1]))
        verbal = any(each.start == run.start() and each.part in _OUTSIDE for each in near)
        return next(known, run.start() if begins and not verbal and end - run.start() > 2 else end)
    latin = _LATIN_BEFORE.search(folded, max(0, end - 40), end)
    end = latin.start() if latin else end
    whole = next((each for each in touching(tokens, end, end) if each.start < end < each.end), None)
    start = whole.start if whole and not _ENDS_NAME.search(whole.text) else end
    for token in reversed([each for each in touching(tokens, end - 40, start) if end - 40 < each.end <= start]):
        if token.end < start or _ENDS_NAME.search(token.text) or token.part in _OUTSIDE:
            break
        if token.part == "助詞" and token.text not in ("の", "と", "ノ", "ヶ", "ケ"):
            break
        start = token.start
    # A name does not begin with a particle: 娘の病院.
    core = folded[start:end]
    while core[:1] in ("の", "と", "や", "・"):
        start, core = start + 1, core[1:]
    return start


def _name_end(folded: str, tokens: Sequence[Token], start: int) -> int:
    end = start
    for token in touching(tokens, start, start + _LONGEST_NAME):
        if token.start < start:
            continue
        if (
            token.start != end
            or _ENDS_NAME.search(token.text)
            or token.part in ("助詞", "助動詞", "動詞" if end > start else "", "名詞" if token.kind == "数詞" else "")
        ):
            break
        end = token.end
    return end


def _is_proper(core: str, start: int, end: int, tokens: Sequence[Token], names: Lexicon) -> bool:
    """Return whether a name has a proper noun, an unknown word or a municipality in it."""
    near = touching(tokens, start, end)
    inside = [each for each in near if each.start >= start and each.end <= end]
    return bool(core) and (
        core in names.surnames
        or (bare := _MIDDLE.sub("", core)) in names.surnames
        or bare in short_municipalities()
        or any(each.start <= start and end < each.end and each.kind in _PROPER for each in near)
        or any(each.kind in _PROPER or (each.unknown and len(each.text) > 1) for each in inside)
        or municipality_at(core, len(core)) is not None
    )


def _is_made_up(folded: str, start: int, end: int, tokens: Sequence[Token]) -> bool:
    """Return whether a word before 医院 names one: katakana, hiragana after a sign, or kanji that are no word."""
    core = folded[start:end]
    inside = [each for each in touching(tokens, start, end) if each.start >= start and each.end <= end]
    return bool(
        re.fullmatch(r"[ァ-ヴー]{2,}", core)
        or (re.fullmatch(r"[ぁ-ゖー]{2,}", core) and (start == 0 or _ENDS_NAME.match(folded[start - 1])))
        or (re.fullmatch(r"[一-龥々]{2,3}", core) and len(inside) == len(core))
    )


def _with_legal(folded: str, start: int) -> int:
    """Return the start with the legal form before it: 医療法人社団 慈聖会."""
    before = re.search(
        rf"{_LEGAL}\s?(?:[^\s、。，．,()（）「」:：;\n]{{1,12}}\s)?$", folded[max(0, start - 36) : start]
    )
    start = max(0, start - 36) + before.start() if before else start
    departments = _DEPARTMENTS_BEFORE.search(folded, max(0, start - 24), start)
    return departments.start() if departments else start


def _branch_end(folded: str, end: int, label: str) -> int:
    branch = _BRANCH.match(folded, end) if label == "HOSPITAL" else None
    return branch.end() if branch else end
