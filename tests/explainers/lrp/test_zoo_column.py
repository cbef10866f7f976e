"""LRP's column of the zoo on a few small architectures: the families that came with norms, gates and attention."""

import pytest

from zoo.lrp_column import lrp_works


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("timm.convnextv2_atto", "works"),
        ("timm.tresnet_m", "works"),
        ("timm.resnet50_gn", "works"),
        ("timm.poolformerv2_s12", "works"),
        ("timm.vit_tiny_patch16_224", "works: attnlrp"),
        ("vit_b_32", "refused: LRP has no rule for layer 'encoder.layers.encoder_layer_11.self_attention'"),
    ],
)
def test_the_column(name: str, wanted: str) -> None:
    said = lrp_works(name)
    assert said == wanted if wanted.startswith("works") else said.startswith(wanted)
