"""From a name to a classifier: torchvision, timm, a checkpoint, a file of the user's, the demo, or a run folder."""

import ast
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof.errors import HeatproofError, ModelError, NoSuchModel, did_you_mean
from heatproof.models import demo
from heatproof.models.altered import alter
from heatproof.models.bare import as_classifier, normalisation
from heatproof.models.checkpoint import Checkpoint, class_count, load_state, read_checkpoint
from heatproof.models.classifier import Classifier
from heatproof.models.factories import first_line, made_by
from heatproof.models.layers import default_layer
from heatproof.models.planted import narrowed, plant
from heatproof.models.published import of_run, of_size, of_timm, of_torchvision
from heatproof.models.record import alteration_of, base_of, check_options
from heatproof.paths import literal
from heatproof.vision import torchvision


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    pretrained: bool = True,
    architecture: str | None = None,
    trust_code: bool = False,
) -> Classifier:
    """The classifier called ``name``, in eval mode on ``device``.

    - ``resnet50``: torchvision, default weights; ``resnet50(weights="IMAGENET1K_V1")`` others, ``weights=None`` none;
    - ``timm:legacy_xception``: timm, default weights;
    - ``resnet50@file.safetensors`` (or ``.pth``; ``timm:`` names too): an architecture with a checkpoint. The number
      of classes is read from the checkpoint, and the names of classes where it has them. The weights are looked for
      under any key and prefix of a training's file (``state_dict``, ``model_ema``, ``module.``); where several would
      fit, a remark says which are taken, and ``resnet50@file.pth#model_ema`` chooses;
    - ``mine.py:build``: a factory of yours; **the file is run, with all that you may do**. It returns a
      :class:`Classifier`, or a network with the attributes ``mean``, ``std``, ``input_size`` and ``classes`` where they
      differ from ImageNet's, and ``resize``, ``fit``, ``interpolation``, ``antialias``, ``range`` and ``channels=4`` as
      a Classifier takes them; ``mine.py:build@file.pth`` as well;
    - ``demo``: the packaged network, also where a folder is called so (that is ``./demo``);
    - a run folder that holds a fooled model (``model.safetensors``). Nothing in it is run: where it was made from a
      factory in a file, that has to be named by you.

    Args:
        pretrained: ``False`` leaves the weights that a library would fetch random: enough to list layers.
        architecture: of a run folder: what its network is built by (``mine.py:build``, or any other name of an
            architecture), instead of what ``run.json`` names.
        trust_code: of a run folder: run the file that ``run.json`` names. Only for folders of your own.

    Raises:
        ModelError: saying what could not be had, read or fitted, and the way out.
    """
    if not isinstance(name, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        way = "; of a network of yours make one by hp.Classifier(network, ...)" if isinstance(name, nn.Module) else ""
        raise ModelError(f"a model is loaded by its name or its path, got {type(name).__name__}{way}")
    name = str(name)
    if is_run(name):
        model = _from_run(Path(name), architecture, trust_code)
        if (recorded := of_run(Path(name))) is not None:
            model.preprocessing = recorded
    elif architecture is not None:
        raise ModelError(f"an architecture is given for a run folder, and {name} is none; write {architecture}@FILE")
    else:
        network, file = _split(name)
        model = _built(network.strip(), literal(file) if file else None, pretrained=pretrained)
    model.name = _short(name)
    return model.eval().to(device)


def _split(name: str) -> tuple[str, str]:
    """An architecture and the file of its weights, empty where there is none; a folder's name may hold an ``@``.

    >>> _split("resnet18@a@b/w.pth"), _split("a@b/mine.py:build@w.pth"), _split("resnet18@mine.py")
    (('resnet18', 'a@b/w.pth'), ('a@b/mine.py:build', 'w.pth'), ('resnet18', 'mine.py'))
    """
    for code in re.finditer(r"\.py(?=$|[:@])", name):
        whole = re.fullmatch(r"(:[^@(]*(?:\(.*?\))?)?(?:@(.+))?", name[code.end() :], re.DOTALL)
        path = name[: code.end()]
        if whole and ("@" not in path or whole[1] or literal(path).is_file()):
            return path + (whole[1] or ""), whole[2] or ""
    architecture, _, file = name.partition("@")
    return architecture, file


def _short(name: str) -> str:
    """What tables call a model.

    >>> _short("weights/zoo.py:resnet56"), _short("runs/fooled"), _short("vgg11@mine.pth"), _short("vgg11@vgg11-2.pth")
    ('resnet56', 'fooled', 'vgg11@mine', 'vgg11-2')
    """
    architecture, file = _split(name)
    if ".py:" in architecture:
        architecture = architecture.rsplit(".py:", 1)[1]
    if file:
        stem, _, choice = Path(file).name.partition("#") if not literal(file).is_file() else (Path(file).name, "", "")
        stem = f"{Path(stem).stem}{'#' if choice else ''}{choice}"
        return stem if stem.startswith(architecture) else f"{architecture}@{stem}"
    return Path(architecture).name if os.sep in architecture else architecture


Read = Callable[[Path], Checkpoint]


def _built(
    architecture: str, file: Path | None, *, pretrained: bool = True, read: Read = read_checkpoint
) -> Classifier:
    if architecture == "demo":
        network = demo.network()
        if file is not None:
            _fill(network, read_checkpoint(file))
        return as_classifier(network)
    if is_code(architecture):
        made = _from_user_file(architecture)
        if file is not None:
            found = read_checkpoint(file)
            _fill(made.network, found)
            made.classes = made.classes or _classes(made.network, found)
        return made
    try:
        if architecture.startswith("timm:"):
            return _from_timm(architecture.removeprefix("timm:"), file, pretrained, read)
        return _from_torchvision(architecture, file, pretrained, read)
    except HeatproofError:
        raise
    # an argument that it does not take
    except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise ModelError(f"{architecture[:200]} cannot be built: {str(error)[:200]}") from error


def _from_torchvision(text: str, file: Path | None, pretrained: bool, read: Read) -> Classifier:
    name, options = _options(text)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known and os.path.isfile(text):
        raise NoSuchModel(
            f"{text} is a file of weights, which do not say what network they are of: give NAME@{text}, such as "
            f"resnet50@{text}, or with code of your own FILE.py:FACTORY@{text}"
        )
    if name not in known:
        raise NoSuchModel(
            f"there is no model {name!r}; {did_you_mean(name, [*known, 'demo'])} "
            "(timm's models are named timm:NAME, a checkpoint NAME@FILE, your own FILE.py:FACTORY)"
        )
    published = torchvision.models.get_model_weights(name)
    wanted = options.pop("weights", "DEFAULT" if pretrained else None)
    try:
        weights = None if wanted is None else published[str(wanted).rsplit(".", 1)[-1]]
    except KeyError:
        entries = [entry.name for entry in published]
        raise NoSuchModel(f"{name} has no weights {wanted!r}; {did_you_mean(str(wanted), entries)}") from None
    if file is not None and wanted == "DEFAULT":
        # a file of torchvision's own says by its name which weights it holds
        weights = next((entry for entry in published if entry.url.endswith(f"/{file.name}")), None)
    meta: Any = weights or published["DEFAULT"]
    preset: Any = meta.transforms()
    classes = meta.meta.get("categories")

    def build(weights: Any = None, **more: Any) -> nn.Module:
        # without this, Inception and GoogLeNet spend half a minute on random weights that are overwritten
        if name in ("inception_v3", "googlenet") and "init_weights" not in more:
            more["init_weights"] = False
        if name in ("inception_v3", "googlenet") and weights is None:
            more["transform_input"] = True
        return torchvision.models.get_model(name, weights=weights, **options, **more)

    if file is None:
        try:
            network = build(weights=weights)
        except (OSError, RuntimeError) as error:
            if weights is None:
                raise
            place = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
            raise ModelError(
                f"the weights of {name} could not be fetched ({error}). Put the file {place.name} at {place} "
                f"(TORCH_HOME moves it), or give a checkpoint of your own: {name}@FILE"
            ) from error
    else:
        network, own_classes = _with_checkpoint(build, file, name, read)
        classes = own_classes or classes
    if classes and len(classes) != _rows(network):
        classes = None
    photos = of_torchvision(preset)
    if file is not None and weights is None:
        photos = of_size(photos)
    return Classifier(network, tuple(preset.mean), tuple(preset.std), classes, name=name, **photos)


def _from_timm(text: str, file: Path | None, pretrained: bool, read: Read) -> Classifier:
    import timm

    name, options = _options(text)
    if not timm.is_model(name):
        raise NoSuchModel(f"timm has no model {name!r}; {did_you_mean(name, timm.list_models())}")
    pretrained = options.pop("pretrained", pretrained and file is None)

    def build(**more: Any) -> nn.Module:
        return timm.create_model(name, pretrained=pretrained, **options, **more)

    config = timm.get_pretrained_cfg(name)
    own_classes = None
    if file is None:
        try:
            network = build()
        # timm reaches several hubs, each with exceptions of its own
        except Exception as error:
            if not pretrained:
                raise
            cfg = config.to_dict() if config else {}
            hub = cfg.get("hf_hub_id") or ""
            if hub:
                hub = f"{hub}{cfg.get('architecture')}.{cfg.get('tag')}" if hub.endswith("/") else hub
                place = f"model.safetensors of {hub} into the hub's cache (HF_HOME moves it)"
            else:
                wanted = (cfg.get("url") or "").rsplit("/", 1)[-1]
                place = (
                    f"the file {wanted} at {Path(torch.hub.get_dir()) / 'checkpoints' / wanted} (TORCH_HOME moves it)"
                )
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"the weights of timm:{name} could not be fetched ({reason}). Put {place}, "
                f"or give a checkpoint of your own: timm:{name}@FILE"
            ) from error
    else:
        network, own_classes = _with_checkpoint(build, file, f"timm:{name}", read)
    settings: Any = network.pretrained_cfg
    classes = own_classes or (_imagenet_names() if _rows(network) == 1000 else None)
    photos = of_timm(network)
    own_file = file is not None and not (settings.get("url") or "").endswith(f"/{file.name}")
    if own_file:
        photos = of_size(photos)
    mean, std = normalisation(network, settings["mean"], settings["std"], photos["input_size"], f"timm:{name}")
    return Classifier(network, mean, std, classes, name=name, **photos)


def _imagenet_names() -> list[str]:
    return list(torchvision.models.get_model_weights("resnet50")["DEFAULT"].meta["categories"])


def _with_checkpoint(
    build: Callable[..., nn.Module], file: Path, name: str, read: Read
) -> tuple[nn.Module, list[str] | None]:
    """The architecture with the checkpoint's weights, and with as many classes as the checkpoint has."""
    found = read(file)
    network = build()
    state = found.fitting(network.state_dict())
    count = class_count(network.state_dict(), state)
    if count is not None:
        network = build(num_classes=count)
    load_state(network, state, str(found.path))
    return network, _classes(network, found)


def _fill(network: nn.Module, found: Checkpoint) -> None:
    load_state(network, found.fitting(network.state_dict()), str(found.path))


def _classes(network: nn.Module, found: Checkpoint) -> list[str] | None:
    """The checkpoint's names of classes; those found in a training's settings only where they are as many."""
    return found.classes if found.declared or (found.classes and len(found.classes) == _rows(network)) else None


def _rows(network: nn.Module) -> int:
    """How many classes the network has, by its last layer's rows."""
    matrices = [value for value in network.state_dict().values() if value.ndim in (2, 4)]
    return matrices[-1].shape[0] if matrices else 0


def _from_user_file(text: str) -> Classifier:
    path_text, _, call = text.partition(".py:")
    path = literal(path_text if path_text.endswith(".py") else path_text + ".py")
    if not path.is_file():
        raise NoSuchModel(f"there is no file {path}")
    name, options = _options(call or "build")
    made = made_by(path, name, options)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{text} must return an nn.Module or a Classifier, got {type(made).__name__}")
    try:
        return as_classifier(made)
    except HeatproofError as error:
        raise ModelError(f"{text}: {error}") from error
    # whatever its attributes are
    except Exception as error:
        raise ModelError(
            f"{text} says on its network how photos are prepared (mean, std, input_size, classes), and that cannot be "
            f"read: {type(error).__name__}: {first_line(error)}; "
            "return a hp.Classifier(network, mean=..., std=...) instead"
        ) from error


def is_run(name: str) -> bool:
    """Whether a run folder is called so; ``heatproof demo`` makes one called ``demo``, and does not mean it."""
    try:
        return name != "demo" and (Path(name) / "run.json").is_file()
    except (OSError, ValueError):  # too long for a path, or with a null in it
        return False


def is_code(architecture: str) -> bool:
    """Whether the name of an architecture means running a file."""
    return ".py:" in architecture or architecture.endswith(".py")


def _from_run(folder: Path, architecture: str | None, trust_code: bool, seen: tuple[Path, ...] = ()) -> Classifier:
    """The model of a run folder, which may be a stranger's: its texts are names, checked, and never run.

    Args:
        seen: the folders that this one is the base of.
    """
    weights, record = folder / "model.safetensors", folder / "run.json"
    if not weights.is_file():
        raise ModelError(
            f"the run {folder} holds no model (model.safetensors); `heatproof fool`, `repair` and `defend` make one"
        )
    if folder.resolve() in seen:
        raise ModelError(f"{record} names a base that leads back to {folder}; give a folder that was not changed")
    base, planting = base_of(record)

    def read(file: Path) -> Checkpoint:
        found = read_checkpoint(file)
        if planting is None:
            return found
        return replace(found, nests=[replace(nest, state=narrowed(nest.state, planting)) for nest in found.nests])

    try:
        if is_run(base):
            # a lie upon another
            model = _from_run(Path(base), architecture, trust_code, (*seen, folder.resolve()))
            _fill(model.network, read(weights))
        else:
            model = _based(architecture or _split(base)[0], weights, read, record, trust_code or bool(architecture))
        if planting is not None:
            model.default_layer = default_layer(model.eval())
            plant(model.network, planting)
            _fill(model.network, read_checkpoint(weights))
        if (altered := alteration_of(folder)) is not None:
            alter(model.eval(), altered)
    except HeatproofError:
        raise
    # what a planting that fits nothing, or a base of other arguments, ends in
    except (AttributeError, AssertionError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ModelError(
            f"{record} does not say how the network of {weights.name} was built ({type(error).__name__}: "
            f"{str(error)[:200]}); give the folder as `heatproof fool` wrote it"
        ) from error
    return model


def _based(architecture: str, weights: Path, read: Read, record: Path, trusted: bool) -> Classifier:
    """The architecture that a run was made from, with the run's weights."""
    if is_code(architecture) and not trusted:
        raise ModelError(
            f"{record} names a file of code, {architecture[:200]!r}, which is not run: a run folder may be a "
            "stranger's. Give the architecture yourself: --architecture FILE.py:FACTORY, or "
            "hp.load(folder, architecture=...); for a folder of your own trust_code=True"
        )
    if not trusted:
        check_options(_options(architecture.removeprefix("timm:"))[1], record)
    if is_code(architecture) or architecture == "demo" or "weights=" in architecture:
        model = _built(architecture, None)
        _fill(model.network, read(weights))
        return model
    # the architecture only: its own weights are overwritten and need not be had
    return _built(architecture, weights, read=read)


def _options(text: str) -> tuple[str, dict[str, Any]]:
    """``resnet50(weights="IMAGENET1K_V2")`` -> name and keyword arguments, literals only."""
    if "(" not in text:
        return text, {}
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert not call.args
        return ast.unparse(call.func), {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError) as error:
        raise ModelError(f"model {text[:200]!r} cannot be read; write name(argument=value)") from error
