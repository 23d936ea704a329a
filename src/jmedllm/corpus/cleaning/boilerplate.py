"""Rules for lines that are not medical text: navigation, rights, and the footer of the pharmacopoeia.

The list is fixed. Lines that many documents share are not removed: most of those in 125 documents of a textbook are
its headings, and all of those in the pharmacopoeia are (性状, 純度試験).
"""

import re

from jmedllm.corpus.cleaning.rules import CleaningRule

_NAVIGATION = r"""
  ページの?(?:先頭|トップ|上)(?:へ|に)(?:戻る)?
| (?:トップ(?:ページ)?|一覧|目次|ホーム)(?:へ|に)戻る
| (?:本文|メニュー)(?:へ|に)(?:移動|スキップ)
| [<>＜＞«»←→▲△\s]{0,40}(?:前|次)の(?:ページ|記事|項目)(?:へ)?[<>＜＞«»←→\s]*
| (?:続き|もっと)を(?:読む|見る)
| サイトマップ
| お問い?合わ?せ(?:はこちら)?
| (?:このページを)?印刷(?:する|用ページ)?
| (?:PDF)?ダウンロード(?:はこちら)?
| (?:シェア|ツイート|いいね)(?:する|！)?
| プライバシー・?ポリシー | 個人情報保護方針 | 利用規約
| \#*\ *この法令を参照している法令
| 他\ ?[\d,]+\ ?件の法令から参照されています
| skip\ to\ (?:main\ )?(?:content|navigation)
| (?:back|return)\ to\ top
| (?:read|learn|see|show)\ more
| (?:previous|next)(?:\ (?:page|article|chapter))?
| (?:share|print|email)(?:\ this(?:\ page)?)?
| site\ ?map | contact\ us | privacy\ policy
| terms\ (?:of\ (?:use|service)|and\ conditions)
| cookie\ (?:policy|settings) | accept\ (?:all\ )?cookies
| (?:(?:jump|go\ back)\ to\ the\ (?:next|previous)\ .{1,40}?\ box\.\s?){1,2}
"""
_YEAR = r"(?:(?:19|20)\d\d[-–,]\ ?)?(?:19|20)\d\d(?!\d|\ ?(?:[mkµμ]?[lgu]\b|iu\b|meq|[年例人名%]))"
"""One or two years, but no quantity: © 2020, not 2000 mL."""

_OWNER = (
    r"(?-i:[A-Z]|[^\x00-\x7f]).{0,60}"
    r"(?:\b(?:inc|ltd|llc|corp|gmbh|company|press|publish\w+|university|society|association|foundation)"
    r"|学会|協会|大学|会社|法人|病院|出版|センター)\.?"
)
_RIGHTS = rf"""
.{{0,60}}(?:all\ rights\ reserved|無断(?:転載|複製|複写|引用)(?:を|・|は|の)?.{{0,20}}(?:禁|断)).{{0,60}}
| copyright\ .{{0,80}}\d{{4}}.{{0,60}}
| ©\ ?{_YEAR}.{{0,80}} | ©\ [^\d\n]{{1,80}}{_YEAR}(?:[.,;].{{0,60}})?
| \(c\)\ ?{_YEAR}[,.]?\ {_OWNER}
"""
"""(c), and © as word processors write it, is more often the third item of a list than a copyright sign."""

_RULE = r"[-*_=~・]{3,}"
_ORIGIN = r"(?:generated|downloaded|retrieved|printed|exported)\ (?:from|by|on)\ .{1,60}"
_FOOTER = (
    r"日本薬局方の医薬品の適否は[，、]その医薬品各条の規定[，、]通則[，、]生薬総則[，、]"
    r"製剤総則及び一般試験法の規定によって判定する[．。][(（]通則\ ?5\ ?参照[)）]\ ?"
)
_EDITION = "第十[六七八九]改正日本薬局方"
_LEFT_PAGE = rf"(?<=\s)\d{{3,4}}\ [^．。，、\d\n]{{1,40}}?{_EDITION}"
_RIGHT_PAGE = rf"{_EDITION}[^．。\n]{{1,40}}?\ \d{{1,4}}\ ?\.\ "


def _line(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"^[ \t]*(?:{pattern})[ \t]*(?:\n|\Z)", re.MULTILINE | re.IGNORECASE | re.VERBOSE)


BOILERPLATE = (
    CleaningRule("navigation", _line(_NAVIGATION)),
    CleaningRule("rights", _line(_RIGHTS)),
    CleaningRule("origin", _line(_ORIGIN)),
    CleaningRule("ruled line", _line(_RULE)),
    CleaningRule("running head", re.compile(rf"(?:{_LEFT_PAGE}|{_RIGHT_PAGE})?{_FOOTER}", re.VERBOSE)),
)
