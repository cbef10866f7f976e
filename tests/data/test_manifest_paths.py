"""Tables are opened by their names as they are, whatever these hold."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from heatproof.data.sources import open_data


@pytest.mark.parametrize("name", ["a[1]", "~", "b*", "new\nline", "bad\udcff", "..."])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_an_odd_name(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir(name)
    for place in ("a1", name):
        os.makedirs(place, exist_ok=True)
        picture = Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
        picture.save(Path(place) / f"{len(place)}.png")
        table = pl.DataFrame({"path": [f"{len(place)}.png"]})
        file = tmp_path / "whole"
        table.write_csv(file) if ending == "csv" else table.write_parquet(file)
        os.replace(file, Path(place) / f"{place}.{ending}")
    source = open_data(str(Path(name) / f"{name}.{ending}"), labels=False)
    assert source.ids == [f"{len(name)}.png"]
