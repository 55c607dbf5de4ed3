"""Labels that are probably not meant as classes are named, by every route."""

import re

import numpy as np
import pytest

from tip_adapter import (
    ClassEmbeddings,
    FewShotClassifier,
    LinearProbeClassifier,
    TipAdapterClassifier,
    TipAdapterFClassifier,
)
from tip_adapter.errors import LabelError, TipAdapterWarning
from tip_adapter.images.label_doubts import label_doubts, new_doubts
from tip_adapter.images.labels import refuse_lookalike_labels

COPIES = [
    *(
        "cat (1)",
        "cat - Copy",
        "cat - Copy (2)",
        "cat copy",
        "cat_copy",
        "cat (copy)",
        "cat (another copy)",
        "Copy of cat",
    ),
    *(
        "cat - Kopie",
        "Kopie von cat",
        "cat (Kopie)",
        "cat - Copie",
        "Copie de cat",
        "cat - Copia",
        "cat - 副本",
        "cat 副本",
    ),
    *(
        "cat のコピー",
        "cat-DESKTOP-AB12",
        "cat-LAPTOP-8J2K9",
        "cat_MacBook-Pro",
        "cat (Case Conflict)",
        "cat.bak",
        "cat~",
    ),
    *("cat — Copy", "cat 备份", "cat - Shortcut", "cat [conflicted]", "cat_dup", "cat_", "_cat", "cat."),
    *("cat (conflicted copy 2024-01-02)", "cat (Anna's conflicted copy 2024-01-02)", "cat (Selective Sync Conflict)"),
    *("cat.sync-conflict-20240102-120000-ABCDEFG", "cat-20240102T120000Z-001", "cat (1) (1)", "CAT (2)"),
]


@pytest.mark.parametrize("copy", COPIES)
def test_fault_78_a_label_that_is_another_one_with_the_mark_of_a_copy_is_doubted(copy):
    (note,) = label_doubts(["cat", copy, "dog"])
    assert f"named like a copy of another class: {copy}; if it is one" in note


@pytest.mark.parametrize(
    "other", ["cats", "cat 2", "cat_old", "copycat", "wildcat (1)", "cat (black)", "golden cat", "catwin-1"]
)
def test_fault_78_other_labels_are_not_doubted(other):
    assert label_doubts(["cat", other, "dog"]) == []


def test_fault_78_the_mark_of_a_copy_without_the_copied_class_is_not_doubted():
    assert label_doubts(["jaguar (1)", "house - Copy", "dog"]) == []


@pytest.mark.parametrize(
    "name",
    [
        "New folder",
        "New Folder (2)",
        "untitled folder 3",
        "Untitled",
        "Neuer Ordner",
        "Nouveau dossier",
        "新建文件夹",
        "새 폴더",
        "새 폴더 (2)",
        "新しいフォルダー",
        "名称未設定フォルダ",
        "Nová složka",
        "Ny mappe",
        "โฟลเดอร์ใหม่",
    ],
)
def test_fault_75_the_name_of_a_new_folder_is_doubted(name):
    assert label_doubts(["cat", name]) == [
        f"read as a class of its own, though programs give this name to a new folder: {name}; rename it"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Photos from 2021",
        "Fotos von 2021",
        "2021 年の写真",
        "100APPLE",
        "101_PANA",
        "Camera Roll",
        "100RECNX",
        "100EK113",
        "100_0101",
        "202401__",
        "202401_a",
        "DJI_001",
        "2020 年的照片",
        "Photos-3-001",
        "drive-download-20240102T120000Z-001",
        "WhatsApp Images",
    ],
)
def test_fault_75_the_name_of_a_folder_of_a_camera_or_an_export_is_doubted(name):
    (note,) = label_doubts(["cat", name])
    assert f"cameras and programs that export photos name their folders so: {name}; put the photos of each" in note


@pytest.mark.parametrize(
    "name", ["camera", "100 grand", "photos", "apple", "2021", "007apple pie", "20240102", "100metre", "747BOEING"]
)
def test_fault_75_other_names_of_cameras_and_years_are_not_doubted(name):
    assert label_doubts(["cat", name]) == []


@pytest.mark.parametrize("label", ["k\ufffdtzchen", "kÃ¤tzchen", "cafÃ©"])
def test_fault_79_letters_that_another_encoding_lost_are_doubted(label):
    (note,) = label_doubts(["dog", label])
    assert f"letters were lost when these names were written in another encoding: {label}" in note


@pytest.mark.parametrize("label", ["kätzchen", "café", "猫", "Ångström", "Ã"])
def test_fault_79_letters_that_are_right_are_not_doubted(label):
    assert label_doubts(["dog", label]) == []


@pytest.mark.parametrize("label", ["'007", "'007'", "'-1", "'=x", 'cat"dog', "cat &amp; dog", "&#39;s"])
def test_fault_79_marks_of_spreadsheets_and_pages_are_doubted(label):
    (note,) = label_doubts(["owl", label])
    assert f"wrote marks around the labels: {label}; write the label alone" in note


@pytest.mark.parametrize("label", ['5" disk', "rock & roll", "AT&T; old", "'s-Hertogenbosch", "o'hara"])
def test_fault_79_labels_with_such_signs_in_them_are_not_doubted(label):
    assert label_doubts(["owl", label]) == []


@pytest.mark.parametrize("label", ["1-Feb", "01. Feb", "01-févr.", "2-Mrz", "Sep-02", "Okt 12", "4,00638E+12", "5E+11"])
def test_fault_79_dates_and_numbers_that_a_spreadsheet_made_of_labels_are_doubted(label):
    (note,) = label_doubts(["owl", label])
    assert f"spreadsheets make such dates and short numbers of labels: {label}; if so, write the labels again" in note


@pytest.mark.parametrize(
    "label",
    ["1-2", "May", "mar", "sep 1998", "2021-02-01", "1e-05", "1e+30", "E+12", "mars rover 12", "set 12", "out 22"],
)
def test_fault_79_other_dates_and_numbers_are_not_doubted(label):
    assert label_doubts(["owl", label]) == []


@pytest.mark.parametrize("label", ["unlabeled", "no_label", "not labelled", "-", "?"])
def test_fault_79_labels_of_a_program_that_say_that_there_is_none_are_doubted(label):
    dark, light = np.zeros((2, 8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    with pytest.warns(TipAdapterWarning, match="such names are written where a label is missing"):
        FewShotClassifier("toy").fit([dark[0], light], ["cat", label])


@pytest.mark.parametrize(
    ("one", "other"), [("1,5", "1.5"), (".5", "0.5"), ("+1", "1"), ("1.", "1"), ("1,000", "1.000"), ("-0,5", "-.5")]
)
def test_fault_79_one_number_in_the_ways_of_two_languages_is_refused(one, other):
    with pytest.raises(LabelError, match="differ only by how a number is written"):
        refuse_lookalike_labels([one, other])


@pytest.mark.parametrize(
    ("one", "other"), [("1.1", "1.10"), ("1,5", "15"), ("1.5", "-1.5"), ("1,000", "1000"), ("A+", "A")]
)
def test_fault_79_other_numbers_are_two_labels(one, other):
    refuse_lookalike_labels([one, other])


@pytest.mark.parametrize("twin", ["cat ", "\u00a0cat", "cat\t"])
def test_fault_78_labels_of_vectors_that_differ_only_by_white_space_are_refused(twin):
    for made in (
        lambda labels: TipAdapterClassifier().fit(np.eye(3), labels),
        lambda labels: ClassEmbeddings(labels, np.eye(3)),
    ):
        with pytest.raises(LabelError, match="differ only by white space; merge them"):
            made(["cat", twin, "dog"])


def test_fault_78_long_labels_are_not_searched_for_the_mark_of_a_copy():
    assert label_doubts(["x" * 97, "x" * 97 + " (1)"]) == []  # 1,000 characters would take half a second each
    assert len(label_doubts(["x" * 96, "x" * 96 + " (1)"])) == 1


def test_fault_78_only_what_an_added_label_brings_is_doubted():
    assert new_doubts(["cat", "cat (1)"], ["dog"]) == []
    (note,) = new_doubts(["cat (1)"], ["cat"])
    assert "named like a copy of another class: cat (1)" in note


@pytest.mark.parametrize("label", ["cat (1)", "-", "new folder"])
def test_fault_78_partial_fit_doubts_what_fit_doubts(label):
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 100, 200)]
    model = FewShotClassifier("toy").fit(shades[:2], ["cat", "dog"])
    with pytest.warns(TipAdapterWarning, match=f"read as a class of its own.*: {re.escape(label)};"):
        model.partial_fit(shades[2:], [label])


@pytest.mark.parametrize("label", ["nan", "None", "N/A"])
def test_fault_79_a_missing_label_as_text_is_reported_by_estimators_of_vectors(label):
    vectors = np.eye(3)
    reason = f"hold '{label}', which is written where a label is missing"
    for labels in (["cat", label, "dog"], np.array(["cat", label, "dog"])):
        with pytest.warns(TipAdapterWarning, match=reason):
            TipAdapterClassifier().fit(vectors, labels)
    clf = TipAdapterClassifier().fit(vectors, ["cat", "dog", "dog"])
    with pytest.warns(TipAdapterWarning, match=reason):
        clf.partial_fit(vectors[:1], [label])
    clf.partial_fit(vectors[:1], [label])  # known by now


@pytest.mark.parametrize(
    "name",
    [
        "unsorted",
        "to_sort",
        "Unclassified",
        "un-categorized",
        "unassigned",
        "unannotated",
        "To Label",
        "TBD",
        "TODO",
        "ohne Label",
        "nicht klassifiziert",
        "non classé",
        "sin clasificar",
        "não classificado",
        "未分类",
        "未ラベル",
        "미분류",
    ],
)
def test_fault_79_words_for_photos_without_a_label_are_doubted(name):
    (note,) = label_doubts(["cat", name])
    assert f"such names are written where a label is missing: {name}; if it is" in note


@pytest.mark.parametrize(
    "name", ["sorted", "labels", "class", "category", "todoroki", "tagged", "未来", "assigned seat"]
)
def test_fault_79_words_that_are_like_these_are_not_doubted(name):
    assert label_doubts(["cat", name]) == []


@pytest.mark.parametrize(
    "path", ["labels/1.txt", "1.png", "data/train/cat", "C:\\data\\cat", "masks\\1.png", "/data/cat"]
)
def test_fault_79_a_label_that_is_the_path_of_a_file_is_doubted(path):
    (note,) = label_doubts(["cat", path])
    assert f"written like the path of a file: {path}; write the name of the class alone" in note


@pytest.mark.parametrize("name", ["and/or", "hot dog/sausage", "St. Bernard", "km/h", "v1.0", "Fa. Meier", "1/2"])
def test_fault_79_a_label_with_a_slash_or_a_point_is_not_doubted(name):
    assert label_doubts(["cat", name]) == []


@pytest.mark.parametrize("name", ["red%20fox", "k%C3%A4fer", "k\\u00e4fer"])
def test_fault_79_marks_of_addresses_and_of_json_are_doubted(name):
    (note,) = label_doubts(["cat", name])
    assert f"a program or spreadsheet wrote marks around the labels: {name}; write the label alone" in note


def test_fault_79_a_percentage_is_not_doubted():
    assert label_doubts(["100%", "50% off", "20%"]) == []


def test_fault_79_the_only_negative_number_among_labels_is_doubted():
    (note,) = label_doubts(["0", "1", "2", "-1"])
    assert "such a number is written where a label is missing: -1; if it is, leave" in note
    for numbers in (["-1", "1"], ["-1", "0", "1"], ["-2", "-1", "0", "1", "2"], ["0", "1"], ["-1", "cat"]):
        assert label_doubts(numbers) == []


def test_fault_79_decimal_numbers_as_labels_are_doubted():
    (note,) = label_doubts(["0.93", "12.25", "55.125"])
    assert "decimal numbers as of a measurement: 0.93, 12.25, 55.125; if so, write the class" in note
    assert label_doubts(["1.0", "2.0", "3.0"]) == label_doubts(["1.5 mm", "2.5 mm", "3.5 mm"]) == []


@pytest.mark.parametrize("text", ["[1 0 0]", "[3]", "[object Object]"])
def test_fault_79_text_of_a_list_without_quotes_is_doubted(text):
    (note,) = label_doubts(["cat", text])
    assert f"written like a list of labels: {text}; write one label" in note


@pytest.mark.parametrize(
    "text", ["array([3])", "tf.Tensor(3)", "<Label.CAT: 1>", "=VLOOKUP(A1;B:C;2)", "####", "<label>"]
)
def test_fault_79_text_of_programs_and_spreadsheets_is_doubted(text):
    (note,) = label_doubts(["cat", text])
    assert f"wrote marks around the labels: {text}; write the label alone" in note


@pytest.mark.parametrize("copy", ["cat_224x224", "cat_aug", "cat-augmented", "cat resized", "cat_thumbs"])
def test_fault_78_copies_that_programs_make_of_a_class_are_doubted(copy):
    (note,) = label_doubts(["cat", copy])
    assert f"named like a copy of another class: {copy}; if it is one" in note


@pytest.mark.parametrize("other", ["cafe\u0301", "c\u0430f\u00e9", "caf\u00e9\u200b"])
def test_fault_78_estimators_warn_of_labels_that_look_alike(other):
    X = np.eye(2, dtype=np.float32)
    with pytest.warns(TipAdapterWarning, match="differ only by .* and are two classes; merge them if they are one"):
        TipAdapterClassifier().fit(X, ["caf\u00e9", other])
    classifier = TipAdapterClassifier().fit(X, ["caf\u00e9", "dog"])
    with pytest.warns(TipAdapterWarning, match="differ only by"):
        classifier.partial_fit(X[:1], [other])
    assert classifier.partial_fit(X[:1], [other]).ids_.size == 4  # it is known now


def test_fault_78_a_label_with_white_space_around_it_is_no_new_class():
    classifier = TipAdapterClassifier().fit(np.eye(2), ["cat", "dog"])
    with pytest.raises(
        LabelError, match=r"labels \(y\) and earlier ones hold 'cat' and 'cat ', which differ only by white space"
    ):
        classifier.partial_fit(np.eye(2), ["cat ", "dog"])


def test_whole_numbers_stay_whole_when_decimals_are_added():
    X = np.eye(2, dtype=np.float32)
    classes = TipAdapterClassifier().fit(X, [1, 2]).partial_fit(X, [2.0, 3.0]).classes_
    assert classes.tolist() == [1, 2, 3]
    assert classes.dtype.kind == "i"


@pytest.mark.parametrize(
    "names",
    [
        ["ski", "mask", "ski mask", "ice cream"],
        ["2012_BMW", "2008_KIA", "3001_RED", "210A0045"],
        ["'50s", "'60s", '32"TV'],
        ["set-01", "set-02", "set-03"],
        ["brick", "brick 2x4", "teh", "teh kopi", "wheat", "wheat crop"],
        ["[Cu(NH3)4]", "[Fe(CN)6]"],
        ["1.0 T", "3.0 T", "C++", "C#", "AT&T", "R&B", "50%", "3D", "1st"],
    ],
)
def test_ordinary_labels_are_not_doubted(names):
    assert label_doubts(names) == []


def test_fault_79_dates_of_several_months_are_what_a_spreadsheet_made():
    (note,) = label_doubts(["01-Feb", "02-Mar", "03-Apr"])
    assert "spreadsheets make such dates and short numbers of labels: 01-Feb, 02-Mar, 03-Apr" in note


@pytest.mark.parametrize(
    "names",
    [
        ["\u0131", "i"],
        ["s\u0131n\u0131r", "sinir"],
        ["\u03c3", "\u03c2"],
        ["Masse", "Ma\u00dfe"],
        [
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ],
        ["1", "\u0661", "\u0967"],
        ["a", "\u0251"],
    ],
    ids=["Turkish", "Turkish words", "Greek", "German", "flags", "digits", "phonetic"],
)
def test_letters_that_differ_within_a_language_are_two_labels(names):
    refuse_lookalike_labels(names)


def test_fault_78_labels_that_differ_by_white_space_at_a_sign_are_refused():
    with pytest.raises(LabelError, match="differ only by the characters between words"):
        refuse_lookalike_labels(["50%", "50 %"])


@pytest.mark.parametrize(("one", "other", "how"), [("1", "1.0", "how a number is written"), ("Cat", "cat", "case")])
def test_fault_78_estimators_warn_of_labels_in_two_forms(one, other, how):
    X = np.eye(2, dtype=np.float32)
    with pytest.warns(TipAdapterWarning, match=f"hold '{one}' and '{other}', which differ only by {how} and are two"):
        TipAdapterClassifier().fit(X, [one, other])
    classifier = TipAdapterClassifier().fit(X, [one, "dog"])
    with pytest.warns(
        TipAdapterWarning, match=f"the label '{other}' counts as wrong: it differs from the class '{one}' by {how}"
    ):
        assert classifier.score(X, [other, "dog"]) == 0.5


def test_fault_80_numbers_for_missing_labels_are_reported():
    with pytest.warns(TipAdapterWarning, match="hold -1, which is written where a label is missing"):
        TipAdapterClassifier().fit(np.eye(4), [-1, 0, 1, 2])
    for scale in ([-1, 1], [-1, 0, 1], [0, 1, 2]):
        TipAdapterClassifier().fit(np.eye(len(scale)), scale)


@pytest.mark.parametrize(
    "name",
    [
        "???",
        "...",
        "[UNK]",
        "N.A",
        "n / a",
        "#VALUE",
        "not available",
        "no data",
        "sin dato",
        "нет данных",
        "无",
        "なし",
    ],
)
def test_fault_79_other_ways_to_write_a_missing_label_are_doubted(name):
    (note,) = label_doubts(["cat", "dog", name])
    assert f"such names are written where a label is missing: {name}; if it is" in note


@pytest.mark.parametrize("number", ["-1", "-9999", "999"])
def test_fault_79_the_only_number_among_words_is_doubted(number):
    (note,) = label_doubts(["cat", "dog", number])
    assert f"such a number is written where a label is missing: {number}; if it is" in note
    assert label_doubts(["cat", "dog", "747"]) == label_doubts(["Porsche", "911"]) == []


@pytest.mark.parametrize("copy", ["cat,", "cat;", "'cat", "**cat**"])
def test_fault_78_a_label_with_signs_around_it_is_doubted(copy):
    assert any(
        f"named like a copy of another class: {copy}; if it is one" in note for note in label_doubts(["cat", copy])
    )


def test_grades_are_not_doubted():
    assert label_doubts(["A", "A-", "A+", "A*", "B"]) == []


@pytest.mark.parametrize(
    "classifier", [LinearProbeClassifier(C=1.0), TipAdapterFClassifier(alpha=1.0, beta=1.0, epochs=1)], ids=repr
)
def test_fault_80_trained_methods_warn_of_missing_labels_as_well(classifier):
    with pytest.warns(TipAdapterWarning, match=r"labels \(y\) hold 'nan', which is written where a label is missing"):
        classifier.fit(np.eye(4, dtype=np.float32), np.array(["cat", "dog", np.nan, "cat"]))
