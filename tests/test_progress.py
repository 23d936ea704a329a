"""Progress: one line on a terminal, sparse lines in a log, and the time left only where it can be known."""

import pytest
from rich.cells import cell_len

from jmedllm import progress as progress_module
from jmedllm.progress import TimeLeft, duration, notice, progress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress_module, "time", made)
    return made


def test_the_time_left_leaves_out_the_start_up(clock: Clock) -> None:
    """A first step of 300 s, then steps of 10 s: known after three of these, and right."""
    left, found = TimeLeft(20, 0), []
    for seconds in (300, *[10] * 9):
        clock.now += seconds
        left.advance(1)
        found.append(left.seconds())
    assert found == [None, None, None, None, *(10.0 * (20 - done) for done in range(5, 11))]


def test_a_long_batch_shows_its_tokens_and_does_not_change_the_estimate(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(TimeLeft, "advance", lambda self, steps: pytest.fail("no step was done"))
    with progress("model igakuqa.ja", 10) as advance:
        for tokens in (8, 16):
            clock.now += 3
            advance(0, f"{tokens} tokens")
    shown = capsys.readouterr().err
    assert "0/10  8 tokens" in shown and "0/10  16 tokens" in shown


def test_a_batch_of_answers_is_one_batch(clock: Clock) -> None:
    """64 answers arrive at once: the first 64 are no reason to expect the rest at once."""
    left, found = TimeLeft(640, 0), []
    for _ in range(8):
        clock.now += 20
        for _ in range(64):
            clock.now += 0.001
            left.advance(1)
        found.append(left.seconds())
    assert found[:4] == [None] * 4
    assert found[4:] == pytest.approx([20.064 * more for more in (5, 4, 3, 2)], abs=0.2)


def test_steps_without_a_pause_are_timed_by_the_second(clock: Clock) -> None:
    left = TimeLeft(10_000, 0)
    for step in range(600):
        clock.now += 0.01
        left.advance(1)
        assert (left.seconds() is None) == (step < 401) or 401 <= step <= 405, step
    assert left.seconds() == pytest.approx(94, abs=0.1)


def test_steps_of_an_earlier_run_are_not_timed(clock: Clock) -> None:
    left = TimeLeft(1010, 1000)
    for _ in range(6):
        clock.now += 5
        left.advance(1)
    assert left.seconds() == 20.0


def test_a_log_has_few_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("mfpt", 500) as advance:
        for step in range(500):
            clock.now += 7
            advance(1, f"loss {3 - step / 1000:.2f}")
    assert capsys.readouterr().err.splitlines() == [
        "mfpt  5/500  loss 3.00  58 min left",
        "mfpt  14/500  loss 2.99  57 min left",
        "mfpt  32/500  loss 2.97  55 min left",
        "mfpt  67/500  loss 2.93  51 min left",
        "mfpt  136/500  loss 2.87  42 min left",
        "mfpt  222/500  loss 2.78  32 min left",
        "mfpt  308/500  loss 2.69  22 min left",
        "mfpt  394/500  loss 2.61  12 min left",
        "mfpt  480/500  loss 2.52  2 min left",
        "mfpt  500/500  finished after 58 min",
    ]


def test_short_work_leaves_no_line_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("merge", 2) as advance:
        for _ in range(2):
            clock.now += 10
            advance(1, "model.safetensors")
    assert capsys.readouterr().err == ""


TITLES = (
    "mfpt",
    "a model with a long name and its benchmark, igakuqa.ja",
    "日本語の長い名前のモデルと国家試験の問題集",
)
NOTES = ("", "loss 2.31", "a note that is much too long for a terminal of eighty columns, and for most others")


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("title", TITLES)
def test_a_terminal_has_one_line(
    title: str,
    note: str,
    columns: int,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress(title, 8) as advance:
        for _ in range(6):
            clock.now += 60
            advance(1, note)
        notice.cache_clear()
        notice("something else")
    first, *lines = capsys.readouterr().err.split("\r\x1b[2K")
    assert first == "" and lines[-1] == "" and lines[-2] == "note: something else\n"
    assert all(cell_len(line) < columns and "\n" not in line for line in lines[:-2])
    bar = 24 if columns > 60 else 8
    assert [line.count("━") for line in lines[:-2]] == [bar * done // 8 for done in range(7)]
    assert [" left" in line for line in lines[:-2]] == [False] * 5 + [True] * 2


def test_a_line_on_a_terminal(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    with progress("mfpt", 300, 100) as advance:
        for _ in range(5):
            clock.now += 30
            advance(10, "loss 2.31")
    shown = capsys.readouterr().err.split("\r\x1b[2K")[-2]
    assert shown == f"mfpt  {'━' * 12}{'─' * 12} 150/300  loss 2.31  8 min left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3569, "59 min"), (3571, "1 h"), (12_000, "3 h 20 min"),
     (47 * 3600, "47 h"), (48 * 3600, "2 d"), (52 * 3600, "2 d 4 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
