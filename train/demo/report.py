"""The report of a demo: one HTML file that needs nothing else, a pure function of the story."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources

from dataplane.page.charts import Band, Line, Span, legend, line_chart, stacked_bar
from dataplane.page.document import card, code, data_uri, document, section, tiles
from dataplane.page.markup import Markup, element
from train.demo.story import Picture, Step, Story, TimeUse

__all__ = ["render"]

_FEW_PIXELS = 32
"""Up to this side, the pixels of a picture are shown as squares."""


def render(story: Story) -> str:
    """The whole page. Names are escaped, nothing is loaded from elsewhere, and there is no script."""
    style = resources.files("train.demo").joinpath("report.css").read_text(encoding="utf-8")
    parts = (_summary, _steps, _batch, _training, _times, _check, _facts, _next)
    return document(story.title, *(part(story) for part in parts), style=style)


def _summary(story: Story) -> Markup:
    crash, check = story.crash, story.check
    once = "exactly once" if check.ok else "not exactly once"
    numbers = (
        (f"{story.accuracy:.1%}", f"accuracy on {story.tested:,} test pictures", ""),
        (f"{story.samples:,}", f"pictures of {story.classes} classes", ""),
        (f"{story.seconds:.0f} s", "from a folder of pictures to an answer", ""),
        (once.capitalize(), f"every sample of epoch {crash.epoch + 1}, which was killed and resumed", "good" if check.ok else ""),
    )
    lead = (
        f"A folder of pictures became a dataset, was trained on, killed at step {crash.killed_step}, resumed from the checkpoint of step "
        f"{crash.resumed_step}, evaluated, published and served. Below is each command, and what it did."
    )
    return element("header", element("h1", story.title), element("p", lead, class_="lead"), tiles(numbers))


def _steps(story: Story) -> Markup:
    longest = max((step.seconds for step in story.steps), default=0.0) or 1.0
    rows = (_step(number, step, longest) for number, step in enumerate(story.steps, 1))
    note = "The commands are as you would type them, from the folder in which the demo was started."
    return section("What was done", note, element("ol", *rows, class_="steps"))


def _step(number: int, step: Step, longest: float) -> Markup:
    bar = element("i", style=f"width:{100 * step.seconds / longest:.1f}%")
    head = element(
        "div", element("h3", step.name), element("span", bar, class_="length"), element("time", f"{step.seconds:.1f} s"), class_="head"
    )
    parts = [element("span", str(number), class_="number"), head, element("p", step.why)]
    if step.command:
        parts.append(code(step.command))
    parts.append(element("p", step.outcome, class_="outcome"))
    return element("li", *parts, class_=step.kind)


def _batch(story: Story) -> Markup:
    note = "The first batch as the model sees it, but for the scaling of the values, with the names of the classes."
    size = "small" if max((picture.side for picture in story.pictures), default=0) <= _FEW_PIXELS else "large"
    return section("One batch", note, element("div", *map(_picture, story.pictures), class_=f"pictures {size}"))


def _picture(picture: Picture) -> Markup:
    image = element("img", src=data_uri(picture.png, "image/png"), alt=f"a picture of class {picture.label}", title=picture.key)
    return element("figure", image, element("figcaption", picture.label))


def _training(story: Story) -> Markup:
    loss = (
        Line("training", "s1", tuple((i.step, i.loss) for i in story.intervals)),
        Line("validation", "s2", tuple((v.step, v.loss) for v in story.validations), dots=True),
    )
    accuracy = Line("validation", "s2", tuple((v.step, v.accuracy) for v in story.validations), dots=True)
    speed = Line("training", "s1", tuple((i.step, i.samples_per_second) for i in story.intervals))
    hits = Line("hot tier", "s4", tuple((i.step, i.hit_rate) for i in story.intervals if i.hit_rate is not None))
    cards = (
        card("Loss", legend([(line.name, line.style) for line in loss]), _chart(story, loss, "Loss", "{:.2g}".format, 0.1)),
        card("Accuracy", legend([(accuracy.name, accuracy.style)]), _chart(story, [accuracy], "Accuracy", "{:.0%}".format, 1.0)),
        card("Samples a second", _chart(story, [speed], "Samples a second", "{:,.0f}".format, 1.0)),
        card("Reads that the hot tier served", _chart(story, [hits], "Hit rate of the hot tier", "{:.0%}".format, 1.0)),
    )
    note = (
        "The shaded steps were done twice: the kill threw the first time away together with everything else that was newer than the last "
        "checkpoint. Saving a checkpoint or scoring the validation split takes time, which shows as fewer samples a second."
    )
    return section("Training", note, element("div", *cards, class_="charts"))


def _chart(story: Story, lines: Sequence[Line], title: str, y_format: Callable[[float], str], y_least: float) -> Markup:
    band = Band(story.crash.resumed_step, story.crash.killed_step, "resumed here", "killed here")
    last = max((interval.step for interval in story.intervals), default=1)
    return line_chart(lines, title=f"{title} by step", x_label="step", x_end=last, y_format=y_format, y_least=y_least, band=band)


def _times(story: Story) -> Markup:
    note = (
        "The training loop either waits for a batch or works on one. Beside it, the loader's threads read and decode; their seconds are "
        "summed over threads. Where waiting is small, the data is not what holds training up."
    )
    cards = (card(use.name, _bars(use)) for use in story.times)
    return section("Where the time went", note, element("div", *cards, class_="charts"))


def _bars(use: TimeUse) -> Markup:
    loop = (Span("working on a batch", "s1", use.consumer_seconds), Span("waiting for a batch", "s2", use.wait_seconds))
    threads = (Span("decoding", "s3", use.decode_seconds), Span("reading", "s4", use.read_seconds))
    rows = []
    for name, spans in (("Training loop", loop), ("Loader's threads", threads)):
        keys = legend([(f"{span.name}, {_seconds(span.value)}", span.style) for span in spans])
        rows.append(element("div", element("h4", name), stacked_bar(spans, title=name, value_format=_seconds), keys))
    return element("div", *rows, class_="bars")


def _check(story: Story) -> Markup:
    check = story.check
    header = [element("th", name, class_="number" if place else None) for place, name in enumerate(_CHECK_COLUMNS)]
    rows = []
    for epoch in check.epochs:
        name = f"{epoch.epoch + 1}" + (" (killed and resumed)" if epoch.epoch == story.crash.epoch else "")
        counts = zip(_CHECK_COLUMNS[1:], (epoch.expected, epoch.delivered, epoch.missing, epoch.repeated), strict=False)
        numbers = (element("td", f"{n:,}", class_="number", data_name=what) for what, n in counts)
        verdict = element("td", "✓" if epoch.ok else "✗", class_="number " + ("good-ink" if epoch.ok else "bad-ink"))
        rows.append(element("tr", element("td", name), *numbers, verdict))
    note = (
        "Each training step writes the keys of its samples to the sample log. Resuming takes back the lines that are newer than the "
        f"checkpoint, as it takes back the model: {story.crash.undone:,} samples had been delivered after it and came again. What is "
        "left is what the model was trained on, held here against the keys in the lake."
    )
    table = element("table", element("thead", element("tr", *header)), element("tbody", *rows), class_="check")
    return section("Every sample exactly once", note, element("div", table, class_="card scroll"))


_CHECK_COLUMNS = ("epoch", "samples", "delivered", "missing", "repeated", "")


def _facts(story: Story) -> Markup:
    rows = (element("tr", element("th", name), element("td", value)) for name, value in story.facts)
    return section("What came from what", "", element("div", element("table", *rows, class_="facts"), class_="card"))


def _next(story: Story) -> Markup:
    parts = [part for text, command in story.next_commands for part in (element("p", text), code(command))]
    return section("What to do next", "", element("div", *parts, class_="next"))


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
