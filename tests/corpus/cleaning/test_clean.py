"""Cleaning: each rule on real lines, and what it must leave alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.readers.reader import read_documents

FOOTER = (
    "日本薬局方の医薬品の適否は，その医薬品各条の規定，通則，生薬総則，"
    "製剤総則及び一般試験法の規定によって判定する．(通則 5 参照)"
)
EDITION = "第十八改正日本薬局方"
BOX = "Jump to the next Clinical Focus box."
BACK = "Go back to the previous Clinical Focus box."
REFERENCES = "---\n\n## この法令を参照している法令\n\n*他 245 件の法令から参照されています*"
RULES = {
    "a statute's anchor and article": ('<a id="第一条"></a>\n**第一条**\nこの法律は、', "第一条\nこの法律は、"),
    "an anchor inside a sentence": ('前項の<a id="第二条"></a>\n**第二条**第一項', "前項の\n第二条第一項"),
    "a link to a statute": ("[介護保険法](./409AC.md#第一条)（平成九年）", "介護保険法（平成九年）"),
    "links to pages and files": ("[a](b/c.html)[d](../e/f)[g](//x.org)[h](#i)[j](k.md#l)[m](n.com/o)", "adghjm"),
    "a link with brackets in its target": ("see [scurvy](https://x.org/a_(b)) here", "see scurvy here"),
    "a list of links": ("本文。\n- [水道法](./332AC.md) (1箇所)\n- [老人福祉法](./338AC.md)\n後", "本文。\n後"),
    "back references": (f"終わり。\n\n{REFERENCES}", "終わり。"),
    "an image": ("前![図1](img/1.png)後", "前後"),
    "an address in Japanese": ("詳細はhttps://www.mhlw.go.jp/a?b=1を参照。", "詳細はを参照。"),
    "an address in brackets": ("厚生労働省（https://www.mhlw.go.jp/）による", "厚生労働省による"),
    "an address at the end of a sentence": ("Visit www.nutrition.gov.", "Visit ."),
    "a comment": ("a<!-- not\nshown -->b", "ab"),
    "tags": ("一行目<br>二行目<span class='x'>。</span>", "一行目\n二行目。"),
    "bold and italics of one letter": ("<b>要点</b>、<I>p</I>値<a href='x'>表</a><p>次</p>", "要点、p値表\n次"),
    "one letter that no tag closes": ("<A>群と<b>太</b>と<B>群、<P>は計画", "<A>群と太と<B>群、<P>は計画"),
    "exponents in tags": ("10<sup>3</sup>個 H<sub>2</sub>O HbA<sub>1c</sub>", "10³個 H₂O HbA1c"),
    "exponents with signs": ("10<sup> 3 </sup>A 10<sup>–3</sup> 10<sup>&minus;4</sup>", "10³ A 10⁻³ 10⁻⁴"),
    "exponents with none": ("10<sup>6.5</sup> 10<sup>5〜6</sup> 2<sup>-1.5</sup>", "10^6.5 10^(5〜6) 2^-1.5"),
    "exponents of letters": ("x<sup>a</sup>、e<sup>-kt</sup>、(1+r)<sup>t</sup>y", "x^a、e^(-kt)、(1+r)^(t)y"),
    "no exponents": ("1<sup>st</sup> p<sup>*</sup> <sup>99m</sup>Tc 群<sup>注1</sup>", "1st p* 99mTc 群注1"),
    "raised numbers of notes": ("text<sup>1,2</sup> IL-6<sup>1,2</sup>", "text¹,² IL-6^(1,2)"),
    "notes in brackets behind Japanese": ("である<sup>3,4)</sup>。5mg<sup>*1</sup>", "である³,⁴⁾。5mg*¹"),
    "degrees written as a raised letter": ("37<sup>o</sup>C", "37°C"),
    "markup within markup": ("a <sup><b>3</b></sup> &amp;lt; 10&lt;sup&gt;5&lt;/sup&gt;", "a ³ < 10⁵"),
    "entities by name": ("5&ndash;6 &Delta;T &minus;1 &copyx; R&D;", "5–6 ΔT −1 &copyx; R&D;"),
    "characters out of entities": ("&#xFF21;&ensp;&ensp;b&#13;&#10;c", "A b\nc"),
    "entities": ("37&nbsp;&deg;C &lt; 38 &amp; &#12354;", "37 °C < 38 & あ"),
    "navigation in Japanese": ("ページの先頭へ戻る\n糖尿病とは\n＜前のページ\nサイトマップ", "糖尿病とは"),
    "navigation in English": ("Skip to main content\nScurvy\nBack to top\nNext", "Scurvy"),
    "a textbook's navigation": (f"{BOX} {BACK}\nZika", "Zika"),
    "rights": ("本文。\nCopyright © 2024 病院 All rights reserved.\n© 2020 X\n無断転載を禁じます。", "本文。"),
    "holders of rights": (
        "本文。\n(c) 2019-2020 A Press Inc.\n(C) 2020 内科学会\n©2020 X\n© Elsevier 2019.\nCopyright (c) 2020 Y",
        "本文。",
    ),
    "a left page of the pharmacopoeia": (f"融点 193 ℃ 1134 チペピジン錠{EDITION}{FOOTER}純度", "融点 193 ℃ 純度"),
    "a right page of the pharmacopoeia": (f"水及び pH {EDITION}硫酸 1803 . {FOOTER}を加え", "水及び pH を加え"),
    "spaces and blank lines": ("a  b \n\n\n\n c\t", "a b\n\nc"),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    text, expected = RULES[name]
    assert clean(text).text == expected


KEPT = [
    "(c) Administer 1000 mL saline over 1 h.",
    "(c) 3年生存率は2010年に 50%\n(c) 生理食塩液 1000 mL を投与",
    "(c) 2000 mL of saline\n(c) 2010年の生存率は大学病院で 50%\n(c) 2019 patients of the university were seen.",
    "© Administer 1000 mL saline over 1 h.\n© 生理食塩液 2000 mL を投与\n© 2000 mL\n© The 2015 trial showed it.",
    "Q&A; と &unknown; は文字参照でない",
    "＜A＞群と＜B＞群に分けた",
    "治療群＜I＞と対照群＜U＞、＜p＞0.05",
    "<A>群と<B>群に分けた",
    "[Na+](mmol/L)は140、[Ca](mg/dL)",
    "[Cl-](mEq/L) 102、[WBC](/μL) 5000",
    "[CI](0.95)、[dose](0.5mg)、[Fe](.5)",
    "p < 0.05 and x > 3",
    "2**3 * 4**5 は計算式",
    "[Fe(CN)6](4-)",
    "[1] と (2) は文献番号。",
    "次のページを参照し、前の記事と比べる。",
    "The next step is to share the result; read more about it below.",
    "copyright law in medicine",
    "- 血圧\n- 脈拍",
    "# 予防接種法",
    "1. 目的\n2. 方法",
    "a < b and <c> is an unknown tag",
    "A：B、12 頁にわたる。",
    "HLA-DRB1*04:05 と *TP53* 変異",
]


@pytest.mark.parametrize("text", KEPT)
def test_text_is_left_alone(text: str) -> None:
    assert clean(text) == clean(text).__class__(text, ())


def test_removed_text_is_reported_unchanged() -> None:
    removed = clean('<a id="x"></a>\n本文 [法](./a.md)\nサイトマップ').removed
    assert [(each.rule, each.text) for each in removed] == [
        ("anchor", '<a id="x"></a>\n'),
        ("link", "[法](./a.md)"),
        ("navigation", "サイトマップ"),
    ]


PIECES = [
    *(
        "糖尿病",
        " ",
        "\n",
        "*",
        "**",
        "<a id='x'></a>",
        "[法](./a.md)",
        "- ",
        "サイトマップ",
        "12",
        "<sup>2</sup>",
        "\t",
    ),
    *("&amp;", "<b>", "</b>", "&#xFF21;", " *", "* ", "6.5"),
    *("http://x.jp", "(", "）", "．", "---", "next", "&lt;", "<br>", "©", "2020"),
]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
@settings(max_examples=300, deadline=None)
def test_cleaning_ends_and_adds_nothing(text: str) -> None:
    cleaned = clean(text).text
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned and "\n\n\n" not in cleaned
    assert len(cleaned) <= len(text)
    assert clean(cleaned).text == cleaned


def test_statutes_are_rid_of_markup_and_keep_their_words(shared: Path) -> None:
    before = list(read_documents(shared / "corpus" / "ja_laws"))
    after = [clean(document.text).text for document in before]
    assert not any(mark in text for text in after for mark in ("<a ", "](", "**", "http", ".md"))
    assert sum(text.count("。") for text in after) == sum(document.text.count("。") for document in before)
    assert sum(map(len, after)) == 1_731_050


@pytest.mark.parametrize("name", ["en_openstax_microbiology.jsonl", "ja_pharmacopoeia.jsonl"])
def test_real_text_is_cleaned_once_for_all(shared: Path, name: str) -> None:
    for document in list(read_documents(shared / "corpus" / name))[::9]:
        cleaned = clean(document.text).text
        assert clean(cleaned).text == cleaned
