"""Known people: lists as hospitals have them, and every usual spelling of a name in them."""

from pathlib import Path

import pytest

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.known import Known, read_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.errors import InputError

LIST = """患者ＩＤ,氏名,氏名（カナ）,電話,備考
00123456,"髙﨑　奈々絵",ﾀｶｻｷ ﾅﾅｴ,,"二行の
メモ"
,齋藤浩一,サイトウ コウイチ,"03-1234-5678",
,大野 純一,,,
,林,,,
,薬師寺五月,,,
12,渡邉 土筆,ワタナベ ツクシ,,
12,渡邉 土筆,ワタナベ ツクシ,,
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    file = tmp_path_factory.mktemp("lists") / "patients.csv"
    file.write_text(LIST, encoding="utf-8-sig", newline="\r\n")
    return read_known([file], {}, lexicon())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("高崎奈々絵が受診", ["高崎奈々絵"]),
        ("受け持ち：林\n挿管3日目", ["林"]),
        ("林間学校、山林で転倒", []),
        ("大野純一（じゅんいち）", ["大野純一", "じゅんいち"]),
        ("髙崎󠄁 奈々絵が受診", ["髙崎󠄁 奈々絵"]),
        ("タカサキナナエ", ["タカサキナナエ"]),
        ("ﾀｶｻｷ ﾅﾅｴ", ["ﾀｶｻｷ ﾅﾅｴ"]),
        ("たかさき ななえ", ["たかさき ななえ"]),
        ("Takasaki, Nanae", ["Takasaki, Nanae"]),
        ("NANAE TAKASAKI", ["NANAE TAKASAKI"]),
        ("カルテは00123456です", ["00123456"]),
        ("検体00123456789", []),
        ("斉藤浩一", ["斉藤浩一"]),
        ("斎藤 浩 一", ["斎藤 浩 一"]),
        ("Kôiti Saitô", ["Kôiti Saitô"]),
        ("Koichi Saitoh", ["Koichi Saitoh"]),
        ("OONO ZYUNITI", ["OONO ZYUNITI"]),
        ("Ohno Jun'ichi", ["Ohno Jun'ichi"]),
        ("林さん", ["林"]),
        ("林間学校", []),
        ("薬師寺さん", ["薬師寺"]),
        ("渡辺土筆", ["渡辺土筆"]),
        ("12 mg を投与", []),
    ],
)
def test_a_known_person_is_found_in_every_spelling(text: str, expected: list[str], known: Known) -> None:
    assert [text[span.start : span.end] for span in find(text, known)] == expected
    assert "高崎" not in repr(known)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_lists_are_read_in_the_encodings_of_excel(encoding: str, separator: str, tmp_path: Path) -> None:
    file = tmp_path / "staff.csv"
    file.write_text(LIST.replace("髙﨑", "高崎").replace(",", separator), encoding=encoding)
    assert {"高崎奈々絵", "00123456", "takasakinanae"} <= read_known([file], {}, lexicon()).full.labels.keys()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("who,when\n佐藤,1\n", r"no column is known \(found: who, when\); name one"),
        ("", r"no column is known \(found: none\)"),
        (b"\xff\x00\x81", "neither UTF-8 nor"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(content: str | bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "staff.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=problem) as error:
        read_known([file], {}, lexicon())
    assert "\n" not in str(error.value)


def test_what_is_used_of_a_list_is_said_without_its_content(known: Known) -> None:
    (note,) = known.notes
    assert note.endswith(
        "patients.csv: 7 rows; used: 患者ＩＤ (id), 氏名 (name), 氏名（カナ） (kana), 電話 (phone); not used: 備考"
    )
