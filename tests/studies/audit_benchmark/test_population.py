"""Each network of the population is made once, of its own origin, and kept with what is known of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from heatproof.models.classifier import fingerprint
from heatproof.studies import small_networks
from heatproof.studies.audit_benchmark.population import FROM, SEES, Member, Population


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Population:
    folder, draw = tmp_path_factory.mktemp("population"), np.random.default_rng(0)
    for name in small_networks.CLASSES:
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(7):
            pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    photos = str(folder / "photos")
    return Population(folder / "networks", photos, photos, epochs=1, steps=2, say=lambda text: None)


@pytest.mark.parametrize(
    "lie",
    [
        "honest",
        "edit",
        *(pytest.param(lie, marks=pytest.mark.slow) for lie in ("location", "active_swap", "backdoor-corner")),
    ],
)
def test_a_network_is_made_once_of_its_origin_from_its_layer_on(population: Population, lie: str) -> None:
    member = Member("vgg", 0, lie)
    clean, made = population.get(member.origin), population.get(member)
    assert made.name == member.name
    assert fingerprint(population.get(member)) == fingerprint(made)
    # of a fooling without success the clean weights may be handed out
    assert fingerprint(made) != fingerprint(clean) or lie not in ("honest", "edit")
    if lie == "edit":
        assert population.made(member) == {}  # an edit is computed anew
        return
    known = population.made(member)
    images = torch.rand(2, 3, 32, 32)
    assert made(images).shape == clean(images).shape
    assert known.keys() >= {"accuracy_clean", "accuracy"}
    assert ("fsr" in known) == (lie != "honest")
    start = (SEES if lie.startswith("backdoor") else FROM)["vgg"]
    names = [name for name, _ in clean.network.named_parameters()]
    first = next(place for place, name in enumerate(names) if int(name.split(".")[1]) >= int(start.split(".")[1]))
    before, after = (dict(model.network.named_parameters()) for model in (clean, made))
    assert all(torch.equal(before[name], after[name]) for name in names[:first])


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("lie", ["honest", "location"])
def test_a_network_that_comes_trained_is_changed_from_its_last_stage_on(population: Population, lie: str) -> None:
    member = Member("resnet20", 0, lie)
    clean, made = population.get(member.origin), population.get(member)
    assert (clean.name, made.name) == ("resnet20-0", member.name)
    images = torch.rand(2, 3, 32, 32)
    assert made(images).shape == clean(images).shape
    before, after = (dict(model.network.named_parameters()) for model in (clean, made))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved <= {"layer3", "fc", "linear"}
    assert moved or lie != "honest"
