"""Identifiers that have a form: dates, contacts, numbers, addresses."""

import pytest

from jmedllm.corpus.deidentify.addresses import find_addresses
from jmedllm.corpus.deidentify.dates import find_ages, find_dates
from jmedllm.corpus.deidentify.fold import fold, fold_names
from jmedllm.corpus.deidentify.forms import find_contacts, find_numbers, is_mynumber
from jmedllm.corpus.deidentify.spans import Span, covered, resolve


def found(finder, text: str) -> list[str]:
    return [text[span.start : span.end] for span in resolve(finder(fold_names(text)))]


@pytest.mark.parametrize(
    "date",
    [
        "2019年5月1日",
        "２０１９年５月１日",
        "2019/5/1",
        "2019-05-01",
        "2019.5.1",
        "20190501",
        "令和元年5月1日",
        "令和1年５月１日",
        "平成三十年十二月三日",
        "R1.5.1",
        "H30/12/3",
        "S23.4",
        "㍻30年12月3日",
        "西暦2019年5月1日",
        "2019年5月1日(水)",
        "2019年5月",
        "令和2年3月",
        "5月1日",
        "'19/5/1",
        "May 1, 2019",
        "1 May 2019",
        "May 1st, 2019",
        "05/01/2019",
        "May 2019",
        "Nov 11th '23",
    ],
)
def test_a_date_is_found_in_every_spelling(date: str) -> None:
    assert found(find_dates, f"発症は{date}、増悪") == [date]


@pytest.mark.parametrize("date", ["5/1 14:20", "5/1に採血", "5/1より発熱", "5/1(水)受診"])
def test_a_month_and_a_day_are_a_date_where_the_words_after_them_say_so(date: str) -> None:
    assert found(find_dates, f"経過：{date}")[0].startswith("5/1")


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80mmHg",
        "瞳孔 3/3mm",
        "MMT 4/5に低下",
        "MMSE 24/30",
        "1/2錠",
        "L4/5椎間板",
        "3-5日ごと",
        "7月上旬まで",
        "第3版（2021）",
        "10-20 mg/kg",
        "T1強調像",
        "H2受容体拮抗薬",
        "S1根障害",
        "R2リンパ節",
        "pN1(2/34)",
        "2019年度の診療報酬",
        "3か月5日間",
    ],
)
def test_measurements_are_no_dates(text: str) -> None:
    assert found(find_dates, text) == []


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90歳女性", "90歳"),
        ("１０３歳", "１０３歳"),
        ("満九十三歳", "満九十三歳"),
        ("a 92-year-old man", "92-year-old"),
        ("89歳男性", ""),
        ("1.90歳", ""),
    ],
)
def test_ages_from_90_are_found(text: str, age: str) -> None:
    assert "".join(found(find_ages, text)) == age


@pytest.mark.parametrize(
    ("text", "contact"),
    [
        ("連絡先 090-1234-5678", "090-1234-5678"),
        ("電話０３－１２３４－５６７８まで", "０３－１２３４－５６７８"),
        ("TEL 0742(12)3456", "0742(12)3456"),
        ("連絡先 09012345678", "09012345678"),
        ("+81-90-1234-5678", "+81-90-1234-5678"),
        ("(03)1234-5678", "(03)1234-5678"),
        ("０９０ー１２３４ー５６７８", "０９０ー１２３４ー５６７８"),
        ("内線 1234", "1234"),
        ("〒123-4567", "123-4567"),
        ("〒１２３－４５６７　東京都", "１２３－４５６７"),
        ("a.b_c@example.co.jp へ", "a.b_c@example.co.jp"),
        ("ａ＠ｅｘａｍｐｌｅ．ｊｐ", "ａ＠ｅｘａｍｐｌｅ．ｊｐ"),
        ("https://example.com/u/1。", "https://example.com/u/1"),
        ("(617) 555-7890", "(617) 555-7890"),
    ],
)
def test_contacts_are_found_in_both_widths(text: str, contact: str) -> None:
    assert found(find_contacts, text) == [contact]


def test_a_number_after_fax_is_a_fax_number() -> None:
    spans = list(find_contacts("TEL 03-1234-5678 FAX 03-1234-5679"))
    assert sorted((span.start, span.label) for span in spans) == [(4, "PHONE"), (21, "FAX")]


@pytest.mark.parametrize(
    ("digits", "valid"), [("123456789018", True), ("123456789012", False), ("000000000000", True)]
)
def test_the_check_digit_of_individual_numbers(digits: str, valid: bool) -> None:
    assert is_mynumber(digits) is valid


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("患者ID：12345678", "12345678"),
        ("カルテ番号 A1234567", "A1234567"),
        ("病理番号：S21-01234", "S21-01234"),
        ("保険者番号 06123456", "06123456"),
        ("記号・番号 １２・３４５６", "１２・３４５６"),
        ("マイナンバー 1234-5678-9012", "1234-5678-9012"),
        ("1234 5678 9018", "1234 5678 9018"),
        ("運転免許証番号 123456789012", "123456789012"),
        ("MRN: LS-12345", "LS-12345"),
    ],
)
def test_numbers_of_persons_are_found(text: str, number: str) -> None:
    assert number in found(find_numbers, text)


@pytest.mark.parametrize(
    "text",
    ["LOT 123456789012", "WBC 10,200", "PMID 12345678", "血小板 15万", "第12345号", "eGFR 45.2", "CA19-9 294.3"],
)
def test_other_numbers_are_kept(text: str) -> None:
    assert found(find_numbers, text) == []


@pytest.mark.parametrize(
    "address",
    [
        "愛知県豊橋市東田町262",
        "豊橋市東田町２６２",
        "札幌市中央区北１条西２丁目３－４",
        "八王子市千人町二丁目１９番１５号 長塚ビル１階",
        "東京都新宿区西新宿2-8-1",
        "長崎県大村市草場町七丁目二十三番地六",
        "糟屋郡須惠町旅石２３０番１",
        "千代田区一番町３番地１",
        "港区芝5-1-2 コーポ青葉305号室",
    ],
)
def test_an_address_is_found_to_its_end(address: str) -> None:
    text = f"住所：{address}\n電話番号：なし"
    assert covered(resolve(find_addresses(fold_names(text))), 3, 3 + len(address))
    assert not covered(resolve(find_addresses(fold_names(text))), 3, 4 + len(address)), (
        "it stops at the end of the line"
    )


@pytest.mark.parametrize("text", ["東京都の人口", "都市部在住", "右側区域切除", "当院へ転院"])
def test_a_prefecture_alone_is_kept(text: str) -> None:
    assert found(find_addresses, text) == []


def test_folding_keeps_every_offset() -> None:
    text = "ＡＢ　１２３－４５ー６〜髙﨑ｶﾞ"
    assert len(fold(text)) == len(fold_names(text)) == len(text)
    assert fold_names(text) == "AB 123-45-6~高崎ｶﾞ"


def test_overlapping_spans_cover_what_each_covers() -> None:
    one, other = Span(0, 4, "NAME", "likely"), Span(2, 6, "HOSPITAL", "certain")
    assert resolve([other, one]) == [Span(0, 6, "HOSPITAL", "certain")]


@pytest.mark.parametrize(
    ("other", "resolved"),
    [
        (Span(2, 6, "NAME", "likely"), [Span(0, 4, "DATE"), Span(4, 6, "NAME", "likely")]),
        (Span(2, 9, "NAME"), [Span(0, 2, "DATE"), Span(2, 9, "NAME")]),
        (Span(1, 3, "NAME"), [Span(0, 4, "DATE")]),
    ],
)
def test_a_date_is_made_no_longer_by_what_overlaps_it(other: Span, resolved: list[Span]) -> None:
    assert resolve([other, Span(0, 4, "DATE")]) == resolved


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("ID 12345000 2023年2月3日", "12345000"),
        ("患者ID：0012345 2024/3/5 入院", "0012345"),
        ("ID 12345 20240305 採血", "12345"),
        ("カルテ番号 123-45-678 10:30来院", "123-45-678"),
        ("ID 12345 72歳男性", "12345"),
        ("ID:123456 65M", "123456"),
        ("ID 12345 090-1234-5678", "12345"),
        ("診察券番号 1234 5678 9012", "1234 5678 9012"),
        ("受診番号 55/66/77", "55/66/77"),
    ],
)
def test_a_number_ends_before_the_date_age_or_time_after_it(text: str, number: str) -> None:
    spans = [span for span in find_numbers(text) if span.rule == "number:patient"]
    assert [text[span.start : span.end] for span in spans] == [number]
