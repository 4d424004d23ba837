"""Formats figures for the tables of reports."""

import math


def number_text(value: float) -> str:
    """Three decimals; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Lower and upper bound; a dash for None."""
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
