"""Plots as SVG: lines over axes of powers of ten."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 34, 48
_COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed")
_TEXT = 'font-family="sans-serif" font-size="12" fill="#666"'


class _Axis:
    """A logarithmic axis: from values to positions."""

    def __init__(self, values: list[float], first: int, last: int) -> None:
        positive = [value for value in values if value > 0]
        self._low = math.floor(math.log10(min(positive)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(positive))))
        self._first, self._last = first, last

    def place(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._first + share * (self._last - self._first)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def drawn(series: Mapping[str, Any]) -> str:
    """Draw a series."""
    points = [point for line in series["lines"].values() for point in line]
    across = _Axis([size for size, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([cost for _, cost in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *_grid(across, up),
        _label(_LEFT, 20, series["cost"]),
        _label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, series["size"], "middle"),
    ]
    for place, (name, line) in enumerate(series["lines"].items()):
        parts += _line(name, line, across, up, place)
    return "\n".join([*parts, "</svg>", ""])


def _grid(across: _Axis, up: _Axis) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for value in across.ticks():
        x = across.place(value)
        parts.append(f'<path d="M{x:.0f} {_TOP}V{bottom}" stroke="#e5e5e5"/>')
        parts.append(_label(x, bottom + 18, f"{value:,g}", "middle"))
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<path d="M{_LEFT} {y:.0f}H{right}" stroke="#e5e5e5"/>')
        parts.append(_label(_LEFT - 8, y + 4, f"{value:,g}", "end"))
    return parts


def _line(
    name: str, line: list[tuple[float, float]], across: _Axis, up: _Axis, number: int
) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    places = [(across.place(size), up.place(cost)) for size, cost in line if cost > 0]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    x, y = _WIDTH - _RIGHT + 16, _TOP + 20 * number + 10
    parts.append(f'<path d="M{x} {y - 4}h16" stroke="{colour}" stroke-width="2"/>')
    return [*parts, _label(x + 22, y, name)]


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {_TEXT}>{escape(text)}</text>'
