import pytest
import torch

import heatproof as hp
from heatproof.models.layers import at_named_layer, record
from heatproof.vision import torchvision
from networks import photos, small


@pytest.mark.parametrize(
    ("name", "layer", "shape", "field"),
    [
        # receptive fields as published (Araujo et al. 2019, table 1); 427 is ResNet-50 with its stride in the 3x3
        ("vgg16", "features.29", (512, 14, 14), 196),
        ("resnet50", "layer4", (2048, 7, 7), 427),
        ("resnet18", "layer4", (512, 7, 7), 435),
        ("densenet121", "features", (1024, 7, 7), 2071),
        ("squeezenet1_1", "features", (512, 13, 13), 207),
        ("mobilenet_v2", "features", (1280, 7, 7), 491),
        ("alexnet", "features.11", (256, 13, 13), 163),
        # squeeze-and-excitation sees the whole image
        ("efficientnet_b0", "features", (1280, 7, 7), None),
    ],
)
def test_default_layer(name: str, layer: str, shape: tuple[int, ...], field: int | None) -> None:
    model = hp.Classifier(torchvision.models.get_model(name, weights=None).eval())
    assert hp.default_layer(model) == layer
    found = {entry.name: entry for entry in hp.list_layers(model)}[layer]
    assert (found.shape, found.receptive_field) == (shape, field)


def test_default_layer_of_inception_and_timm() -> None:
    import timm

    inception = torchvision.models.inception_v3(weights=None, init_weights=False).eval()
    assert hp.default_layer(hp.Classifier(inception, input_size=299)) == "Mixed_7c"
    assert hp.default_layer(hp.Classifier(timm.create_model("legacy_xception").eval(), input_size=299)) == "act4"


def test_receptive_field_is_what_changes_the_cell() -> None:
    """Against its definition: the pixels that move the middle cell of a layer."""
    body = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5, stride=2),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(4, 4, 3, dilation=2),
        torch.nn.AvgPool2d(2, 1),
    ).eval()
    torch.nn.init.uniform_(body.get_parameter("0.weight"))
    torch.nn.init.uniform_(body.get_parameter("2.weight"))
    network = torch.nn.Sequential(body, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    image = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        clean = body(image)
        middle = clean.shape[-1] // 2
        reached = []
        for col in range(65):
            # a bright column wins every maximum that sees it
            bright = image.clone()
            bright[..., col] = 100
            reached.append(bool((body(bright) - clean)[0, :, middle, middle].abs().max() > 0))
    found = {entry.name: entry for entry in hp.list_layers(hp.Classifier(network, input_size=65), image)}
    assert found["0.3"].receptive_field == sum(reached)


def test_a_missing_layer_is_told() -> None:
    with pytest.raises(hp.LayerError, match="there is no layer 'lats' in small; did you mean last"):
        hp.GradCAM("lats")(small(), photos())
    with pytest.raises(hp.LayerError, match=r"'head' puts out \[3, 4\]; a heatmap needs"):
        hp.GradCAM("head")(small(), photos())


def test_no_feature_map_is_told() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(300, 4))
    with pytest.raises(hp.LayerError, match="no layer that puts out a feature map"):
        hp.GradCAM()(hp.Classifier(network, input_size=10), torch.rand(1, 3, 10, 10))


def test_a_layer_that_is_not_reached_is_told() -> None:
    model = small()
    model.network.spare = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(hp.LayerError, match="'spare' is not reached"):
        hp.GradCAM("spare")(model, photos())


def test_recorded_values_survive_in_place_layers() -> None:
    """`norm` is followed by an in-place ReLU, which would overwrite what was recorded."""
    model, images = small(), photos()
    _, recorded = record(model, images, ["norm"], create_graph=False)
    assert recorded["norm"].min() < 0
    stem, norm = (model.network.get_submodule(name) for name in ("stem", "norm"))
    torch.testing.assert_close(recorded["norm"].detach(), norm(stem((images - model.mean) / model.std)).detach())


def test_a_reused_layer_is_recorded_at_its_last_call() -> None:
    model, images = small(), photos()
    logits, recorded = record(model, images, ["relu", "left"], create_graph=False)
    assert recorded["relu"].shape[-1] == 5
    (gradient,) = torch.autograd.grad(logits.sum(), [recorded["relu"]])
    assert gradient.abs().sum() > 0


def test_a_layer_of_several_outputs_has_no_map() -> None:
    class Pair(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pair = torch.nn.Conv2d(3, 4, 3), Pair()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pair(self.stem(x))[0].mean((2, 3))

    model = hp.Classifier(Network().eval(), input_size=10)
    with pytest.raises(hp.LayerError, match=r"layer 'pair' puts out tuple; a heatmap needs \[batch, channels, rows"):
        hp.GradCAM("pair")(model, photos(dtype=torch.float32))


def test_images_of_inference_mode_and_pixels_without_a_graph() -> None:
    model = small()
    with torch.inference_mode():
        made = photos(2)
    wanted = hp.GradCAM("last")(model, photos(2)).heatmaps
    assert torch.equal(hp.GradCAM("last")(model, made).heatmaps, wanted)
    # pixels that have no graph get one of their own; those that have keep theirs
    _, recorded = record(model, photos(2), ["pixels"], create_graph=True)
    assert recorded["pixels"].is_leaf
    given = (photos(2).requires_grad_() * 1).clone()
    _, recorded = record(model, given, ["pixels"], create_graph=True)
    assert recorded["pixels"] is given


def test_a_module_given_as_a_layer_is_found_by_name_in_copies() -> None:
    model = small()
    explainer = hp.GradCAM(layer=model.network.get_submodule("last"))
    assert at_named_layer(model, explainer) == hp.GradCAM("last")
    assert at_named_layer(model, hp.SimpleGrad()) == hp.SimpleGrad()
    with pytest.raises(hp.LayerError, match="this Conv2d is no layer of small"):
        at_named_layer(small(), explainer)


def test_a_bare_network_has_a_default_layer_too() -> None:
    model = small()
    assert hp.default_layer(model.network, photos(1)) == hp.default_layer(model)
