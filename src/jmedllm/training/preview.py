"""One training example as the model sees it, so that a wrong mask or template is seen before hours are spent."""

from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.processes import is_main_process
from jmedllm.training.packing import Blocks

_LONGEST = 400
"""Tokens of an example that are shown."""

_MOST_RUNS = 8
"""Runs of a mask that are told."""


def show_example(
    tokenizer: Tokenizer, blocks: Blocks, title: str, console: Console | None = None, *, text: bool = False
) -> None:
    """Print to standard error which tokens are trained in the first sample of the first row that trains anything.

    Args:
        tokenizer: of the model.
        blocks: packed rows.
        title: name of the stage.
        console: prints elsewhere.
        text: whether the sample's text is printed, too, which logs may keep: untrained tokens dim, trained ones
            green and between ⟦ ⟧, special tokens spelled out.
    """
    rows = [index for index in range(min(len(blocks), 100)) if blocks.trained[index].any()]
    if not rows or not is_main_process():
        return
    ids, trained = first_sample(blocks, rows[0])
    presented = console or Console(stderr=True)
    presented.print(Text(f"{title}: the first example: {mask_in_words(trained)}", style="bold"), soft_wrap=True)
    if text:
        presented.print(colored(tokenizer, ids, trained), soft_wrap=True)


def mask_in_words(trained: list[bool]) -> str:
    """How many tokens there are, how many of them are trained, and in which order."""
    runs = [(len(list(run)), is_trained) for is_trained, run in groupby(trained)]
    told = [f"{length:,} {'trained' if is_trained else 'untrained'}" for length, is_trained in runs[:_MOST_RUNS]]
    more = [f"{len(runs) - _MOST_RUNS} runs more"] * (len(runs) > _MOST_RUNS)
    return f"{len(trained):,} tokens, {sum(trained):,} trained; in order: {', '.join([*told, *more])}"


def first_sample(blocks: Blocks, row: int) -> tuple[list[int], list[bool]]:
    """Ids of the first sample of a row that trains anything, and which of them are trained."""
    starts = [column for column, position in enumerate(blocks.positions[row]) if position == 0]
    first_trained = int(blocks.trained[row].argmax())
    start = max(column for column in starts if column <= first_trained)
    end = min((column for column in starts if column > first_trained), default=blocks.ids.shape[1])
    return blocks.ids[row, start:end].tolist(), blocks.trained[row, start:end].tolist()


def colored(tokenizer: Tokenizer, ids: list[int], trained: list[bool]) -> Text:
    """Runs of trained and of untrained tokens, decoded together: one token may be half a character."""
    text = Text()
    presented = list(zip(ids, trained, strict=True))[:_LONGEST]
    for is_trained, run in groupby(presented, key=lambda pair: pair[1]):
        piece = _decode(tokenizer, [token for token, _ in run])
        text.append(f"⟦{piece}⟧" if is_trained else piece, style="green" if is_trained else "dim")
    if len(ids) > _LONGEST:
        text.append(f" … {len(ids) - _LONGEST:,} more tokens", style="dim italic")
    return text


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
