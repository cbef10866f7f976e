"""The page in a real browser: what a reader sees, and what the page may not do."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from browsing import MARKS, opened, until
from heatproof.report import page as page_module
from heatproof.report import write_report
from heatproof.report.overlay import Scale

pytestmark = MARKS
MISSING, NEGATIVE, SMALL = "\N{EN DASH}", "\N{MINUS SIGN}0.2", "1.00e\N{MINUS SIGN}7"


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def report(make_run, tmp_path_factory):
    return write_report([make_run(tmp_path_factory.mktemp("page") / "run", images=120)])


@pytest.fixture
def visit(browser):
    """``visit(path)`` opens a page; whatever it logs, asks for or pops up is an error at the end of the test."""
    pages, faults = [], []

    def open_page(path: Path, width=1280, height=900, **how):
        page = browser.new_page(viewport={"width": width, "height": height}, **how)
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: None if ours(request.url, path) else faults.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.wait_for_timeout(50)
        page.close()
    assert faults == []


def ours(url, path):
    return url.startswith(("data:", path.parent.as_uri()))


def pixels(page):
    """Every eighth pixel of the picture in both directions, as rows of RGBA."""
    flat = page.evaluate(
        """() => { const c = document.querySelector('.picture');
                   const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                   const some = [];
                   for (let y = 0; y < c.height; y += 8)
                     for (let x = 0; x < c.width; x += 8)
                       some.push(...data.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 4));
                   return some; }"""
    )
    return np.array(flat).reshape(56, 56, 4)


def drawn(page):
    until(page, "document.querySelector('.picture').getAttribute('aria-label').includes('Arrow keys')")


def names(page):
    return page.locator(".images .pick").evaluate_all("all => all.map(one => one.title)")


def slide(page, name, value):
    page.locator(f".{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_opens_and_shows_hostile_names_as_text(visit, report):
    page = visit(report)
    drawn(page)
    assert names(page)[0] == "<img src=x onerror=alert(1)>.png"
    assert page.locator(".viewer h4").inner_text() == "<img src=x onerror=alert(1)>.png"
    assert page.locator("tbody tr").first.inner_text().count("</script><script>alert(2)</script>") == 0
    assert "</script><script>alert(2)</script>" in page.locator(".images tbody").inner_text()
    assert page.locator(".skipped").inner_text().count("<b>broken</b>") == 1
    assert page.locator("img[src='x']").count() == 0
    page.locator(".class").select_option("</script><script>alert(2)</script>")


def test_sorts_and_pages(visit, report):
    page = visit(report)
    header = page.locator(".images th", has_text="confidence")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert page.locator("th[aria-sort=descending]").count() == 1
    column = [head.split()[0] for head in page.locator(".images th").all_inner_texts()].index("confidence")
    values = [float(t) for t in page.locator(f".images tbody tr td:nth-child({column + 2})").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    # missing values come last in both directions
    nissim = page.locator(".images th", has_text="NISSIM").locator("button")
    for _ in range(2):
        nissim.click()
        page.locator(".after").click()
        page.locator(".after").click()
        assert "101\N{EN DASH}120 of 120" in page.locator(".where").inner_text()
        assert names(page)[-1] == "val/5/00005.png"
    assert page.locator(".after").is_disabled()


def test_filters_by_text_and_by_moved_maps_with_kept_labels(visit, report):
    page = visit(report)
    page.locator(".filter").fill("ONERROR")
    until(page, "document.querySelectorAll('.images tbody tr').length === 1")
    page.locator(".filter").fill("no such image")
    until(page, "!document.querySelector('.none').hidden")
    page.locator(".filter").fill("")
    page.locator(".quiet").check()
    page.locator(".threshold").fill("0.5")
    until(page, "document.querySelectorAll('.images tbody tr').length === 14")
    assert all(int(name[-9:-4]) % 3 for name in names(page)[1:])


def test_sliders_and_choices_change_the_picture(visit, report):
    page = visit(report)
    drawn(page)
    seen = [pixels(page)]

    def changed():
        seen.append(pixels(page))
        assert (seen[-1] != seen[-2]).any()

    slide(page, "strength", 0)
    changed()
    # only photos now: the left one is red on its left, the right one red on its right
    slide(page, "wipe", 100)
    left = pixels(page)[0, 0]
    assert left[0] > 150 > left[2]
    slide(page, "wipe", 0)
    changed()
    right = pixels(page)[0, 0]
    assert right[0] < 50 < right[2]
    slide(page, "wipe", 30)
    slide(page, "strength", 100)
    changed()
    page.locator(".cells").check()
    changed()
    page.locator(".shared").check()
    changed()
    page.locator(".class").select_option(index=1)
    changed()
    page.locator(".left").select_option("adversarial")
    changed()


def test_colours_are_those_of_the_figures(visit, report):
    page = visit(report)
    drawn(page)
    slide(page, "wipe", 100)
    slide(page, "strength", 100)
    page.locator(".cells").check()
    got = pixels(page)[12, 12, :3]  # the cell in row 2, column 2: the peak
    # under it the photo's red, as the lossy file keeps it
    under = np.array([[0.25 + 0.7 * 0.299 * 200 / 255]])
    want = 255 * Scale(0.0, 1.0, signed=False).paint(np.array([[1.0]]), under)[0, 0]
    np.testing.assert_allclose(got, want, atol=8)


def test_raw_values_under_the_pointer_and_by_keyboard(visit, report):
    page = visit(report)
    drawn(page)
    canvas = page.locator(".picture")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 1.5 / 7, "y": box["height"] * 1.5 / 7})
    told = page.locator(".under").inner_text()
    assert told.startswith("row 2, column 2 of 7 \N{MULTIPLICATION SIGN} 7: clean 1 · adversarial")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert (
        page.locator(".under").inner_text().startswith("row 2, column 3 of 7 \N{MULTIPLICATION SIGN} 7: clean 0.7788")
    )


def test_keyboard_alone_is_enough(visit, report):
    page = visit(report)
    drawn(page)
    page.locator(".pick").first.focus()
    page.keyboard.press("ArrowDown")
    second = names(page)[1]
    assert page.locator(".viewer h4").inner_text() == second
    assert page.evaluate("document.activeElement.title") == second
    page.locator(".images th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".images th").first.get_attribute("aria-sort") == "ascending"
    reached = set()
    page.locator(".filter").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.className.split(' ')[0]"))
    assert {"quiet", "threshold", "sort", "pick"} <= reached
    page.locator(".pick").first.click()
    drawn(page)
    before = pixels(page)
    page.locator(".wipe").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert (pixels(page) != before).any()
    # every control has a name
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, canvas.picture')].filter(one =>
             !one.hidden && !one.getAttribute('aria-label') && !one.labels?.length && !one.textContent.trim()).length"""
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_four_hundred_pixels_do_not_scroll_sideways(visit, report, scheme):
    page = visit(report, width=400, height=800, color_scheme=scheme)
    drawn(page)
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert paper != ink


WORDY = "GradCAM(counterfactual=True)"


def with_names(run):
    """A run whose table of images has long specs, and the names of its classes beside their numbers."""
    images = pl.read_parquet(run / "images.parquet")
    images = images.with_columns(
        explainer=pl.Series([WORDY, "GradCAM()"] * images.height).head(images.height),
        target=pl.Series([3, 4] * images.height, dtype=pl.Int64).head(images.height),
        target_name=pl.Series(["Yorkshire terrier", "miniature schnauzer"] * images.height).head(images.height),
    )
    images.write_parquet(run / "images.parquet")
    return run


def apart(page):
    """Texts of a row's cells that lie upon one another."""
    return page.locator(".images tbody td").evaluate_all(
        """all => all.filter(one => one.offsetWidth && one.scrollWidth > one.clientWidth + 1)
             .map(one => one.textContent)"""
    )


@pytest.mark.parametrize(("width", "media"), [(400, "screen"), (718, "print")])
def test_cells_hold_their_words_and_a_class_is_named_once(visit, make_run, tmp_path, width, media):
    page = visit(write_report([with_names(make_run(tmp_path / "run", images=6))]), width=width)
    drawn(page)
    page.emulate_media(media=media)
    assert apart(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heads = page.locator(".images thead th").evaluate_all("all => all.map(one => one.textContent)")
    assert not [head for head in heads if "class, name" in head]
    texts = page.locator(".images tbody td").evaluate_all("all => all.map(one => one.textContent)")
    assert {"Yorkshire terrier (3)", "miniature schnauzer (4)"} <= set(texts)


def test_prints(visit, report):
    page = visit(report)
    drawn(page)
    assert len(page.pdf(format="A4")) > 10_000
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".picture").is_visible()


def test_paper_holds_wide_tables(visit, make_run, tmp_path):
    """A sheet of A4: no line is broken letter by letter, nothing lies beyond the edge, each value has its head."""
    columns = {f"column_{letter}_of_many": 0.125 for letter in "abcdefghijkl"}
    run = make_run(tmp_path / "run", images=12)
    summary = json.loads((run / "summary.json").read_text())
    summary["rows"] = [{**row, **columns} for row in summary["rows"]]
    (run / "summary.json").write_text(json.dumps(summary))
    images = pl.read_parquet(run / "images.parquet")
    images = images.with_columns((pl.arange(images.height) / 100).alias(name) for name in columns)
    images.write_parquet(run / "images.parquet")
    page = visit(write_report([run]), width=718)  # 21 cm less two margins of 1 cm
    drawn(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    names = page.locator(".images td.name").evaluate_all("all => all.map(one => one.clientHeight)")
    assert len(names) == 12
    assert max(names) < 70  # a small picture's height and its room
    assert page.locator(".summary td").evaluate_all("all => Math.max(...all.map(one => one.clientHeight))") < 80
    heads = page.locator(".summary td").evaluate_all("all => all.map(one => getComputedStyle(one, '::before').content)")
    assert '"column_l_of_many"' in heads or '"column l of many"' in heads
    # a browser leaves out buttons where it repeats heads
    assert not page.locator(".sort").first.is_visible()
    assert page.locator(".images th .on-paper").first.is_visible()
    told = page.locator("p.on-paper")
    assert told.is_visible()
    hidden = page.locator(".images th").evaluate_all("all => all.filter(one => !one.offsetWidth).length")
    assert told.inner_text() == f"{hidden} more columns are on the screen and in images.parquet."
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_ten_thousand_rows_paint_within_two_seconds(visit, make_run, tmp_path):
    page = visit(write_report([make_run(tmp_path / "run", images=10_000, views=0, figure=False)]))
    painted = page.evaluate(
        """() => new Promise(done => new PerformanceObserver(list => done(list.getEntries()[0].startTime))
             .observe({type: 'paint', buffered: true}))"""
    )
    assert painted < 2000
    assert "of 10,000" in page.locator(".where").inner_text()
    assert page.locator(".images tbody tr").count() == 50
    seconds = page.evaluate(
        """() => { const start = performance.now(); document.querySelector('.sort').click();
                   return performance.now() - start; }"""
    )
    assert seconds < 1000


def test_views_beside_the_page_are_loaded(visit, make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "LIMIT", page_module.FRAME + 4_000)
    path = write_report([make_run(tmp_path / "run", images=3, figure=False)])
    assert (path.parent / "report-files").is_dir()
    page = visit(path)
    for row in range(3):
        page.locator(".pick").nth(row).click()
        title = page.locator(".pick").nth(row).get_attribute("title")
        until(
            page, "title => document.querySelector('.picture').getAttribute('aria-label').startsWith(title)", arg=title
        )
    assert pixels(page).any()
    # somebody mailed the page alone
    shutil.rmtree(path.parent / "report-files")
    page.locator(".pick").first.click()


ALARM = "document.title = 'ran'; window.ran = true;"


def test_a_script_in_report_files_never_runs(browser, make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "LIMIT", page_module.FRAME + 4_000)
    path = write_report([make_run(tmp_path / "run", images=3, figure=False)])
    beside = path.parent / "report-files"
    (beside / "evil.js").write_text(ALARM)
    # somebody adds elements to the page, and turns every file beside it into a script
    text = path.read_text("utf-8")
    for element in (
        '<script src="report-files/evil.js"></script>',
        f'<script src="{(beside / "evil.js").as_uri()}"></script>',
        '<script type="module" src="report-files/evil.js"></script>',
        f"<script>{ALARM}</script>",
        f'<img src="x" onerror="{ALARM}">',
        f'<iframe srcdoc="<script>parent.{ALARM}</script>"></iframe>',
        '<object data="report-files/evil.js"></object>',
        f'<a id="link" href="javascript:{ALARM}">link</a>',
    ):
        path.write_text(text.replace("<header>", f"{element}<header>", 1), "utf-8")
        page = browser.new_page()
        page.goto(path.as_uri())
        if "javascript:" in element:
            page.locator("#link").click()
        page.wait_for_timeout(150)
        assert page.evaluate("window.ran") is None, element
        assert page.title() != "ran", element
        page.close()
    path.write_text(text, "utf-8")
    for content in (ALARM, f":root{{}} </style><script>{ALARM}</script>", ':root{--heatproof-1-0-0:"!"}', ""):
        for file in beside.iterdir():
            file.write_text(content)
        page = browser.new_page()
        page.goto(path.as_uri())
        page.locator(".pick").last.click()
        page.wait_for_timeout(150)
        assert page.evaluate("window.ran") is None
        assert "report-files" in page.locator(".under").inner_text()
        page.close()


def test_hostile_texts_in_every_field(visit, make_run, tmp_path):
    hostile = [
        "</script><script>ran=1</script>",
        "<img src=x onerror=ran=1>",
        "{{7*7}}",
        "\u2028\x00\u202e",
        "'\"><svg onload=ran=1>",
    ]
    folder = make_run(tmp_path / "run", images=8, views=2)

    def spoiled(value, text):
        if isinstance(value, dict):
            return {
                f"{key}{text}" if deep else key: spoiled(entry, text) for key, entry in value.items() for deep in (0, 1)
            }
        if isinstance(value, list):
            return [*(spoiled(entry, text) for entry in value), text]
        return f"{value}{text}" if isinstance(value, str) else value

    for text in hostile:
        for name in ("run.json", "summary.json"):
            file = folder / name
            whole = file.read_text()
            file.write_text(json.dumps(spoiled(json.loads(whole), text)))
            page = visit(write_report([folder]))
            assert page.evaluate("window.ran") is None
            assert page.locator("svg, img[src=x]").count() == 0
            file.write_text(whole)


def test_two_runs_do_not_meet(visit, make_run, tmp_path):
    page = visit(write_report([make_run(tmp_path / name, images=8, views=1) for name in ("one", "two")]))
    boxes = page.locator(".explore")
    boxes.nth(1).locator(".filter").fill("onerror")
    until(page, "document.querySelectorAll('.explore')[1].querySelectorAll('tbody tr').length === 1")
    assert boxes.nth(0).locator("tbody tr").count() == 8


def test_of_several_runs_long_answers_are_folded_and_tables_short(visit, make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=30) for name in ("wordy", "brief")]
    summary = json.loads((runs[0] / "summary.json").read_text())
    summary["answer"] = [f"Sentence {number} of a long answer about one of many conditions." for number in range(35)]
    (runs[0] / "summary.json").write_text(json.dumps(summary))
    page = visit(write_report(runs, tmp_path / "both.html"))
    drawn(page)
    heights = page.locator(".abreast .answer").evaluate_all("all => all.map(one => one.clientHeight)")
    assert max(heights) < 500
    folded = page.locator(".abreast .answer details").first
    assert folded.locator("summary").inner_text() == "32 more sentences"
    folded.locator("summary").click()
    assert folded.get_by_text("Sentence 34").is_visible()
    # each table has ten rows, and turns by ten
    first = page.locator("section.run").first
    assert first.locator(".images tbody tr").count() == 10
    first.locator(".after").click()
    assert first.locator(".where").inner_text().startswith("11\N{EN DASH}20 of 30")


def test_tables_of_numbers_are_sorted_and_filtered(visit, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    rows = [
        {"explainer": f"map {n}", "pgd": value, "other": None} for n, value in enumerate([0.5, -0.2, 1e-7, None] * 3)
    ]
    summary["rows"], summary["columns"] = rows, [{"column": "pgd", "help": "What is left."}]
    (run / "summary.json").write_text(json.dumps(summary))
    page = visit(write_report([run]))
    table = page.locator("table.summary").last
    head = table.get_by_role("columnheader", name="pgd")
    assert head.get_attribute("title") == "What is left."
    values = "all => all.filter(row => !row.hidden).map(row => row.cells[1].firstChild.textContent.trim())"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert table.locator("tbody tr").evaluate_all(values)[::3] == ["0.5", SMALL, NEGATIVE, MISSING]
    head.get_by_role("button").click()
    assert table.locator("tbody tr").evaluate_all(values)[::3] == [NEGATIVE, SMALL, "0.5", MISSING]
    page.get_by_label("Show rows that contain all of these words").fill("11 map")
    assert table.locator("tbody tr").evaluate_all(values) == [MISSING]
    assert page.get_by_text("1 of 12 rows").is_visible()
