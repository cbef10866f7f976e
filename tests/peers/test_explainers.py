"""Our heatmaps against captum's, pytorch-grad-cam's and torchcam's, on real photos and real weights where they are."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.vision import torchvision

pytestmark = pytest.mark.peers

# layers in the networks' own names; ResNet-18 and VGG-11 with random weights stand in where real ones are not shared
CASES = [
    ("squeezenet1_1", "features.12"),
    ("squeezenet1_1", "features.7"),
    ("mobilenet_v2", "features.18"),
    ("mobilenet_v2", "features.13"),
    ("resnet18", "layer4"),
    ("resnet18", "layer3"),
    ("vgg11", "features.19"),
]


@pytest.fixture(scope="module")
def photos(shared: Path) -> Tensor:
    source = open_data([str(shared / "data/photos/both.png"), str(shared / "data/photos/cat_dog_original.jpg")])
    return next(iter(batches(source, 224, 2))).images


@pytest.fixture(scope="module")
def models(shared: Path) -> dict[str, hp.Classifier]:
    torch.manual_seed(0)
    made = {name: hp.load(f"{shared}/weights/zoo.py:{name}") for name in ("squeezenet1_1", "mobilenet_v2")}
    for name in ("resnet18", "vgg11"):
        network = torchvision.models.get_model(name, weights=None).eval()
        made[name] = hp.Classifier(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), name=name)
    return made


def relative(got: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "layer"), CASES)
@pytest.mark.parametrize("relu", [True, False])
def test_gradcam_equals_captum(
    models: dict[str, hp.Classifier], photos: Tensor, name: str, layer: str, relu: bool
) -> None:
    from captum.attr import LayerGradCam

    model, targets = models[name], torch.tensor([243, 282])
    ours = hp.GradCAM(layer, relu=relu)(model, photos, targets).heatmaps
    method = LayerGradCam(model, model.network.get_submodule(layer))
    theirs = torch.as_tensor(method.attribute(photos, target=targets, relu_attributions=relu))
    assert relative(ours, theirs[:, 0].detach()) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "layer"), CASES)
def test_gradcam_equals_pytorch_grad_cam(
    models: dict[str, hp.Classifier], photos: Tensor, name: str, layer: str
) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, targets = models[name], [243, 282]
    ours = hp.GradCAM(layer)(model, photos, torch.tensor(targets)).heatmaps
    with GradCAM(model, [model.network.get_submodule(layer)]) as cam:
        chosen: Any = [ClassifierOutputTarget(target) for target in targets]
        cam(photos, chosen)
        activations: Any = torch.as_tensor(cam.activations_and_grads.activations[0]).numpy()
        gradients: Any = torch.as_tensor(cam.activations_and_grads.gradients[0]).numpy()
        # theirs scales each map to [0, 1] and to the photo's size; the raw map is what its parts give
        theirs = torch.as_tensor(cam.get_cam_image(photos, cam.target_layers[0], [], activations, gradients, False))
    assert relative(ours, theirs.clamp(min=0)) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
# torchcam adds 1e-8 to the divisor, which counts on the tiny maps of an untrained VGG
@pytest.mark.parametrize(("name", "layer"), [case for case in CASES if case[0] != "vgg11"])
def test_gradcam_equals_torchcam(models: dict[str, hp.Classifier], photos: Tensor, name: str, layer: str) -> None:
    from torchcam.methods import GradCAM

    model, targets = models[name], [243, 282]
    # torchcam scales each map to [0, 1] by its minimum and maximum, after the ReLU
    ours = hp.normalise(hp.GradCAM(layer)(model, photos, torch.tensor(targets)).heatmaps, "minmax")
    with GradCAM(model, target_layer=f"network.{layer}") as extractor:
        logits = model(photos)
        theirs = extractor(targets, logits)[0]
    assert relative(ours, theirs.detach()) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_integrated_gradients_equal_captum(models: dict[str, hp.Classifier], photos: Tensor, name: str) -> None:
    from captum.attr import IntegratedGradients

    # in float64: in float32 the two ways of computing the path's points end on different sides of a ReLU's kink
    model, targets, photos = copy.deepcopy(models[name]).double(), torch.tensor([243, 282]), photos.double()
    ours = hp.IntegratedGradients(steps=6)(model, photos, targets).heatmaps
    theirs = IntegratedGradients(model).attribute(
        photos, torch.zeros_like(photos), targets, n_steps=6, method="riemann_middle"
    )
    assert relative(ours, theirs.sum(1).detach()) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["squeezenet1_1", "vgg11"])
def test_guided_backprop_equals_captum(models: dict[str, hp.Classifier], photos: Tensor, name: str) -> None:
    from captum.attr import GuidedBackprop

    model, targets = models[name], torch.tensor([243, 282])
    ours = hp.GuidedBackprop()(model, photos, targets).heatmaps
    theirs = GuidedBackprop(_plain_relus(model)).attribute(photos.clone().requires_grad_(), targets)
    assert relative(ours, theirs.sum(1).detach()) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_saliency_equals_captum(models: dict[str, hp.Classifier], photos: Tensor, name: str) -> None:
    from captum.attr import Saliency

    model, targets = models[name], torch.tensor([243, 282])
    ours = hp.SimpleGrad()(model, photos, targets).heatmaps
    theirs = Saliency(model).attribute(photos.clone().requires_grad_(), targets)
    assert relative(ours, theirs.sum(1)) < 1e-5


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
def test_occlusion_equals_captum(models: dict[str, hp.Classifier], photos: Tensor) -> None:
    from captum.attr import Occlusion

    model, targets = models["squeezenet1_1"], torch.tensor([243, 282])
    ours = hp.Occlusion(patch=56, stride=28, fill=0.0)(model, photos, targets).heatmaps
    theirs = Occlusion(model).attribute(photos, (3, 56, 56), (3, 28, 28), 0, targets)
    # captum gives every channel of a patch the whole drop
    assert relative(ours, theirs[:, 0].detach()) < 1e-4


def _plain_relus(model: hp.Classifier) -> Any:
    """captum cannot hook in-place ReLUs; the same network with the flag off."""
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return changed


FAMILY = {
    "GradCAMPlusPlus": hp.GradCAMPlusPlus,
    "XGradCAM": hp.XGradCAM,
    "LayerCAM": hp.LayerCAM,
    "HiResCAM": hp.HiResCAM,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FAMILY)
def test_the_cam_family_equals_pytorch_grad_cam(kind: str) -> None:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images, targets = _random_resnet(), _random_images(), [3, 7]
    # theirs adds 1e-6 and 1e-7 to divisors, which gradients of about 1e-3 squared would feel
    model.network.get_parameter("fc.weight").data.mul_(1e3)
    ours = FAMILY[kind]("layer3", relu=False)(model, images, torch.tensor(targets)).heatmaps
    with getattr(pytorch_grad_cam, kind)(model, [model.network.get_submodule("layer3")]) as cam:
        cam(images, [ClassifierOutputTarget(target) for target in targets])
        found = cam.activations_and_grads
        theirs = cam.get_cam_image(
            images, cam.target_layers[0], [], found.activations[0].numpy(), found.gradients[0].numpy(), False
        )
    assert relative(ours, torch.as_tensor(theirs)) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_eigencam_is_pytorch_grad_cam_s_up_to_its_sign() -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    model, images = _random_resnet(), _random_images()
    ours = hp.EigenCAM("layer3", relu=False)(model, images).heatmaps
    activation = _activation(model, images, "layer3")
    theirs = torch.as_tensor(get_2d_projection(activation.numpy()))
    for our, their in zip(ours, theirs, strict=True):
        assert min(relative(our, their), relative(our, -their)) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_ablationcam_equals_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images, targets = _random_resnet(), _random_images(), [3, 7]
    ours = hp.AblationCAM("layer1", relu=False)(model, images, torch.tensor(targets)).heatmaps
    layer = model.network.get_submodule("layer1")
    activation = _activation(model, images, "layer1")
    cam: Any = AblationCAM(copy.deepcopy(model), [])
    cam.model, cam.target_layers = copy.deepcopy(model), []
    twin = cam.model.network.get_submodule("layer1")
    assert type(twin) is type(layer)
    weights = cam.get_cam_weights(
        images, twin, [ClassifierOutputTarget(target) for target in targets], activation.numpy(), None
    )
    theirs = (torch.as_tensor(weights)[:, :, None, None] * activation).sum(1)
    assert relative(ours, theirs) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_scorecam_equals_torchcam() -> None:
    from torchcam.methods import ScoreCAM

    model, images, targets = _random_resnet(), _random_images(), [3, 7]
    # at the pixels' own resolution: torchcam scales its masks before it enlarges them, the paper and we after
    first = model.network.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    first.stride = (1, 1)
    ours = hp.normalise(hp.ScoreCAM("relu")(model, images, torch.tensor(targets)).heatmaps, "minmax")
    with ScoreCAM(model, target_layer="network.relu", input_shape=(3, 64, 64)) as extractor, torch.no_grad():
        model(images)
        theirs = extractor(targets)[0]
    assert relative(ours, theirs) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_input_x_gradient_equals_captum() -> None:
    from captum.attr import InputXGradient

    model, images, targets = _random_resnet(), _random_images(), torch.tensor([3, 7])
    ours = hp.InputXGradient()(model, images, targets).heatmaps
    theirs = InputXGradient(model).attribute(images.clone().requires_grad_(), targets)
    assert relative(ours, theirs.sum(1).detach()) < 1e-5


def _random_resnet() -> hp.Classifier:
    torch.manual_seed(0)
    network = torchvision.models.get_model("resnet18", weights=None, num_classes=10).eval()
    return hp.Classifier(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), input_size=64)


def _random_images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def _activation(model: hp.Classifier, images: Tensor, layer: str) -> Tensor:
    kept: list[Any] = []
    read = model.network.get_submodule(layer)
    handle = read.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]
