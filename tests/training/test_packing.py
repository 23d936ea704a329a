"""Packing loses nothing, mixes nothing, and trains no first token of a sample."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.errors import InputError
from jmedllm.training.packing import (
    DTYPES,
    OPEN,
    Blocks,
    TrainingSample,
    document_rows,
    example_rows,
    load_blocks,
    pack_documents,
    pack_examples,
    save_blocks,
)

PAD = 0
T, F = True, False


def document(name: str, *ids: int) -> TrainingSample:
    return TrainingSample(name, ids, [F] + [T] * (len(ids) - 1))


@st.composite
def samples(draw: st.DrawFn, longest: int = 12, *, trained_end: bool = False) -> list[TrainingSample]:
    """Samples of ids 1 to 99, that is without padding, trained anywhere."""
    lengths = draw(st.lists(st.integers(2 if trained_end else 0, longest), max_size=8))
    found = []
    for number, length in enumerate(lengths):
        ids = draw(st.lists(st.integers(1, 99), min_size=length, max_size=length))
        trained = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        found.append(TrainingSample(f"s{number}", ids, [*trained[:-1], T] if trained_end else trained))
    return found


def parts(blocks: Blocks) -> list[tuple[list[int], list[bool]]]:
    """Samples in the rows, split where positions restart, without padding."""
    found: list[tuple[list[int], list[bool]]] = []
    for ids, positions, trained in zip(blocks.ids, blocks.positions, blocks.loss_mask, strict=True):
        for start, position in enumerate(positions):
            if position == 0 and ids[start] != PAD:
                found.append(([], []))
            if ids[start] != PAD:
                found[-1][0].append(int(ids[start]))
                found[-1][1].append(bool(trained[start]))
    return found


def flat(rows: Sequence[Sequence[int]]) -> list[int]:
    return [value for row in rows for value in row]


@given(samples=samples(), size=st.integers(2, 10))
@settings(max_examples=100, deadline=None)
def test_each_token_of_a_document_is_predicted_once_in_order(samples: list[TrainingSample], size: int) -> None:
    blocks = pack_documents(samples, size, PAD)
    rebuilt: list[tuple[int, bool]] = []
    for ids, trained in parts(blocks):
        cut = len(rebuilt) > 0 and len(rebuilt) != next_start(samples, len(rebuilt))
        if cut:
            assert ids[0] == rebuilt[-1][0]  # context of what follows, not a target again
        assert not trained[0]
        rebuilt += list(zip(ids, trained, strict=True))[int(cut) :]
    assert rebuilt == [
        (token, trained and place > 0)
        for sample in samples
        for place, (token, trained) in enumerate(zip(sample.ids, sample.loss_mask, strict=True))
    ]


def next_start(samples: list[TrainingSample], place: int) -> int:
    """The first beginning of a sample at `place` or behind it, in the stream of all tokens."""
    starts = np.cumsum([len(sample.ids) for sample in samples])
    return int(next(start for start in starts if start >= place))


@given(samples=samples(), size=st.integers(2, 10))
@settings(max_examples=100, deadline=None)
def test_only_the_last_row_of_documents_is_padded(samples: list[TrainingSample], size: int) -> None:
    blocks = pack_documents(samples, size, PAD)
    padding = blocks.ids == PAD
    assert not padding[:-1].any()
    assert not (blocks.loss_mask | blocks.positions.astype(bool))[padding].any()
    assert not len(blocks) or not padding[-1].all()


@given(samples=samples(trained_end=True), size=st.integers(12, 30))
@settings(max_examples=100, deadline=None)
def test_examples_stay_whole(samples: list[TrainingSample], size: int) -> None:
    blocks = pack_examples(samples, size, PAD)
    assert sorted(parts(blocks)) == sorted((list(sample.ids), [F, *sample.loss_mask[1:]]) for sample in samples)
    padding = blocks.ids == PAD
    assert not blocks.loss_mask[padding].any()
    assert not blocks.positions[padding].any()


def lengths_in_rows(lengths: Sequence[int], size: int) -> list[list[int]]:
    blocks = pack_examples([document(str(i), *[7] * length) for i, length in enumerate(lengths)], size, PAD)
    rows = zip(
        *(np.split(array, len(blocks)) for array in (blocks.ids, blocks.positions, blocks.loss_mask)), strict=True
    )
    return [[len(ids) for ids, _ in parts(Blocks(*row))] for row in rows]


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([6, 7, 3, 4], [[6, 4], [7, 3]]),  # the next row in order would have left 4 and 3 to a third one
        ([5, 8, 2], [[5], [8, 2]]),  # two rows have room: the fuller one
        ([5, 5, 5], [[5, 5], [5]]),  # equal ones stay in order
    ],
)
def test_an_example_is_packed_by_best_fit(lengths: list[int], rows: list[list[int]]) -> None:
    assert lengths_in_rows(lengths, 10) == rows


def test_the_fullest_row_is_closed_when_too_many_are_open() -> None:
    lengths = [8, *[7] * (OPEN - 1), 9, 2, 3]
    rows = lengths_in_rows(lengths, 10)
    assert rows[0] == [8]  # 2 would have fitted, but 9 needed a row
    assert [7, 3] in rows and [7, 2] in rows
    assert len(rows) == OPEN + 1


def test_a_row_by_hand() -> None:
    blocks = pack_documents([document("a", 5, 6, 7), document("b", 8, 9, 10, 11)], 4, PAD)
    assert blocks.ids.tolist() == [[5, 6, 7, 8], [8, 9, 10, 11]]
    assert blocks.positions.tolist() == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert blocks.loss_mask.tolist() == [[F, T, T, F], [F, T, T, T]]
    blocks = pack_documents([document("a", 5, 6, 7, 8, 9)], 4, PAD)  # the EOS alone behind a cut
    assert blocks.ids.tolist() == [[5, 6, 7, 8], [8, 9, PAD, PAD]]
    assert blocks.loss_mask.tolist() == [[F, T, T, T], [F, T, F, F]]
    blocks = pack_examples([document("a", 5, 6, 7), document("b", 8, 9)], 4, PAD)
    assert blocks.ids.tolist() == [[5, 6, 7, PAD], [8, 9, PAD, PAD]]
    assert blocks.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 0]]
    assert blocks.loss_mask.tolist() == [[F, T, T, F], [F, T, F, F]]


@pytest.mark.parametrize(("pack", "rows"), [(pack_documents, document_rows), (pack_examples, example_rows)])
def test_no_samples_are_no_rows(tmp_path: Path, pack: object, rows: object) -> None:
    blocks = pack([], 8, PAD)  # type: ignore[operator]
    assert len(blocks) == 0
    assert blocks.ids.shape == blocks.positions.shape == blocks.loss_mask.shape == (0, 8)
    save_blocks(rows([], 8, PAD), 8, tmp_path / "blocks")  # type: ignore[operator]
    assert load_blocks(tmp_path / "blocks").ids.shape == (0, 8)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (
            document("medqa 7", *range(1, 10)),
            "example medqa 7: 9 tokens are more than block_size 8; raise block_size or leave the example out",
        ),
        (
            TrainingSample("medqa 8", [1, 2, 3], [F, F, F]),
            "example medqa 8: no token is trained; is its answer empty?",
        ),
        (TrainingSample("medqa 9", [1, 2], [T, F]), "example medqa 9: no token is trained; is its answer empty?"),
        (TrainingSample("medqa 10", [1], [T]), "example medqa 10: no token is trained; is its answer empty?"),
        (TrainingSample("medqa 11", [], []), "example medqa 11: no token is trained; is its answer empty?"),
    ],
    ids=["long", "untrained", "only the first", "one token", "empty"],
)
def test_an_example_that_cannot_be_used_is_named(sample: TrainingSample, expected: str) -> None:
    with pytest.raises(InputError) as error:
        pack_examples([document("good", 1, 2), sample], 8, PAD)
    assert str(error.value) == expected


def test_an_example_may_fill_its_row() -> None:
    assert pack_examples([document("a", *range(1, 9))] * 2, 8, PAD).ids.tolist() == [[*range(1, 9)]] * 2


@given(samples=samples(), size=st.integers(2, 10))
@settings(max_examples=20, deadline=None)
def test_blocks_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, samples: list[TrainingSample], size: int
) -> None:
    folder = tmp_path_factory.mktemp("blocks") / "new" / "blocks"
    blocks = pack_documents(samples, size, PAD)
    save_blocks(document_rows(samples, size, PAD), size, folder)
    loaded = load_blocks(folder)
    for name, dtype in DTYPES.items():
        array = getattr(loaded, name)
        assert array.dtype == dtype
        assert np.array_equal(array, getattr(blocks, name))
        assert np.array_equal(array, np.load(folder / f"{name}.npy"))  # a plain file to others, too
    assert sorted(file.name for file in folder.iterdir()) == ["ids.npy", "loss_mask.npy", "positions.npy"]


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    """What is packed does not have to fit in memory: rows are on their way to the disk before the last is made."""
    taken = []

    def samples() -> Iterator[TrainingSample]:
        for number in range(3000):
            taken.append(sum(file.stat().st_size for file in tmp_path.rglob("*")))
            yield document(str(number), *range(1, 65))

    save_blocks(document_rows(samples(), 64, PAD), 64, tmp_path / "blocks")
    assert taken[2000] > 100 * 64 * 4
    assert len(load_blocks(tmp_path / "blocks")) == 3000


def test_the_same_blocks_have_the_same_hash(tmp_path: Path) -> None:
    one, other = [document("a", *range(1, 30))], [document("a", *range(2, 31))]
    hashes = [
        save_blocks(document_rows(each, 8, PAD), 8, tmp_path / str(n)) for n, each in enumerate((one, one, other))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match=r"^cannot write .*ids.npy: Not a directory; free space"):
        save_blocks([], 8, tmp_path / "file" / "blocks")
