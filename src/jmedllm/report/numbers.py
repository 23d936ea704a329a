"""Format numbers for tables; "-" if there is none."""


def count(n: int | None) -> str:
    """Format a number of items."""
    return "-" if n is None else f"{n:,}"


def count_of(n: int | None, selected: int | None) -> str:
    """Format a number of items, with the number that was selected if a limit left out the rest of them."""
    return count(n) if selected is None else f"{count(n)} of {selected:,}"


def percent(value: float | None) -> str:
    """Format a share in %, without the sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Format an interval of shares in %."""
    return "-" if bounds is None else f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def probability(p: float) -> str:
    """Format a p value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
