"""Print a plan, and convert it to plain values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.errors import MOST_NAMED
from jmedllm.planning.eval import EvalAdvice, EvalPlan
from jmedllm.planning.machine import GIB, Machine, gib
from jmedllm.planning.needs import Component, Needs, StagePlan
from jmedllm.planning.plan import Advice, Option
from jmedllm.planning.techniques import Techniques

SMALLEST_SHOWN = GIB // 20
"""Smaller components are only part of the sum."""

_UNITS = (("hours", 1.0), ("minutes", 1 / 60), ("seconds", 1 / 3600))

FOOTNOTE = (
    "Memory is estimated by tracing one training step without weights; hours assume a quarter to 0.7 of the GPU's "
    "rated speed, and speeds of link and host. Nothing has been measured on a GPU yet: docs/plan.md."
)

FREED = (
    "Training on a CPU can take up to twice this memory, because the C library keeps freed blocks. With the "
    "environment variable MALLOC_MMAP_THRESHOLD_=1048576 it returns them."
)


def print_plan(
    found: Sequence[Advice],
    evaluation: EvalAdvice | None,
    machine: Machine,
    console: Console,
    dequantize: Needs | None = None,
    deploy: Needs | None = None,
) -> None:
    """Print each stage as configured or with the changes that make it fit, and its smallest machine."""
    many = f"{machine.gpus} × " * (machine.gpus > 1) + machine.gpu.name
    nodes = f"{machine.nodes} nodes of {many}" if machine.nodes > 1 else many
    each, node = (" each", " a node") if machine.processes > 1 else ("", "")
    host = "memory" if machine.is_shared else f"{gib(machine.ram)} of host memory{node}"
    console.print(f"{nodes}: {gib(machine.gpu.memory)}{' of ' if machine.is_shared else f'{each}, '}{host}")
    if dequantize:
        console.print()
        _print_needs("dequantize, once before the other stages", dequantize, machine, console)
    for advice in found:
        console.print()
        _print_advice(advice, machine, console)
    if evaluation:
        console.print()
        _print_eval(evaluation, machine, console)
    if deploy:
        console.print()
        _print_needs("deploy, on the CPU", deploy, machine, console)
    console.print()
    if found and machine.is_shared:
        console.print(Text(FREED, style="dim"))
    console.print(Text(FOOTNOTE, style="dim"))


def _print_advice(advice: Advice, machine: Machine, console: Console) -> None:
    written = advice.planned
    as_it_is = advice.chosen is not None and not advice.chosen.changes
    if not as_it_is:
        needs = f"needs {sizes(written, machine)}"
        text = f"is not supported: {advice.refusal}" if advice.refusal else f"does not fit: {needs}"
        console.print(Text(f"{written.stage} as configured {text}", style="red"))
    if advice.chosen and not as_it_is:
        console.print(f"It fits with these lines in section {written.stage}:")
        _print_changes(advice.chosen.changes, console)
    if advice.chosen is None and advice.smallest:
        console.print(Text("No change makes it fit. The changes that need the least GPU memory:", style="red"))
        _print_changes(advice.smallest.changes, console)
    best = advice.chosen or advice.smallest
    if best:
        _print_needs(written.stage, best.planned, machine, console)
        console.print(Text(_work(best.planned, machine), style="dim"))
        if best.planned.shape.experts:
            console.print(Text(_experts(best.planned), style="dim"))
    console.print(Text(f"smallest machine: {_smallest(advice, machine)}", style="dim"))


def _print_changes(changes: Techniques, console: Console) -> None:
    width = max((len(change.setting) for change in changes), default=0)
    for change in changes:
        console.print(Text(f"  {change.setting:<{width}}  # {change.cost}"))


def _print_eval(evaluation: EvalAdvice, machine: Machine, console: Console) -> None:
    planned = evaluation.planned
    if not planned.fits(machine):
        console.print(Text(f"eval as configured does not fit: needs {sizes(planned, machine)}", style="red"))
        if evaluation.in_4_bits and evaluation.in_4_bits.fits(machine):
            console.print("It fits with this line in section eval:")
            console.print(Text("  quantization: nf4  # models rounded to 4 bits, mpeft as it was trained"))
            planned = evaluation.in_4_bits
    _print_needs("eval, one model at a time", planned, machine, console)
    console.print(Text(_results(planned, machine), style="dim"))
    way = " (quantization: nf4)" if evaluation.in_4_bits else ""
    console.print(Text(f"smallest machine: {sizes(evaluation.least, machine)}{way}", style="dim"))
    if evaluation.note:
        console.print(Text(evaluation.note, style="dim"))


def _print_needs(title: str, needs: Needs, machine: Machine, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(title, min_width=40)
    memory = ("memory",) if machine.is_shared else ("each GPU" if machine.processes > 1 else "GPU", "host")
    for name in (*memory, "disk"):
        table.add_column(name, justify="right", min_width=9)
    for part in needs.parts:
        sizes = _columns(part, machine)
        if max(sizes) >= SMALLEST_SHOWN:
            table.add_row(part.name, *(gib(size) if size >= SMALLEST_SHOWN else "" for size in sizes))
    table.add_section()
    fits = needs.fits(machine)
    text = Text("fits" if fits else "does not fit", style="green" if fits else "red")
    table.add_row(text, *(gib(size) if size else "" for size in _columns(needs, machine)))
    console.print(table)


def _columns(sizes: Component | Needs, machine: Machine) -> tuple[int, ...]:
    """Return memory of GPU and host, as one value if they are shared, and disk."""
    if machine.is_shared:
        return sizes.gpu + sizes.host, sizes.disk
    return sizes.gpu, sizes.host, sizes.disk


def _work(planned: StagePlan, machine: Machine) -> str:
    tokens, unit = (planned.tokens, "") if planned.tokens else (1_000_000, " per million tokens")
    read = (
        f"{planned.steps:,} steps, {planned.tokens:,} tokens" if planned.steps else "steps: not known before packing"
    )
    rows, many = planned.work.batch_size, machine.processes
    idle = f"; a batch has {rows} rows: {many - rows} of {many} GPUs are idle" * (many > rows)
    return f"{read}; {_hours(planned.hours(machine, tokens), machine)}{unit if machine.gpu.rates else ''}{idle}"


def _experts(planned: StagePlan) -> str:
    shape, coverage = planned.shape, planned.coverage
    text = f"{shape.total / 1e9:.1f} B parameters, of which a token passes through {shape.active / 1e9:.1f} B"
    if coverage is None:
        return text
    frozen = ", ".join(f"{name} {share:.0%}" for name, share in list(coverage.frozen.items())[:MOST_NAMED])
    return f"{text}; the adapter adapts {coverage.adapted:.0%} of all weights" + f" and leaves frozen {frozen}" * bool(
        frozen
    )


def _results(planned: EvalPlan, machine: Machine) -> str:
    counted = [task for task in planned.tasks if task.items is not None]
    items = sum(task.items or 0 for task in counted)
    text = [f"{planned.models} models × {items:,} items"]
    if lacking := [task.name for task in planned.tasks if task.items is None]:
        text.append(f"without {', '.join(lacking)}, whose number of items is unknown")
    if guessed := [task.name for task in counted if not task.is_there]:
        text.append(f"{', '.join(guessed)} not on disk: lengths assumed")
    text.append(f"{planned.read:,} tokens read, at most {planned.written:,} generated")
    beside = ", loading not counted" if planned.hours(machine) else ""
    return f"{'; '.join(text)}; {_hours(planned.hours(machine), machine)}{beside}"


def _hours(hours: tuple[float, float] | None, machine: Machine) -> str:
    if machine.is_shared:
        return "hours: not estimated, because the speed of a CPU is not known; --gpu NAME estimates them for a GPU"
    if machine.gpu.rates is None:
        return f"hours: unknown for {machine.gpu.name}; name a GPU or give its rates"
    if hours is None:
        return "hours: not estimated, it does not fit"
    unit, size = next((each for each in _UNITS if hours[1] >= each[1]), _UNITS[-1])
    text = " to ".join(f"{each / size:,.0f}" if each >= 10 * size else f"{each / size:,.2g}" for each in hours)
    return f"{text} {unit}"


def _smallest(advice: Advice, machine: Machine) -> str:
    option = advice.smallest
    if option is None:
        return f"none, no combination of settings is supported: {advice.refusal}"
    text = ", ".join(change.setting for change in option.changes) or "as configured"
    return f"{sizes(option.planned, machine)} ({text})"


def sizes(needs: Needs, machine: Machine) -> str:
    """Format the memory of each GPU and the host, or of the memory that they share."""
    if machine.is_shared:
        return f"{gib(needs.gpu * machine.gpus + needs.host)} of memory"
    return f"{gib(needs.gpu)} on {'each' if machine.processes > 1 else 'the'} GPU, {gib(needs.host)} on the host"


def as_json(
    found: Sequence[Advice],
    evaluation: EvalAdvice | None,
    machine: Machine,
    dequantize: Needs | None = None,
    deploy: Needs | None = None,
) -> dict[str, Any]:
    """Convert a plan to plain values: bytes, steps, tokens and hours."""
    return {
        "machine": asdict(machine),
        **({"dequantize": _values(dequantize)} if dequantize else {}),
        "stages": [
            {
                "stage": each.planned.stage,
                "fits": each.planned.fits(machine) and each.refusal is None,
                "refusal": each.refusal,
                "as_configured": _stage_values(each.planned, machine),
                "fits_changed": each.chosen is not None,
                "changes": [change.setting for change in each.changes],
                "changed": _stage_values(each.chosen.planned, machine) if each.chosen else None,
                "smallest": _smallest_values(each.smallest),
            }
            for each in found
        ],
        "eval": _eval_values(evaluation, machine) if evaluation else None,
        **({"deploy": _values(deploy)} if deploy else {}),
    }


def _values(needs: Needs) -> dict[str, Any]:
    sizes = {"gpu": needs.gpu, "host": needs.host, "disk": needs.disk}
    return {"parts": [asdict(part) for part in needs.parts]} | sizes


def _stage_values(planned: StagePlan, machine: Machine) -> dict[str, Any]:
    return _values(planned) | {
        "parameters": {"total": planned.shape.total, "active": planned.shape.active},
        "adapter": None
        if planned.coverage is None
        else {"adapted_share": planned.coverage.adapted, "left_frozen": planned.coverage.frozen},
        "steps": planned.steps,
        "tokens": planned.tokens,
        "hours": planned.hours(machine, planned.tokens) if planned.tokens else None,
        "hours_per_million_tokens": planned.hours(machine, 1_000_000),
    }


def _smallest_values(option: Option | None) -> dict[str, Any] | None:
    if option is None:
        return None
    changes = [change.setting for change in option.changes]
    return {"gpu": option.planned.gpu, "host": option.planned.host, "changes": changes}


def _eval_values(evaluation: EvalAdvice, machine: Machine) -> dict[str, Any]:
    return {
        name: None
        if planned is None
        else _values(planned)
        | {
            "fits": planned.fits(machine),
            "models": planned.models,
            "tasks": [asdict(task) for task in planned.tasks],
            "tokens_read": planned.read,
            "max_tokens_generated": planned.written,
            "hours": planned.hours(machine),
        }
        for name, planned in (("as_configured", evaluation.planned), ("in_4_bits", evaluation.in_4_bits))
    } | {
        "smallest": {"gpu": evaluation.least.gpu, "host": evaluation.least.host},
        "backend": evaluation.backend,
        "note": evaluation.note,
    }
