"""Names and institutions in sentences, with the dictionary and the model."""

import cProfile
import hashlib
import importlib
import json
from pathlib import Path

import pytest

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify.crf import MODEL
from jmedllm.corpus.deidentify.evaluate import AnnotatedText, GoldSpan, evaluate, read_annotated, unknown_labels
from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.known import read_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.tokens import tokenize, touching
from jmedllm.errors import InputError


def found(text: str, label: str = "NAME", known=None) -> list[str]:
    return [text[span.start : span.end] for span in find(text, known) if span.label == label]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("患者氏名：佐藤　花子　様", ["佐藤　花子"]),
        ("佐藤さんの長女美咲様より電話。", ["佐藤", "美咲"]),
        ("主治医：髙橋、担当看護師 渡邊", ["髙橋", "渡邊"]),
        ("氏名：石塚響希（いしづか きょうき）", ["石塚響希", "いしづか きょうき"]),
        ("ｻﾄｳ ﾊﾅｺ　65歳 F", ["ｻﾄｳ ﾊﾅｺ"]),
        ("鈴木先生に報告し、鈴木の指示を受けた。", ["鈴木", "鈴木"]),
        ("受診者 Taro Yamada 様", ["Taro Yamada"]),
        ("seen by Dr. Emily Clark at the clinic", ["Dr. Emily Clark"]),
        ("Husband (Seiko Kawahara) at bedside", ["Seiko Kawahara"]),
        ("リハ：大川・服部が担当。", ["大川", "服部"]),
        ("妻の結実様は在宅を希望。", ["結実"]),
        ("チャプレン グエン・ティ・マイ\n", ["グエン・ティ・マイ"]),
        ("きょうだい 花生（5歳）、知音（2歳）", ["花生", "知音"]),
        ("西憂南、43歳、独居", ["西憂南"]),
        ("心理士 森", ["森"]),
        ("氏 名　山 田 太 郎　　昭和 5 年", ["山 田 太 郎"]),
        ("荒川・笠井で回診、抜去可と判断。", ["荒川", "笠井"]),
        ("父：虹帆　母は厚生", ["虹帆"]),
        ("交際相手の高山との関係", ["高山"]),
        ("杏美夫人は施設入所中", ["杏美"]),
        ("[内海] カルテだと違います", ["内海"]),
        ("当直奥村・研修医落合で対応。", ["奥村", "落合"]),
        ("北野医長より説明。谷MEより報告。", ["北野", "谷"]),
        ("同席者：石塚（看護師）、堀（通訳）", ["石塚", "堀"]),
        ("患者：ﾔﾏﾑﾗ ﾃﾝﾅ（山村天那）", ["ﾔﾏﾑﾗ ﾃﾝﾅ", "山村天那"]),
    ],
)
def test_names_are_found_without_their_titles(text: str, names: list[str]) -> None:
    assert found(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "川崎病、橋本病、菊池病、高安動脈炎を鑑別する。",
        "太田母斑と伊藤母斑。",
        "温清飲、高山茶、厚角細胞。",
        "Austin Flint雑音を聴取。",
        "肺炎（3歳）、虫垂炎（12歳）の既往。",
        "東病棟、南側、中：軽度。",
        "改訂長谷川式簡易知能評価スケール 25点。",
        "Parkinson病、Basedow病、Crohn病。",
        "Billroth I法で再建。",
        "McBurney点に圧痛、Blumberg徴候陽性。",
        "患者様、ご家族様、奥様に説明した。",
        "網目状様陰影、喘息様発作。",
        "アムロジピン錠5mg「サワイ」、ツムラ大建中湯。",
        "主治医、担当看護師で共有。",
        "自宅近くの診療所を受診した。",
        "当院内科を紹介受診。",
        "What is the treatment of Lyme disease in adults?",
        "日本薬局方の医薬品。",
        "山本らの報告、石田の分類、木村のII型とは異なる。",
        "ウリナスタチン「持田」、アジルサルタン錠20mg「杏林」。",
        "奥様が面会、旦那様は不在。前主治医に確認した。",
        "消化器外科　外来担当　先生　侍史",
        "上田市産のりんご。",
        "筋力4/5、3/6雑音、1/2生食、2/3周性、瞳孔 3/3mm。",
    ],
)
def test_medical_terms_and_roles_survive(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("医療法人社団 慈聖会 鈴木診療所より紹介。", "医療法人社団 慈聖会 鈴木診療所"),
        ("前医（豊橋市立病院）で加療。", "豊橋市立病院"),
        ("特別養護老人ホームやすらぎ苑へ退院となった。", "特別養護老人ホームやすらぎ苑"),
        ("2年前にすやま眼科で手術歴あり。", "すやま眼科"),
    ],
)
def test_providers_are_found_whole(text: str, name: str) -> None:
    assert found(text, "HOSPITAL") == [name]


@pytest.mark.parametrize(
    ("table", "found_in_it"),
    [
        (
            "患者番号,氏名,カナ,生年月日,電話\n7609166,山岡思紀,ヤマオカシキ,R01/05/02,0265-37-3685\n12,なし,なし,-,-",
            {"7609166", "山岡思紀", "ヤマオカシキ", "R01/05/02", "0265-37-3685"},
        ),
        ("| 氏名 | 担当 | 所見 |\n|---|---|---|\n| 東 知空 | 泉 | 関節痛 |", {"東 知空", "泉"}),
        (
            "PID|1||40551^^^^PI||小谷 要葉^^^^^^L^I~コタニ カナハ^^^^^^L^P||19590703|F\nOBX|1|NM|3A010^蛋白||6.8",
            {"40551", "小谷 要葉", "コタニ カナハ", "19590703"},
        ),
        ("項目,結果\n関,正\n林,誤", set()),
    ],
)
def test_the_header_of_a_column_says_what_is_in_it(table: str, found_in_it: set[str]) -> None:
    assert {table[span.start : span.end] for span in find(table)} == found_in_it


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("橋本先生が橋本病と診断した。橋本先生に再診。", ["橋本", "橋本"]),
        ("患者：川崎一郎。川崎さんは3歳時に川崎病。", ["川崎一郎", "川崎"]),
        ("山田式で再建し、山田先生が執刀。佐藤反応陽性、佐藤さんの訴え。", ["山田", "佐藤"]),
        ("東さんの右側、東側の窓。東から来た。", ["東"]),
        ("森さんは森林浴の後、森の中で転倒。林さんは林道を散歩。原さんは原因不明。", ["森", "林", "原"]),
        ("石川さん（石川県出身）", ["石川"]),
        (
            "Kawasaki disease. Dr. Kawasaki saw Mr. Parkinson, who has Parkinson disease.",
            ["Dr. Kawasaki", "Mr. Parkinson"],
        ),
    ],
)
def test_a_name_is_kept_in_terms_and_found_beside_them(text: str, names: list[str]) -> None:
    assert found(text) == names


def test_known_people_are_found_in_every_spelling(tmp_path: Path) -> None:
    file = tmp_path / "patients.csv"
    file.write_text("氏名,カナ,患者ID\n木林 森羅,キバヤシ シンラ,77-8\n", encoding="cp932")
    known = read_known([file], {}, lexicon())
    text = "木林森羅、木林 森羅、木林　森羅、キバヤシシンラ、ｷﾊﾞﾔｼ ｼﾝﾗ、Shinra KIBAYASHI、木林さん、ID 77-8"
    spans = find(text, known)
    for name in text.removesuffix("さん、ID 77-8").split("、"):
        at = text.index(name)
        assert any(span.start <= at and at + len(name) <= span.end for span in spans), name
    assert "木林" not in repr(known)


def test_a_list_without_a_known_column_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "staff.csv"
    file.write_text("who\n佐藤\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column is known"):
        read_known([file], {}, lexicon())
    assert "佐藤" in read_known([file], {"who": "surname"}, lexicon()).families.labels


def test_a_span_counts_only_if_every_character_was_found() -> None:
    texts = [AnnotatedText("佐藤花子が来た", (GoldSpan(0, 4, "NAME"),), "a:1"), AnnotatedText("異常なし", (), "a:2")]
    half = evaluate(texts, lambda text: find("佐藤さん") if "佐" in text else [])
    assert [(row.name, row.count, row.of) for row in half.recall] == [("NAME", 0, 1), ("all", 0, 1)]
    assert (half.precision.value, half.touched.value, half.false_alarms_per_10000) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": 1}, '"spans"'),
        ({"text": "a", "spans": [{"start": 0}]}, '"end"'),
        ({"text": "a", "spans": [{"start": 0, "end": 2, "label": "X"}]}, "outside"),
        ({"text": "佐藤", "spans": [{"start": 0, "end": 1, "label": "NAME", "text": "佐藤"}]}, "not bytes"),
        ({"text": "a", "spans": [{"start": True, "end": 1, "label": "NAME"}]}, '"start"'),
    ],
)
def test_a_wrong_annotation_is_named_with_its_line(tmp_path: Path, row: dict, problem: str) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=f"notes.jsonl:1: .*{problem}"):
        read_annotated(file)


def test_a_name_of_one_section_of_a_long_document_is_found_in_the_others() -> None:
    filler = "胃癌の術後経過は良好であった。\n" * 750
    text = (
        f"薬師堂岳人さんが入院した。\n{filler}画像：{'QUJD' * 3000}\n{filler}薬師堂岳人は退院した。薬師堂病ではない。"
    )
    ends = [text.index("薬師堂岳人"), text.rindex("薬師堂岳人")]
    spans = [span for span in find(text) if span.label == "NAME"]
    assert [text[span.start : span.end] for span in spans] == ["薬師堂岳人"] * 2
    assert [span.start for span in spans] == ends


def test_labels_of_others_are_mapped_or_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    spans = [{"start": 0, "end": 2, "label": "PERSON"}, {"start": 4, "end": 6, "label": "DISEASE"}]
    file.write_text(json.dumps({"text": "佐藤さん胃癌", "spans": spans}) + "\n")
    assert unknown_labels(read_annotated(file)) == ["DISEASE", "PERSON"]
    mapped = read_annotated(file, {"PERSON": "NAME", "DISEASE": "keep"})
    assert [span.label for span in mapped[0].spans] == ["NAME"]
    with pytest.raises(InputError, match="no lines"):
        read_annotated(Path("/dev/null"))


def test_the_model_is_the_one_that_was_trained() -> None:
    recorded = MODEL.with_suffix(".sha256").read_text().split()[0]
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == recorded, (
        "record the new hash; see docs/deidentification.md"
    )


@pytest.mark.exhaustive
def test_training_gives_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tools"))
    training = importlib.import_module("train_deidentification")
    digests = {training.train(training.notes(3, 200), 5, tmp_path / f"{run}.crfsuite") for run in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("2023年2月3日 佐藤さん来院", ["2023年2月3日", "佐藤"]),
        ("10時 田中先生", ["田中"]),
        ("父 倖田大和 母 倖田美空", ["倖田大和", "倖田美空"]),
        ("12 Elm Street, Boston. Call me", ["12 Elm Street, Boston"]),
        ("reached on +44 20 7946 0958.", ["+44 20 7946 0958"]),
        ("電話 〇九〇－一二三四－五六七八へ", ["〇九〇－一二三四－五六七八"]),
        ("平31・4・30 手術", ["平31・4・30"]),
        ("5/7 宮脇さん転倒。5/8 XP異常なし", ["5/7", "宮脇", "5/8"]),
        ("90歳以上の男性", ["90歳以上"]),
        ("ミヤBM、カナグル（田辺三菱）", []),
    ],
)
def test_an_identifier_ends_where_the_next_word_begins(text: str, identifiers: list[str]) -> None:
    assert [text[span.start : span.end] for span in find(text)] == identifiers


def test_words_beside_a_place_are_those_that_a_look_at_all_finds() -> None:
    tokens = tokenize("佐藤花子さんは、豊橋市民病院の\n鈴木先生へ")
    for start in range(tokens[-1].end + 1):
        for end in range(start, tokens[-1].end + 1):
            assert list(touching(tokens, start, end)) == [t for t in tokens if t.end >= start and t.start <= end]


@pytest.mark.parametrize("text", ["病院", "佐藤さん川崎病、"])
def test_a_text_that_repeats_takes_no_more_work_for_each_character_when_it_is_longer(text: str) -> None:
    assert _calls(text * (8000 // len(text))) < 6 * _calls(text * (2000 // len(text)))


def _calls(text: str) -> int:
    """Count the function calls, since a measurement of time depends on the machine."""
    profile = cProfile.Profile()
    profile.runcall(find, text)
    return sum(entry.callcount for entry in profile.getstats())
