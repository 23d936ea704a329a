"""Patterns of words that state, affirm, doubt or rule out an answer, in both languages.

The patterns apply to a text in which each mention of choices is replaced by the character `MENTION`. `_before` makes
patterns for the text in front of a mention, `_behind` for the text behind it.
"""

import re

MENTION = "\ue000"
"""A character of the private use area, which has no meaning in any text."""


def _any(*words: str) -> str:
    return "(?:" + "|".join(words) + ")"


def _search(*words: str) -> re.Pattern[str]:
    return re.compile(_any(*words), re.IGNORECASE)


_REACH = 100
"""Characters in front of a mention that are searched."""


class _Before:
    """Words at the end of a text. Only its last characters are searched, to save time."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern + "$", re.IGNORECASE)

    def search(self, text: str) -> re.Match[str] | None:
        """Find the words at the end of `text`."""
        if not text or text.endswith(MENTION):
            return None
        return self._pattern.search(text, max(0, len(text) - _REACH))

    def cut(self, text: str) -> str:
        """Remove the words from the end of `text`."""
        found = self.search(text)
        return text[: found.start()] if found else text


def _before(*words: str) -> _Before:
    return _Before(_any(*words))


def _behind(*words: str) -> re.Pattern[str]:
    # Closing quotes and brackets may precede particles and words.
    return re.compile(r"[\s\"'“”‘’」』》〉】\])}*_]*" + _any(*words), re.IGNORECASE)


FILLER = _Before(
    _any(
        r"[\s\"'“”‘’「『《〈【】\[({*_:=→>\-–—~、,・•●○]",
        "選択肢|選択枝|肢|記号は?|番号は?|残った",
        "おそらく|恐らく|多分|たぶん|やはり|明らかに|間違いなく|当然|まさに|はい|ええと?|えーと?|うーん|そうですね",
        "(?:以下|次|下記)の(?:通り|とおり|[2-5]つ|ふたつ|もの)(?:です|である|になります|となります)?。?",
        "[2-5二三]つで|ふたつで",
        r"(?<![a-z])(?:options?|choices?|letters?|the|both|either)",
        r"(?<![a-z])(?:following|as follows|therefore|thus|most likely|likely)",
        r"\b(?:probably|clearly|definitely|indeed|an?(?=\s*$))",
    )
    + "+"
)
"""Words that may be between a marker and its answer."""

SENTENCE_END = re.compile(r"[。!?\n;]|(?<![Aa]ns)\.(?=[\s\"')\]]|$)")

# Nouns that introduce the answer.
_JA_ANSWER = "(?<![不お誤])(?<!違う)(?:答え?|答案|こたえ|アンサー|御?回答|解答|正解|正答|結論|最終判断|選択)"
_ADJECTIVE = (
    r"(?:(?:single|only|one|most|final|correct|right|best|true|appropriate|suitable|accurate|likely|probable"
    r"|likeliest|chosen|selected|overall|remaining|and|two|three)\s+)*"
)
# With another word before it ("wrong answer", "second choice") a noun introduces something else.
_EN_OPENING = (
    r"(?:(?:^|[^\w\s'’-]\s*|[^\x00-\x7f]\s*|\b(?:so|thus|hence|therefore|then)\s+)"
    r"|\b(?:the|my|our|your|its)\s+)"
)
_EN_IS = r"(?:\s+(?:is|are|will be|should be|must be|has to be|be|remains?))"
_EN_OF = r"(?:\s+(?:to|for|here|in|letter|key|choice|option|now|among|of)\b[^.\n]{0,60}?)?"
_EN_NOUN = (
    r"(?:answers?|ans|options?|choices?|responses?|selections?|diagnos[ie]s|picks?|guess|bet|vote|verdict)"
    r"(?:\s*\([^()]{0,20}\))?"
)

# Properties of the right answer.
_JA_FITTING = _any(
    "正し|適切|適当|妥当|考えられ|考えやす|可能性が高|可能性の高|該当す|当てはま|あてはま",
    "疑われ|疑う|疑わし|選ぶ|選択す|ふさわし|有力|推奨され|優先",
)
_MEANS = "(?:drug|treatment|test|study|agent|therapy|investigation|modality|procedure)"
_MOST = "(?:最も|もっとも|一番)"
_EN_MOST = r"\bmost\s+(?:likely|appropriate|suitable|accurate|probable)\b"

ANSWER_IS = _before(
    _JA_ANSWER + "(?:の選択肢|選択肢|番号|肢)?(?:として)?(?:最も)?(?:適切なの|考えられるの|なの|となるの)?[はが]?",
    "(?<![とか])(?:実際は|実際には|正しくは|本当は|正確には)",
    # "Answer choices:" and "Options" introduce all of them.
    _EN_OPENING + _ADJECTIVE + _EN_NOUN + r"(?:\s+that best fits)?" + _EN_OF + _EN_IS,
    _EN_OPENING + _ADJECTIVE + r"(?:answers?|ans)\b(?:\s*\([^()]{0,20}\))?(?:\s+(?:key|letter))?",
    # FILLER removed the noun: "The best choice: C".
    _EN_OPENING + r"(?:\b(?:correct|right|best|final|chosen|selected|remaining|most|appropriate|suitable)\s*)+",
    r"(?:^|[^\w\s]\s*)(?:solution|key|conclusion|correction)",
    r"\bboxed|\bans[.)]",
    r"\b(?:i|i'd|i'll|i'm|i am|we|we'd|we'll|let's)\s+"
    r"(?:(?:would|will|should|must|can|therefore|thus|then|also)\s+)*"
    r"(?:choos(?:e|ing)|select(?:ing)?|pick(?:ing)?|go(?:ing)? (?:with|for)|opt(?:ing)? for|answer|conclude"
    r"|favou?r|lean(?:ing)? (?:to|towards?)|vote for|settle (?:on|for))",
    "(?:あえて|敢えて|強いて|しいて)(?:言|い)えば|(?:あえて|敢えて|強いて|しいて|どれか)?(?:選ぶ|選択する|選べと言われる|挙げる|答える)(?:のであれば|のなら|ならば?|とすれば|としたら|とすると)",
    r"(?:^\s*|\b(?:but|and|so|here|now|no|thus|hence|therefore)[\s,]+)+"
    r"(?:it is|it's|it must be|it should be|that is)",
    r"\b(?:leav(?:ing|es)(?: us)?(?: only)?(?: with)?|left with|by elimination)",
)
FIRST_CHOICE_IS = re.compile(r"\bfirst choice(?: is|:)?\s*$", re.IGNORECASE)
FIRST_OF_TWO_IS = _before(
    "(?:[1-9一二三]つ目|ひとつ目|ふたつ目|もう[1一]つ|第[1-9一二三])(?:の(?:答え|正解|選択肢))?は?"
)
THEREFORE = _before(
    "よって|したがって|従って|ゆえに|故に|以上より|以上から|以上により|∴|つまり|すなわち|結局|ので|ため|消去法で|(?<=[るいただすん])が",
    r"(?:^\s*|[.\n!;,]\s*)(?:so|thus|hence|therefore|in conclusion|ultimately)",
    r"[,;]\s+but",
    r"(?:^\s*|[,;]\s*)(?:it\s+)?(?:must be|should be|(?:has to|got to|gotta) be|(?:looks|seems|sounds) like"
    r"|(?:i'm )?going with)",
    r"\bi(?:'d| would)?\s+(?:think|believe|guess|suspect|say)(?:\s+that)?(?:\s+(?:it is|it's|it must be))?",
)
# FILLER removes these words too, so that "the answer is therefore" is also a marker.
THEREFORE_ITSELF = re.compile(
    r"(?:^|[.\n!;,]\s*)(?:therefore|thus|definitely|clearly|probably|certainly|surely"
    r"|(?:most )?likely)[\s,(\"'*:]*$",
    re.IGNORECASE,
)
LIKELIEST_IS = _before(
    _JA_FITTING + r"[^。、\n]{0,15}?は(?:、[^。、\n]{0,12}の)?",
    "診断名?は",
    r"(?<!second )(?<!second-)(?<!next )\bbest\b[^.,\n]{0,30}?\s(?:is|would be)(?:\s+to)?",
    rf"\b(?:next (?:best )?step|{_MEANS} of choice)"
    r"\b[^.,\n]{0,40}?\s(?:is|would be)(?:\s+to)?",
    r"\b(?:should|must)(?:\s+(?:now|first|then|next|immediately))?"
    r"(?:\s+(?:receive|get|have|undergo|be given|be started on|be treated with))?",
    "(?:" + _EN_MOST + r"[^.\n]{0,40}?|\bdiagnosis)\s+(?:is|are|would be)",
    _EN_OPENING + _ADJECTIVE + _EN_NOUN + _EN_OF + r"\s+would be",
)
WRONG_IS = _before(
    "(?:誤っ|誤り|不適|間違|正しくな|適切でな|適切ではな|当てはまらな|該当しな)[^。、\n]{0,12}?は",
    "(?:誤っている|正しくない|適切でない|間違っている)(?:選択肢|もの)",
    r"\b(?:incorrect|false|wrong|untrue)\s+(?:statement|one)\s+is",
)
IS_ANSWER = _behind(
    "(?:の選択肢|の方)?(?:が|こそ|こそが)[、,]?" + _MOST + "?(?:本問の|この問題の|唯一の?)*"
    "(?:正解|正答|答え|解答|最適|適切な(?:選択肢|答|回答|解答)|正しい(?:選択肢|答|解答))",
    "(?:の選択肢|の方)?[はも](?:正解|正答)",
    "[をも](?:選択|選[びぶばんべ]|回答|解答|答え|推[すしさ])|[がは]例外|"
    "[にと](?:決定|結論|判断|断定|回答|解答|答え|変更|訂正|修正)",
    "(?:に(?:なります|なる|します|する)|と(?:します|する))(?:。|$)",
    "(?:のみ|だけ)?が残(?:る|ります|った)",
    "で(?:間違い|相違|まちがい)(?:ない|ありません|なし|ございません)(?!か)|しか(?:考えられ|あり得|ありえ)?(?:ない|ません|ありません)",
    "一択|に一票|に決め(?:た|ま)|で(?:お願い|決まり)",
    r"it is(?=\W*$)|(?:is|are|would be|seems|appears|remains|must be|(?:seems|appears|looks) to be"
    r"|(?:looks|seems|sounds) like)\s+"
    r"(?:(?:clearly|therefore|thus|indeed|likely|probably|definitely)\s+)?(?:(?:our|my|your|the)\s+)*"
    r"(?:(?:single |only )?(?:"
    + _EN_MOST
    + r"|best|correct|right|final)\s+)?(?:answers?|options?|choices?|diagnosis|exception|odd one out)\b",
)
ALL_OTHERS_WRONG = _behind(
    "以外(?:の選択肢|のもの)?[はにも]?、?(?:すべて|全て|いずれも|みな|全部)?"
    "(?:誤|不正|不適|間違|×|(?:該当|当てはま|適当|考えられ|あり[得え])[^。、\n]{0,10}(?:な[いく]|ません|ず))"
)
IS_LIKELIEST = _behind(
    "(?:の選択肢)?(?:が|は|を|の可能性が|の方が)?[、,]?"
    + _MOST
    + "(?:可能性|適切|適当|妥当|考え|疑|有力|正し|高|ふさわし|該当|当て)",
    "の可能性が高|の(?:方|ほう)が(?:よく|より|もっとも|最も)?(?:合[うい致]|適|妥当|近い)",
    "と(?:考え(?:ます|る(?!と|の[はが]|人)|られます|られる(?!が))|思い?(?:ます|う(?!かも)))",
    rf"[^.\n{MENTION}]{{0,60}}?\b(?:is|remains) (?:the )?"
    rf"{_MEANS} of choice",
)
IS_RIGHT = _behind(
    r"(?:の選択肢|の方|のみ|だけ)?[はがも][、,]?\s*(?:正し|適切|適当|妥当|該当|当てはま|あてはま|考えられ|疑われ|疑わし)",
    r"(?:(?:is|are|seems|looks|fits)\s+)?(?:(?:also|both|indeed|clearly|the)\s+)*"
    r"(?:correct|right|true|best|better|(?:most )?appropriate|most likely)\b",
)
ASSERTED = _behind(r"(?:to|for) me\b|です|だ(?!が)|である|となる|となります|になる|になります|が正|を選|[。.!]|$|\n")

# Judgements behind a label, as in a table: "c: 正しい", "C. Heparin - Incorrect", "c. ○".
_GAP = (
    r"[\s\"'“”‘’」』》〉】\])}*_.。?:：=→>\-–—(\[|]*(?:は|が|も|の選択肢は)?[、,:：\s]*"
    r"(?:(?:これ|それ)[がは]|this is |it is |that is |is |are )?"
    r"(?:(?:the|a|最も|すべて|いずれも|どちらも|共に|ともに|明らかに|all|also|both|therefore|clearly|simply|thus)"
    r" ?)*"
)


def _judgement(*words: str) -> re.Pattern[str]:
    return re.compile(_GAP + _any(*words), re.IGNORECASE)


_REST = r"(?=[.。!;,]|\W*(?:$|because|since|as\b|ので|ため|理由))"
NOT_THE_ANSWER = _judgement(
    "不正解|誤答|答えではな|正解ではな",
    r"not (?:the|an?) (?:\w+ )?(?:answer|choice|option)|(?:wrong|incorrect|bad) (?:answer|choice|option)",
)
IS_FALSE = _judgement(
    r"[×✗✘❌✕]|誤|間違|不適|正しくな|適切で(?:は)?な|incorrect|wrong|false\b|inappropriate",
    r"not (?:correct|true|appropriate|right|indicated)\b|no" + _REST,
)
THE_ANSWER = _judgement(
    "(?:正解|正答|答え?)(?!を|の|が|に)|◎",
    r"(?:correct |right |best |final )?(?:answer|choice)\b",
    r"(?:correct|right|best) option\b",
)
IS_TRUE = _judgement(
    r"[○◯〇✓✔✅⭕]|(?:正しい|正しく|正しいです|適切|適当|妥当)" + r"(?=$|[\s。、,.!です)」|])|正(?=$|[\s。、,.|)])",
    r"(?:correct|right|true|appropriate)\b|yes" + _REST,
)
SIGN_BEFORE = re.compile(r"(?:(?P<yes>[○◯〇✓✔✅⭕])|(?P<no>[×✗✘❌✕]))\s*$")
FINAL_JUDGEMENT = re.compile(
    r"(?:これ|こちら|それ|よって|したがって、?)[がは、]?(?:本問の)?(?:正解|正答|答え)(?:です|である|となる)?$"
    r"|\b(?:this|it) is (?:therefore |thus )?the (?:correct |right |best )?(?:answer|choice|option)$"
    r"|^→\s*(?:正解|正答|答え)$",
    re.IGNORECASE,
)
"""The end of a line, or a separate line, about the choice at the beginning of that line or of the line above."""

# Words that negate a clause, or make it say nothing about the answer.
_EN_NOT = (
    r"\bnot\b|n't\b|\b(?:never|neither|nor|hardly|rarely|cannot|unlike|except|least|worst|wrong|incorrect|unlikely)\b"
    r"|\b(?:less likely|rather than|instead of|other than|anything but|none of|inferior|no longer|far from)\b"
    r"|\b(?:exclud|eliminat|discard|reject|avoid|mistak)\w*|\brul\w+ out|\bfalse\b"
)
DENIED_BEFORE = _search(
    _EN_NOT,
    r"\b(?:nobody|no one|few|many|some|others|tempt\w*|students?|people|users?|you|they|he|she|one)\b(?=[^,]*\b(?:"
    r"may|might|would|could|thinks?|thought|says?|said|believes?|chose|choose|claims?|tempted|answer\w*)\b)",
    r"\b(?:although|though|while|whereas|for reference|for example|e\.g\.|often|usually|sometimes|was|were)\b",
    r"\b(?:compared (?:with|to)|distractors?|alternatives?|as opposed to|misled)\b",
    "(?:不正解|誤答|誤り|誤っ|除外|不適切|否定|間違[いっえ]|違い|違う|(?:考え)?にくい|可能性[がの]低い|低いの)",
    "(?:必要の|可能性の|適切で|正しく)ない(?:の|もの|選択肢|肢)?は?$|消去(?!法)",
)
SUPPOSED_BEFORE = _search(
    r"\bif\b|\bwhether\b|\bwhy\b|\bsuppos(?:e|ing)\b|\bunless\b|\bassum(?:e|ing)\b|\bat first\b|\binitially\b",
    r"\bhad\b[^.]*\bwould\b|\bin case of\b|\bwould [^.]* be\b|\bis it\b|\bis (?:the )?(?:correct )?answer\b",
    r"\bbefore (?:you|we|i|one|\w+ing)\b",
    "もし|仮に|なぜ|どうして|当初|最初は|初め(?:は|に)?$|はじめは|一見|かつて",
)
CANNOT = re.compile(
    r"\b(?:cannot|can't|can not|could not|couldn't|unable to"
    r"|(?:not|im)\s?possible to|don't know|do not know|not sure|unsure)\b",
    re.IGNORECASE,
)
AFFIRMED_TWICE = re.compile(
    r"間違い(?:は)?(?:な|あり)|相違な|(?:他|ほか)な(?:らな|りませ)|疑いな|なければな|ざるを得な|違いな(?!く)|に違いあり"
    r"|と言って(?:も)?よ|not only|しか(?:考えられ|あり得|ありえ)?(?:ない|ません|ありません)"
    r"|(?:では?|じゃ)ない(?:でしょう|だろう)か\??|(?:では?|じゃ)ないか(?:と(?:思(?!った|いました)|考え(?!た|まし)|推|疑)|(?=$|。|な))"
    r"|\bif (?:it|the question|this) (?:is|was) asking|\bif (?:i )?(?:had to|have to|forced to|must)"
)
"""Negations and conditions that affirm."""
DENIED_BEHIND = _search(
    "ない|なく(?!と)|なかっ|ません|ず(?=[、。に]|$)|誤(?!嚥)|間違|違[いうっ]|不正|不適|低い|低く|困難|難[しい]",
    "否定|除外|除[かくけい]|外[れしす]|消去|不要|禁忌|以外|にくい|にくく|異な|矛盾|限ら|はずが|ありえ|考えにく",
    "[×✗✘❌]|かどうか|か否か|か(?:は|を)?(?:わか|分か|判断)|迷[いうっ]|との鑑別|より(?!は?高)|の前に",
)
SUPPOSED_BEHIND = _search(
    "と思(?:いました|った|われました|われた|われがち|われる(?:が|けれど))|なら|とすると|だとす|であれば|場合",
    "が正しいか|が正解か|(?:よう|そう)に(?:見え|思え)|に思え|がち|という(?:人|意見|説|考え)|人もい|受験者|人が|人は",
    "た人|^の(?:反対|逆)|たくなる|かもしれ|可能性も|ですか|でしょうか|だろうか|か$|か。",
)
WRONGLY = re.compile(r"[\s\"')]*,? which (?:is|was) (?:wrong|incorrect|not|false)", re.IGNORECASE)
_EN_DENIED_BEHIND = (
    r"only (?:for|in|if|when|as)|\bif\b|\bunless\b|\bwhen\b|\bin (?:acs|case)|\bfollowed by\b|\bout\b"
    r"|contraindicated|irrelevant|unrelated|\bmight\b|\bwould be (?:the )?(?:answer|wrong|right)"
    r"|\bsecond\b|\b(?:to|of|for) (?:a |an |some |the )?(?:different|another|other|next|previous) question"
    r"|\bless (?:appropriate|suitable|common)|\bworse\b"
)
EN_DENIED_BEHIND = _search(_EN_NOT, _EN_DENIED_BEHIND)
CLAUSE_END_BEHIND = re.compile(
    r"[、,。(;]|であり|であって|です(?!か)|だ[。、が](?!と)|である(?=[。、が])|ため|ので|から|\b(?:because|since|due|given|although|whereas|while)\b|$"
)
"""The end of the statement about a mention; reasons or other mentions follow."""
LINKS_NEXT = re.compile(
    r"(?:[\s,]|\b(?:but|and|or|is|are|it|even)\b"
    r"|\b(?:not|rather than|instead of|over|unlike|nor|than|excluding|option|except|more than)\b)+$",
    re.IGNORECASE,
)
"""Words that rule out the next mention, not the one before."""
CLAUSE_START = re.compile(
    r"[,、;()（）]|\b(?:so|because|since|but|however|therefore|thus|hence)\b|ため|ので|から(?!は)|が、|すると",
    re.IGNORECASE,
)
NEW_THOUGHT = re.compile(r"[()（）;]|\b(?:but|however)\b|が、|しかし", re.IGNORECASE)
CONTRAST = re.compile(
    r"[\s\"'」』)]*(?:(?:の[^。、\n]{1,12})?(?:で(?:は)?|じゃ|でも)なく(?:て)?[、,]?|よりも?(?:、|は)?"
    r"|というより[はも]?、?|,?\s*but(?: rather)?\b)"
    r"[\s\"'「『(]*(?:むしろ|選択肢|options?)?\s*"
)
"""Words between a choice that is not the answer and one that is: "Aではなく" C, "not A but" C."""
RANGE = re.compile(r"\s*(?:[〜~\-–—]|から|to|through|thru)\s*")

CORRECTION = re.compile(
    r"(?:\b(?:wait|correction|scratch that|on second thought|let me (?:re-?think|reconsider|correct)"
    r"|i made (?:a|an) (?:mistake|error)|i was wrong)\b"
    r"|(?:^|(?<=[.!?\n])\s*)(?:actually|sorry)\b|(?<=[.,!?\n])\s*no(?=, (?:it|the|i)\b|:|,? answer)"
    r"|いや、|いえ、|待って[。、]|訂正(?=し|:|、|。)|間違えました|間違いでした|見直した結果|再考(?:した結果|すると|の結果)|考え直(?:した結果|すと|して))"
    r"[\s,、。.:;!すると]*(?:no\b|actually\b|いや、|しま(?:す|した)|that's wrong)?[\s,、。.:;!]*",
    re.IGNORECASE | re.MULTILINE,
)
"""Words after which the text corrects what it said before."""

NEGATIVE_STEM = re.compile(
    r"誤|適切でない|適切ではない|正しくない|当てはまらない|該当しない|でないの"
    r"|\b(?:except|not|false|incorrect)\b",
    re.IGNORECASE,
)
"""Questions that ask for a wrong statement."""

NAMED = re.compile(r"(?:選択肢|options?|choices?|answers?|letters?|肢|番号)[\s(\"'「]*$", re.IGNORECASE)
OPENING = re.compile(
    r"\b(?:so|thus|hence|therefore|that|think|believe|only|and|then|is|both|say|here|or|actually|but|while|if|definitely|certainly|be|like|with"
    r"|text|case|question|scenario|vignette|image|data|information|above|below|choose|pick|select|guess) $",
    re.IGNORECASE,
)
"""Words after which a letter is a label, not the end of a name such as "vitamin C"."""
INCIDENTAL = _search(
    "既往|病歴|家族歴|歴が|歴の|治療中|内服|服用|合併|投与中|通院",
    "^(?:のは|とは|などの|による)",
    r"\bhistory of\b|\b(?:is|are|was|been|already) on\b|\b(?:takes?|taking|took|received|allergic to)\b"
    r"|\bpreviously\b",
)
"""Statements about the patient, not about the answer."""
BARE = re.compile(
    r"[\s\"'」』)】]*番?(?:(?:です|だ|である|でしょう|となります|となる|だろう|だと(?:思|考え)(?:う|います|えます|える|られる|られます))"
    r"(?:ね|よ)?|(?:では?|じゃ)ない(?:でしょう|だろう)か\??|(?:では?|じゃ)ないかと(?:思|考え|推測)(?:う|います|える|えます|られる|されます|ます|する|します)|!)[。.!\n]*"
)
"""Words that make a mention a complete sentence."""
RECONSIDERED = re.compile(
    r"\b(?:but|however|wait|hmm|although|though|yet|alternatively)\b|しかし|だが|ただ|一方|が、|けれど|とはいえ",
    re.IGNORECASE,
)
"""Words that may revise a conclusion in a text that was cut off."""
