"""Files of tensors that are torn, change under our hands or promise more than they have are refused in a sentence."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from heatproof.tensor_files import DamagedFile, StoredTensors, read_pickled, safetensors_of


def test_what_is_no_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for content, said in (
        (b"no header", "its header is longer"),
        (b"\2" + b"\0" * 7 + b"[]", "is no whole safetensors file: "),
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=said):
            StoredTensors(path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(8.0)}, path)
    stored = StoredTensors(path)
    assert torch.equal(stored["a"], torch.arange(8.0))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedFile, match="it was cut while it was read"):
        stored["a"]
    path.unlink()
    with pytest.raises(DamagedFile, match=r"cannot be read: .*No such file"):
        stored["a"]


def test_tensors_of_one_file_are_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"expected b as the first tensor is, \[2\], got \[3\]"):
        list(safetensors_of(["a", "b"], [torch.ones(2), torch.ones(3)]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_of_torchscript_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), tmp_path / "a.pt")
    with pytest.raises(DamagedFile, match="is a TorchScript archive; save the state_dict"):
        read_pickled(tmp_path / "a.pt")


def test_an_archive_whose_entries_lie_over_each_other_is_not_unfolded(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data", b"0" * 4000)
        # two names of the same bytes
        archive.filelist.append(archive.filelist[0])
    (tmp_path / "a.pt").write_bytes(content.getvalue())
    with pytest.raises(DamagedFile, match="unfolds to more bytes than it has"):
        read_pickled(tmp_path / "a.pt")
