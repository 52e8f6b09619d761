"""The page and the picture: well-formed, complete, self-contained.

Method: parse them as XML (the page is written so that it is XML too, but for two tags) and look.
"""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from defusedxml import ElementTree

from benchmarks.faults import words
from benchmarks.faults.charts import nice_step, nice_ticks, states
from benchmarks.faults.record import Health, Requests
from benchmarks.faults.report import render, render_picture, summary
from benchmarks.faults.scenarios import NAMES
from tests.unit.benchmarks.records import make_run, make_scenario

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that every tag is closed in order; keeps text, ids and what is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values[name] or "" for name in ("src", "href") if name in values]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_has_every_scenario_and_nothing_from_outside() -> None:
    run = make_run("Ostraka", *[make_scenario(name) for name in NAMES])
    page = Page(render([run]))
    assert page.ids == list(NAMES)
    assert page.tags.count("svg") == len(NAMES)
    assert all(link.startswith("#") for link in page.links)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in render([run])
    everything = "".join(page.text)
    for scenario in run.scenarios:
        assert scenario.title in everything


def test_text_of_others_is_never_markup() -> None:
    page = render([make_run("<script>", make_scenario())])
    assert "<script>" not in page
    assert "<b>bad</b>" not in page
    assert "&lt;is&gt; stopped" in page


def test_runs_stand_side_by_side() -> None:
    one = make_run("One", make_scenario(), make_scenario("frozen-node"))
    other = make_run("Other", make_scenario(lost_objects=2))
    page = Page(render([one, other]))
    assert page.ids == ["zone-lost", "frozen-node"]
    assert page.tags.count("figure") == 3
    assert page.tags.count("tr") == 1 + 3
    everything = "".join(page.text)
    assert "One and Other" in everything
    assert "128 KiB" in everything, "two lost objects of 64 KiB"


def test_a_loss_is_loud() -> None:
    assert 'class="bad"' not in render([_without_failures("fine")])
    assert '<b class="bad">' in render([make_run("bad", make_scenario(lost_objects=1))])


def _without_failures(store: str) -> object:
    scenario = make_scenario()
    scenario.requests.status = [200] * len(scenario.requests)
    return make_run(store, scenario)


def test_health_that_was_not_reached_is_said_so() -> None:
    scenario = make_scenario()
    scenario.health.pop()
    scenario.health.pop()
    assert "not within 20 s" in render([make_run("x", scenario)])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scenario: scenario.health.clear(),
        lambda scenario: scenario.failed_tries.clear(),
        lambda scenario: setattr(scenario, "requests", Requests()),
        lambda scenario: setattr(scenario, "fault_end_s", scenario.fault_begin_s),
    ],
    ids=["health", "failures", "requests", "length"],
)
def test_a_page_of_little(spoil: Callable[[object], None]) -> None:
    scenario = make_scenario()
    spoil(scenario)
    page = render([make_run("x", scenario)])
    Page(page)
    assert "nan" not in page.replace("nance", "")


def test_picture_is_an_image_of_its_own() -> None:
    picture = render_picture(make_run("Ostraka", make_scenario()), "zone-lost")
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in picture
    assert "zone lost" in picture
    assert len(picture) < 300_000


def test_picture_places_the_fault_at_its_time() -> None:
    root = ElementTree.fromstring(render_picture(make_run("x", make_scenario()), "zone-lost"))
    band = next(e for e in root.iter() if e.get("class") == "fault")
    # 40 s in 796 pixels from 50 on; the fault lasts from 10 s to 20 s.
    assert float(band.get("x", "")) == pytest.approx(50 + 796 * 0.25, abs=0.1)
    assert float(band.get("width", "")) == pytest.approx(796 * 0.25, abs=0.1)


def test_summary_has_a_line_per_scenario() -> None:
    lines = summary(make_run("x", make_scenario(), make_scenario("bit-rot"))).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_states_join_and_a_complaint_is_not_health() -> None:
    health = [
        Health(0, True, "healthy", 0), Health(1, False, "healthy", 0, ("a node is stopped",)),
        Health(2, False, "degraded", 0), Health(3, True, "healthy", 0),
    ]  # fmt: skip
    assert states(health, 9) == [(0, 1, "healthy"), (1, 3, "degraded"), (3, 9, "healthy")]


@pytest.mark.parametrize("top", [0.4, 1.0, 3.7, 9.99, 324.0, 123_456.0])
def test_ticks_are_round_and_fit(top: float) -> None:
    ticks = nice_ticks(top, 4)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] <= top
    assert nice_step(top / 4) >= top / 4 * 0.999


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 ms"), (0.0123, "12 ms"), (0.9994, "999 ms"), (1.26, "1.3 s"), (9.96, "10 s"),
     (59.4, "59 s"), (59.6, "1 min"), (125.0, "2 min 5 s"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_seconds_in_words(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1, "–"), (0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (65_536, "64 KiB"),
     (5 * 2**30, "5 GiB"), (5000 * 2**30, "5,000 GiB")],
)  # fmt: skip
def test_sizes_in_words(value: int, text: str) -> None:
    assert words.size(value) == text
