"""How often a document is read follows from its text and the weights alone."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError
from jmedllm.training.mixing import MixingConfig, SourceCount, count_sources, mixture, repetitions

MEDICAL = [
    Document(f"{source}{number}", f"{source} {language} {number:04d}", language, source)
    for source, language in (("laws", "ja"), ("wiki", "ja"), ("wiki", "en"))
    for number in range(400)
]
GENERAL = [Document(f"g{number}", f"general {number:04d}", "en", "books") for number in range(100)]


def mix(mixing: MixingConfig, medical: list[Document] = MEDICAL, general: list[Document] = GENERAL):
    return list(mixture(lambda: medical, lambda: general, mixing))


def test_without_settings_every_document_is_read_once_in_order() -> None:
    members = mix(MixingConfig())
    assert [document for _, document, _ in members] == MEDICAL
    assert {times for *_, times in members} == {1}


WEIGHTS = {
    "a source": ({"laws": 2}, {"laws": 2.0, "wiki": 1.0}),
    "a language": ({"en": 0}, {"laws": 1.0, "wiki": 0.5}),
    "a source in a language": ({"wiki": 0.5, "ja": 2}, {"laws": 2.0, "wiki": 0.75}),
    "half of the documents": ({"laws": 0.5}, {"laws": 0.5, "wiki": 1.0}),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_say_how_often_a_pass_reads(name: str) -> None:
    weights, expected = WEIGHTS[name]
    found = {part: each.epochs for part, each in count_sources(mix(MixingConfig(weights=weights))).items()}
    assert found == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("replay", [0.05, 0.2, 0.5])
def test_replay_is_a_share_of_the_bytes(replay: float) -> None:
    found = count_sources(mix(MixingConfig(weights={"laws": 1.5}, general=["books"], replay=replay)))
    read = {name: part.read for name, part in found.items()}
    assert list(found) == ["laws", "wiki", "general"]
    assert read["general"] / sum(read.values()) == pytest.approx(replay, rel=0.1)
    assert (found["general"].documents, found["general"].bytes) == (100, 1200)


def test_parts_count_what_is_there_and_what_is_read() -> None:
    documents = [
        Document("a", "ビタ", "ja", "x"),
        Document("b", "ab", "en", "x"),
        Document("c", "abc", "en", None),
    ]
    members = [
        (document.source or "unnamed", document, times) for document, times in zip(documents, (2, 0, 1), strict=True)
    ]
    assert count_sources(members) == {"x": SourceCount(2, 8, 12), "unnamed": SourceCount(1, 3, 3)}
    assert count_sources(members)["x"].epochs == 1.5


@given(text=st.text(max_size=30), times=st.floats(0, 9))
@settings(max_examples=200, deadline=None)
def test_copies_are_the_weight_rounded_and_grow_with_it(text: str, times: float) -> None:
    count = repetitions(text, times)
    assert count - times < 1 and times - count < 1
    assert repetitions(text, times + 0.3) >= count
    assert repetitions(text, float(int(times))) == int(times)


def test_the_same_documents_are_read_in_every_order_and_run() -> None:
    mixing = MixingConfig(weights={"laws": 0.3}, general=["books"], replay=0.1)
    counts = [
        Counter({document.id: times for _, document, times in mix(mixing, each)}) for each in (MEDICAL, MEDICAL[::-1])
    ]
    assert counts[0] == counts[1]
    read = [document.id for _, document, times in mix(mixing) if document.source == "laws" and times]
    assert read[:4] == ["laws10", "laws18", "laws20", "laws23"]  # golden: another hash would mix another corpus


def test_a_weight_for_nothing_is_named() -> None:
    with pytest.raises(InputError, match="unknown source or language in weights 'law': did you mean laws"):
        mix(MixingConfig(weights={"law": 2}))


def test_general_text_that_is_empty_is_named() -> None:
    with pytest.raises(InputError, match="general text books: contains no text"):
        mix(MixingConfig(general=["books"], replay=0.1), general=[])
