"""One self-contained page about one or several runs: totals, a table, a picture per scenario."""

import re
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.faults import words
from benchmarks.faults.charts import Picture, Scales, standalone
from benchmarks.faults.measures import Figures, figures
from benchmarks.faults.record import LoadShape, RunRecord, ScenarioRecord
from benchmarks.faults.theme import PAGE_STYLE

NUMBER = re.compile(r"[0-9]+")
SENTENCES_MAX = 8
WIDE, NARROW = 1080.0, 640.0
COLUMNS = (
    "Requests failed after retries", "Attempts that failed", "Longest gap without a success",
    "… without a read / write", "p99 before", "p99 during the fault", "Noticed after",
    "Full health after", "Moved by repair", "Bytes lost",
)  # fmt: skip
NOTES = (
    "A request is what a program sees: up to five attempts, random waits that double, as the "
    "common S3 SDKs do by default. It failed if the last attempt did. An attempt counts as failed "
    "when it is answered by 5xx or 429, breaks, or is not answered in time.",
    "The longest gap is the longest time after the begin of the fault in which no request at all "
    "succeeded; at low rates it cannot be shorter than the time between requests.",
    "Latency counts from the moment a request was due, so that a stall is not hidden by requests "
    "that were never sent, and includes retries and their waits.",
    "Noticed: the first moment at which the store's own status said that anything is wrong, asked "
    "four times a second. Full health: the moment from which it called itself healthy until the "
    "end, counted from the fault's end.",
    "Bytes lost: at the end every object that was acknowledged is read again and compared byte for "
    "byte. During the load every read is compared too; a wrong or outdated one counts as failed.",
    "The load program, the store and the faults share one machine: absolute figures say little "
    "about other machines.",
)


def render(runs: Sequence[RunRecord]) -> str:
    """The page. All runs must have at least one scenario between them."""
    names = list(dict.fromkeys(s.name for run in runs for s in run.scenarios))
    title = " and ".join(dict.fromkeys(run.store for run in runs))
    body = [
        f"<h1>{escape(title)} on a bad day</h1>",
        "<p>Faults under load: what a client sees, what the store says, what is lost.</p>",
        *_facts(runs),
        *_totals(runs),
        *_table(runs, names),
        *(part for name in names for part in _section(runs, name)),
        *_footer(),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}: faults under load</title><style>{PAGE_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def render_picture(run: RunRecord, name: str) -> str:
    """One scenario as an SVG image of its own. raises StopIteration if the run has none"""
    record = next(found for found in run.scenarios if found.name == name)
    figure = figures(record)
    svg = Picture(record, Scales.of([record]), 860.0).draw(with_tips=False)
    subtitle = (
        f"{load_in_words(run.load)}. {words.count(figure.requests)} requests, "
        f"{words.count(figure.failed)} failed; {words.size(figure.lost_bytes)} lost."
    )
    return standalone(svg, f"{run.store}: {record.title[0].lower()}{record.title[1:]}", subtitle)


def load_in_words(shape: LoadShape) -> str:
    """The load in one sentence."""
    pace = f"{shape.rate:g} requests/s" if shape.rate else "as fast as answers come"
    return (
        f"{shape.clients} clients, objects of {words.size(shape.size_bytes)}, "
        f"{shape.read_share:.0%} reads, {pace}"
    )


def _facts(runs: Sequence[RunRecord]) -> Iterator[str]:
    yield '<dl class="facts">'
    for run in runs:
        facts = [f"{run.started}", load_in_words(run.load), run.machine]
        if run.commit:
            facts.insert(0, f"commit {run.commit}")
        if run.calibration:
            facts.append(run.calibration)
        yield f"<dt>{escape(run.store)}</dt><dd>{escape(' · '.join(facts))}</dd>"
    yield "</dl>"


def _totals(runs: Sequence[RunRecord]) -> Iterator[str]:
    if len(runs) != 1:
        return
    all_figures = [figures(record) for record in runs[0].scenarios]
    gap_s = max(figure.longest_gap_s for figure in all_figures)
    failed = sum(figure.failed for figure in all_figures)
    lost = sum(figure.lost_bytes for figure in all_figures)
    yield '<div class="totals">'
    for value, what, is_bad in (
        (words.count(sum(figure.requests for figure in all_figures)), "requests", False),
        (words.count(failed), "failed after retries", failed > 0),
        (words.seconds(gap_s), "longest gap without a success", False),
        (words.size(lost), "lost", lost > 0),
    ):
        kind = ' class="bad"' if is_bad else ""
        yield f'<div class="total"><b{kind}>{value}</b><span>{what}</span></div>'
    yield "</div>"


def _table(runs: Sequence[RunRecord], names: Sequence[str]) -> Iterator[str]:
    has_names = len(runs) > 1
    yield '<div class="wide"><table><thead><tr><th>Scenario</th>'
    if has_names:
        yield '<th class="left">Store</th>'
    yield "".join(f"<th>{column}</th>" for column in COLUMNS) + "</tr></thead><tbody>"
    for name in names:
        found = list(_of(runs, name))
        for position, (run, record) in enumerate(found):
            first = position == 0
            yield f"<tr{' class=first' if first else ''}><td>"
            yield f'<a href="#{escape(name)}">{escape(record.title)}</a>' if first else ""
            yield "</td>"
            if has_names:
                yield f'<td class="left">{escape(run.store)}</td>'
            yield "".join(
                f"<td{' class=bad' if is_bad else ''}>{text}</td>"
                for text, is_bad in _cells(figures(record))
            )
            yield "</tr>"
    yield "</tbody></table></div>"


def _cells(figure: Figures) -> Iterator[tuple[str, bool]]:
    """Text of each column, and whether it is alarming."""
    yield (f"{words.count(figure.failed)} of {words.count(figure.requests)}", figure.failed > 0)
    yield (words.count(figure.failed_tries), False)
    yield (words.seconds(figure.longest_gap_s), False)
    yield (" / ".join(words.seconds(gap) for gap in figure.longest_gap_by_kind_s), False)
    yield (words.milliseconds(figure.healthy.p99_ms), False)
    yield (words.milliseconds(figure.fault.p99_ms), False)
    yield (words.seconds(figure.detect_s), False)
    if figure.health_s is None and figure.has_health:
        yield (f"not within {words.seconds(figure.watched_s)}", False)
    else:
        yield (words.seconds(figure.health_s), False)
    yield (words.size(figure.repair_bytes), False)
    yield (words.size(figure.lost_bytes), figure.lost_bytes > 0)


def _section(runs: Sequence[RunRecord], name: str) -> Iterator[str]:
    found = list(_of(runs, name))
    records = [record for _, record in found]
    scales = Scales.of(records)
    width = WIDE if len(runs) == 1 else NARROW
    yield f'<section id="{escape(name)}"><h2>{escape(records[0].title)}</h2>'
    yield f'<p class="soft">{escape(records[0].what)}</p><div class="runs">'
    for run, record in found:
        yield "<figure>"
        if len(runs) > 1:
            yield f"<figcaption>{escape(run.store)}</figcaption>"
        yield Picture(record, scales, width).draw()
        yield f"{_said(record)}</figure>"
    yield "</div></section>"


def _said(record: ScenarioRecord) -> str:
    """What the store said in words: each sentence once, whatever numbers it names."""
    first: dict[str, str] = {}
    for health in record.health:
        for sentence in health.words:
            kind = NUMBER.sub("#", sentence) if sentence[:1].isdigit() else sentence
            after_s = health.at_s - record.fault_begin_s
            first.setdefault(kind, f"{after_s:+.1f} s: {sentence}")
    shown = list(first.values())[:SENTENCES_MAX]
    if not shown:
        return ""
    return '<ul class="words">' + "".join(f"<li>{escape(text)}</li>" for text in shown) + "</ul>"


def _footer() -> Iterator[str]:
    yield "<footer><h2>How to read this</h2><ul>"
    for note in NOTES:
        yield f"<li>{escape(note)}</li>"
    yield "</ul></footer>"


def _of(runs: Sequence[RunRecord], name: str) -> Iterator[tuple[RunRecord, ScenarioRecord]]:
    for run in runs:
        for record in run.scenarios:
            if record.name == name:
                yield run, record


def summary(run: RunRecord) -> str:
    """The table in Markdown, for a terminal or a results file."""
    lines = [
        "| scenario | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for record in run.scenarios:
        cells = " | ".join(text for text, _ in _cells(figures(record)))
        lines.append(f"| {record.title} | {cells} |")
    return "\n".join(lines)
