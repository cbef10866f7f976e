"""Files of the shared folder: found where HEATPROOF_SHARED points, or told."""

import pytest

from heatproof.errors import InputError
from heatproof.studies.shared import named, shared


def test_a_file_is_found_where_the_variable_points_and_told_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    (tmp_path / "photos").mkdir()
    assert shared("photos") == tmp_path / "photos"
    with pytest.raises(InputError, match=r"weights.py is missing; .* Point HEATPROOF_SHARED at the folder"):
        shared("weights.py")


def test_a_factory_s_file_stands_before_the_colon(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "zoo.py").touch()
    assert named("shared:weights/zoo.py:resnet20") == f"{shared('weights/zoo.py')}:resnet20"
    assert named("mine.py:net") == "mine.py:net"
    with pytest.raises(InputError, match="--set photos=NAME"):
        named("", "photos")
