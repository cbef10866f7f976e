"""The catalog: every entry is there, says what it is, and users may add their own."""

import pytest

from heatproof import catalog, spec
from heatproof.catalog import Entries
from heatproof.errors import SpecError

ALL = {
    f"{shelf} {name}": (entries, name)
    for shelf, entries in vars(catalog).items()
    if isinstance(entries, Entries)
    for name in entries
}


@pytest.mark.parametrize("which", ALL)
def test_every_entry_is_there_and_says_what_it_is(which: str) -> None:
    entries, name = ALL[which]
    fresh = Entries(entries._entries)  # may have been imported by now
    assert callable(entries[name])
    first = (entries[name].__doc__ or "").strip().splitlines()[0]
    assert first
    assert fresh.meaning(name) == first


def test_the_source_says_what_the_import_says() -> None:
    """Read without an import, from the text of the module."""
    entries = Entries({"pgd": "heatproof.attacks.gradient:PGD", "none": "heatproof.attacks.gradient:nothing"})
    read = entries.meaning("pgd")
    assert entries._entries["pgd"] == "heatproof.attacks.gradient:PGD"
    assert read == (entries["pgd"].__doc__ or "").strip().splitlines()[0]
    with pytest.raises(AttributeError):
        entries["none"]


def test_names_are_known_before_they_are_imported() -> None:
    entries = Entries({"broken": "no_such_module:thing", "sqrt": "math:sqrt"})
    assert "broken" in entries
    assert list(entries) == ["broken", "sqrt"]
    assert spec.build("sqrt(9)", entries) == 3
    spec.check("broken(1, x=sqrt(2))", entries)
    with pytest.raises(SpecError, match="there is no name 'brokn'; did you mean broken"):
        spec.check("sqrt(brokn())", entries)
    with pytest.raises(ModuleNotFoundError):
        entries["broken"]


def test_users_add_classes_and_places() -> None:
    entries = Entries({})
    entries["mine"] = complex
    entries["root"] = "math:sqrt"
    assert spec.build("mine(1, 2)", entries) == complex(1, 2)
    assert spec.build("root(16)", entries) == 4
    del entries["mine"]
    assert dict(entries).keys() == {"root"}


def test_what_has_no_source_is_imported_for_its_meaning() -> None:
    entries = Entries({"root": "math:sqrt", "mine": complex})
    assert repr(entries) == "Entries(root, mine)"
    assert entries.meaning("root") == "Return the square root of x."
