"""The page as a file: self-contained, honest about what is missing, small, and deaf to markup in names."""
# ruff: noqa: PT012 the blocks under pytest.raises are the run that is cut off

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import polars as pl
import pytest

from heatproof.errors import RunError
from heatproof.report import page as page_module
from heatproof.report import write_report
from heatproof.report.beside import joint_tables, numbers_beside, rows_not_beside, side_by_side
from heatproof.report.payload import read_views, script_json, table_payload
from heatproof.report.pictures import embed_figure
from heatproof.report.words import number_table
from heatproof.results import Run, View, add_view, read_run


@pytest.fixture
def page(make_run, tmp_path):
    return write_report([make_run(tmp_path / "run")]).read_text("utf-8")


def data(page, n=1):
    [found] = re.findall(rf'id="data-{n}">(.*?)</script>', page, re.S)
    return json.loads(found)


def test_nothing_is_loaded_and_only_our_script_runs(page):
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("script", "style"):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert " style=" not in page
    assert " onclick" not in page


def test_names_with_markup_are_shown_and_not_run(page):
    assert "<img src=x" not in page
    assert "alert(2)</script><script>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert data(page)["columns"][0]["values"][0] == "<img src=x onerror=alert(1)>.png"


def test_what_was_asked_and_answered(page):
    for text in ("How far heatmaps move under attack", "demo, layer conv", "ab" * 32, "Maps moved", "0.3", "truncated"):
        assert text in page
    seen = "The photo, and in each column the map of Grad-CAM; a row per explained class."
    assert f'alt="{seen}"' in page
    assert f"<figcaption>{seen}" in page
    assert "1 missing" in page


def test_worst_first_and_kept_labels(page):
    told = data(page)
    columns = {column["name"]: column for column in told["columns"]}
    assert list(columns)[:2] == ["image", "nissim"]
    values = [value for value in columns["nissim"]["values"] if value is not None]
    assert values == sorted(values, reverse=True)
    assert columns["nissim"]["values"][-1] is None
    assert told["quiet"]["threshold"] == 0.1
    assert told["quiet"]["kept"][0] == 1
    assert "explainer" not in columns  # the same in every row, told once
    assert "GradCAM()" in page


def test_clean_predictions_come_from_the_rows_without_attack():
    table = pl.DataFrame(
        {
            "image": ["a", "b", "a", "b"],
            "epsilon": [0.0, 0.0, 0.1, 0.1],
            "prediction": [1, 2, 1, 3],
            "nissim": [0.0, 0.0, 0.5, 0.4],
        }
    )
    payload, _, left_out = table_payload(table, {"moved_above": 0.3}, limit=3)
    assert left_out == 1
    assert payload["quiet"] == {"kept": [1, 0, 1], "metric": "nissim", "threshold": 0.3, "column": 2}
    payload, _, _ = table_payload(table, {"worst": {"column": "prediction", "descending": False}})
    assert payload["columns"][2]["values"] == [1, 1, 2, 3], "behind the epsilon, which tells the rows apart"
    assert table_payload(table.select("image"), {})[0]["quiet"] is None


def test_script_json_cannot_end_its_element():
    text = script_json({"</script>": "<!-- & \u2028 \udcff"})
    assert "<" not in text
    assert json.loads(text) == {"</script>": "<!-- & \u2028 \udcff"}
    text.encode()


def test_two_hundred_images_stay_under_five_megabytes(tmp_path):
    noise = np.random.default_rng(0)
    with Run.start(tmp_path / "run", command="explain", settings={}) as run:
        rows = [{"image": f"{i:03}.png", "confidence": i / 200} for i in range(200)]
        for row in rows:
            photo = noise.integers(0, 255, (60, 60, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            add_view(run, row["image"], photo, [View("SimpleGrad", noise.normal(size=(224, 224)))])
        run.append_rows(0, rows)
    path = write_report([tmp_path / "run"])
    assert path.stat().st_size < 5_000_000
    told = data(path.read_text("utf-8"))
    # these photos are noise and compress badly, so some views lie beside the page
    assert 0 < told["embedded"] < 200
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', path.read_text("utf-8"))
    assert re.search("script-src 'sha256-[^' ]+';", policy)
    scripts = sorted((tmp_path / "run" / "report-files").iterdir())
    assert len(scripts) == -(-(200 - told["embedded"]) // 10)
    assert scripts[0].name == "report-1-0.css"
    assert re.fullmatch(r':root\{(--heatproof-1-0-\d:"[A-Za-z0-9+/=]+";)+\}\n', scripts[0].read_text())
    values = np.frombuffer(base64.b64decode(told["views"][0]["maps"][0]["data"]), "<i2")
    assert values.size == 56 * 56
    assert np.abs(values).max() == 32767


def test_unfinished_and_damaged_runs_show_what_is_whole(make_run, tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "cut", command="explain", settings={}) as run:
        run.append_rows(0, [{"image": "a.png", "confidence": 0.5}])
        raise KeyboardInterrupt
    page = write_report([tmp_path / "cut"]).read_text("utf-8")
    assert "This page is not the whole run" in page
    assert "was interrupted" in page
    assert data(page)["count"] == 1

    broken = make_run(tmp_path / "broken")
    for name in ("summary.json", "images.parquet", "figures/one.png"):
        (broken / name).write_bytes(b"\x00\xff{")
    next((broken / "viewer").glob("*.json")).write_text('{"image": 3}')
    page = write_report([broken]).read_text("utf-8")
    for text in ("summary.json is damaged", "images.parquet is damaged", "1 of 3 files of the viewer are damaged"):
        assert text in page
    assert data(page)["count"] == 2  # from the views that are whole

    (broken / "run.json").write_text("[]")
    (broken / "summary.json").write_text('{"rows": 3, "skipped": "x", "answer": 5, "worst": 1, "moved_above": "x"}')
    assert "what was asked is unknown" in write_report([broken]).read_text("utf-8")


def test_a_view_cannot_reach_for_other_files(make_run, tmp_path):
    folder = make_run(tmp_path / "run", images=3, views=1)
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    [view] = (folder / "viewer").glob("*.json")
    for name in ("../../secret.png", str(secret), "run.json"):
        view.write_text(json.dumps({**json.loads(view.read_text()), "photo": name}))
        assert list(read_views(read_run(folder), [])) == [None]


def test_links_never_bring_files_from_outside_into_the_page(make_run, tmp_path):
    secret = make_run(tmp_path / "secret", images=2, views=2, settings={"note": "SECRET"})
    folder = make_run(tmp_path / "run", images=3, views=1)
    (folder / "figures" / "out.png").symlink_to(secret / "figures" / "one.png")
    (folder / "viewer" / "out.json").symlink_to(next((secret / "viewer").glob("*.json")))
    for name in ("run.json", "summary.json", "images.parquet"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret / name)
    page = write_report([folder]).read_text("utf-8")
    for name in ("figures/out.png", "viewer/out.json", "run.json", "summary.json", "images.parquet"):
        assert f"{name} leads out of the run folder and was left out" in page
    assert "SECRET" not in page
    assert len(re.findall("<figcaption>", page)) == 1
    assert data(page)["count"] == 1  # the one view of its own

    folder = make_run(tmp_path / "other", images=3, views=1)
    shutil.rmtree(folder / "viewer")
    (folder / "viewer").symlink_to(secret / "viewer")
    assert data(write_report([folder]).read_text("utf-8"))["views"] == []
    # a link inside the folder, and a folder that is a link itself, are fine
    (folder / "figures" / "again.png").symlink_to("one.png")
    (tmp_path / "link").symlink_to(folder)
    page = write_report([tmp_path / "link"]).read_text("utf-8")
    assert len(re.findall("<figcaption>", page)) == 2


def test_figures_that_are_not_shown_are_not_read(make_run, tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", images=3, views=0)
    whole = (folder / "figures" / "one.png").read_bytes()
    for number in range(200):
        (folder / "figures" / f"{number:03}.png").write_bytes(whole)
    figure = embed_figure(folder / "figures" / "one.png")
    assert figure is not None
    size = len(figure["source"])
    tried = []
    monkeypatch.setattr(page_module, "embed_figure", lambda path: (tried.append(path), embed_figure(path))[1])
    monkeypatch.setattr(page_module, "LIMIT", page_module.FRAME + int(10.5 * size / page_module.FIGURES))
    page = write_report([folder]).read_text("utf-8")
    shown = len(re.findall("<figcaption>", page))
    assert 8 <= shown <= 10
    assert len(tried) == shown + page_module.MISSES
    assert f"{201 - shown} more figures" in page


def test_what_is_the_same_in_every_line_is_no_column(tmp_path):
    for name in ("one", "two"):
        with Run.start(tmp_path / name, command="audit", settings={}) as run:
            checks = [{"check": "input", "number": number, "value": 0.5} for number in ("frame", "likeness")]
            run.write_json("summary.json", {"rows": checks})
    joint = numbers_beside([read_run(tmp_path / name) for name in ("one", "two")])
    assert joint is not None
    assert [head["head"] for head in joint["heads"]] == ["number", "one", "two"]
    assert [[cell["text"] for cell in line] for line in joint["rows"]] == [
        ["frame", "0.5", "0.5"],
        ["likeness", "0.5", "0.5"],
    ]


def test_metrics_are_told_in_words(tmp_path):
    with Run.start(tmp_path / "run", command="evaluate", settings={}) as run:
        metrics = ("aopc", "spearman, randomised head", "my own")
        run.write_json("summary.json", {"rows": [], "side_by_side": [{"metric": name, "x": 0.5} for name in metrics]})
    table = side_by_side(read_run(tmp_path / "run"))
    assert table is not None
    assert [line[0]["text"] for line in table["rows"]] == [
        "fall, map's order (aopc)",
        "rank correlation (spearman), randomised head",
        "my own",
    ]


def test_numbers_that_stand_side_by_side_do_not_stand_a_second_time(tmp_path):
    means = {"aopc": 0.5, "aopc_low": 0.4, "aopc_high": 0.6, "aopc_missing": 0}
    drawn = {"explainer": "a()", "randomised": "head", "spearman": 0.1, "spearman_low": 0.0, "spearman_high": 0.2}
    with Run.start(tmp_path / "run", command="evaluate", settings={}) as run:
        beside = [{"metric": name, "a()": 0.5} for name in ("aopc", "spearman, randomised head")]
        run.write_json("summary.json", {"rows": [{"explainer": "a()", **means}, drawn], "side_by_side": beside})
    run = read_run(tmp_path / "run")
    assert rows_not_beside(run) == [drawn]
    page = write_report([tmp_path / "run"]).read_text()
    assert "Side by side</h2>" in page
    assert page.count(">0.50<") == 0, "the interval's digits are those of the table of numbers"
    with Run.start(tmp_path / "other", command="shift", settings={}) as run:
        run.write_json("summary.json", {"rows": [{"model": "a", **means}]})
    assert len(rows_not_beside(read_run(tmp_path / "other"))) == 1


def test_several_runs_side_by_side(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=20, views=1) for name in ("one", "two")]
    path = write_report(runs)
    assert path == tmp_path / "report.html"
    page = path.read_text("utf-8")
    assert "All runs side by side" in page
    assert [data(page, n)["count"] for n in (1, 2)] == [20, 20]
    assert page.count("Numbers") == 0  # told once, in the joint table


def test_runs_of_different_verbs_have_a_table_each_and_those_of_one_stay_beside_each_other(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=20, views=1) for name in ("one", "two")]
    with Run.start(tmp_path / "three", command="compare", settings={}) as run:
        run.write_json("summary.json", {"rows": [{"model": "c1", "penalty": "TopK()", "count": 24, "fsr": 0.5}]})
    files = [read_run(run) for run in (*runs, tmp_path / "three")]
    (joint,) = joint_tables(files)
    assert joint["title"] == "shift: one, two"
    assert [head["head"] for head in joint["table"]["heads"]] == ["number", "one", "two"]
    page = write_report([*runs, tmp_path / "three"]).read_text("utf-8")
    assert page.count("Numbers</h3>") == 1, "the comparison's own, in its own columns"
    own = page.split("Numbers</h3>")[1].split("</table>")[0]
    assert re.findall(r'data-head="([^"]*)"', own) == ["model", "lie", "photos", "fooling success rate"]
    # one of each verb: nothing is stacked
    assert joint_tables(files[1:]) == []
    page = write_report([runs[0], tmp_path / "three"]).read_text("utf-8")
    assert page.count("Numbers</h3>") == 2


def test_what_tells_the_rows_of_a_photo_apart_stands_beside_its_name():
    images = pl.DataFrame(
        {
            "image": ["a", "a", "b", "b"],
            "label": [1, 1, 2, 2],
            "model": ["net"] * 4,
            "prediction": [1, 1, 2, 1],
            "top5_clean": [True, True, False, True],
            "explainer": ["GradCAM()", "SimpleGrad()"] * 2,
            "penalty": ["TopK()"] * 4,
            "randomised": [0.1, 0.2, 0.3, 0.4],
            "nissim": [0.1, 0.2, 0.3, 0.4],
            "fooled": [True, False, True, False],
        }
    )
    payload, same, _ = table_payload(images, {}, verb="compare")
    names = [column["name"] for column in payload["columns"]]
    assert names[:6] == ["image", "explainer", "nissim", "fooled", "label", "prediction"]
    assert set(names[6:]) == {"top5_clean", "randomised"}, "a number is no name"
    assert [value for _, value in same] == ["net", "TopK()"]


def test_a_budget_is_told_where_something_was_attacked():
    """Not of clean photos alone: ``In every row: budget (epsilon): 0`` says nothing of an explanation."""
    images = pl.DataFrame({"image": ["a", "b"], "epsilon": [0.0, 0.0], "model": ["net"] * 2, "confidence": [0.1, 0.2]})
    assert [value for _, value in table_payload(images, {}, verb="explain")[1]] == ["net"]
    attacked = images.with_columns(epsilon=pl.lit(0.05))
    assert [value for _, value in table_payload(attacked, {}, verb="shift")[1]] == ["0.05", "net"]


def test_no_folder_is_a_sentence(tmp_path, make_run):
    with pytest.raises(RunError, match="at least one run folder"):
        write_report([])
    with pytest.raises(RunError, match="does not exist"):
        write_report([tmp_path / "none"])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_report([make_run(tmp_path / "run", 2, 0)], tmp_path / "file" / "report.html")


def test_same_files_same_page(make_run, tmp_path):
    folder = make_run(tmp_path / "run")
    assert write_report([folder]).read_bytes() == write_report([folder], tmp_path / "again.html").read_bytes()


def test_intervals_stand_under_their_values():
    table = number_table(
        [{"model": "a", "count": 3, "rows": 3, "mod": 0.25, "mod_low": 0.2, "mod_high": 0.3}, {"model": "b"}]
    )
    assert table is not None
    assert [head["key"] for head in table["heads"]] == ["model", "count", "mod"]
    assert [head["head"] for head in table["heads"]] == ["model", "photos", "mean move (MOD)"]
    assert table["rows"][0][-1] == {"text": "0.25", "under": ["[0.20, 0.30]"], "number": True}
    assert table["rows"][1][-1]["text"] == ""
    assert number_table([]) is None
    assert table["few"] == 6, "three photos are too few for an interval of a mean"
    many = number_table([{"count": 6, "mod": 0.25}])
    assert many is not None
    assert not many["few"]


def test_a_page_of_few_photos_says_why_there_is_no_interval(tmp_path):
    for name, count in (("few", 5), ("many", 6)):
        with Run.start(tmp_path / name, command="shift", settings={}) as run:
            run.write_json("summary.json", {"rows": [{"count": count, "mod": 0.2, "top1": 0.5, "top1_low": 0.1}]})
        told = "Means of fewer than 6 photos have none" in write_report([tmp_path / name]).read_text("utf-8")
        assert told == (name == "few")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, -1e308])
def test_numbers_that_no_run_of_ours_wrote_are_shown_as_missing(tmp_path, value):
    record = {"format": 1, "command": "audit", "settings": {}, "status": "complete", "resumed": 0.5}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "summary.json").write_text(json.dumps({"rows": [{"check": "a", "value": value, "value_low": value}]}))
    assert write_report([tmp_path]).is_file()


def test_an_epsilon_in_words_tells_no_clean_rows():
    table = pl.DataFrame(
        {"image": ["a", "a"], "epsilon": ["none", "8/255"], "prediction": [1, 2], "nissim": [0.0, 0.5]}
    )
    payload, _, _ = table_payload(table, {"moved_above": 0.3})
    assert "prediction_clean" not in [column["name"] for column in payload["columns"]]
    assert payload["quiet"] is None


def test_runs_of_one_verb_have_a_column_each(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=20, views=1) for name in ("one", "two")]
    summary = json.loads((runs[1] / "summary.json").read_text())
    summary["rows"][0] |= {"mod": 0.75, "mod_low": 0.7, "mod_high": 0.8}
    (runs[1] / "summary.json").write_text(json.dumps(summary))
    joint = numbers_beside([read_run(run) for run in runs])
    assert joint is not None
    assert [head["head"] for head in joint["heads"]] == ["number", "one", "two"]
    [line] = [row for row in joint["rows"] if row[0]["text"] == "mean move (MOD)"]
    assert line[2]["text"] == "0.75"
    assert line[2]["under"][0] == "[0.70, 0.80]"
    assert line[1]["text"] != line[2]["text"]


def test_runs_whose_rows_are_not_told_apart_or_not_the_same_have_no_joint_table(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=6, views=0, figure=False) for name in ("one", "two")]
    (row,) = json.loads((runs[0] / "summary.json").read_text())["rows"]

    def joint(*rows):
        for run, own in zip(runs, rows, strict=True):
            kept = json.loads((run / "summary.json").read_text())
            (run / "summary.json").write_text(json.dumps(kept | {"rows": own}))
        return numbers_beside([read_run(run) for run in runs])

    grid = [[row | {"explainer": name, "epsilon": epsilon} for epsilon in (0.1, 0.2)] for name in ("A()", "B()")]
    assert joint(grid[0] + grid[1], grid[0]) is not None
    # the same columns with the same values, and no row in both
    assert joint([grid[0][0], grid[1][1]], [grid[0][1], grid[1][0]]) is None
    # a row twice
    assert joint(grid[0], [*grid[0], grid[0][0] | {"mod": 0.1}]) is None


def test_figures_of_the_same_name_stand_abreast_once(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=6, views=0) for name in ("one", "two")]
    page = write_report(runs).read_text("utf-8")
    assert len(re.findall("<figcaption>", page)) == 2
    assert re.search(
        r'<div class="abreast">\s*<figure.*?<figcaption>one: .*?<figcaption>two: .*?</div>', page, re.DOTALL
    )


def test_a_run_says_which_of_its_sentences_are_details(make_run, tmp_path):
    folder = make_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    told = {"answer": ["Over all.", "One by itself.", "Another by itself."], "folded": 2}
    (folder / "summary.json").write_text(json.dumps(summary | told))
    page = write_report([folder]).read_text("utf-8")
    assert "<p>Over all.</p><details><summary>Each of the 2 by itself</summary><p>One by itself.</p>" in page
    (folder / "summary.json").write_text(json.dumps(summary | told | {"folded": "x"}))
    assert "Each of the" not in write_report([folder]).read_text("utf-8")


def test_the_figure_that_a_run_names_stands_under_the_answer(make_run, tmp_path):
    folder = make_run(tmp_path / "run", images=6, views=0)
    (name,) = (path.stem for path in (folder / "figures").iterdir())
    assert write_report([folder]).read_text("utf-8").index("<figure") > page_place(folder, "What was asked</h2>")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"first_figure": name}))
    page = write_report([folder]).read_text("utf-8")
    assert page.index('<div class="answer">') < page.index("<figure") < page.index("What was asked</h2>")
    assert page.count("<figure") == 1


def page_place(folder, text):
    return (folder / "report.html").read_text("utf-8").index(text)


def test_words_of_the_command_and_values_of_every_row_are_told_apart(make_run, tmp_path):
    folder = make_run(tmp_path / "run", images=6, views=0)
    record = json.loads((folder / "run.json").read_text())
    typed = {"options": {"typed": "heatproof shift 'my photos' --limit 6"}}
    (folder / "run.json").write_text(json.dumps(record | typed))
    images = pl.read_parquet(folder / "images.parquet")
    images.with_columns(model=pl.lit("demo")).write_parquet(folder / "images.parquet")
    page = write_report([folder]).read_text("utf-8")
    words = re.findall(r'<span class="word">(.*?)</span>', page)
    assert words == ["heatproof", "shift", "&#39;my", "photos&#39;", "--limit", "6"]
    assert "moved means NISSIM above" in page
    assert 'explainer: <span class="code">GradCAM()</span>; model: <span class="code">demo</span>.</p>' in page


def test_runs_that_share_no_rows_are_listed_below_each_other(make_run, tmp_path):
    runs = [make_run(tmp_path / name, images=6, views=0, figure=False) for name in ("one", "two")]
    summary = json.loads((runs[1] / "summary.json").read_text())
    (row,) = summary["rows"]
    # two rows that nothing tells apart
    (runs[1] / "summary.json").write_text(json.dumps(summary | {"rows": [row, row | {"mod": 0.1}]}))
    assert numbers_beside([read_run(run) for run in runs]) is None
    assert ">one</td>" in write_report(runs).read_text("utf-8")


def test_columns_have_words_units_and_a_tooltip(page):
    columns = {column["name"]: column for column in data(page)["columns"]}
    assert columns["nissim"]["head"] == "map moved (NISSIM)"
    assert columns["nissim"]["unit"] == "0 to 1"
    assert columns["nissim"]["help"].startswith("How unlike the two maps are")
    assert 'title="The mean NISSIM over photos' in page
    assert "What the columns mean" in page
