"""Labels that differ only by what cannot be seen: trimmed, or refused."""

from __future__ import annotations

import json
import os

import pytest

from tip_adapter.errors import LabelError
from tip_adapter.images.find import find_labelled
from tip_adapter.images.inputs import listed_labels
from tip_adapter.images.labels import label_of, refuse_case_duplicates, refuse_lookalike_labels

ROUTES = ("folder", "csv", "jsonl", "python")


def labels_by(route, folder, names):
    """Labels of one image for each name, by one of the ways in which labels are given."""
    if route == "python":
        return listed_labels(names)
    source = folder / f"list.{route}"
    if route == "folder":
        source = folder / "photos"
        for name in names:
            (source / name).mkdir(parents=True)
            (source / name / "1.jpg").touch()
    elif route == "csv":
        source.write_text("file_name,label\n" + "".join(f"a.jpg,{name}\n" for name in names), encoding="utf-8")
    else:
        lines = [json.dumps({"file_name": "a.jpg", "label": name}) for name in names]
        source.write_text("\n".join(lines), encoding="utf-8")
    return list(find_labelled(source, part="train").labels)


@pytest.mark.parametrize(
    "other", [" cat", "cat ", "cat\u00a0", "\u00a0cat", "\ufeffcat", "cat\u200b", "\tcat", "\u3000cat"]
)
@pytest.mark.parametrize("route", ROUTES)
def test_fault_78_white_space_around_labels_is_trimmed(tmp_path, route, other):
    assert labels_by(route, tmp_path, ["cat", other]) == ["cat", "cat"]


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("great white", "great\u00a0white", "white space"),
        ("great white", "great  white", "white space"),
        ("great white", "great_white", "the characters between words"),
        ("T-shirt", "t shirt", "the characters between words"),
        ("cat", "c\u0430t", "letters that look alike"),
        ("KOT", "\u041a\u041e\u0422", "letters that look alike"),
        ("cat", "ca\u200bt", "letters that look alike"),
        ("ABC", "\uff21\uff22\uff23", "letters that look alike"),
        ("abc", "\uff21\uff22\uff23", "letters that look alike"),
        ("\u30ab\u30bf", "\uff76\uff80", "letters that look alike"),
        ("a-b", "a\u2013b", "letters that look alike"),
        ("lady's", "lady\u2019s", "letters that look alike"),
        ("\u2764", "\u2764\ufe0f", "letters that look alike"),
        ("\u00ebl", "\u0451l", "letters that look alike"),  # Latin and Cyrillic e with the same mark
        ("T-shirt", "T\u2010shirt", "letters that look alike"),
        ("c\u0430t-dog", "cat_dog", "letters that look alike"),
        ("\u0639\u0644\u064a", "\u0639\u0644\u06cc", "letters that look alike"),  # Arabic and Persian keyboards
        ("\u0643\u0644\u0628", "\u06a9\u0644\u0628", "letters that look alike"),
        ("\u0643\u0644\u0628", "\ufedb\u0644\u0628", "letters that look alike"),  # a form as PDFs have it
        ("\u30a2\uff65\u30a4", "\u30a2\u30fb\u30a4", "letters that look alike"),  # dots of both widths
        ("\u0219i", "\u015fi", "letters that look alike"),  # Romanian, comma and cedilla
        ("\u0110", "\u00d0", "letters that look alike"),
        ("\u0642\u0637\u0629", "\u0642\u0640\u0637\u0629", "letters that look alike"),  # stretched
        ("\u30d8\u30d3", "\u3078\u30d3", "letters that look alike"),  # hiragana and katakana he
        ("\u30ab\u30ec\u30fc", "\u529b\u30ec\u4e00", "letters that look alike"),  # Chinese characters in katakana
        ("\u0e41\u0e21\u0e27", "\u0e40\u0e40\u0e21\u0e27", "letters that look alike"),  # a Thai vowel typed as two
        ("a\u301cb", "a\uff5eb", "letters that look alike"),  # Japanese, macOS and Windows
        ("a\u2014b", "a\u2015b", "letters that look alike"),
        ("\u4e3d\u00b7\u672c", "\u4e3d\u2022\u672c", "letters that look alike"),  # names in Chinese
        ("25\u00b0C", "25\u00baC", "letters that look alike"),
        ('3" pipe', "3\u201d pipe", "letters that look alike"),
        ("4x4", "4\u00d74", "letters that look alike"),
        ("Hawai'i", "Hawai\u02bbi", "letters that look alike"),
        ("and\u2044or", "and\u2215or", "letters that look alike"),
        ("cat", "\u202ecat", "letters that look alike"),
        ("1", "01", "how a number is written"),
        ("007", "7", "how a number is written"),
        ("13", "\u0661\u0663", "how a number is written"),
        *(
            ("cat", f"c{hidden}at", "letters that look alike")
            for hidden in "\u2063\u034f\u3164\u180e\ufe00\U000e0020\u2800"
        ),
        *(("dog", "do\u0261", "letters that look alike"), ("dog", "\u0501og", "letters that look alike")),
        *(("hat", "\u04bbat", "letters that look alike"), ("all", "a\u04cf\u04cf", "letters that look alike")),
        *(("vase", "\u03bdase", "letters that look alike"), ("IV", "\u2163", "letters that look alike")),
        *(("cat", "\U0001d41c\U0001d41a\U0001d42d", "letters that look alike"),),
        *(("lady's", "lady\u00b4s", "letters that look alike"), ("lady's", "lady\u2032s", "letters that look alike")),
        ("-1", "-01", "how a number is written"),
        ("100000", "1E+05", "how a number is written"),
        ("-12500", "-1.25E+04", "how a number is written"),
    ],
)
@pytest.mark.parametrize("route", ROUTES)
def test_fault_78_labels_that_look_the_same_are_refused(tmp_path, route, one, other, how):
    with pytest.raises(LabelError, match=f"differ only by {how}; rename or merge them") as refusal:
        labels_by(route, tmp_path, [one, other])
    assert ascii(other) in str(refusal.value)


@pytest.mark.parametrize("route", ROUTES[1:])
def test_fault_78_nul_in_a_label_is_refused(tmp_path, route):
    with pytest.raises(LabelError, match="contains NUL"):
        labels_by(route, tmp_path, ["cat", "do\0g"])


@pytest.mark.parametrize("blank", ["\u00a0", "\ufeff", " \u200b "])
def test_fault_78_a_label_of_blanks_is_empty(blank):
    with pytest.raises(LabelError, match="is empty"):
        label_of(blank, "labels")


def test_other_labels_are_unlike():
    refuse_lookalike_labels(
        [
            "cat",
            "catfish",
            "\u043a\u043e\u0442",
            "\u0441\u043e\u043c",
            "com",
            "m2",
            "m\u00b2",
            *("O", "0", "l", "I"),  # classes of characters
            *("x", "\u00d7", "\u064a", "\u06cc", "\u0647", "\u06d5", "\u0628", "\ufe91", "\ufe92"),
            *("\u30ed", "\u53e3", "\u3078", "\u30d8"),
            *("\u0649", "\u064a"),
            *("\u0e2a", "\u00e9t\u00e9", "ete"),
            "-1",
            "1E-05",
            "1E+00x",
            "\u00bd",
            "1/2",
            "greatwhite",
            "10",
            "1",
            "0",
            "100",
            "1.5",
            "1.50",
            "v1",
            "v01",
            "\u30ab",
            "\u30ac",
            "great white",
        ]
    )


def test_fault_78_folders_of_one_number_are_refused(tmp_path):
    with pytest.raises(LabelError, match=r"'1' and '1\.0' differ only by how a number is written"):
        labels_by("folder", tmp_path, ["1", "1.0"])


@pytest.mark.parametrize("written", ["1e+05", "1E5", "1e5"])
def test_fault_78_numbers_as_programs_shorten_them_are_duplicates(written):
    with pytest.raises(LabelError, match="differ only by how a number is written"):
        refuse_lookalike_labels(["100000", written])


def test_fault_79_a_name_in_utf8_is_read_where_the_system_has_another_encoding(monkeypatch):
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    assert label_of("猫".encode().decode("ascii", "surrogateescape"), "here") == "猫"
    with pytest.raises(LabelError, match="is not UTF-8"):
        label_of(b"\xff".decode("ascii", "surrogateescape"), "here")


def test_classes_that_a_model_has_are_compared_with_new_ones_only():
    refuse_lookalike_labels(["dog"], known=["4x4", "4\u00d74"])
    with pytest.raises(LabelError, match="differ only by white space"):
        refuse_lookalike_labels(["a  b"], known=["a b"])


def test_a_model_may_have_labels_that_later_rules_refuse_but_no_twins_by_case():
    refuse_case_duplicates(["4x4", "4\u00d74", "a-b", "a_b"])
    with pytest.raises(LabelError, match="differ only by case"):
        refuse_case_duplicates(["Cat", "cat"])
