"""Write the GPU tables in benchmarks/README.md from the newest results of each device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_sizes import GIB, TRAININGS
from gpu_techniques import TECHNIQUES

from jmedllm.errors import InputError
from jmedllm.files import read_json

BEGIN = "<!-- written by `python benchmarks/gpu.py table` -->"
END = "<!-- end of the written tables -->"
UNMEASURED = "*not measured*"

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        aim: the aim; empty if there is none.
        figure: reads the figure from a part; raises KeyError or TypeError if it is missing.
        is_reached: whether this part, or all parts, reach the aim; raises like `figure` if this is not known.
    """

    part: str
    what: str
    aim: str
    figure: Callable[[Result], str]
    is_reached: Callable[[Result, Mapping[str, Result]], bool] | None = None


def newest(folder: Path) -> list[Result]:
    """The newest results of each device, ordered by its name; results of dry runs are left out."""
    found: dict[str, Result] = {}
    for file in sorted(folder.glob("*.json")):
        result = read_json(file)
        if result["size"] == "real":
            found[result["device"]] = result
    return [found[device] for device in sorted(found)]


def draw(page: str, results: Sequence[Result]) -> str:
    """The page with both tables between their markers.

    Raises:
        InputError: the page lacks the markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the README lacks the lines {BEGIN} and {END}; add them where the tables belong")
    return f"{before}{BEGIN}\n\n{_results(results)}\n\n{_techniques(results)}\n\n{END}{after}"


def _results(results: Sequence[Result]) -> str:
    heads = [f"{result['device']}, {result['date']}" for result in results] or ["no GPU yet"]
    lines = [_line("measurement", "aim", *heads), _line(*["---"] * (2 + len(heads)))]
    for row in rows():
        cells = [_cell(row, result["parts"]) for result in results] or [UNMEASURED]
        lines.append(_line(row.what, row.aim, *cells))
    return "\n".join(lines)


def _cell(row: Row, parts: Mapping[str, Result]) -> str:
    part = parts.get(row.part)
    if part is None:
        return UNMEASURED
    try:
        figure = row.figure(part)
    except (KeyError, TypeError):
        return f"{UNMEASURED}: {part['failed']}" if "failed" in part else UNMEASURED
    try:
        return figure if row.is_reached is None or row.is_reached(part, parts) else f"**{figure}: missed**"
    except (KeyError, TypeError):
        return f"{figure}; the aim was {UNMEASURED}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def rows() -> Iterator[Row]:
    """All rows of the table of results."""
    yield Row("ceilings", "dense bfloat16 products", "", lambda p: f"{p['measured']['flops'] / 1e12:.0f} TFLOP/s")
    yield Row("ceilings", "copies: GPU; to it, from it; host", "", _copies)
    for name, part in TRAININGS.items():
        aim, is_reached = SPEEDS.get(name, ("", None))
        yield Row(name, f"{part.title}: trained tokens per second", aim, _speed, is_reached)
        aim, is_reached = PEAKS.get(name, ("", None))
        yield Row(name, "peak memory on the GPU (tensors alone); on the host", aim, _peak, is_reached)
        yield Row(name, "plan ÷ measurement: GPU; host; time", "0.9 to 1.1; 0.9 to 1.1; 0.8 to 1.2", _plan)
    yield Row("eval", "evaluation at 7B: questions of 5 choices scored; time ÷ floor", "", _scoring)
    yield Row("eval", "evaluation at 7B: tokens generated; time ÷ floor", "", _writing)
    yield Row("peer-trl", "TRL with liger-kernel, QLoRA as in (d)", "", _peer)
    yield Row("peer-paged", "bitsandbytes' paged 8-bit AdamW, as in (b)", "", _paged)


def _copies(part: Result) -> str:
    rates = part["measured"]
    inside, up, down, host = (rates[name] / 1e9 for name in ("copy", "up", "down", "host_copy"))
    return f"{inside:,.0f}; {up:.0f}, {down:.0f}; {host:.0f} GB/s"


def _speed(part: Result) -> str:
    used = part["mfu"]["of_rated"]
    share = f"{used:.1%} of the rated" if used is not None else f"{part['mfu']['of_measured']:.1%} of the measured"
    return f"{_rate(part):,.0f}, {share} products"


def _rate(part: Result) -> float:
    return float(part["measured"]["trained_tokens_per_second"])


def _peak(part: Result) -> str:
    peak = part["measured"]
    return f"{_gib(peak['gpu'])} ({_gib(peak['allocated'])}); {_gib(peak['host'])} GiB"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _plan(part: Result) -> str:
    over = part["plan_over_measured"]
    aims = {"gpu": 0.1, "host": 0.1, "seconds": 0.2}
    return "; ".join(_ratio(over[name], off) for name, off in aims.items())


def _ratio(over: float | None, off: float) -> str:
    if over is None:
        return UNMEASURED
    return f"{over:.2f}" if abs(over - 1) <= off else f"**{over:.2f}: missed**"


def _scoring(part: Result) -> str:
    return f"{part['measured']['questions_per_second']:,.0f} per second, {part['over_floor']['scoring']:.2f}"


def _writing(part: Result) -> str:
    rate = part["measured"]["written_tokens_per_second"]
    return f"{rate:,.0f} tokens per second, {part['over_floor']['generation']:.2f}"


def _peer(part: Result) -> str:
    return f"{_rate(part):,.0f} trained tokens per second; {_peak(part)}"


def _paged(part: Result) -> str:
    return f"{_peer(part)}; paged {_gib(part['measured']['paged'])}"


def _reaches(share: float) -> Callable[[Result, Mapping[str, Result]], bool]:
    return lambda part, _: part["mfu"]["of_rated"] >= share


def _keeps_up(share: float, name: str) -> Callable[[Result, Mapping[str, Result]], bool]:
    return lambda part, parts: _rate(part) >= share * _rate(parts[name])


def _within(gib: float) -> Callable[[Result, Mapping[str, Result]], bool]:
    return lambda part, _: part["measured"]["gpu"] <= gib * GIB


SPEEDS = {
    "full": ("45 % of the rated products", _reaches(0.45)),
    "cpu-master": ("0.85 of (a)", _keeps_up(0.85, "full")),
    "qlora": ("more than TRL with liger-kernel", _keeps_up(1.0, "peer-trl")),
}
PEAKS = {
    "cpu-master": ("24.0 GiB", _within(24.0)),
    "layer-offload": ("12 GiB", _within(12.0)),
    "qlora": ("8 GiB", _within(8.0)),
    "qlora-70b": ("46 GiB", _within(46.0)),
}


def _techniques(results: Sequence[Result]) -> str:
    heads = [f"measured: {result['device']}" for result in results] or ["measured"]
    head = _line("technique", "GPU peak, expected", "time, expected", "arithmetic", *heads)
    lines = [head, _line(*["---"] * (4 + len(heads)))]
    for each in TECHNIQUES:
        cells = [_gain(result["parts"], each.used, each.beside) for result in results] or [UNMEASURED]
        lines.append(_line(each.name, f"{each.gib:+.1f} GiB", f"{each.time:.2f}x", each.because, *cells))
    return "\n".join(lines)


def _gain(parts: Mapping[str, Result], used: str, beside: str) -> str:
    try:
        saved = parts[used]["measured"]["allocated"] - parts[beside]["measured"]["allocated"]
        return f"{saved / GIB:+.1f} GiB, {_rate(parts[beside]) / _rate(parts[used]):.2f}x"
    except (KeyError, TypeError):
        return UNMEASURED
