"""What the page shows is what explainers, attacks and metrics say when they are called one by one."""

import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

import heatproof as hp
from heatproof.attacks.objectives import misclassify
from heatproof.commands.photos import open_photos
from heatproof.commands.shift.measure import Condition
from heatproof.data.in_memory import open_tensors
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.together import predict
from heatproof.live.look import Live, Look, Wanted, map_of
from heatproof.live.wire import Words
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.report.style import percent

ATTACKED = Wanted(photo=1, explainer=hp.GradCAM(relu=False), attack=hp.FGSM(epsilon=8 / 255))


def pixels(live: Live, place: int) -> torch.Tensor:
    return fit(live.source[place].image, live.models[0].preprocessing)[None]


def test_maps_labels_and_numbers_are_those_of_the_functions(live: Live) -> None:
    (sight,) = live.look(ATTACKED).sights
    model, images = live.models[0], pixels(live, 1)
    clean = hp.GradCAM(relu=False)(model, images)
    torch.testing.assert_close(map_of(sight.clean), clean.heatmaps, rtol=0, atol=0)
    answer = clean.logits.argmax(1)
    attacked = hp.FGSM(epsilon=8 / 255)(misclassify(model, answer), images)
    torch.testing.assert_close(sight.attacked.images, attacked, rtol=0, atol=0)
    moved = hp.GradCAM(relu=False)(model, attacked, answer)
    torch.testing.assert_close(map_of(sight.attacked), moved.heatmaps)
    assert sight.nissim == pytest.approx(float(hp.nissim(clean.heatmaps, moved.heatmaps, size=64)))
    assert sight.nissim > 0
    after = moved.logits[0].softmax(0)
    assert sight.probability(sight.attacked) == pytest.approx(float(after[int(answer)]))
    assert sight.answers(sight.attacked)[0] == (
        model.class_name(int(after.argmax())),
        pytest.approx(float(after.max())),
    )


def test_nothing_is_attacked_at_epsilon_zero_and_nothing_smoothed_in_silence(live: Live) -> None:
    (plain,) = live.look(Wanted()).sights
    assert plain.attacked is plain.clean
    assert plain.nissim == 0
    smoothed = hp.Smoothed(hp.GradCAM(), n=3, sigma=0.2)
    (noisy,) = live.look(Wanted(explainer=smoothed)).sights
    torch.testing.assert_close(map_of(noisy.clean), smoothed(live.models[0], pixels(live, 0)).heatmaps)
    assert (map_of(noisy.clean) != map_of(plain.clean)).any()


def passes(live: Live, wanted: Wanted) -> int:
    """How often the networks are asked."""
    counted: list[int] = []
    hooks = [model.register_forward_hook(lambda *_: counted.append(1)) for model in live.models]
    live.look(wanted)
    for hook in hooks:
        hook.remove()
    return len(counted)


def test_no_pass_is_made_twice(model: Classifier, source: Source) -> None:
    live = Live([model], source)
    assert passes(live, ATTACKED) > 1
    assert passes(live, ATTACKED) == 0
    # FGSM's direction is known: only the attacked photo is new
    assert passes(live, replace(ATTACKED, attack=hp.FGSM(epsilon=2 / 255))) == 1
    assert passes(live, ATTACKED) == 0
    # the photo was attacked already, and is only explained in another way
    assert passes(live, replace(ATTACKED, explainer=hp.LayerCAM())) == 2
    target = live.look(ATTACKED).wanted.target
    assert passes(live, replace(ATTACKED, target=target)) == 0


def test_what_was_seen_long_ago_is_forgotten(
    model: Classifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live([model], source)
    monkeypatch.setattr("heatproof.live.look.KEPT", 8)
    for epsilon in range(1, 9):
        live.look(replace(ATTACKED, attack=hp.FGSM(epsilon=epsilon / 255)))
    assert len(live._kept) == 8


def test_the_attack_on_the_map_keeps_the_label(live: Live) -> None:
    wanted = Wanted(explainer=hp.GradCAM(relu=False), attack=hp.PGD(epsilon=16 / 255), penalty=hp.TopK())
    (sight,) = live.look(wanted).sights
    assert sight.answers(sight.attacked)[0][0] == sight.answers(sight.clean)[0][0]
    assert bool(sight.attacked.success)
    before, after = map_of(sight.clean), map_of(sight.attacked)
    assert float(hp.TopK()(after, before)) < float(hp.TopK()(before, before))
    # who attacks does not know that the maps are smoothed: the photo is the same
    smoothed = replace(wanted, explainer=hp.Smoothed(wanted.explainer, n=2, sigma=0.1))
    assert torch.equal(live.look(smoothed).sights[0].attacked.images, sight.attacked.images)


def test_two_networks_and_what_differs(both: Live) -> None:
    look = both.look(ATTACKED)
    first, second = (map_of(sight.clean) for sight in look.sights)
    assert [int(sight.clean.grid.targets) for sight in look.sights] == [look.wanted.target] * 2
    wanted = hp.normalise(first, "absmax") - hp.normalise(second, "absmax")
    torch.testing.assert_close(look.differences[0], wanted)
    assert look.apart[0] == pytest.approx(float(hp.nissim(first, second, size=64)))
    assert look.apart[0] > 0
    same = Live([both.models[0], both.models[0]], both.source)
    look = same.look(ATTACKED)
    assert same.names == ["demo", "demo#2"]
    assert not torch.stack(look.differences).any()
    assert look.apart == (0, 0)


def test_the_square_that_is_covered(live: Live) -> None:
    model, images = live.models[0], pixels(live, 0)
    found = live.cover(Wanted(), 0, False, (0.5, 0.25), 0.25)
    assert found.box == (24, 8, 40, 24)
    covered = images.clone()
    covered[:, :, 8:24, 24:40] = images.mean((2, 3), keepdim=True)
    logits = torch.stack([predict(model, one)[0] for one in (images, covered)])
    target = int(logits[0].argmax())
    assert found.logits == pytest.approx(logits[:, target].tolist(), rel=1e-4)
    assert found.probabilities == pytest.approx(logits.softmax(1)[:, target].tolist(), rel=1e-4)
    assert found.area == pytest.approx(1 / 16)
    # the quarters share out the whole map, and the square stays inside
    quarters = [live.cover(Wanted(), 0, False, (x, y), 0.5).share or 0 for x in (0, 1) for y in (0, 1)]
    assert sum(quarters) == pytest.approx(1, abs=1e-5)
    assert live.cover(Wanted(), 0, False, (0.3, 0.9), 1).share == pytest.approx(1, abs=1e-5)
    # of the attacked photo it is the attacked photo that is covered
    attacked = live.cover(ATTACKED, 0, True, (0.5, 0.5), 0.25)
    assert attacked.logits[0] == pytest.approx(
        float(live.look(ATTACKED).sights[0].attacked.grid.logits[0, live.look(ATTACKED).wanted.target])
    )


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(photo=6), "there are 6 photos"),
        (Wanted(photo=-1), "there are 6 photos"),
        (Wanted(target=10), "there are 10 classes"),
        (Wanted(explainer=hp.GradCAM(layer="fc")), "fc"),
    ],
)
def test_what_is_not_there_is_said(live: Live, wanted: Wanted, told: str) -> None:
    with pytest.raises(hp.HeatproofError, match=told):
        live.look(wanted)


def test_squares_that_are_none(live: Live) -> None:
    for number, center, side in ((1, (0, 0), 0.5), (0, (1.5, 0), 0.5), (0, (0, 0), 0), (0, (0, float("nan")), 0.5)):
        with pytest.raises(hp.InputError, match="square"):
            live.cover(Wanted(), number, False, center, side)


def test_networks_of_other_tasks_are_not_put_side_by_side(model: Classifier, source) -> None:
    fewer = copy.deepcopy(model)
    fewer.classes = [*reversed(model.classes or [])]
    with pytest.raises(hp.InputError, match=r"class 0 is .* of demo and .* of demo"):
        Live([model, fewer], source)
    smaller = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with pytest.raises(hp.InputError, match="demo has 10, four has 4"):
        Live([model, Classifier(smaller, input_size=64, resize=model.resize, fit=model.fit, name="four")], source)
    with pytest.raises(hp.InputError, match="come to"):
        Live([model, Classifier(copy.deepcopy(model.network), input_size=32, resize=32, name="other")], source)


def test_one_list_of_classes_in_two_spellings(source: Source) -> None:
    from timm.data import ImageNetInfo
    from torchvision.models import SqueezeNet1_1_Weights

    class Wide(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.fc = torch.nn.Linear(4, 1000)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(images).relu().mean((2, 3)))

    one, other = list[str](ImageNetInfo().label_descriptions()), SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    assert one[134] != other[134]
    network = Wide()
    pair = [Classifier(network, classes=list(names), input_size=64, name=names[134]) for names in (one, other)]
    look = Live(pair, source).look(Wanted(explainer=hp.GradCAM(layer="conv")))
    # the page has the first spelling for both
    assert look.sights[0].answers(look.sights[0].clean) == look.sights[1].answers(look.sights[1].clean)
    swapped = [other[1], other[0], *other[2:500], *reversed(other[500:])]
    with pytest.raises(hp.InputError, match=r"if they are the same, give both one list of names"):
        Live([pair[0], Classifier(network, classes=swapped, input_size=64, name="swapped")], source)


def test_a_photo_that_cannot_be_read_is_named(model: Classifier, source: Source, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    live = Live([model], open_photos(model, str(tmp_path), labels_needed=False))
    with pytest.raises(InputError, match=r"^torn.png cannot be read: "):
        live.look(Wanted())


def test_the_words_say_what_became_of_label_and_map(live: Live, both: Live) -> None:
    assert live.look(Wanted()).sentences[0].startswith("demo answers ")
    (told,) = live.look(ATTACKED).sentences
    assert told.startswith("demo: the label ")
    assert f"NISSIM {live.look(ATTACKED).sights[0].nissim:.3f}" in told
    words = both.look(ATTACKED).sentences
    assert len(words) == 3
    assert "apart (NISSIM), attacked" in words[2]
    assert isinstance(both.look(ATTACKED), Look)


def test_a_label_that_turned_is_told_with_both_classes(live: Live) -> None:
    sights = [live.look(Wanted(photo=place)).sights[0] for place in range(len(live.source))]
    one = sights[0]
    other = next(sight for sight in sights if sight.answers(sight.clean)[0][0] != one.answers(one.clean)[0][0])
    [(before, sure), *_], [(after, surer), *_] = one.answers(one.clean), other.answers(other.clean)
    told = replace(one, attacked=other.clean, nissim=0.9).sentence
    assert told == (
        f"demo: the label turns from {before} ({percent(sure)}) into {after} ({percent(surer)}); the map moves, NISSIM "
        "0.900."
    )


def test_grey_photos_and_empty_maps(model: Classifier) -> None:
    live = Live([model], open_tensors(torch.full((1, 3, 64, 64), 0.5)))
    found = live.cover(Wanted(explainer=hp.GradCAM(counterfactual=True)), 0, False, (0.5, 0.5), 0.5)
    # covering grey by grey changes nothing
    assert found.logits[0] == pytest.approx(found.logits[1], abs=1e-4)
    assert found.share is not None
    assert 0 <= found.share <= 1


@pytest.mark.weights
@pytest.mark.slow
def test_squeezenet_answers_within_a_second(shared: Path) -> None:
    model = load(f"{shared}/weights/zoo.py:squeezenet1_1")
    live = Live([model], open_photos(model, f"{shared}/data/photos/both.png", labels_needed=False))
    took = []
    for epsilon in range(1, 12):
        start = time.process_time()
        live.look(Wanted(attack=hp.FGSM(epsilon=epsilon / 255)))
        took.append(time.process_time() - start)
    # of processor time, which others on the machine do not change; measured 0.1 to 0.2 s
    assert median(took) < 1


def test_a_source_without_photos_is_refused(model: Classifier, source: Source) -> None:
    with pytest.raises(InputError, match="holds no photo to look at"):
        Live([model], replace(source, positions=[]))


def test_of_empty_maps_nobody_says_that_they_hold_still(live: Live) -> None:
    sight = live.look(ATTACKED).sights[0]

    def emptied(condition: Condition) -> Condition:
        heatmaps = tuple(torch.zeros_like(own) for own in condition.grid.heatmaps)
        return condition._replace(grid=condition.grid._replace(heatmaps=heatmaps))

    told = replace(sight, clean=emptied(sight.clean), attacked=emptied(sight.attacked), nissim=math.nan).sentence
    assert told.endswith("both maps are empty, so whether the map moves cannot be told.")


@pytest.fixture
def below(model: Classifier) -> Classifier:
    """Every map of Grad-CAM without ReLU lies below zero: all weights of the head do."""
    network = copy.deepcopy(model)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.weight.copy_(-head.weight.abs() - 0.1)
    return network


def test_of_maps_without_a_positive_part_nothing_is_said_that_nissim_does_not_see(
    below: Classifier, source: Source
) -> None:
    live, signed = Live([below, below], source), hp.GradCAM(relu=False)
    for wanted in (Wanted(explainer=signed), Wanted(explainer=signed, attack=hp.FGSM(epsilon=16 / 255))):
        look = live.look(wanted)
        assert float(map_of(look.sights[0].attacked).max()) <= 0 > float(map_of(look.sights[0].attacked).min())
        *own, apart = look.sentences
        assert apart == "How far the two networks' maps are apart cannot be told: nothing in either map is positive."
        unseen = "nothing in either map is positive, so whether the map moves cannot be told."
        assert all(said.endswith(unseen) == (wanted.attack.epsilon > 0) for said in own)
    # with the ReLU the same maps are empty
    *_, apart = live.look(Wanted()).sentences
    assert apart == "How far the two networks' maps are apart cannot be told: both maps are empty."
    assert live.cover(Wanted(explainer=signed), 0, False, (0.5, 0.5), 0.5).share is None
    # a page reads no NaN
    words = Words(live)
    asked = {"photo": 0, "explainer": "GradCAM(relu=False)", "attack": next(iter(words.begin()["attacks"]))}
    told = words.look(asked | {"epsilon": 8 / 255, "sigma": 0, "copies": 2})
    assert told["apart"] == [None, None]
    assert json.loads(json.dumps(told, allow_nan=False))["sights"][0]["nissim"] is None


def test_one_of_two_photos_without_a_map_leaves_the_other_told(live: Live) -> None:
    look = live.look(ATTACKED)
    two = replace(look, sights=(look.sights[0], look.sights[0]), apart=(math.nan, 0.25))
    assert two.sentences[-1].endswith("; attacked they are 0.250 apart (NISSIM).")
    two = replace(two, apart=(0.25, math.nan))
    assert two.sentences[-1] == (
        "The two networks' maps of the clean photo are 0.250 apart (NISSIM), attacked cannot be told."
    )
    noisy = live.look(Wanted(attack=hp.RandomSign(epsilon=8 / 255)))
    assert (look.changed, noisy.changed) == ("attacked", "with noise")
