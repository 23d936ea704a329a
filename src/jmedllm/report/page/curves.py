"""Curves over the steps of a training stage, as small SVG charts with axes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup, escape

from jmedllm.report.page.charts import series
from jmedllm.report.training import TrainedStage

MOST_POINTS = 200
"""Maximum number of points of a curve; longer curves show means of neighbours, which limits the size of the page."""

AMOUNTS = ("Experts", "Busiest", "Speed", "Peak memory", "Learning rate", "In-loop evaluation")

_WIDTH, _HEIGHT = 320.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 8.0, 20.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A named series of (step, value)."""

    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title, the unit of its values, and curves in the order of their colours."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    picture: Markup


def figures(stage: TrainedStage) -> list[Figure]:
    """Return all charts of a stage, including validation if there was one."""
    return [figure for figure in (_figure(*each) for each in _curves(stage)) if figure]


def _curves(stage: TrainedStage) -> Iterator[tuple[str, str, list[Curve]]]:
    # Every stage has this curve.
    yield "Loss", f"nats per trained token. {stage.failure}".rstrip(". "), [_of(stage, "loss", "loss")]
    bits = _evaluated(stage, "bits_per_byte")
    yield "Bits per byte", "on held-out text", bits
    yield (
        "Change since the start",
        "% of bits per byte; general text above 0 is forgetting",
        [_changes(c) for c in bits],
    )
    yield (
        "In-loop evaluation",
        "% right",
        [Curve(c.name, [(x, 100 * y) for x, y in c.points]) for c in _evaluated(stage, "accuracy")],
    )
    yield "Learning rate", "", [_of(stage, "learning_rate", "learning rate")]
    yield "Gradient norm", "before clipping", [_of(stage, "gradient_norm", "gradient norm")]
    yield "Experts in use", "per layer, by the entropy of their load", _of_experts(stage, "experts", least=True)
    yield "Busiest expert", "% of a layer's choices", _of_experts(stage, "max", scale=100)
    yield "Load-balancing loss", "without its coefficient", [_of(stage, "router_aux_loss", "load balancing")]
    yield "Speed", "trained tokens per second", [_of(stage, "tokens_per_second", "speed")]
    yield "Peak memory", "GiB", [_of(stage, "peak_memory", "memory", scale=2**-30)]


def _of(stage: TrainedStage, key: str, name: str, scale: float = 1.0) -> Curve:
    return Curve(name, thinned([(row["step"], row[key] * scale) for row in stage.metrics if key in row]))


def _of_experts(stage: TrainedStage, key: str, scale: float = 1.0, *, least: bool = False) -> list[Curve]:
    """Return the least balanced layer of experts at each step, and the median of the layers; empty for a dense model.

    Args:
        stage: the training stage.
        key: value in the load of a layer.
        scale: factor of the value.
        least: whether a small value means that the layer is not balanced.
    """
    loads = [(row["step"], row["expert_load"]) for row in stage.metrics if "expert_load" in row]
    if not loads:
        return []
    pick = min if least else max
    worst = [(step, scale * pick(layer[key] for layer in load.values())) for step, load in loads]
    middle = [(step, scale * median(layer[key] for layer in load.values())) for step, load in loads]
    last = loads[-1][1]
    name = pick(last, key=lambda number: last[number][key])
    return [Curve(f"least balanced (last: layer {name})", thinned(worst)), Curve("median layer", thinned(middle))]


def _evaluated(stage: TrainedStage, key: str) -> list[Curve]:
    names = stage.evaluations[0].get(key, {}) if stage.evaluations else {}
    return [Curve(name, [(row["step"], row[key][name]) for row in stage.evaluations]) for name in names]


def _changes(curve: Curve) -> Curve:
    first = curve.points[0][1]
    return Curve(curve.name, [(step, 100 * (value / first - 1)) for step, value in curve.points])


def thinned(points: Points) -> Points:
    """Reduce points to at most `MOST_POINTS` by averaging neighbours."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _figure(title: str, unit: str, curves: Sequence[Curve]) -> Figure | None:
    if not any(curve.points for curve in curves):
        return None
    return Figure(title, unit, tuple(curves), _picture(f"{title} {unit}".strip(), curves))


def _picture(label: str, curves: Sequence[Curve]) -> Markup:
    across = _Axis.around([x for curve in curves for x, _ in curve.points], 4)
    values = [y for curve in curves for _, y in curve.points]
    # Axes of amounts start at zero and end at a tick; those of losses do not.
    up = _Axis.of_amounts(values, 4) if label.startswith(AMOUNTS) else _Axis.around(values, 4)

    def x(value: float) -> float:
        return _LEFT + across.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - up.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="axis" x1="{_LEFT:g}" y1="{y(tick):.1f}" x2="{_WIDTH - _RIGHT:g}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 5:g}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{up.label(tick)}</text>'
        for tick in up.ticks
    ]
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="{_HEIGHT - 5:g}" text-anchor="middle">{across.label(tick)}</text>'
        for tick in across.ticks
    ]
    if up.low < 0 < up.high:
        parts.append(f'<line class="bound" x1="{_LEFT:g}" y1="{y(0):.1f}" x2="{_WIDTH - _RIGHT:g}" y2="{y(0):.1f}"/>')
    for number, curve in enumerate(curves):
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve.points)
        end = curve.points[-1]
        parts.append(
            f'<g class="{series(number)}"><polyline class="range" points="{path}"/>'
            f'<circle class="value" cx="{x(end[0]):.1f}" cy="{y(end[1]):.1f}" r="2.5"/></g>'
        )
    summary = "; ".join(f"{curve.name} from {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}" for curve in curves)
    size = f"0 0 {_WIDTH:g} {_HEIGHT:g}"
    head = f'<svg class="curve" viewBox="{size}" role="img" aria-label="{escape(f"{label}: {summary}")}">'
    return Markup(f"{head}{''.join(parts)}</svg>")


@dataclass(frozen=True, slots=True)
class _Axis:
    """A scale from `low` to `high` with round ticks between."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], wanted: int) -> "_Axis":
        low, high = min(values), max(values)
        if high - low <= abs(high) * 1e-9:
            low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
        rough = (high - low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return cls(low, high, tuple(number * step for number in range(first, last + 1)))

    @classmethod
    def of_amounts(cls, values: Sequence[float], wanted: int) -> "_Axis":
        """Return a scale from zero to the first tick that no value exceeds."""
        axis = cls.around([0.0, *values], wanted)
        step = axis.ticks[1] - axis.ticks[0]
        number = math.ceil(axis.high / step - 1e-9)
        return _Axis(0.0, number * step, tuple(each * step for each in range(number + 1)))

    def share(self, value: float) -> float:
        """Return the position of a value between the ends, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def label(self, tick: float) -> str:
        """Format a tick in a few characters."""
        if abs(tick) >= 1000:
            return f"{tick / 1e6:.4g}M" if abs(tick) >= 1e6 else f"{tick / 1e3:.4g}k"
        return f"{tick:.1e}".replace("e-0", "e−") if 0 < abs(tick) < 0.001 else f"{tick:.4g}".replace("-", "−")
