from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.encoders.prompts import (
    embed_classes,
    name_classes,
    read_class_names,
    readable,
    resolve_templates,
    template_sets,
)
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import TipAdapterWarning, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# The data sets' templates as the few-shot literature has them (CoOp, Tip-Adapter), and ImageNet's seven.
PUBLISHED = {
    "imagenet": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
    "caltech101": ("a photo of a {}.",),
    "oxford_pets": ("a photo of a {}, a type of pet.",),
    "stanford_cars": ("a photo of a {}.",),
    "flowers102": ("a photo of a {}, a type of flower.",),
    "food101": ("a photo of {}, a type of food.",),
    "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
    "sun397": ("a photo of a {}.",),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "ucf101": ("a photo of a person doing {}.",),
}


def test_the_template_sets_are_the_published_ones_the_bare_name_and_clips() -> None:
    assert template_sets() == {"bare": ("{}",), "clip": ("a photo of a {}.",), **PUBLISHED}


def test_sets_and_texts_may_be_mixed() -> None:
    assert resolve_templates(["dtd", "my {}"]) == ("{} texture.", "my {}")
    assert resolve_templates(["imagenet"]) == PUBLISHED["imagenet"]


@pytest.mark.parametrize("wrong", ["a photo", "Caltech101", "", "{", "{name}"])
def test_a_template_that_is_neither_is_a_usage_error_naming_the_sets(wrong: str) -> None:
    with pytest.raises(
        UsageError,
        match=r"no \{\} for the class name and is not a set; (did you mean [a-z0-9]+. )?sets are bare, clip, imagenet, cal",
    ):
        resolve_templates(["{}", wrong])


# ---- class embeddings ---------------------------------------------------------------------------------------------


def test_the_ensemble_is_the_naive_formula() -> None:
    names = {"tabby": "tabby cat", "dog": "dog", "x": "red"}
    templates = ("a photo of a {}.", "{}", "the {} and the {}")
    embeddings = embed_classes(names, templates, ToyEncoder().encode_texts)

    def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return vector / np.linalg.norm(vector)

    assert embeddings.labels.tolist() == ["tabby", "dog", "x"]
    for row, name in zip(embeddings.matrix, names.values(), strict=True):
        sentences = [template.replace("{}", name) for template in templates]
        vectors = [unit(v.astype(np.float64)) for s in sentences for v in ToyEncoder().encode_texts([s])]
        np.testing.assert_allclose(row, unit(np.mean(vectors, axis=0)), atol=1e-6)


def test_the_encoders_vectors_need_not_be_unit_rows() -> None:
    def twice(sentences: Sequence[str]) -> NDArray[np.float32]:
        return ToyEncoder().encode_texts(sentences) * (1 + np.arange(len(sentences), dtype=np.float32)[:, None])

    plain = embed_classes({"a": "cat", "b": "dog"}, ("{}", "a {}"), ToyEncoder().encode_texts)
    scaled = embed_classes({"a": "cat", "b": "dog"}, ("{}", "a {}"), twice)
    np.testing.assert_allclose(scaled.matrix, plain.matrix, atol=1e-6)


@pytest.mark.parametrize("name", ["{}", "{0}", "{x!r}", "100 % {", "a\\b", "{}{}"])
def test_braces_in_a_name_stay_what_they_are(name: str) -> None:
    heard: list[str] = []

    def hear(sentences: Sequence[str]) -> NDArray[np.float32]:
        heard.extend(sentences)
        return ToyEncoder().encode_texts(sentences)

    embed_classes({"label": name}, ("a {}.", "{} {}"), hear)
    assert heard == [f"a {name}.", f"{name} {name}"]


def test_two_labels_may_have_one_name() -> None:
    matrix = embed_classes({"missile_1": "missile", "missile_2": "missile"}, ("{}",), ToyEncoder().encode_texts).matrix
    np.testing.assert_array_equal(matrix[0], matrix[1])


def test_a_label_is_read_with_spaces() -> None:
    assert readable("great_white__shark") == "great white  shark"


# ---- files of class names -----------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "names"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_and_csv_give_the_same_names(file: Path, encoding: str) -> None:
    file.write_text(json.dumps({"n01": "house cat", "n02": "狗", "n03": 'a "b", c'}), encoding)
    names = read_class_names(file)
    assert names == {"n01": "house cat", "n02": "狗", "n03": 'a "b", c'}
    file.write_text('name,label,more\nhouse cat,n01,1\n狗,n02,\n"a ""b"", c",n03\n', encoding)
    assert read_class_names(file) == names


def test_labels_are_compared_in_nfc(file: Path) -> None:
    file.write_text(json.dumps({"cafe\u0301": "coffee house"}), "utf-8")
    assert read_class_names(file) == {"caf\u00e9": "coffee house"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": "b"',
        '["a", "b"]',
        '{"a": 1}',
        '{"a": null}',
        '{"a": " "}',
        '{"a": ["b"]}',
        '{"a": "\\ud800"}',
        '{"a": ' + "[" * 100_000,
        "a,b\n1,2\n",
        "a,b\n",
        "label\ncat\n",
        "label,name\ncat\n",
        "label,name\ncat,\n",
        "name,label\ncat\n",
        "label,name\ncat," + "x" * 200_000 + "\n",
    ],
    ids=lambda text: text[:24] or "empty",
)
def test_fault_40_a_bad_file_is_a_usage_error_naming_it(text: str, file: Path) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=str(file)):
        read_class_names(file)


def test_fault_79_a_name_with_a_comma_that_is_not_quoted_is_refused(file: Path) -> None:
    file.write_text('label,name\ncat,"a cat, felis"\nn02219486,ant, emmet\n')
    with pytest.raises(UsageError, match=r"line 3 has 3 cells for 2 columns; quote a name that contains a comma"):
        read_class_names(file)


def test_bytes_that_are_not_utf8_are_a_usage_error(file: Path) -> None:
    file.write_bytes(b"label,name\ncaf\xe9,x\n")
    with pytest.raises(UsageError, match=str(file)):
        read_class_names(file)


def test_a_missing_file_is_a_usage_error_naming_it(file: Path) -> None:
    with pytest.raises(UsageError, match=str(file)):
        read_class_names(file)


@pytest.mark.parametrize(
    "text",
    [
        '{"cat": "a", "dog": "b", "cat": "c"}',
        "label,name\ncat,a\ndog,b\ncat,c\n",
        '{"caf\u00e9": "a", "cafe\u0301": "c"}',
    ],
)
def test_fault_40_a_label_with_two_names_is_a_usage_error_naming_it(text: str, file: Path) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=r"'(cat|café)' has two names, 'a' and 'c'"):
        read_class_names(file)


def test_a_label_that_stands_twice_with_one_name_has_that_name(file: Path) -> None:
    file.write_text('{"cat": "a", "cat": "a"}', "utf-8")
    assert read_class_names(file) == {"cat": "a"}


def test_a_json_list_is_told_that_an_object_is_wanted(file: Path) -> None:
    file.write_text('["cat", "dog"]', "utf-8")
    with pytest.raises(UsageError, match="not an object label → name"):
        read_class_names(file)


def test_a_name_has_at_most_a_thousand_characters(file: Path) -> None:
    file.write_text(json.dumps({"cat": "x" * 1000}), "utf-8")
    assert len(read_class_names(file)["cat"]) == 1000
    file.write_text(json.dumps({"cat": "x" * 1001}), "utf-8")
    with pytest.raises(UsageError, match=r"the name of 'cat' has 1,001 characters; shorten it to 1,000"):
        read_class_names(file)


def test_a_file_that_never_ends_or_is_huge_is_not_read(file: Path) -> None:
    os.mkfifo(file)
    for endless in (file, "/dev/zero"):
        with pytest.raises(UsageError, match="not a regular file"):
            read_class_names(endless)
    file.unlink()
    with file.open("wb") as huge:
        huge.truncate(2**40)  # a hole: it costs no disk
    with pytest.raises(UsageError, match="above the limit of 16 MiB"):
        read_class_names(file)


@pytest.mark.parametrize("wrong", [1, None, b"{}", "\ud800{}"], ids=ascii)
def test_a_template_that_is_no_text_is_a_usage_error(wrong: object) -> None:
    with pytest.raises(UsageError, match="templates takes texts"):
        resolve_templates(["{}", wrong])


def test_a_template_has_at_most_a_thousand_characters() -> None:
    assert resolve_templates(["x" * 998 + "{}"])
    with pytest.raises(UsageError, match="one of them has 1,001 characters"):
        resolve_templates(["x" * 999 + "{}"])


# ---- scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["red", "Straße 7", "año", "T-shirt, 50 % (new)", "", "ŻÓŁĆ"])
def test_toy_reads_latin(name: str) -> None:
    assert ToyEncoder.record.reads(name)


@pytest.mark.parametrize("name", ["猫", "кошка", "red кот", "ﾈｺ"])
def test_toy_reads_no_other_script(name: str) -> None:
    assert not ToyEncoder.record.reads(name)


@pytest.mark.parametrize("text", ['{"cat ": "tabby", "\u00a0dog": "hound"}', "label,name\ncat ,tabby\n dog,hound\n"])
def test_fault_78_white_space_around_the_labels_of_class_names_is_trimmed(text, tmp_path):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    given = read_class_names(tmp_path / "names")
    assert name_classes(["cat", "dog"], given, lambda _: True) == {"cat": "tabby", "dog": "hound"}


def test_fault_79_class_names_of_another_encoding_are_named_by_their_line(tmp_path):
    (tmp_path / "names.csv").write_bytes("label,name\ndog,hound\ncat,Kätzchen\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"names\.csv: line 3 is not UTF-8; save the file as UTF-8"):
        read_class_names(tmp_path / "names.csv")


def test_fault_79_the_columns_of_a_file_of_class_names_are_named(tmp_path):
    (tmp_path / "names.csv").write_text("class,name\ncat,a cat\n")
    with pytest.raises(UsageError, match=r"its first line has class, name, not one column label and one name"):
        read_class_names(tmp_path / "names.csv")


@pytest.mark.parametrize("text", ["Label, Name\ncat,a cat\n", "label;name\ncat;a cat\n", "name\tlabel\na cat\tcat\n"])
def test_fault_79_common_layouts_of_class_names_are_read(tmp_path, text):
    (tmp_path / "names.csv").write_text(text)
    assert read_class_names(tmp_path / "names.csv") == {"cat": "a cat"}


@pytest.mark.parametrize("name", ["nan", "None", "#N/A"])
def test_fault_79_a_class_name_that_is_missing_as_text_is_reported(name):
    with pytest.warns(TipAdapterWarning, match=f"written where a name is missing: {name} for cat"):
        name_classes(["cat", "dog"], {"cat": name}, lambda _: True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('label,name\nc1,"anchor\nc2,ant"\n', "the name of 'c1' has several lines, .*close its quotes"),
        ('label,name\nc1,"anchor\nc2,ant\n', "unexpected end of data"),
        ("label,name,name\nc1,anchor,x\n", "its first line has label, name, name, not one column label and one name"),
        ('{"c1": "an\\nchor"}', "the name of 'c1' has several lines"),
    ],
)
def test_fault_79_a_damaged_file_of_class_names_is_refused(tmp_path, text, reason):
    (tmp_path / "names").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_class_names(tmp_path / "names")


def test_fault_78_classes_of_one_name_are_reported():
    with pytest.warns(TipAdapterWarning, match="text cannot tell apart: c1 and c2; give each a name of its own"):
        name_classes(["c1", "c2", "c3"], {"c1": "ship", "c2": "ship"}, lambda _: True)


@pytest.mark.parametrize("name", ["k\u00c3\u00a4fer", "k%C3%A4fer", "b'bug'"])
def test_fault_79_damaged_class_names_are_reported(name, make_photos):
    photos = make_photos("photos", red=1, green=1)
    with pytest.warns(TipAdapterWarning, match=f"class names read as they are, though .*: {re.escape(name)}; "):
        FewShotClassifier(encoder="toy", method="zero-shot", class_names={"red": name}).fit_folder(photos)
