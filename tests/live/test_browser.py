"""The live page in a real browser: what a visitor sees and does, and that no request leaves the machine."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import heatproof as hp
from browsing import MARKS, opened, until
from heatproof.commands.photos import open_photos
from heatproof.data.in_memory import open_tensors
from heatproof.live.look import Live, Wanted
from heatproof.live.server import Server
from heatproof.live.wire import Words
from heatproof.results import read_run

pytestmark = MARKS
READY = "document.querySelectorAll('#said p').length > 0 && !document.querySelector('.seen.busy')"


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.fixture
def allowed():
    """What the browser itself may log, since an answer is to be an error."""
    return []


@pytest.fixture
def visit(browser, allowed):
    """``visit(server)`` opens its page; what it logs, or asks of anybody else, is an error at the end of the test."""
    pages, faults = [], []

    def open_page(server, address=None, width=1280, height=900, **how):
        page = browser.new_page(viewport={"width": width, "height": height}, **how)
        pages.append(page)
        own = (f"http://127.0.0.1:{server.port}/", "data:")
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else faults.append(request.url))
        page.goto(address or server.url)
        until(page, READY)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [fault for fault in faults if not any(text in fault for text in allowed)] == []


@pytest.fixture
def server_of(tmp_path):
    made = []

    def serve(live):
        made.append(Server(Words(live), port=0, within=tmp_path).in_background())
        return made[-1]

    yield serve
    for server in made:
        server.close()


def said(page):
    return " ".join(page.locator("#said p").all_inner_texts())


def choose(page, name, value):
    """Move a slider, or choose; wait for the answer."""
    before = page.locator("#took").inner_text()
    page.evaluate("document.getElementById('took').textContent = ''")
    page.locator(f"#{name}").evaluate(
        """(knob, value) => { knob.value = value;
             for (const kind of ['input', 'change']) knob.dispatchEvent(new Event(kind, {bubbles: true})); }""",
        value,
    )
    until(page, "document.getElementById('took').textContent !== ''")
    return before


def painted(page, place=0):
    data = (
        page.locator("#panels figure > canvas")
        .nth(place)
        .evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 101 === 0)]"
        )
    )
    return np.array(data)


def test_the_page_shows_what_the_functions_say(visit, server_of, live):
    page = visit(server_of(live))
    assert said(page) == live.look(Wanted()).sentences[0]
    assert page.locator("#panels figure").count() == 1
    clean = painted(page)
    assert len(set(clean.tolist())) > 20
    choose(page, "epsilon", "8")
    sight = live.look(Wanted(attack=hp.FGSM(epsilon=8 / 255))).sights[0]
    assert said(page) == sight.sentence
    assert page.locator("#panels figure").count() == 2
    assert f"8/255 · NISSIM {sight.nissim:.3f}" in page.locator("figcaption").nth(1).inner_text()
    first = page.locator("#panels figure").nth(1).locator(".answers li").first.inner_text()
    name, probability = sight.answers(sight.attacked)[0]
    assert first.startswith(name)
    assert f"{100 * probability:.1f}%" in first
    choose(page, "sigma", "0.2")
    smoothed = hp.Smoothed(hp.GradCAM(), n=8, sigma=0.2)
    assert said(page) == live.look(Wanted(attack=hp.FGSM(epsilon=8 / 255), explainer=smoothed)).sentences[0]
    assert (painted(page) != clean).any()
    choose(page, "photo", "3")
    assert live.look(replace(Wanted(attack=hp.FGSM(epsilon=8 / 255), explainer=smoothed), photo=3)).sentences[
        0
    ] == said(page)


def test_class_layer_explainer_and_attack_are_chosen(visit, allowed, server_of, live):
    page = visit(server_of(live))
    seen = [painted(page)]
    for name, value in (
        ("target", live.classes[3]),
        ("layer", live.layers[0]),
        ("explainer", "LayerCAM()"),
        ("explainer", "GradCAM(relu=False)"),
    ):
        choose(page, name, value)
        seen.append(painted(page))
        assert (seen[-1] != seen[-2]).any(), name
    choose(page, "epsilon", "16")
    choose(page, "attack", "against the map, label kept (PGD)")
    assert "the label stays" in said(page)
    # a name that fits no class is answered by a sentence, and the pictures stay
    allowed.append("400")
    page.locator("#target").fill("elephant")
    page.locator("#target").press("Enter")
    until(page, "document.querySelector('#said.bad') !== null")
    assert "has no class 'elephant'" in said(page)
    assert page.locator("#panels figure").count() == 2
    # they are not what is chosen, and are not saved as it
    assert page.locator("#save").is_disabled()
    assert page.evaluate("Number(getComputedStyle(document.getElementById('panels')).opacity)") < 0.5
    choose(page, "target", "")
    assert page.locator("#save").is_enabled()


def test_a_photo_that_cannot_be_read_takes_the_former_ones_pictures_away(visit, allowed, server_of, model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (64, 64), (90, 20, 20)).save(folder / "a.png")
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    page = visit(server_of(Live([model], open_photos(model, str(folder), labels_needed=False))))
    assert page.locator("#panels figure").count() == 1
    allowed.append("400")
    page.locator("#after").click()
    until(page, "document.querySelector('#said.bad') !== null")
    assert said(page).startswith("torn.png cannot be read: ")
    assert page.locator("#panels figure").count() == 0
    assert page.locator("#save").is_disabled()
    page.locator("#before").click()
    until(page, "document.querySelectorAll('#panels figure').length === 1")
    assert page.locator("#save").is_enabled()


def test_what_takes_long_is_said_and_gives_way(visit, server_of, model, source, monkeypatch):
    live = Live([model], source)
    page = visit(server_of(live))
    real = live.look

    def look(wanted):
        # a minute, pass by pass
        for _ in range(1200 if wanted.photo == 1 else 0):
            torch.zeros(1).add(1)
            time.sleep(0.05)
        return real(wanted)

    monkeypatch.setattr(live, "look", look)
    page.locator("#after").click()
    until(page, "document.getElementById('waiting').textContent !== ''")
    assert page.locator("#waiting").inner_text().startswith("Waiting for GradCAM(): ")
    assert page.locator("#save").is_disabled()
    page.locator("#after").click()
    until(page, "document.getElementById('waiting').textContent === '' && !document.getElementById('save').disabled")
    assert said(page) == real(Wanted(photo=2)).sentences[0]


def test_the_square_under_the_pointer(visit, server_of, live):
    page = visit(server_of(live))
    canvas = page.locator("#panels figure > canvas").first
    before = painted(page)
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] / 2, "y": box["height"] / 4})
    until(page, "document.getElementById('under').textContent.startsWith('Without')")
    assert (painted(page) != before).any()  # the square's outline
    x, y = page.evaluate("[square.x, square.y]")
    assert (x, y) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.25, abs=0.01))
    found = live.cover(Wanted(), 0, False, (x, y), 0.2)
    told = page.locator("#under").inner_text()
    assert f"{100 * found.area:.1f}%" in told
    assert f"puts {100 * found.share:.1f}% of its weight" in told
    assert re.search(rf"(to|at) {100 * found.probabilities[1]:.1f}%", told)
    # by keyboard
    canvas.focus()
    page.keyboard.press("ArrowDown")
    until(page, "told => document.getElementById('under').textContent !== told", told)


@pytest.mark.parametrize(
    ("pair", "logits", "told"),
    [
        ((0.0001, 0.0002), (5.68, 6.66), "stays at < 0.1% (its logit rises from 5.68 to 6.66)"),
        ((0.9, 0.4), (5.0, 1.0), "falls from 90.0% to 40.0% (logit 5 to 1)"),
        ((0.4, 0.6), (5.0, 4.0), "rises from 40.0% to 60.0% (logit 5 to 4)"),
    ],
)
def test_shares_written_alike_are_told_by_their_logits(visit, server_of, live, monkeypatch, pair, logits, told):
    page = visit(server_of(live))
    found = replace(live.cover(Wanted(), 0, False, (0.5, 0.5), 0.2), probabilities=pair, logits=logits)
    monkeypatch.setattr(live, "cover", lambda *given: found)
    page.locator("#panels figure > canvas").first.hover()
    until(page, "document.getElementById('under').textContent.startsWith('Without')")
    assert told in page.locator("#under").inner_text()


def test_pictures_change_without_asking_again(visit, server_of, live):
    page = visit(server_of(live))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    seen = painted(page)
    for name, value in (("strength", "0"), ("strength", "100"), ("cells", None)):
        if value is None:
            page.locator(f"#{name}").check()
        else:
            page.locator(f"#{name}").evaluate(
                "(knob, v) => { knob.value = v; knob.dispatchEvent(new Event('input')); }", value
            )
        now = painted(page)
        assert (now != seen).any()
        seen = now
    assert asked == []


def test_two_checkpoints_and_their_difference(visit, server_of, both):
    page = visit(server_of(both))
    assert page.locator("#panels figure").count() == 3
    choose(page, "epsilon", "8")
    assert page.locator("#panels figure").count() == 6
    assert page.locator("#panels h2").all_inner_texts() == ["demo", "changed", "demo minus changed"]
    look = both.look(Wanted(attack=hp.FGSM(epsilon=8 / 255)))
    assert said(page) == " ".join(look.sentences)
    apart = float(re.findall(r"NISSIM ([\d.]+) between", page.locator("figcaption").nth(4).inner_text())[0])
    assert apart == pytest.approx(look.apart[0], abs=6e-4)


def test_what_is_seen_is_saved(visit, server_of, live):
    server = server_of(live)
    page = visit(server)
    choose(page, "epsilon", "8")
    page.locator("#save").click()
    until(page, "document.getElementById('saved').textContent.endsWith('report.html')")
    (folder,) = server.within.iterdir()
    assert page.locator("#saved").inner_text() == str(folder / "report.html")
    assert read_run(folder).answer == [said(page)]


def test_without_the_key_the_page_says_what_to_do(visit, allowed, server_of, live):
    server = server_of(live)
    allowed.append("403")
    page = visit(server, address=f"http://127.0.0.1:{server.port}/")
    assert "open the whole address" in said(page)
    assert "Waiting" not in page.locator("#lead").inner_text()
    assert page.locator("#panels figure").count() == 0


def test_a_server_that_ended_is_said(visit, allowed, server_of, live):
    server = Server(Words(live), port=0).in_background()
    allowed += ["ERR_CONNECTION_REFUSED", "503"]
    page = visit(server)
    server.close()
    page.locator("#epsilon").evaluate("(knob) => { knob.value = 8; knob.dispatchEvent(new Event('input')); }")
    until(page, "document.querySelector('#said.bad') !== null")
    assert "ended" in said(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_four_hundred_pixels_do_not_scroll_sideways(visit, server_of, both, scheme):
    page = visit(server_of(both), width=400, height=800, color_scheme=scheme)
    choose(page, "epsilon", "8")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    # the sliders are in sight together with the pictures
    page.evaluate("document.querySelector('#panels figure').scrollIntoView()")
    seen, knobs = (page.locator(one).first.bounding_box() for one in ("#panels figure > canvas", ".controls-pane"))
    assert 0 <= seen["y"] < seen["y"] + seen["height"] < knobs["y"] < 800
    assert knobs["y"] + knobs["height"] <= 800
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    # every control has a name
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, #panels figure > canvas')].filter(one =>
             !one.getAttribute('aria-label') && !one.labels?.length && !one.textContent.trim()).length"""
    )
    assert unnamed == 0


def test_hostile_names_are_text(visit, server_of, model, source):
    hostile = "<img src=x onerror=alert(1)>"
    scenes = open_tensors(source[0].image[None].float() / 255, name=hostile)
    named = hp.Classifier(
        model.network, classes=[f"{hostile}{place}" for place in range(10)], input_size=64, name=hostile
    )
    page = visit(server_of(Live([named], scenes)))
    assert hostile in said(page)
    assert hostile in page.locator("#lead").inner_text()
    assert page.locator("img").count() == 0
