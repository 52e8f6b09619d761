"""The picture of one scenario: panels over one time axis, drawn as SVG.

Second 0 is the fault. Colours are CSS variables of the page around it, so that one picture serves
light and dark; `standalone` adds them for use as an image of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from benchmarks.faults import words
from benchmarks.faults.measures import Phase, Series, phase, series
from benchmarks.faults.record import Health, Mark, ScenarioRecord
from benchmarks.faults.theme import PICTURE_STYLE

LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 26.0, 30.0
PANEL_GAP = 34.0
HEIGHTS = {"rate": 104.0, "latency": 104.0, "failures": 46.0, "degraded": 54.0}
RIBBON = 7.0
LONG_S = 45.0  # beyond this, buckets of a second
LABEL_PIXELS = 6.3  # per letter, about


@dataclass(frozen=True, slots=True)
class Scales:
    """The same for all runs of a scenario, so that they can be compared by eye."""

    before_s: float  # shown before the fault
    after_s: float  # and after its begin
    rate_max: float
    latency_min_ms: float
    latency_max_ms: float
    failures_max: float
    degraded_max: float

    @classmethod
    def of(cls, records: Sequence[ScenarioRecord]) -> "Scales":
        """Fit all records."""
        all_series = [series(record, step_of(record)) for record in records]
        lows = [v for s in all_series for v in s.p50_ms if not math.isnan(v)] or [1.0]
        highs = [v for s in all_series for v in s.p99_ms if not math.isnan(v)] or [10.0]
        failures = [max(_failures(s)) for s in all_series]
        degraded = [health.degraded for record in records for health in record.health]
        return cls(
            before_s=max(record.fault_begin_s for record in records),
            after_s=max(record.end_s - record.fault_begin_s for record in records),
            rate_max=max(max(s.rate) for s in all_series) * 1.08 or 1.0,
            latency_min_ms=10 ** math.floor(math.log10(max(min(lows), 0.01))),
            latency_max_ms=10 ** math.ceil(math.log10(max(max(highs), 0.1))),
            failures_max=max(*failures, 4.0) if len(failures) > 1 else max(failures[0], 4.0),
            degraded_max=max([*degraded, 4]),
        )


def step_of(record: ScenarioRecord) -> float:
    """Width of a bucket."""
    return 1.0 if record.end_s > LONG_S else 0.5


def _failures(cut: Series) -> list[float]:
    """Failed attempts per second."""
    return [tries / cut.step_s for tries in cut.failed_tries]


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle with a vertical scale."""

    top: float
    height: float
    place: Callable[[float], float]  # value to a share of the height, 0 at the bottom

    def y(self, value: float) -> float:
        """Where a value lies; what is beyond the scale lies on its edge."""
        share = min(1.0, max(0.0, self.place(value)))
        return self.top + self.height * (1 - share)


class Picture:
    """One scenario of one run."""

    def __init__(self, record: ScenarioRecord, scales: Scales, width: float = 920.0) -> None:
        self._record = record
        self._scales = scales
        self._width = width
        self._cut = series(record, step_of(record))
        self._has_health = bool(record.health)
        self._has_degraded = any(sample.degraded >= 0 for sample in record.health)
        self._parts: list[str] = []
        self._bottom = TOP

    def draw(self, *, with_tips: bool = True) -> str:
        """The SVG element. with_tips: figures under the pointer"""
        panels = [self._rate(), self._latency(), self._failures()]
        if self._has_health:
            panels.append(self._degraded())
        height = self._bottom + BOTTOM
        behind = [*self._band(panels), *self._time_axis()]
        tips = list(self._tips()) if with_tips else []
        title = escape(f"{self._record.title}: requests, latency, failures over time")
        return (
            f'<svg class="picture" viewBox="0 0 {self._width:g} {height:g}" role="img" '
            f'aria-label="{title}" xmlns="http://www.w3.org/2000/svg">'
            f"{''.join(behind)}{''.join(self._parts)}{''.join(tips)}</svg>"
        )

    # --- panels -------------------------------------------------------------------------------

    def _open(self, kind: str, title: str, place: Callable[[float], float]) -> Panel:
        top = self._bottom + PANEL_GAP - (12 if self._bottom == TOP else 0)
        panel = Panel(top, HEIGHTS[kind], place)
        self._bottom = panel.top + panel.height
        self._text(LEFT, panel.top - 9, title, "title")
        return panel

    def _rate(self) -> Panel:
        top = self._scales.rate_max
        panel = self._open("rate", "Successful requests per second", lambda v: v / top)
        self._levels(panel, nice_ticks(top, 4), words.count)
        self._note(panel, [(f"{words.count(p.rate)}/s {w}", "") for w, p in self._phases()])
        points = [(self._middle(i), panel.y(v)) for i, v in enumerate(self._cut.rate)]
        self._area(points, panel, "rate")
        self._line(points, "line rate")
        return panel

    def _latency(self) -> Panel:
        low, high = self._scales.latency_min_ms, self._scales.latency_max_ms
        span = math.log10(high / low) or 1.0
        panel = self._open(
            "latency", "Latency, retries included",
            lambda v: math.log10(max(v, low) / low) / span,
        )  # fmt: skip
        decades = [low * 10**n for n in range(round(span) + 1)]
        self._levels(panel, decades, _latency_label)
        self._note(
            panel, [(f"p99 {words.milliseconds(p.p99_ms)} {w}", "") for w, p in self._phases()]
        )
        last = {}
        for name, values in (("p99", self._cut.p99_ms), ("p50", self._cut.p50_ms)):
            points = [(self._middle(i), panel.y(v)) for i, v in enumerate(values)]
            self._line(points, f"line {name}", values)
            last[name] = next((y for (_, y), v in zip(points[::-1], values[::-1], strict=True)
                               if not math.isnan(v)), panel.top)  # fmt: skip
        self._legend(panel, (("p50", "median"), ("p99", "p99")))
        return panel

    def _failures(self) -> Panel:
        top = self._scales.failures_max
        panel = self._open("failures", "Failed attempts per second", lambda v: v / top)
        self._levels(panel, [0.0, max(nice_ticks(top, 2))], words.count)
        failed = sum(self._cut.failed)
        tries = len(self._record.failed_tries)
        self._note(
            panel,
            [(f"{words.count(tries)} attempts failed", ""),
             (f"{words.count(failed)} requests failed after retries", "bad" if failed else "")],
        )  # fmt: skip
        step = self._cut.step_s
        for index, value in enumerate(_failures(self._cut)):
            self._bar(panel, index, value, "tries")
        for index, number in enumerate(self._cut.failed):
            self._bar(panel, index, number / step, "failed")
        return panel

    def _degraded(self) -> Panel:
        top = self._scales.degraded_max
        title = "Degraded blobs, and what the store says of itself"
        if not self._has_degraded:
            title = "What the store says of itself"
        panel = self._open("degraded", title, lambda v: v / top)
        if self._has_degraded:
            self._levels(panel, [0.0, max(nice_ticks(top, 2))], words.count)
            points = []
            for before, after in pairwise([*self._record.health, self._record.health[-1]]):
                y = panel.y(max(0, before.degraded))
                points += [(self._x(before.at_s), y), (self._x(after.at_s), y)]
            self._area(points, panel, "degraded")
            self._line(points, "line degraded")
        self._ribbon(panel)
        return panel

    def _ribbon(self, panel: Panel) -> None:
        y = panel.top + panel.height + 5
        for begin_s, end_s, state in states(self._record.health, self._record.end_s):
            x, width = self._x(begin_s), self._x(end_s) - self._x(begin_s)
            kind = "healthy" if state == "healthy" else "down" if state in DOWN else "hurt"
            self._parts.append(
                f'<rect class="state {kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{RIBBON:g}"><title>{escape(state)} from {begin_s:.1f} s to '
                f"{end_s:.1f} s of the record</title></rect>"
            )
            if width > len(state) * LABEL_PIXELS + 4:
                self._text(x + 1, y + RIBBON + 12, state, "state-name")
        self._bottom = y + RIBBON + 14

    # --- what all panels share -----------------------------------------------------------------

    def _band(self, panels: Sequence[Panel]) -> Iterator[str]:
        """The fault's time, behind everything."""
        record, top = self._record, TOP - 4
        begin, end = self._x(record.fault_begin_s), self._x(record.fault_end_s)
        bottom = panels[-1].top + panels[-1].height
        yield (
            f'<rect class="fault" x="{begin:.1f}" y="{top:g}" width="{max(end - begin, 1):.1f}" '
            f'height="{bottom - top:g}"/>'
        )
        free_from = 0.0
        for mark in record.marks:
            x = self._x(mark.at_s)
            kind = "moment" if mark.words else "moment minor"
            yield f'<path class="{kind}" d="M{x:.1f} {top:g}V{bottom:g}"/>'
            if mark.words:
                x = max(x, free_from)
                yield self._mark_label(mark, x)
                free_from = x + len(mark.words) * LABEL_PIXELS + 14

    def _mark_label(self, mark: Mark, x: float) -> str:
        is_late = x + len(mark.words) * LABEL_PIXELS > self._width - RIGHT
        anchor = ' text-anchor="end"' if is_late else ""
        return (
            f'<text class="mark" x="{x:.1f}" y="{TOP - 10:g}"{anchor}>{escape(mark.words)}</text>'
        )

    def _time_axis(self) -> Iterator[str]:
        y = self._bottom + 8
        step = nice_step((self._scales.before_s + self._scales.after_s) / 10)
        first = -math.floor(self._scales.before_s / step)
        for number in range(first, math.floor(self._scales.after_s / step) + 1):
            at_s = number * step
            x = self._x(self._record.fault_begin_s + at_s)
            label = f"{at_s:+g} s".replace("-", "\N{MINUS SIGN}") if number else "fault"
            yield (
                f'<path class="grid" d="M{x:.1f} {TOP:g}V{self._bottom:g}"/>'
                f'<text class="tick" x="{x:.1f}" y="{y + 10:g}" text-anchor="middle">{label}</text>'
            )

    def _levels(self, panel: Panel, values: Sequence[float], label: Callable[[float], str]) -> None:
        for value in values:
            y = panel.y(value)
            kind = "base" if value == values[0] else "grid"
            self._parts.append(
                f'<path class="{kind}" d="M{LEFT:g} {y:.1f}H{self._width - RIGHT:g}"/>'
            )
            self._parts.append(
                f'<text class="tick" x="{LEFT - 7:g}" y="{y + 3.5:.1f}" '
                f'text-anchor="end">{escape(label(value))}</text>'
            )

    def _phases(self) -> Iterator[tuple[str, Phase]]:
        """Before and during the fault; one that took a moment has no time of its own."""
        record = self._record
        yield "before", phase(record, 0.0, record.fault_begin_s)
        if record.fault_end_s - record.fault_begin_s >= 1.0:
            yield "during", phase(record, record.fault_begin_s, record.fault_end_s)
        else:
            yield "after", phase(record, record.fault_begin_s, record.end_s)

    def _note(self, panel: Panel, notes: Sequence[tuple[str, str]]) -> None:
        spans = [f'<tspan class="{kind}">{escape(text)}</tspan>' for text, kind in notes]
        joined = '<tspan class="dot"> · </tspan>'.join(spans)
        self._parts.append(
            f'<text class="note" x="{self._width - RIGHT:g}" y="{panel.top - 9:g}" '
            f'text-anchor="end">{joined}</text>'
        )

    def _legend(self, panel: Panel, entries: Sequence[tuple[str, str]]) -> None:
        x = LEFT + 175
        for kind, name in entries:
            y = panel.top - 12.5
            self._parts.append(f'<path class="line {kind}" d="M{x:g} {y:g}h14"/>')
            self._text(x + 19, panel.top - 9, name, "note")
            x += 27 + len(name) * LABEL_PIXELS

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def _line(
        self,
        points: Sequence[tuple[float, float]],
        kind: str,
        values: Sequence[float] | None = None,
    ) -> None:
        """A line; where the value is nan it is interrupted."""
        path, pen = [], "M"
        for index, (x, y) in enumerate(points):
            if values is not None and math.isnan(values[index]):
                pen = "M"
                continue
            path.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        self._parts.append(f'<path class="{kind}" d="{"".join(path)}"/>')

    def _area(self, points: Sequence[tuple[float, float]], panel: Panel, kind: str) -> None:
        if not points:
            return
        bottom = panel.top + panel.height
        path = "".join(f"L{x:.1f} {y:.1f}" for x, y in points)
        self._parts.append(
            f'<path class="area {kind}" d="M{points[0][0]:.1f} {bottom:g}{path}'
            f'L{points[-1][0]:.1f} {bottom:g}Z"/>'
        )

    def _bar(self, panel: Panel, index: int, value: float, kind: str) -> None:
        if value <= 0:
            return
        x, end = self._x(index * self._cut.step_s), self._x((index + 1) * self._cut.step_s)
        y = min(panel.y(value), panel.top + panel.height - 1.5)
        self._parts.append(
            f'<rect class="bar {kind}" x="{x + 0.5:.1f}" y="{y:.1f}" '
            f'width="{max(1.0, end - x - 1):.1f}" height="{panel.top + panel.height - y:.1f}"/>'
        )

    def _tips(self) -> Iterator[str]:
        """One see-through column per bucket with its figures."""
        cut, record = self._cut, self._record
        for index in range(len(cut.rate)):
            begin_s = index * cut.step_s
            x, end = self._x(begin_s), self._x(begin_s + cut.step_s)
            text = (
                f"{begin_s - record.fault_begin_s:+.1f} s: {words.count(cut.rate[index])}/s, "
                f"median {words.milliseconds(cut.p50_ms[index])}, p99 "
                f"{words.milliseconds(cut.p99_ms[index])}, {cut.failed_tries[index]} attempts and "
                f"{cut.failed[index]} requests failed"
            )
            yield (
                f'<rect class="tip" x="{x:.1f}" y="{TOP:g}" width="{end - x:.1f}" '
                f'height="{self._bottom - TOP - 30:g}"><title>{escape(text)}</title></rect>'
            )

    def _middle(self, index: int) -> float:
        return self._x((index + 0.5) * self._cut.step_s)

    def _x(self, at_s: float) -> float:
        """Where a moment of the record lies."""
        scales = self._scales
        share = (at_s - self._record.fault_begin_s + scales.before_s) / (
            scales.before_s + scales.after_s
        )
        return LEFT + (self._width - LEFT - RIGHT) * min(1.0, max(0.0, share))


DOWN = ("unavailable", "stopped")


def states(health: Sequence[Health], end_s: float) -> list[tuple[float, float, str]]:
    """Runs of one state: begin, end, its name. Healthy but complaining counts as degraded."""
    found: list[tuple[float, float, str]] = []
    for sample in health:
        state = sample.state
        if state == "healthy" and not sample.is_healthy:
            state = "degraded"
        if found and found[-1][2] == state:
            continue
        if found:
            found[-1] = (found[-1][0], sample.at_s, found[-1][2])
        found.append((sample.at_s, end_s, state))
    return found


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * 0.999)


def nice_ticks(top: float, count: int) -> list[float]:
    """Round values from 0 on, about `count` steps, none above `top`."""
    step = nice_step(max(top, 1e-9) / count)
    return [step * number for number in range(int(top / step) + 1)] if top >= step else [0.0, top]


def _latency_label(value_ms: float) -> str:
    return f"{value_ms:g} ms" if value_ms < 1000 else f"{value_ms / 1000:g} s"


def standalone(svg: str, title: str, subtitle: str) -> str:
    """A picture with its own colours and heading, as an image file that follows light and dark."""
    begin = svg.index('viewBox="0 0 ') + len('viewBox="0 0 ')
    width, height = svg[begin : svg.index('"', begin)].split()
    head = 56
    inner = svg[svg.index(">") + 1 : -len("</svg>")]
    return (
        f'<svg class="picture" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {width} {float(height) + head:g}" width="{width}" '
        f'height="{float(height) + head:g}" aria-label="{escape(title)}">'
        f"<style>{PICTURE_STYLE}</style>"
        f'<rect class="paper" width="100%" height="100%" rx="8"/>'
        f'<text class="heading" x="{LEFT - 30:g}" y="30">{escape(title)}</text>'
        f'<text class="subheading" x="{LEFT - 30:g}" y="50">{escape(subtitle)}</text>'
        f'<g transform="translate(0 {head})">{inner}</g></svg>\n'
    )
