from __future__ import annotations

import re
import tomllib
from collections import Counter, OrderedDict
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from tip_adapter.encoders import encoder_families, encoder_records, load_encoder
from tip_adapter.errors import MissingExtra, TipAdapterWarning, UnknownName
from tip_adapter.methods import METHODS, method_class
from tip_adapter.plugins import EXTRAS, known_names, resolve

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
GROUP = "tip_adapter.fruits"
TABLE = {"pear": "collections:Counter", "apple": "collections:OrderedDict"}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers a fruit, a second pear, and an encoder."""
    record = tmp_path / "orchard-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: orchard\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        f"[{GROUP}]\nquince = fractions:Fraction\npear = fractions:Fraction\n"
        "[tip_adapter.encoders]\norchard = tip_adapter.testing:FakeEncoder\nrotten = rotten_fruit:Encoder\n"
    )
    (tmp_path / "rotten_fruit.py").write_text("raise RuntimeError('not with this \x1b version')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_names_are_those_of_the_table_in_its_order():
    assert known_names(GROUP, TABLE) == ["pear", "apple"]
    assert resolve(GROUP, "fruit", "apple", TABLE) is OrderedDict


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_names_after_ours():
    assert known_names(GROUP, TABLE) == ["pear", "apple", "quince"]
    assert resolve(GROUP, "fruit", "quince", TABLE).__name__ == "Fraction"


@pytest.mark.usefixtures("plugin")
def test_another_package_cannot_take_one_of_our_names():
    assert resolve(GROUP, "fruit", "pear", TABLE) is Counter


@pytest.mark.usefixtures("plugin")
def test_an_encoder_of_another_package_is_loaded_and_listed_like_ours():
    assert load_encoder("orchard").identity.name == "toy"
    with pytest.warns(TipAdapterWarning, match="rotten"):
        assert "orchard" in dict(encoder_records())


@pytest.mark.usefixtures("plugin")
def test_an_unknown_name_suggests_the_nearest_of_ours_and_theirs():
    with pytest.raises(UnknownName, match="unknown fruit 'quinze': did you mean quince"):
        resolve(GROUP, "fruit", "quinze", TABLE)


def test_an_unknown_encoder_suggests_the_nearest():
    with pytest.raises(UnknownName, match="unknown encoder 'poket': did you mean pocket"):
        load_encoder("poket")


def test_an_unknown_method_suggests_the_nearest():
    with pytest.raises(UnknownName, match="unknown method 'zeroshot': did you mean zero-shot"):
        method_class("zeroshot")


@pytest.mark.parametrize("name", METHODS)
def test_every_line_of_the_method_table_is_a_class(name):
    assert isinstance(method_class(name), type)


@pytest.mark.usefixtures("plugin")
def test_a_package_that_cannot_be_imported_is_one_sentence_and_the_others_are_listed():
    sentence = r"encoder rotten of the package orchard cannot be imported \(RuntimeError: not with this \\x1b version\): update orchard or uninstall it"
    with pytest.raises(MissingExtra, match=sentence):
        load_encoder("rotten")
    for listing in (encoder_records, encoder_families):
        with pytest.warns(TipAdapterWarning, match=sentence):
            assert "rotten" not in dict(listing())


def test_a_family_of_another_package_is_listed_with_what_is_typed(monkeypatch: pytest.MonkeyPatch):
    points = EntryPoints([EntryPoint("many", "collections:ChainMap", "tip_adapter.encoders")])
    monkeypatch.setattr("tip_adapter.plugins.entry_points", lambda **wanted: points.select(**wanted))
    family = encoder_families()["many"]
    assert (family.usage, family.needs) == ("many:SOURCE", ())
    assert family.description.startswith("A ChainMap groups multiple dicts")


# Extras


def test_the_table_of_extras_is_that_of_pyproject():
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, requirements in EXTRAS.items():
        own = [name for name in extras[extra] if not name.startswith("tip-adapter")]
        included = [name for name in extras[extra] if name.startswith("tip-adapter")]
        assert set(requirements) == {*own, *(r for name in included for r in EXTRAS[name[12:-1]])}
    assert EXTRAS.keys() | {"dev"} == extras.keys()


def test_no_message_names_this_package_to_pip_since_it_may_be_on_no_index():
    sources = [path for kind in ("py", "jinja") for path in (PYPROJECT.parent / "src").rglob(f"*.{kind}")]
    pages = [*(PYPROJECT.parent / "docs").rglob("*.md"), *PYPROJECT.parent.glob("README*.md")]
    asks = re.compile(r"pip install [^\n`]*\btip-adapter")
    assert [path.name for path in [*sources, *pages] if asks.search(path.read_text(encoding="utf-8"))] == []
