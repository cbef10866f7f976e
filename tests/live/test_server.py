"""The server answers its own page and nobody else, and tells what it cannot do in a sentence."""

import http.client
import json
import socket
import threading
import time
from typing import Any

import pytest
import torch

import heatproof as hp
from heatproof.defences.smoothed import Smoothed
from heatproof.explainers.cam import GradCAM
from heatproof.live.look import Live
from heatproof.live.server import LARGEST, Server
from heatproof.live.wire import Words
from heatproof.report import write_report
from heatproof.results import read_run

BODY: dict[str, Any] = {
    "photo": 1,
    "target": "",
    "explainer": "GradCAM(relu=False)",
    "layer": "",
    "attack": "against the label, one step (FGSM)",
    "epsilon": 8 / 255,
    "sigma": 0,
    "copies": 8,
}


def asked(
    server: Server, path: str, body: Any = None, method: str = "POST", **headers: str | None
) -> tuple[int, Any, Any]:
    """Status, headers and answer; ``host`` and others take the place of the page's own headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    sent = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json", "X-Heatproof-Token": server.token}
    given = {name.replace("_", "-").title(): value for name, value in headers.items()}
    content = b"" if method == "GET" else body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    all_headers = {name.title(): value for name, value in sent.items()} | {"Content-Length": str(len(content))} | given
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in all_headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(content)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return (
        reply.status,
        reply.headers,
        json.loads(data) if reply.getheader("Content-Type") == "application/json" else data,
    )


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/#{server.token}"
    assert len(server.token) >= 32
    assert server.url in server._repr_html_()


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/live.js", "text/javascript"), ("/page.css", "text/css")]
)
def test_the_page_s_own_files(server: Server, path: str, kind: str) -> None:
    status, headers, data = asked(server, path, method="GET", x_heatproof_token=None)
    assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Access-Control-Allow-Origin"] is None
    assert server.token.encode() not in data
    # nothing from elsewhere, and nothing inline, which the policy would forbid
    assert b"http:" not in data.replace(b"http://www.w3.org", b"")
    assert b"https:" not in data


@pytest.mark.parametrize(
    "path", ["/../../../etc/passwd", "/etc/passwd", "/page.html", "//etc/passwd", "/?x", "/%2e%2e/x"]
)
def test_no_other_file_is_handed_out(server: Server, path: str) -> None:
    assert asked(server, path, method="GET")[0] == 404


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, {"host": "evil.example:80"}),
        (403, {"host": "evil.example"}),
        (403, {"host": "127.0.0.1"}),
        (403, {"host": None}),
        (403, {"origin": "http://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"origin": "https://127.0.0.1:{port}"}),
        (403, {"x_heatproof_token": None}),
        (403, {"x_heatproof_token": "x" * 32}),
        (403, {"x_heatproof_token": "\xe9"}),
        (415, {"content_type": "text/plain"}),
        (415, {"content_type": "application/x-www-form-urlencoded"}),
        (413, {"content_length": str(LARGEST + 1)}),
        (413, {"content_length": None}),
        (413, {"content_length": "-1"}),
        (413, {"content_length": "9" * 40}),
    ],
)
def test_what_does_not_come_from_the_page_is_refused(
    server: Server, status: int, headers: dict[str, str | None]
) -> None:
    given: dict[str, Any] = {
        name: value and value.replace("{port}", str(server.port)) for name, value in headers.items()
    }
    for question in ("/begin", "/look", "/save"):
        found, _, answer = asked(server, question, BODY, **given)  # pyright: ignore[reportArgumentType]
        assert found == status
        assert list(answer) == ["error"]
    assert list(server.within.iterdir()) == []
    if "host" in headers:
        assert asked(server, "/", None, "GET", host=given["host"])[0] == 403


def test_the_page_by_its_other_name(server: Server) -> None:
    names = {"host": f"localhost:{server.port}", "origin": f"http://localhost:{server.port}"}
    assert asked(server, "/begin", {}, **names)[0] == 200


def test_other_methods_and_questions_are_none(server: Server) -> None:
    assert asked(server, "/look2")[0] == 404
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert asked(server, "/look", BODY, method=method)[0] == 501


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "no JSON"),
        (b"[" * 60_000, "no JSON"),
        (b'{"photo": NaN}', "no JSON"),
        (b"[]", "no object"),
        (b"\xff\xfe", "no JSON"),
        ({}, "no such explainer"),
        ({"explainer": 1}, "explainer is a text"),
        ({"explainer": "foreign('os.system')"}, "no such explainer"),
        ({"explainer": "x" * 2000}, "explainer is a text"),
        ({"layer": "conv9"}, "there is no layer 'conv9' with a map in demo"),
        ({"layer": "__class__"}, "there is no layer"),
        ({"target": "nine hundred"}, "has no class 'nine hundred'"),
        ({"target": "99"}, "no class 99"),
        ({"photo": 6}, "photo is a number from 0 to 5"),
        ({"photo": -1}, "photo is a number"),
        ({"photo": "../x.png"}, "photo is a number"),
        ({"photo": True}, "photo is a number"),
        ({"photo": 10**400}, "photo is a number"),
        ({"epsilon": 2}, "epsilon is a number from 0 to 0.25"),
        ({"sigma": "a"}, "sigma is a number"),
        ({"copies": 1e9, "sigma": 0.1}, "copies is a number"),
        ({"attack": "pgd(steps=100000)"}, "no attack"),
    ],
)
def test_what_cannot_be_looked_at_is_said(server: Server, body: Any, told: str) -> None:
    given = body if isinstance(body, bytes) else {**BODY, **body} if body else body
    status, _, answer = asked(server, "/look", given)
    assert status == 400
    assert told in answer["error"]
    assert asked(server, "/look", BODY)[0] == 200


def test_a_fault_is_said_and_the_page_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(wanted: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(server.words.live, "look", broken)
    status, _, answer = asked(server, "/look", BODY)
    assert (status, "RuntimeError: out of memory" in answer["error"]) == (500, True)
    monkeypatch.undo()
    assert asked(server, "/look", BODY)[0] == 200


def test_a_connection_that_says_nothing_does_not_hold_the_page_up(server: Server) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    idle[0].sendall(b"POST /look HTTP/1.1\r\nHost: x\r\n")
    start = time.monotonic()
    assert asked(server, "/begin", {})[0] == 200
    assert time.monotonic() - start < 5
    for one in idle:
        one.close()


class Slow:
    """A map that takes a minute, pass by pass."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self, wanted: Any) -> Any:
        try:
            for _ in range(1200):
                torch.zeros(1).add(1)
                self.begun.set()
                time.sleep(0.05)
        finally:
            self.ended.set()


def waiting(server: Server, path: str) -> http.client.HTTPConnection:
    """A request whose answer is not read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json", "X-Heatproof-Token": server.token}
    connection.request("POST", path, json.dumps(BODY), headers)
    return connection


def test_what_nobody_waits_for_ends_early_and_holds_nobody_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(server.words.live, "look", slow)
    worked_on = waiting(server, "/look")
    assert slow.begun.wait(10)
    start = time.monotonic()
    # what there is to choose from does not wait
    assert asked(server, "/begin", {})[0] == 200
    # nor does the next look, once the page has hung up on this one; one that hung up while it waited is dropped
    dropped = waiting(server, "/look")
    dropped.close()
    assert not slow.ended.is_set()
    worked_on.close()
    assert slow.ended.wait(10)
    monkeypatch.undo()
    assert asked(server, "/look", BODY)[0] == 200
    assert time.monotonic() - start < 20


def test_what_is_saved_is_saved_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, found = threading.Event(), threading.Event()

    def slow(wanted: Any) -> Any:
        begun.set()
        for _ in range(8):
            torch.zeros(1).add(1)
            time.sleep(0.05)
        found.set()
        raise hp.InputError("enough")

    monkeypatch.setattr(server.words.live, "look", slow)
    connection = waiting(server, "/save")
    assert begun.wait(10)
    connection.close()
    assert found.wait(10)


def test_a_page_that_is_being_ended_says_so(server: Server) -> None:
    server.ended = True
    for path, method in (("/", "GET"), ("/begin", "POST")):
        status, _, answer = asked(server, path, method=method)
        assert (status, answer["error"]) == (503, "the page was ended: start it again, and open its new address")


def test_a_page_that_was_closed_is_no_error_and_a_fault_is_told(server: Server, capsys: pytest.CaptureFixture) -> None:
    for error, told in ((BrokenPipeError("closed"), ""), (ValueError("a fault"), "ValueError: a fault")):
        try:
            raise error
        except type(error):
            server.handle_error(None, ("127.0.0.1", 1))
        said = capsys.readouterr().err
        assert told in said
        assert bool(said) == bool(told)


def test_what_there_is_to_choose_from(server: Server) -> None:
    _, _, given = asked(server, "/begin", {})
    assert given["models"] == ["demo"]
    assert len(given["photos"]) == 6
    assert len(given["classes"]) == 10
    assert given["default"] in given["layers"]
    for explainer in given["explainers"]:
        status, _, answer = asked(server, "/look", {**BODY, "explainer": explainer})
        assert status == 200, (explainer, answer)
        first, second = answer["sights"][0]["conditions"]
        assert first["photo"] != second["photo"]
        assert len(first["map"]["values"]) == first["map"]["rows"]
    for attack in given["attacks"]:
        assert asked(server, "/look", {**BODY, "attack": attack})[0] == 200
    for layer in given["layers"]:
        assert asked(server, "/look", {**BODY, "layer": layer})[0] == 200


def test_what_is_seen_is_saved_as_a_run(server: Server) -> None:
    _, _, seen = asked(server, "/look", BODY)
    status, _, answer = asked(server, "/save", BODY)
    assert status == 200
    run = read_run(answer["folder"])
    assert run.problems == []
    assert run.record["command"] == "app"
    assert run.record["options"]["typed"] == "heatproof app demo demo"
    assert run.images is not None
    assert run.images["attack"].to_list() == ["FGSM()", "clean"]
    assert run.images["nissim"].to_list() == pytest.approx([seen["sights"][0]["nissim"], 0])
    assert run.answer == seen["sentences"]
    assert len(run.views) == 1
    assert [path.name for path in run.figures] == ["seen.png"]
    page = write_report([answer["folder"]]).read_text("utf-8")
    assert "What was seen" in page
    assert "FGSM() at 8/255" in page
    # a second look does not take the first one's place
    assert asked(server, "/save", {**BODY, "epsilon": 0})[2]["folder"] != answer["folder"]


def test_two_networks_are_saved_side_by_side(both, tmp_path) -> None:
    with Server(Words(both), port=0, within=tmp_path).in_background() as server:
        folder = asked(server, "/save", BODY)[2]["folder"]
        server.shutdown()
    run = read_run(folder)
    assert run.images is not None
    assert run.images["model"].unique().sort().to_list() == ["changed", "demo"]
    assert len(run.views) == 2
    assert len(run.answer) == 3


def test_a_folder_that_cannot_be_written_is_said(server: Server) -> None:
    server.within.rmdir()
    server.within.write_text("a file")
    status, _, answer = asked(server, "/save", BODY)
    assert status == 400
    assert str(server.within) in answer["error"]


def test_a_port_that_is_taken(server: Server) -> None:
    with pytest.raises(hp.InputError, match=f"port {server.port} .* --port 0 for any that is free"):
        Server(server.words, port=server.port)


def test_the_page_from_python(model, tmp_path) -> None:
    served = hp.app([model, "demo"], "demo", limit=2, explainer="smooth_grad(samples=2)", out=tmp_path)
    assert f"{served.url} (close() ends it)" in repr(served)
    _, _, given = asked(served, "/begin", {})
    assert (given["models"], len(given["photos"]), given["explainers"][0]) == (
        ["demo", "demo#2"],
        2,
        "SmoothGrad(samples=2)",
    )
    served.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))
    with pytest.raises(hp.InputError, match="two side by side, got 3"):
        hp.app(["demo"] * 3, "demo")


def test_smoothing_and_covering_are_read_from_the_page(live: Live) -> None:
    words = Words(live)
    smoothed = words.wanted({**BODY, "sigma": 0.1, "copies": 4}).explainer
    assert smoothed == Smoothed(GradCAM(relu=False), n=4, sigma=0.1)
    covered = words.cover({**BODY, "model": 0, "attacked": False, "x": 0.5, "y": 0.5, "side": 0.25})
    assert covered == live.cover(words.wanted(BODY), 0, False, (0.5, 0.5), 0.25)
