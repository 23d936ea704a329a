"""Surrogates: consistent, grammatical, and in the form of what they replace."""

import datetime as dt
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.forms import is_mynumber
from jmedllm.corpus.deidentify.keyed import Keyed, read_key
from jmedllm.corpus.deidentify.replace import days_of, mask, surrogate, surrogates
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.surrogate_dates import move_date
from jmedllm.corpus.deidentify.surrogate_names import replace_name, sex_of
from jmedllm.errors import InputError

KEYED = Keyed(b"k" * 32, "patient 1")


@pytest.mark.parametrize(
    ("date", "moved"),
    [
        ("2019年4月29日", "2019年5月6日"),
        ("２０１９年４月２９日", "２０１９年５月６日"),
        ("平成31年4月29日", "令和元年5月6日"),
        ("H31.4.29", "R1.5.6"),
        ("平成三十一年四月二十九日", "令和元年五月六日"),
        ("2019/04/29", "2019/05/06"),
        ("2019-12-30", "2020-01-06"),
        ("20190429", "20190506"),
        ("2019年4月29日(月)", "2019年5月6日(月)"),
        ("'19/4/29", "'19/5/6"),
        ("2019年4月", "2019年4月"),
        ("April 29, 2019", "May 6, 2019"),
        ("Apr 29th, 2019", "May 6th, 2019"),
        ("29 April 2019", "6 May 2019"),
        ("04/29/2019", "05/06/2019"),
        ("4/29/19", "5/6/19"),
        ("12/25", "1/1"),
        ("昭和64年1月1日", "平成元年1月8日"),
        ("平成31年4月25日", "令和元年5月2日"),
        ("R元.5.1", "R元.5.8"),
        ("平31・4・30", "令1・5・7"),
        ("Sept 28, 2019", "Oct 5, 2019"),
    ],
)
def test_a_date_moves_in_its_own_form(date: str, moved: str) -> None:
    found = move_date(date, 7)
    assert found is not None and found.text == moved


def test_a_date_without_a_year_takes_the_nearest_one() -> None:
    found = move_date("2月27日", 7, dt.date(2020, 1, 3))
    assert found is not None and found.text == "3月5日"  # 2020 is a leap year


@pytest.mark.parametrize("date", ["2019年2月30日", "9999年12月31日", "明治元年1月30日", "20190229"])
def test_a_date_that_does_not_exist_or_would_leave_the_calendar_becomes_a_tag(date: str) -> None:
    days = 350 if date.startswith("9") else -350
    assert move_date(date, days) is None
    keyed = next(each for each in (Keyed(b"k" * 32, str(n)) for n in range(99)) if days * days_of(each) > 0)
    assert surrogate(date, [Span(0, len(date), "DATE")], keyed) == "[DATE]"


def test_dates_move_by_whole_weeks_into_another_month() -> None:
    days = {days_of(Keyed(b"k" * 32, str(patient))) for patient in range(2000)}
    assert all(each % 7 == 0 and 35 <= abs(each) <= 7 * 51 for each in days) and len(days) == 94


FORMS = {
    "年月日": lambda day: f"{day.year}年{day.month}月{day.day}日",
    "slashes": lambda day: f"{day.year}/{day.month}/{day.day}",
    "ISO": lambda day: f"{day:%Y-%m-%d}",
    "digits": lambda day: f"{day:%Y%m%d}",
    "English": lambda day: f"{day:%B} {day.day}, {day.year}",
    "weekday": lambda day: f"{day.year}年{day.month}月{day.day}日({'月火水木金土日'[day.weekday()]})",
}
DATES = st.dates(dt.date(1900, 1, 1), dt.date(2099, 1, 1))


@settings(max_examples=30, deadline=None)
@given(DATES, DATES, st.sampled_from(sorted(FORMS)), st.sampled_from(sorted(FORMS)), st.integers(0, 10**6))
def test_intervals_and_weekdays_stay(first: dt.date, second: dt.date, one: str, other: str, patient: int) -> None:
    keyed = Keyed(b"k" * 32, str(patient))
    texts = FORMS[one](first), FORMS[other](second)
    text = "、".join(texts)
    spans = [Span(0, len(texts[0]), "DATE"), Span(len(texts[0]) + 1, len(text), "DATE")]
    moved = dt.timedelta(days_of(keyed))
    assert surrogates(text, spans, keyed) == [FORMS[one](first + moved), FORMS[other](second + moved)]
    assert (first + moved).weekday() == first.weekday()


def test_a_date_without_a_year_follows_the_visit_and_not_the_birth() -> None:
    text = "生年月日1959年7月16日。2020年2月20日に受診、2月27日に再診。"
    spans = [Span(match.start(), match.end(), "DATE") for match in re.finditer(r"(?:\d{4}年)?\d+月\d+日", text)]
    moved = surrogates(text, spans, KEYED)
    visit, again = (re.search(r"(\d+)月(\d+)日", each) for each in moved[1:])
    assert visit and again
    days = [dt.date(2020 if int(each[1]) > 1 else 2021, int(each[1]), int(each[2])) for each in (visit, again)]
    assert (days[1] - days[0]).days % 365 in (7, 8)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("佐藤花子", r"[一-龥々]+"),
        ("佐藤　花子", r"[一-龥々]+　[一-龥々]+"),
        ("サトウ ハナコ", r"[ァ-ヺー]+ [ァ-ヺー]+"),
        ("さとう はなこ", r"[ぁ-ゖー]+ [ぁ-ゖー]+"),
        ("ｻﾄｳ ﾊﾅｺ", r"[ｦ-ﾟ]+ [ｦ-ﾟ]+"),
        ("SATO Hanako", r"[A-Z]+ [A-Z][a-z]+"),
        ("Dr. Emily Clark", r"Dr\. [A-Z][a-z]+ [A-Z][a-z]+"),
        ("John S.", r"[A-Z][a-z]+ [A-Z]\."),
        ("ＳＡＴＯ　Ｈａｎａｋｏ", r"[Ａ-Ｚ]+　[Ａ-Ｚ][ａ-ｚ]+"),
        ("佐藤さくら", r"[一-龥々]+[ぁ-ん]+"),
        ("髙橋", r"[一-龥々]+"),
    ],
)
def test_a_name_keeps_its_form_and_changes(name: str, pattern: str) -> None:
    new = replace_name(name, KEYED)
    assert re.fullmatch(pattern, new) and new != name


def test_a_surname_has_one_surrogate_in_every_script_and_place() -> None:
    text = "佐藤花子（さとう はなこ）。佐藤さん。"
    spans = [Span(0, 4, "NAME"), Span(5, 12, "NAME"), Span(14, 16, "NAME")]
    new = surrogate(text, spans, KEYED)
    full, rest = new.split("（")
    reading, again = rest.split("）。")
    assert full.startswith(again.removesuffix("さん。"))
    assert replace_name("さとう", KEYED) == reading.split(" ")[0]
    assert surrogate(text, spans, KEYED) == new
    assert surrogate(text, spans, Keyed(b"x" * 32, "patient 1")) != new


@pytest.mark.parametrize(
    ("given_name", "sex"),
    [("花子", "f"), ("太郎", "m"), ("美咲", "f"), ("健一", "m"), ("薫", "either"), ("ハナコ", "f"), ("晴之介", "m")],
)
def test_a_given_name_keeps_its_sex(given_name: str, sex: str) -> None:
    assert sex_of(given_name, given_name) == sex
    new = [replace_name(f"佐藤 {given_name}", Keyed(b"k" * 32, str(n))).split(" ")[1] for n in range(30)]
    assert {sex_of(each, each) for each in new} <= {sex, "either"}


def test_no_two_surnames_of_a_patient_share_a_surrogate() -> None:
    from jmedllm.corpus.deidentify.surrogate_names import _families

    names = [each.spelling for each in _families()]
    new = {name: replace_name(name, KEYED) for name in names}
    assert len(set(new.values())) > 0.99 * len(names) and all(new[name] != name for name in names)


def test_a_family_shares_its_surname_and_its_readings() -> None:
    text = "山田太郎（ヤマダ タロウ）様、妻の山田花子さん、Taro Yamada"
    spans = [Span(0, 4, "NAME"), Span(5, 12, "NAME"), Span(17, 21, "NAME"), Span(24, 35, "NAME")]
    full, kana, wife, latin = surrogates(text, spans, KEYED)
    family = replace_name("山田", KEYED)
    assert full.startswith(family) and wife.startswith(family)
    assert kana == " ".join(replace_name(each, KEYED) for each in ("ヤマダ", "タロウ"))
    assert latin == replace_name("Taro Yamada", KEYED) != "Taro Yamada"


def test_hospitals_of_a_document_have_different_letters() -> None:
    names = [f"第{number}病院" for number in range(26)]
    text = "".join(names)
    spans = [Span(match.start(), match.end(), "HOSPITAL") for match in re.finditer(r"第\d+病院", text)]
    assert len(set(surrogates(text, spans, KEYED))) == 26


@pytest.mark.parametrize(
    ("label", "text", "pattern"),
    [
        ("PHONE", "090-1234-5678", r"090-\d{4}-\d{4}"),
        ("PHONE", "０３－１２３４－５６７８", r"０[０-９]－[０-９]{4}－[０-９]{4}"),
        ("AGE90", "93歳", "90歳以上"),
        ("AGE90", "満九十三歳", "90歳以上"),
        ("AGE90", "93-year-old", r"90\+-year-old"),
        ("AGE90", "aged 93", r"aged 90\+"),
        ("ADDRESS", "12 Oak St, Boston, MA 02115", "MA"),
        ("HOSPITAL", "谷本整形外科", "[A-Z]整形外科"),
        ("HOSPITAL", "A病院", "[B-Z]病院"),
        ("HOSPITAL", "Mayo Clinic", "Clinic [A-Z]"),
        ("LOCATION", "新宿駅前", "[A-Z]駅前"),
        ("WARD", "6階西病棟", r"(?!6階)\d階西病棟"),
        ("WARD", "東病棟", "[A-Z]病棟"),
        ("ADDRESS", "豊橋市東田町262", "愛知県"),
        ("HOSPITAL", "鈴木内科クリニック", "[A-Z]クリニック"),
        ("ORG", "若葉小学校", "[A-Z]小学校"),
        ("LOCATION", "金沢駅", "[A-Z]駅"),
        ("PATIENT_ID", "S21-01234", r"[A-Z]\d\d-\d{5}"),
        ("EMAIL", "a@b.jp", r"user\d+@example\.com"),
    ],
)
def test_each_kind_keeps_its_form(label: Label, text: str, pattern: str) -> None:
    assert re.fullmatch(pattern, surrogate(text, [Span(0, len(text), label)], KEYED))


def test_a_surrogate_is_never_a_valid_individual_number() -> None:
    for patient in range(300):
        new = surrogate("123456789018", [Span(0, 12, "MYNUMBER")], Keyed(b"k" * 32, str(patient)))
        assert not is_mynumber(new)


def test_masks_name_the_kind() -> None:
    assert mask("佐藤さん、5月1日", [Span(0, 2, "NAME"), Span(5, 9, "DATE")]) == "[NAME]さん、[DATE]"


def test_the_key_is_kept_for_its_owner_alone_and_never_shown(tmp_path) -> None:
    file = tmp_path / "key"
    assert read_key(file) == read_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_key(file).hex() not in repr(Keyed(read_key(file), "p"))
    file.write_text("short")
    with pytest.raises(InputError, match="it has no key"):
        read_key(file)


@pytest.mark.parametrize("number", ["〇九〇－一二三四－五六七八", "٠١٢٣٤٥٦٧٨٩", "０９０－１２３４－５６７８"])
def test_digits_of_every_script_are_replaced(number: str) -> None:
    new = surrogate(number, [Span(0, len(number), "PATIENT_ID")], KEYED)
    assert len(new) == len(number) and new != number


@pytest.mark.parametrize(
    ("name", "kept", "left"),
    [
        ("Ns 古謝", "", "古謝"),
        ("Dr.佐藤", "Dr.", "佐藤"),
        ("Ｄｒ．　山田太郎", "", "山田"),
        ("ジョン・Smith", "", "Smith"),
    ],
)
def test_a_name_in_two_scripts_leaves_nothing_of_either(name: str, kept: str, left: str) -> None:
    new = replace_name(name, KEYED)
    assert new.startswith(kept) and left not in new


def test_a_name_beside_a_ward_is_not_left_in_its_surrogate() -> None:
    text = "受持 Ns 古謝 病室 305号"
    assert "古謝" not in surrogate(text, find(text), KEYED)


def test_what_has_no_surrogate_becomes_a_tag() -> None:
    assert surrogate("〇〇様", [Span(0, 2, "NAME")], KEYED) != "〇〇様"
    assert surrogate("#-", [Span(0, 2, "PATIENT_ID")], KEYED) == "[PATIENT_ID]"
    assert surrogate("東京都", [Span(0, 3, "LOCATION")], KEYED) == "東京都"
