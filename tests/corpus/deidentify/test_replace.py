"""Surrogates: consistent, grammatical, and in the form of what they replace."""

import datetime as dt

import pytest

from jmedllm.corpus.deidentify.forms import is_mynumber
from jmedllm.corpus.deidentify.keyed import Keyed, read_key
from jmedllm.corpus.deidentify.replace import days_of, mask, surrogate
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.surrogate_dates import move_date
from jmedllm.corpus.deidentify.surrogate_names import replace_name
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
    ],
)
def test_a_date_moves_in_its_own_form(date: str, moved: str) -> None:
    found = move_date(date, 7)
    assert found is not None and found.text == moved


def test_a_date_without_a_year_takes_the_nearest_one() -> None:
    found = move_date("2月27日", 7, dt.date(2020, 1, 3))
    assert found is not None and found.text == "3月5日"  # 2020 is a leap year


def test_dates_move_by_whole_weeks_and_never_stay() -> None:
    days = {days_of(Keyed(b"k" * 32, str(patient))) for patient in range(2000)}
    assert all(each % 7 == 0 and 0 < abs(each) <= 7 * 51 for each in days) and len(days) == 102


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
    ],
)
def test_a_name_keeps_its_form_and_changes(name: str, pattern: str) -> None:
    import re

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
    ("label", "text", "pattern"),
    [
        ("PHONE", "090-1234-5678", r"090-\d{4}-\d{4}"),
        ("PHONE", "０３－１２３４－５６７８", r"０[０-９]－[０-９]{4}－[０-９]{4}"),
        ("AGE90", "93歳", "90歳以上"),
        ("ADDRESS", "豊橋市東田町262", "愛知県"),
        ("HOSPITAL", "鈴木内科クリニック", "[A-Z]クリニック"),
        ("ORG", "若葉小学校", "[A-Z]小学校"),
        ("LOCATION", "金沢駅", "[A-Z]駅"),
        ("PATIENT_ID", "S21-01234", r"[A-Z]\d\d-\d{5}"),
        ("EMAIL", "a@b.jp", r"user\d+@example\.com"),
    ],
)
def test_each_kind_keeps_its_form(label: Label, text: str, pattern: str) -> None:
    import re

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
