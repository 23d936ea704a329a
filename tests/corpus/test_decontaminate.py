"""Benchmark questions planted in texts are found and cut out; what only sounds like them is not."""

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.corpus.contamination_index import COMMON, ContaminationIndex, build_index, load_index, save_index
from jmedllm.corpus.decontaminate import MARGIN, SHORTEST, Hit, cut, find, find_in_each
from jmedllm.corpus.readers.reader import read_documents
from jmedllm.data.installed import test_questions as all_test_questions
from jmedllm.evaluation.question import Language, Question


def question(number: int, language: Language, stem: str, *choices: str, benchmark: str = "exam") -> Question:
    return Question(f"q{number}", benchmark, language, stem, choices, frozenset({0}))


CASE = question(
    1,
    "en",
    "A 31-year-old beekeeper presents with hoarseness two hours after she mowed a meadow barefoot. Her tongue is "
    "swollen, her lips tingle, and hives cover both forearms. Which of the following should be given first?",
    "Intramuscular epinephrine",
    "Oral cetirizine",
    "Inhaled budesonide",
)
FACT = question(2, "en", "Deficiency of which vitamin makes the gums of sailors bleed?", "C", "D", "K")
TINY = question(3, "en", "Scurvy is caused by lack of:", "ascorbic acid", "retinol", "cobalamin", "niacin")
VAGUE = question(4, "en", "Which is true?", "Yes", "No")
SHORT = question(5, "ja", "壊血病の原因となる欠乏症はどれか。", "ビタミンA", "ビタミンB1", "ビタミンC", "ビタミンD")
LONG = question(
    6,
    "ja",
    "58歳の養蜂家の男性。昨夕から右手背の腫れが広がり、物が飲み込みにくくなったと訴えて来院した。体温37.2℃、"
    "脈拍104/分、整。血圧92/58mmHg。まず行うべき処置はどれか。",
    "アドレナリン筋注",
    "抗菌薬点滴",
    "切開排膿",
)
EXAM = (CASE, FACT, TINY, VAGUE, SHORT, LONG)
INDEX = build_index(EXAM)


def lines(asked: Question, labels: str = "ABCDE", form: str = "{0}) {1}") -> str:
    return "\n".join([asked.stem, *map(form.format, labels, asked.choices)])


def found(text: str, index: ContaminationIndex = INDEX) -> set[str]:
    return {hit.question for hit in find(index, text)}


@pytest.mark.parametrize("asked", EXAM, ids=lambda asked: asked.id)
@pytest.mark.parametrize(
    "write",
    [
        lines,
        lambda asked: lines(asked, "abcde", "({0}) {1}"),
        lambda asked: lines(asked, "12345", "{0}. {1}"),
        lambda asked: lines(asked, "①②③④⑤", "{0} {1}"),
        lambda asked: " / ".join([asked.stem, *asked.choices]),
        lambda asked: lines(asked).upper(),
        lambda asked: lines(asked).translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
        lambda asked: lines(asked).replace("。", "．").replace("、", ", ").replace("-", "\u2010").replace("'", "’"),
        lambda asked: lines(asked).replace(" ", "\n"),
        lambda asked: (
            "".join(c + "\n" * (i % 9 == 8) for i, c in enumerate(lines(asked)))
            if asked.language == "ja"
            else lines(asked).replace(" ", "  ")
        ),
    ],
    ids=["A)", "(a)", "1.", "①", "in one line", "capitals", "full width", "signs", "a word a line", "wrapped"],
)
def test_a_question_is_found_however_it_is_written(asked: Question, write) -> None:
    text = f"前の頁の続き。\n{write(asked)}\n解答は次の頁。"
    assert found(text) == ({asked.id} if asked is not VAGUE else set())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CASE.stem, {"q1"}),
        (CASE.stem.replace("31", "44").replace("Her tongue is swollen", "Her tongue looks thick"), {"q1"}),
        (" ".join(CASE.stem.split()[3:16]), {"q1"}),
        (" ".join(CASE.stem.split()[3:15]), set()),
        (FACT.stem, {"q2"}),
        (" ".join(FACT.stem.split()[:9]), set()),
        (TINY.stem, set()),
        (SHORT.stem, {"q5"}),
        (LONG.stem.replace("58歳", "六十歳").replace("と訴えて", "ため"), {"q6"}),
        (LONG.stem[:34], {"q6"}),
        (LONG.stem[:27], set()),
        ("45歳の男性。主訴は腹痛である。体温36.8℃、脈拍80/分、整。", set()),
        ("Which of the following is the most likely diagnosis?", set()),
        ("Intramuscular epinephrine, oral cetirizine and inhaled budesonide were given.", set()),
        ("", set()),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_parts_of_questions(text: str, names: set[str]) -> None:
    assert found(text) == names


def test_a_hit_points_at_the_question_in_the_text_as_it_was_given() -> None:
    text = f"はじめに。Ａ. {SHORT.stem}（５択）"
    assert [text[hit.start : hit.end] for hit in find(INDEX, text)] == [SHORT.stem[:-1]]
    assert find(INDEX, text) == [Hit(8, 8 + len(SHORT.stem) - 1, "exam", "q5")]


BOILERPLATE = "Which of the following is the most appropriate next step in the management of this patient today?"


@pytest.mark.parametrize(("count", "evidence"), [(COMMON - 1, True), (COMMON, False)])
def test_ngrams_that_many_questions_share_are_ignored(count: int, evidence: bool) -> None:
    index = build_index([question(n, "en", f"Patient number {n} coughs. {BOILERPLATE}") for n in range(count)])
    assert bool(found(BOILERPLATE, index)) is evidence
    assert found(f"Patient number 1 coughs. {BOILERPLATE}", index) >= {"q1"}


def test_a_whole_stem_that_others_contain_is_no_evidence() -> None:
    stem = "次の記述のうち正しいのはどれか。2つ選べ。"
    others = [
        question(n, "ja", f"{name}に関する{stem}", "甲", "乙") for n, name in enumerate(("肝炎", "腎炎", "肺炎"), 1)
    ]
    assert found(stem, build_index([question(0, "ja", stem, "丙", "丁"), *others])) == set()
    assert found(stem, build_index([question(0, "ja", stem, "丙", "丁"), *others[1:]])) == {"q0"}


def test_one_item_in_two_benchmarks_stays_evidence() -> None:
    twice = [replace(CASE, benchmark=f"exam-{n}") for n in range(COMMON + 1)]
    assert {hit.benchmark for hit in find(build_index(twice), CASE.stem)} == {"exam-0"}


@pytest.mark.parametrize("before", [(1 << 20) - 150, (1 << 20) - 40, 1 << 20, (1 << 20) + 3990])
def test_a_question_is_found_where_two_windows_meet(before: int) -> None:
    text = "心" * (before - 1) + " " + lines(CASE) + " " + "肺" * 5000
    whole = [(hit.start - before, hit.end - before) for hit in find(INDEX, text)]
    assert whole == [(hit.start, hit.end) for hit in find(INDEX, lines(CASE))]


def test_an_index_for_known_texts_finds_what_the_whole_one_finds_there() -> None:
    texts = [*map(lines, EXAM), *(each.stem[: len(each.stem) * 2 // 3] for each in EXAM), f"前置き。{lines(CASE)}", ""]
    hits = [find(INDEX, text) for text in texts]
    assert sum(map(len, hits)) >= len(EXAM)
    assert [find(build_index(EXAM, texts), text) for text in texts] == hits
    assert [find(build_index(EXAM, [text]), text) for text in texts] == hits
    assert find(build_index(EXAM, []), CASE.stem) == []
    assert list(find_in_each(INDEX, texts)) == hits


def test_without_questions_nothing_is_found() -> None:
    assert find(build_index([]), CASE.stem) == []
    assert find(build_index([VAGUE]), VAGUE.stem) == []


def test_a_saved_index_is_loaded_unchanged(tmp_path: Path) -> None:
    for number, asked in enumerate(((), EXAM)):
        with (tmp_path / f"{number}.npz").open("wb") as handle:
            save_index(build_index(asked), handle)
        one, other = load_index(tmp_path / f"{number}.npz"), build_index(asked)
        assert one.questions == other.questions
        assert np.array_equal(one.seeds, other.seeds)
        assert one.hashes.keys() == other.hashes.keys() == one.owners.keys()
        for length in one.hashes:
            assert np.array_equal(one.hashes[length], other.hashes[length])
            assert np.array_equal(one.owners[length], other.owners[length])


WORDS = ["the", "heart", "lung", "was", "not", "with", "fever", "after", "dose", "of", "mild", "renal"]
KANA = "心肺腎肝脳のはがをに、。血圧発熱薬"


def prose(seed: int, count: int, language: str) -> str:
    draw = random.Random(seed)
    if language == "ja":
        return "".join(draw.choices(KANA, k=count))
    return " ".join(draw.choices(WORDS, k=count // 5))


@pytest.mark.parametrize("asked", [CASE, SHORT, LONG], ids=lambda asked: asked.id)
def test_a_document_is_cut_around_its_question(asked: Question) -> None:
    before, after = prose(1, 1000, asked.language), prose(2, 1000, asked.language)
    text = f"{before} {lines(asked)} Answer: A {after}"
    pieces = cut(text, find(INDEX, text))
    assert len(pieces) == 2
    assert before.startswith(pieces[0])
    assert after.endswith(pieces[1])
    assert len(before) - MARGIN - 20 <= len(pieces[0]) <= len(before) - MARGIN + 20
    assert "Answer" not in "".join(pieces)


@pytest.mark.parametrize(("between", "left"), [(2 * MARGIN + SHORTEST - 30, 0), (2 * MARGIN + SHORTEST + 60, 1)])
def test_short_text_between_questions_is_dropped(between: int, left: int) -> None:
    text = "\n".join([lines(CASE), prose(3, between, "ja"), lines(FACT)])
    assert len(cut(text, find(INDEX, text))) == left


def test_a_text_without_hits_stays_whole() -> None:
    text = prose(4, 900, "ja")
    assert cut(text, []) == [text]


@given(st.data())
def test_offsets_point_into_the_text_and_no_piece_has_a_hit(data: st.DataObject) -> None:
    spelt = st.sampled_from([lines(asked) for asked in EXAM] + [CASE.stem[:60], LONG.stem[40:], SHORT.stem])
    noise = st.one_of(
        st.text(max_size=40),
        st.builds(prose, st.integers(0, 9), st.integers(0, 900), st.sampled_from(["ja", "en"])),
    )
    text = data.draw(st.lists(st.one_of(spelt, noise), max_size=8).map("".join))
    hits = find(INDEX, text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    assert hits == sorted(hits, key=lambda hit: (hit.start, hit.end))
    for piece in cut(text, hits):
        assert piece in text
        assert len(piece) >= SHORTEST
        assert find(INDEX, piece) == []


@cache
def real(data: Path) -> tuple[list[Question], ContaminationIndex]:
    asked = list(all_test_questions(data))
    return asked, build_index(asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "language", "stems", "whole"),
    [
        ("igakuqa", "ja", 0.97, 1.0),
        ("igakuqa", "en", 0.95, 1.0),
        ("jmmlu", "ja", 0.95, 1.0),
        ("medqa", "en", 1.0, 1.0),
        ("mmlu", "en", 0.9, 1.0),
        ("medmcqa", "en", 0.75, 1.0),
    ],
)
def test_planted_benchmark_questions(shared: Path, benchmark: str, language: str, stems: float, whole: float) -> None:
    asked, index = real(shared)
    those = [each for each in asked if (each.benchmark, each.language) == (benchmark, language)][::20]
    assert sum(bool(find(index, each.stem)) for each in those) >= stems * len(those)
    assert sum(bool(find(index, lines(each, "ABCDEFGHIJ"))) for each in those) >= whole * len(those)


@pytest.mark.slow
def test_an_index_for_known_texts_finds_all_real_questions_in_them(shared: Path) -> None:
    asked, index = real(shared)
    texts = [*(lines(each) for each in asked[::97]), *(each.stem[: len(each.stem) * 2 // 3] for each in asked[5::97])]
    few = build_index(asked, texts)
    hits = [find(index, text) for text in texts]
    assert [find(few, text) for text in texts] == hits and list(find_in_each(few, texts)) == hits


@pytest.mark.parametrize(
    "name", ["ja_pharmacopoeia.jsonl", "ja_wikipedia_medical.jsonl", "en_openstax_microbiology.jsonl"]
)
def test_clean_text_is_not_hit(shared: Path, name: str) -> None:
    index = real(shared)[1]
    assert [hit for document in read_documents(shared / "corpus" / name) for hit in find(index, document.text)] == []
