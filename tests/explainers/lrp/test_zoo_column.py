"""LRP's column of the zoo on a few small architectures: the families that came with norms, gates and attention."""

import pytest

from zoo.columns import lrp_columns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "composite"),
    [
        ("timm:convnextv2_atto", "lrp"),
        ("timm:tresnet_m", "lrp"),
        ("timm:poolformerv2_s12", "lrp"),
        ("timm:vit_tiny_patch16_224", "attnlrp"),
        ("timm:bat_resnext26ts", "attnlrp"),
        ("vit_b_32", "attnlrp"),
        ("swin_t", "attnlrp"),
    ],
)
def test_the_column(name: str, composite: str) -> None:
    found = lrp_columns(name)
    assert found[composite].status == "works", found
    if composite == "attnlrp":
        assert found["lrp"].status == "refused"
        assert "composite='attnlrp' has one" in found["lrp"].reason
