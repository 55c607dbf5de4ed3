"""Lists that other programs wrote: names of columns, separators, encodings, labels, missing values."""

from __future__ import annotations

import codecs
import json
import unicodedata

import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.errors import FolderError, LabelError, NothingReadable
from tip_adapter.images.find import find_images, find_labelled
from tip_adapter.images.lists import csv_line


def rows(source):
    found = find_labelled(source, part="train")
    return list(zip([path.relative_to(source.parent).as_posix() for path in found.paths], found.labels, strict=True))


def written(folder, text, name="list.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_fault_79_a_list_of_tabs_may_be_called_so(tmp_path):
    assert rows(written(tmp_path, "file_name\tlabel\na.jpg\tcat\n", name="list.TSV")) == [("a.jpg", "cat")]


def test_fault_79_names_in_csv_of_this_program_are_read_without_their_mark(tmp_path):
    (tmp_path / "-x.jpg").touch()
    assert rows(written(tmp_path, "image,label\n'-x.jpg,cat\n")) == [("-x.jpg", "cat")]
    (tmp_path / "'-x.jpg").touch()
    assert rows(written(tmp_path, "image,label\n'-x.jpg,cat\n")) == [("'-x.jpg", "cat")]


@pytest.mark.parametrize("name", ["C:\\photos\\a.jpg", "d:/photos/a.jpg", "\\\\server\\photos\\a.jpg"])
def test_fault_79_a_whole_path_of_windows_is_named_with_its_line(tmp_path, name):
    with pytest.raises(FolderError) as error:
        rows(written(tmp_path, f"file_name,label\n{name},cat\n"))
    assert f", line 2: {name} is a path of a Windows computer; write paths that begin in the" in str(error.value)


@pytest.mark.parametrize("image", ["file_name", "filename", "Image", "PATH", "id", "File Name", "image_id"])
@pytest.mark.parametrize("label", ["label", "Class", "category", "LABEL"])
@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_fault_79_columns_have_common_names_and_separators(tmp_path, image, label, separator):
    lines = [(label, "n", image), ("cat", "1", "a.jpg"), ("dog", "2", "b.jpg")]
    source = written(tmp_path, "".join(separator.join(line) + "\r\n" for line in lines))
    assert [(name, label.strip()) for name, label in rows(source)] == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_fault_79_keys_of_json_lines_have_common_names(tmp_path):
    source = written(tmp_path, '{"Image": "a.jpg", "class": 0.0}\n{"path": "b.jpg", "Category": 1}\n', "list.jsonl")
    assert rows(source) == [("a.jpg", "0"), ("b.jpg", "1")]


def test_fault_79_file_name_and_label_win_over_other_known_names(tmp_path):
    assert rows(written(tmp_path, "id,class,file_name,label\n7,x,a.jpg,cat\n")) == [("a.jpg", "cat")]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        *(("utf-8-sig", ""), ("utf-16", ""), ("utf-32", "")),
        *(("utf-16-le", ""), ("utf-16-be", ""), ("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff")),
    ],
)
def test_fault_79_utf_16_and_byte_order_marks(tmp_path, encoding, mark):
    assert rows(written(tmp_path, f"{mark}file_name\tlabel\na.jpg\tcafé\n", encoding=encoding)) == [("a.jpg", "café")]


def test_fault_79_half_a_utf_16_character_is_an_error(tmp_path):
    (tmp_path / "list.csv").write_bytes(codecs.BOM_UTF16_LE + "file_name,label\n".encode("utf-16-le") + b"\x00")
    with pytest.raises(FolderError, match="cannot read"):
        find_labelled(tmp_path / "list.csv", part="train")


def test_fault_79_spaces_after_commas_also_before_quotes(tmp_path):
    source = written(tmp_path, 'file_name, label\na.jpg, "cat, big"\n "b.jpg", dog\n')
    (tmp_path / "b.jpg").touch()
    assert rows(source) == [("a.jpg", "cat, big"), ("b.jpg", "dog")]


@pytest.mark.parametrize("ending", [".jpg", ".PNG", ".jpeg"])
def test_fault_79_ids_without_an_ending(tmp_path, ending):
    (tmp_path / "x").mkdir()
    (tmp_path / f"x/0a.1{ending}").touch()
    (tmp_path / "x/0a.1.txt").touch()
    source = written(tmp_path, "id,label\nx/0a.1,cat\nx/gone,cat\n")
    assert [path.name for path in find_images(source)] == [f"0a.1{ending}", "gone"]
    (tmp_path / "x/0a.1.webp").touch()
    with pytest.raises(FolderError, match=r"line 2: x/0a\.1 could be any of .*0a\.1\.webp; write the ending"):
        find_images(source)


def test_fault_79_number_ids_of_json_lines(tmp_path):
    (tmp_path / "7.jpg").touch()
    assert rows(written(tmp_path, '{"id": 7, "label": "cat"}\n', "list.jsonl")) == [("7.jpg", "cat")]


def test_fault_79_windows_separators(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    source = written(tmp_path, "file_name,label\na\\b.jpg,cat\nx\\c.jpg,cat\n")
    assert rows(source) == [("a\\b.jpg", "cat"), ("x/c.jpg", "cat")]


@pytest.mark.parametrize(("label", "read"), [("0.0", "0"), ("1.00", "1"), ("-0.0", "0"), ("10", "10"), ("0.5", "0.5")])
def test_fault_79_whole_numbers_have_no_decimals(tmp_path, label, read):
    assert rows(written(tmp_path, f"file_name,label\na.jpg,{label}\n")) == [("a.jpg", read)]


@pytest.mark.parametrize("label", ["", "  ", "nan", "NaN", "None", "null", "NULL", "N/A", "n/a", "NA", "<NA>", " nan "])
@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_fault_79_a_missing_label_is_never_a_class(tmp_path, label, name):
    text = f"file_name;label\na.jpg;cat\nb.jpg;{label}\n"
    if name == "list.jsonl":
        text = f'\n{{"file_name": "a.jpg", "label": "cat"}}\n{{"file_name": "b.jpg", "label": "{label}"}}\n'
    with pytest.raises(FolderError, match=r"line 3: no label.*found UTF-8, .*file_name, label"):
        find_labelled(written(tmp_path, text, name), part="train")
    assert len(find_images(tmp_path / name)) == 2


@pytest.mark.parametrize(
    "label",
    [
        *("#REF!", "#NAME?", "#DIV/0!", "#value!", r"\N", "(null)", "<NULL>", "#NV", "#N/D", "#NA", "#N/A", "Err:508"),
        *("1.#QNAN", "-1.#IND", "#¡REF!", "#¿NOMBRE?", "#SPILL!", "#GETTING_DATA", "undefined", "tensor(nan)", "pd.NA"),
        *("#BEZUG!", "#Н/Д", "-nan(ind)", "np.nan", "<NaN>", "1.#INF", "tensor(nan, dtype=torch.float64)"),
    ],
)
def test_fault_79_failed_formulas_and_nulls_of_data_bases_are_no_class(tmp_path, label):
    source = written(tmp_path, f'file_name,label\na.jpg,cat\nb.jpg,"{label}"\n')
    with pytest.raises(FolderError, match=r"line 3: no label"):
        find_labelled(source, part="train")


@pytest.mark.parametrize("row", ["a.jpg,Paris, France", "birds, small/a.jpg,wren"])
@pytest.mark.parametrize("read", [find_images, lambda source: find_labelled(source, part="train")])
def test_fault_79_an_unquoted_separator_in_a_cell_cuts_nothing_off(tmp_path, row, read):
    source = written(tmp_path, f"file_name,label\nb.jpg,cat\n{row}\n")
    with pytest.raises(
        FolderError, match=r"line 3: 3 cells for 2 columns; quote a cell .*found UTF-8, separator comma"
    ):
        read(source)


def test_fault_79_rows_may_end_with_empty_cells(tmp_path):
    assert rows(written(tmp_path, "file_name;label\na.jpg;cat;;\n")) == [("a.jpg", "cat")]


@pytest.mark.parametrize(("header", "name"), [("path,label,label", "label"), ("image,class,image", "image")])
def test_fault_79_a_column_that_is_there_twice_is_not_chosen_from(tmp_path, header, name):
    with pytest.raises(FolderError, match=rf"column '{name}' is there more than once"):
        find_labelled(written(tmp_path, f"{header}\na.jpg,cat,dog\n"), part="train")


@pytest.mark.parametrize("url", ["https://x.org/a.jpg", "s3://x/a.jpg", "HTTP://x/a", "data:image/png;base64"])
def test_fault_79_urls_are_refused(tmp_path, url):
    with pytest.raises(FolderError, match=r"line 2: .* is a URL; download the photo"):
        find_images(written(tmp_path, f"file_name,label\n{url},cat\n"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x;y\n1;2\n", "UTF-8, separator semicolon, columns x, y"),
        ("x\ty\n1\t2\n", "UTF-8, separator tab, columns x, y"),
        ("filename;y\na.jpg;2\n", "UTF-8, separator semicolon, columns filename, y"),
        ("a.jpg|cat\n", "UTF-8, separator vertical bar, columns a.jpg, cat"),
        ("a.jpg cat\n", "UTF-8, no separator, columns a.jpg cat"),
        ("", "UTF-8, no separator, columns none"),
    ],
)
def test_fault_79_refusals_say_what_was_found(tmp_path, text, found):
    with pytest.raises(FolderError) as refusal:
        find_labelled(written(tmp_path, text), part="train")
    assert found in str(refusal.value)


def test_fault_79_refused_labels_say_what_was_found(tmp_path):
    with pytest.raises(LabelError, match="line 2; found UTF-16, separator comma"):
        find_labelled(written(tmp_path, "file_name,label\na.jpg,a\0b\n", encoding="utf-16"), part="train")


SPLIT_LIST = "image,class,{}\na.jpg,cat,{}\nb.jpg,cat,{}\nc.jpg,dog,{}\n"


@pytest.mark.parametrize("column", ["split", "Subset", "data_split", "partition"])
@pytest.mark.parametrize(("part", "read"), [("train", ["a.jpg", "c.jpg"]), ("test", ["b.jpg"])])
def test_fault_75_a_column_of_splits_chooses_the_part(tmp_path, column, part, read):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format(column, "train", "Test", "TRAINING")), part=part)
    assert [path.name for path in images.paths] == read
    (note,) = images.notes
    assert f"is split: reading {part} ({len(read)} image" in note
    assert ("test (1 image): left for --tune and evaluate" if part == "train" else "train (2 images): not read") in note


def test_fault_75_a_part_that_a_list_lacks_is_named(tmp_path):
    path = written(tmp_path, SPLIT_LIST.format("split", "train", "test", "train"))
    with pytest.raises(FolderError, match="is split into train, test; it has no val rows"):
        find_labelled(path, part="val")


@pytest.mark.parametrize(
    "values", [("train", "train", "train"), ("test", "test", "test"), ("a", "a", "a"), ("", "", "")]
)
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_fault_75_a_list_of_one_part_or_of_none_is_read_whole(tmp_path, values, part):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format("split", *values)), part=part)
    assert (len(images), images.notes) == (3, ())


@pytest.mark.parametrize(("value", "found"), [("extra", "extra"), ("", "nothing")])
def test_fault_75_a_split_that_is_no_part_is_doubted_and_all_rows_are_read(tmp_path, value, found):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format("split", "train", "test", value)), part="train")
    assert len(images) == 3
    assert f"its column of splits has {found} as well; all rows are read" in images.notes[0]


@pytest.mark.parametrize("header", ["fname,species", "photo_path,target", "Images;Classes", "filepaths\tlabel"])
def test_fault_79_further_names_of_columns_are_read(tmp_path, header):
    mark = next(mark for mark in ",;\t" if mark in header)
    assert find_labelled(written(tmp_path, f"{header}\na.jpg{mark}cat\n"), part="train").labels == ("cat",)


@pytest.mark.parametrize("missing", ["NaT", "(blank)", "+nan"])
def test_fault_79_further_words_for_a_missing_label_are_refused(tmp_path, missing):
    with pytest.raises(FolderError, match="line 2: no label"):
        find_labelled(written(tmp_path, f"file_name,label\na.jpg,{missing}\n"), part="train")


@pytest.mark.parametrize("mark", list(",;\t|"))
@pytest.mark.parametrize("first", ["sep={}\r\n", '"sep={}"\r\n', "SEP={}\n"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_fault_79_a_line_that_names_the_separator_is_no_header(tmp_path, mark, first, encoding):
    text = f"{first.format(mark)}file_name{mark}label\na.jpg{mark}cat\n"
    assert rows(written(tmp_path, text, encoding=encoding)) == [("a.jpg", "cat")]
    with pytest.raises(FolderError, match="line 3: no label"):
        find_labelled(written(tmp_path, text.replace("cat", ""), encoding=encoding), part="train")


@pytest.mark.parametrize(
    "header",
    [
        *("Dateiname;Klasse", "Bild;Kategorie", "Nom de fichier;Étiquette", "fichier;classe", "Archivo;Categoría"),
        *("文件名;标签", "图片;类别", "ファイル名;ラベル", "파일명;레이블", "Имя файла;Метка", "ＩＭＡＧＥ;Ｌａｂｅｌ"),
        *("id_code;diagnosis", "id;breed"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_fault_79_columns_have_names_of_other_languages(tmp_path, header, encoding):
    source = written(tmp_path, f"{header}\na.jpg;猫\nb.jpg;ä\n", encoding=encoding)
    assert sorted(rows(source)) == [("a.jpg", "猫"), ("b.jpg", "ä")]


@pytest.mark.parametrize(
    ("text", "encoding", "line"),
    [
        ("file_name,label\na.jpg,狗\n", "gbk", 2),
        ("file_name,label\na.jpg,x\nb.jpg,Kätzchen\n", "cp1252", 3),
        ("文件名,标签\na.jpg,x\n", "gbk", 1),
        ("file_name,label\nä.jpg,x\n", "cp1252", 2),
        ("file_name,label\na.jpg,表\n", "shift_jis", 2),
    ],
)
def test_fault_79_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path, text, encoding, line):
    with pytest.raises((FolderError, LabelError), match=r"save (it|the list) as UTF-8") as refusal:
        find_labelled(written(tmp_path, text, encoding=encoding), part="train")
    assert f"found bytes that are not UTF-8 in line {line}" in str(refusal.value)


@pytest.mark.parametrize("cells", [("1", "0"), ("0.0", "1.0"), (" 1", " 0")])
def test_fault_79_a_column_for_each_class_is_named(tmp_path, cells):
    source = written(tmp_path, f"image,cat,dog\na.jpg,{cells[0]},{cells[1]}\nb.jpg,{cells[1]},{cells[0]}\n")
    with pytest.raises(FolderError, match="no column label, but cat, dog hold 0 and 1"):
        find_labelled(source, part="train")
    assert len(find_images(source)) == 2


@pytest.mark.parametrize("text", ["\n,\nfile_name,label\na.jpg,cat\n", "file_name,label\n,\na.jpg,cat\n , \n"])
def test_fault_79_rows_of_separators_alone_are_empty(tmp_path, text):
    assert rows(written(tmp_path, text)) == [("a.jpg", "cat")]


@pytest.mark.parametrize("text", ['a.jpg,"cat\nb.jpg,dog\nc.jpg,cow\n', 'a.jpg,"cat\nb.jpg,"dog"\n'])
def test_fault_79_a_quote_that_is_not_closed_takes_no_rows(tmp_path, text):
    with pytest.raises(FolderError, match=r"line \d: .*; found UTF-8"):
        find_labelled(written(tmp_path, f"file_name,label\n{text}"), part="train")


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b"])
def test_fault_79_a_workbook_or_archive_that_is_called_csv_is_named(tmp_path, start):
    (tmp_path / "list.csv").write_bytes(start + bytes(99))
    with pytest.raises(FolderError, match=r"it is (an Excel|a gzip)"):
        find_images(tmp_path / "list.csv")


@pytest.mark.parametrize("text", ["cats/1.jpg,cat\ndogs/2.jpg,dog\n", "TRAIN;b.PNG;cat\n", "a.jpeg\n"])
def test_fault_79_a_list_without_a_header_is_named(tmp_path, text):
    with pytest.raises(FolderError, match="it names an image, so write those names above it"):
        find_images(written(tmp_path, text))


@pytest.mark.parametrize(
    ("column", "values", "other"),
    [
        ("is_valid", ("False", "True", "False"), "val"),
        ("is_train", ("1", "0", "1"), "test"),
        ("is_training_img", ("1.0", "0.0", "1.0"), "test"),
        ("Is Test", ("no", "yes", "no"), "test"),
        ("Usage", ("Training", "PublicTest", "Training"), "test"),
    ],
)
def test_fault_75_a_column_that_says_yes_or_no_chooses_the_part(tmp_path, column, values, other):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format(column, *values)), part="train")
    assert [path.name for path in images.paths] == ["a.jpg", "c.jpg"]
    assert f"reading train (2 images); {other} (1 image): left for --tune and evaluate" in images.notes[0]


def test_fault_75_yes_and_no_of_json_lines_choose_the_part(tmp_path):
    lines = '{"file_name": "a.jpg", "label": "cat", "is_valid": false}\n{"file_name": "b.jpg", "label": "cat", "is_valid": true}\n'
    assert rows(written(tmp_path, lines, "list.jsonl")) == [("a.jpg", "cat")]


def test_fault_79_a_class_of_confidence_0_is_not_shown(tmp_path):
    path = written(tmp_path, "ImageID,LabelName,Confidence\na.jpg,cat,1\na.jpg,dog,0\nb.jpg,dog,1\n")
    images = find_labelled(path, part="train")
    assert [(image.name, label) for image, label in zip(images.paths, images.labels, strict=True)] == [
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
    ]
    assert "1 row of confidence 0: skipped" in images.notes[0]


def test_fault_79_a_list_of_absent_classes_is_refused(tmp_path):
    path = written(tmp_path, "ImageID,LabelName,Confidence\na.jpg,cat,0\nb.jpg,dog,0\n")
    with pytest.raises(FolderError, match="all rows have confidence 0"):
        find_labelled(path, part="train")


def test_fault_79_a_confidence_between_0_and_1_is_ignored(tmp_path):
    assert len(rows(written(tmp_path, "image,label,confidence\na.jpg,cat,0.9\nb.jpg,dog,0\n"))) == 2


def test_fault_79_boxes_are_reported(tmp_path):
    path = written(tmp_path, "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,0,0,1,1\nb.jpg,dog,0,0,1,1\n")
    assert "its columns xmin, ymin, xmax, ymax are boxes" in find_labelled(path, part="train").notes[0]


def test_fault_79_several_labels_in_a_cell_are_reported(tmp_path):
    path = written(tmp_path, "image,labels\na.jpg,cat|dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,1/2 inch\n")
    assert "though other rows have its parts as labels: cat|dog" in find_labelled(path, part="train").notes[0]


def test_fault_79_whole_numbers_have_no_decimals_after_a_comma(tmp_path):
    assert rows(written(tmp_path, "Datei;Klasse\na.jpg;1,0\nb.jpg;1\nc.jpg;2,5\n")) == [
        ("a.jpg", "1"),
        ("b.jpg", "1"),
        ("c.jpg", "2,5"),
    ]


@pytest.mark.parametrize(
    "label", ["#1", "# cat", "Err: cat", "nano", "none of these", "na", "Nan Goldin", "1.#", "(cat)"]
)
def test_fault_79_names_that_only_resemble_missing_values_are_classes(tmp_path, label):
    assert rows(written(tmp_path, f"file_name,label\na.jpg,{label}\n")) == [("a.jpg", label)]


@pytest.mark.parametrize("label", ["1,000", "10,000", "1.000", "1.000.000", "0.000", "2.0000"])
def test_fault_79_zeros_that_may_be_thousands_stay(tmp_path, label):
    source = written(tmp_path, f'file_name;label\na.jpg;"{label}"\nb.jpg;1\n')
    assert sorted(rows(source)) == [("a.jpg", label), ("b.jpg", "1")]


@pytest.mark.parametrize("values", [("0", "1", "0"), ("a", "b", ""), ("0", "1", "2")])
def test_fault_75_a_column_of_parts_that_says_something_else_is_doubted(tmp_path, values):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format("partition", *values)), part="train")
    assert len(images) == 3
    found = ", ".join(sorted(set(filter(None, values))))
    assert f"its column partition has {found}: no names of parts, so all rows are read" in images.notes[0]


@pytest.mark.parametrize("column", ["ml_use", "Dataset_type", "split_name", "train_test_split"])
def test_fault_75_a_column_of_parts_with_something_else_is_reported(tmp_path, column):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format(column, "training", "test", "UNASSIGNED")), part="train")
    assert len(images) == 3
    assert "its column of splits has UNASSIGNED as well; all rows are read" in images.notes[0]


@pytest.mark.parametrize(
    ("key", "value"), [("image", '{"path": "a.jpg"}'), ("image", '["a.jpg"]'), ("label", '["cat"]')]
)
def test_fault_79_several_values_in_place_of_a_text_are_not_to_be_put_in_quotes(tmp_path, key, value):
    texts = {"image": '"a.jpg"', "label": '"cat"', key: value}
    source = written(tmp_path, f'{{"image": {texts["image"]}, "label": {texts["label"]}}}', "list.jsonl")
    with pytest.raises(FolderError, match="is not text; write one text instead; found UTF-8"):
        find_labelled(source, part="train")


def parts_of(source):
    """Part → the files that are read of it."""
    return {
        part: sorted(path.stem for path in find_labelled(source, part=part).paths)
        for part in ("train", "val", "test")
        if part == "train" or any(part in note for note in find_labelled(source, part="train").notes)
    }


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("is_valid,is_test", ("0,0", "1,0", "0,1")),
        ("is_test,is_valid", ("no,no", "no,yes", "yes,no")),
        ("is_train,is_valid", ("True,False", "False,True", "False,False")),
        ("is_train,is_test", ("1,0", "0,0", "0,1")),
        ("train,val,test", ("1,0,0", "0,1,0", "0,0,1")),
        ("Train,Valid", ("yes,no", "no,yes", "no,no")),
        ("test,val", ("f,f", "f,t", "t,f")),
        ("split,is_test", ("train,0", "val,0", "test,1")),
        ("group", ("train", "val", "test")),
        ("data type", ("Training", "Validation", "Testing")),
        ("type", ("train", "valid", "PublicTest")),
        ("partition", ("TR", "VA", "TE")),
        ("split", ("tr", "vl", "ts")),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_fault_75_all_columns_that_say_the_part_are_read(tmp_path, header, cells, ending):
    names = ["image", "class", *header.split(",")]
    rows = [[f"{name}.jpg", "cat", *row.split(",")] for name, row in zip("abc", cells, strict=True)]
    text = "\n".join(map(",".join, [names, *rows]))
    if ending == "jsonl":
        text = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    source = written(tmp_path, text, f"list.{ending}")
    assert parts_of(source) == {"train": ["a"], "val": ["b"], "test": ["c"]}


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("is_valid,is_test", "1,1"),
        ("split,is_test", "train,yes"),
        ("train,val,test", "0,0,0"),
        ("split,subset", "train,val"),
    ],
)
def test_fault_75_columns_that_contradict_each_other_are_an_error(tmp_path, header, cells):
    fine = ",".join({"train": "1", "split": "train", "subset": "train"}.get(name, "0") for name in header.split(","))
    source = written(tmp_path, f"image,class,{header}\na.jpg,cat,{fine}\nb.jpg,cat,{cells}\n")
    with pytest.raises(
        FolderError, match=r"line 3: its columns contradict each other: .*; correct or remove one; found"
    ):
        find_labelled(source, part="train")


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("group", ("train", "bus", "test")),
        ("type", ("train", "train", "train")),
        ("type", ("val", "test", "val")),
        ("language", ("tr", "te", "tr")),
        ("train", ("0.3", "0.9", "0.1")),
    ],
)
def test_fault_75_other_columns_say_no_part(tmp_path, header, cells):
    images = find_labelled(written(tmp_path, SPLIT_LIST.format(header, *cells)), part="train")
    assert (len(images), images.notes) == (3, ())


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        (unicodedata.normalize("NFC", "café/é.jpg"), unicodedata.normalize("NFD", "café/é.jpg")),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg")),
        ("Cats/A.JPG", "cats/a.jpg"),
        ("a.JPG", "a.jpg"),
        ("my%20cat0.jpg", "my cat0.jpg"),
        ("x\\MY%20cat0.jpg", "X/my cat0.jpg"),
        ("CATS/a", "cats/A.png"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é.png")),
    ],
)
def test_fault_79_names_that_are_written_otherwise_find_their_file(tmp_path, listed, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert find_images(written(tmp_path, f"file_name\n{listed}\n")) == [tmp_path / file]


@pytest.mark.parametrize(
    ("files", "found"),
    [(["A.jpg", "a.JPG"], "a.jpg"), (["A.jpg", "a.jpg"], "a.jpg"), (["%41.jpg", "A.jpg"], "%41.jpg")],
)
def test_fault_79_a_name_that_could_be_several_files_is_only_itself(tmp_path, files, found):
    for file in files:
        (tmp_path / file).touch()
    assert find_images(written(tmp_path, f"file_name\n{found}\n")) == [tmp_path / found]


@pytest.mark.parametrize(("folder", "hint"), [("train", "; write train/1.jpg, which is there"), ("other/deep", "")])
def test_fault_79_a_list_of_photos_that_are_elsewhere_says_where_they_were_looked_for(tmp_path, folder, hint):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "1.jpg").touch()
    source = written(tmp_path, "file_name,label\n1.jpg,cat\n2.jpg,dog\n")
    with pytest.raises(NothingReadable) as refusal:
        FewShotClassifier("toy").fit_folder(source)
    assert str(refusal.value).endswith(f"; none is in {tmp_path}, where their paths begin{hint}")


@pytest.mark.parametrize(
    "several", ["cat dog", "dog  cat", "cat + dog", "['cat', 'eel']", '{""choices"": [""cat""]}', "('x','y')"]
)
def test_fault_79_several_labels_in_any_writing_are_reported(tmp_path, several):
    path = written(tmp_path, f'image,labels\na.jpg,"{several}"\nb.jpg,cat\nc.jpg,dog\n')
    (note,) = find_labelled(path, part="train").notes
    assert "read as a class of its own, though" in note
    assert note.rpartition("labels: ")[2].startswith(several.replace('""', '"'))


@pytest.mark.parametrize("label", ["great white", "cat (big)", "[cat]", "(x) y"])
def test_fault_79_names_of_several_words_are_one_label(tmp_path, label):
    path = written(tmp_path, f"image,labels\na.jpg,{label}\nb.jpg,great\nc.jpg,dog\n")
    assert find_labelled(path, part="train").notes == ()


@pytest.mark.parametrize(
    "columns", ["Roi.X1,Roi.Y1", "bbox_x,bbox_y", "box.left,box.top", "x_min,y_min", "minX,maxY", "x0,y0"]
)
def test_fault_79_boxes_of_other_names_are_reported(tmp_path, columns):
    path = written(tmp_path, f"Width,Filename,ClassId,{columns}\n9,a.jpg,1,0,0\n")
    assert f"its columns {columns.replace(',', ', ')} are boxes" in find_labelled(path, part="train").notes[0]


@pytest.mark.parametrize("text", ["file_name,label\na.jpg,c\0at\n", "file_name,label\na.jpg,ca\0t\nb.jpg,dog\n"])
@pytest.mark.parametrize("more", ["", "x"])
def test_fault_79_a_nul_is_named_whatever_the_length_of_the_list(tmp_path, text, more):
    with pytest.raises(LabelError, match=r"contains NUL|control character"):
        find_labelled(written(tmp_path, text + f"c.jpg,{more}dog\n"), part="train")


def test_fault_79_a_number_of_too_many_digits_is_refused_in_own_words(tmp_path):
    path = written(tmp_path, f'{{"file_name": "a.jpg", "label": {"1" * 5001}}}\n', "list.jsonl")
    with pytest.raises(FolderError, match=r"line 1: not JSON .a number of 5,001 digits; put it in quotes"):
        find_labelled(path, part="train")


def test_fault_79_a_list_of_r_with_names_of_rows_is_read(tmp_path):
    path = written(tmp_path, '"","file_name","label"\n"1","a.jpg","cat"\n"2","b.jpg","dog"\n')
    assert rows(path) == [("a.jpg", "cat"), ("b.jpg", "dog")]


@pytest.mark.parametrize("line", ["# made, by hand", "# a comment", "file_name,label"])
@pytest.mark.parametrize("first", [False, True])
def test_fault_79_comments_and_headers_of_joined_lists_are_no_rows(tmp_path, line, first):
    head = f"{line}\n" if first else ""
    path = written(tmp_path, f"{head}file_name,label\na.jpg,cat\n{line}\n#1.jpg,dog\n")
    assert rows(path) == [("a.jpg", "cat"), ("#1.jpg", "dog")]


@pytest.mark.parametrize("text", ["file_name,label;\na.jpg,cat;\n", "file_name;label|\na.jpg;cat|\n"])
def test_fault_79_two_separators_in_the_first_line_are_refused(tmp_path, text):
    with pytest.raises(
        FolderError, match=r"its column 'label.' has a separator in its name; .*columns file_name, label"
    ):
        find_labelled(written(tmp_path, text), part="train")


@pytest.mark.parametrize("values", [("True", "False"), ("TRUE", "FALSE")])
def test_fault_79_a_column_of_true_and_false_for_each_class_is_named(tmp_path, values):
    with pytest.raises(FolderError, match="no column label, but cat, dog hold 0 and 1 or true and false"):
        find_labelled(written(tmp_path, f"image,cat,dog\na.jpg,{','.join(values)}\n"), part="train")


def test_fault_79_two_counts_among_other_columns_are_not_called_classes(tmp_path):
    path = written(tmp_path, "filename,size,note,region_count,region_id\na.jpg,9,x,1,0\n")
    with pytest.raises(FolderError, match=r"line 2: no label; .*columns filename, size, note, region_count, region_id"):
        find_labelled(path, part="train")


@pytest.mark.parametrize(
    ("header", "read", "other"),
    [
        ("label,label_name", "0", "label_name"),
        ("class_id,class_name", "cat", "class_id"),
        ("label,Category", "0", "Category"),
    ],
)
def test_fault_79_another_column_of_labels_is_named(tmp_path, header, read, other):
    images = find_labelled(written(tmp_path, f"file_name,{header}\na.jpg,0,cat\n"), part="train")
    assert (images.labels, images.notes) == (
        (read,),
        (f"{tmp_path / 'list.csv'}: not read as the label: {other}; rename the columns if it should be",),
    )


@pytest.mark.parametrize(
    "label",
    ["--", "---", "[]", "{ }", "nil", "N.A.", "n.a.", "k.A.", "NA_character_", "'NaN'", "''", "(Leer)", "(vide)"],
)
def test_fault_79_other_signs_of_a_missing_label_are_no_class(tmp_path, label):
    with pytest.raises(FolderError, match="line 2: no label but"):
        find_labelled(written(tmp_path, f"file_name,label\na.jpg,{label}\n"), part="train")


@pytest.mark.parametrize("label", ["-", "?", ".", "*"])
def test_fault_79_a_sign_that_may_be_a_class_or_a_missing_label_is_reported(tmp_path, label):
    images = find_labelled(written(tmp_path, f"file_name,label\na.jpg,{label}\nb.jpg,x\n"), part="train")
    assert label in images.classes
    assert f"though such names are written where a label is missing: {label}; " in images.notes[0]


@pytest.mark.parametrize("label", ["b'cat'", "np.str_('cat')", "tensor(3)", "'cat'", '=""7""', "np.int64(3)"])
def test_fault_79_marks_that_a_program_wrote_around_a_label_are_reported(tmp_path, label):
    (note,) = find_labelled(written(tmp_path, f'file_name,label\na.jpg,"{label}"\n'), part="train").notes
    assert f"wrote marks around the labels: {label.replace(chr(34) * 2, chr(34))}; write the label alone" in note


@pytest.mark.parametrize("root", ["", "data/", "train_me/"])
def test_fault_75_the_folders_of_listed_photos_are_the_parts(tmp_path, root):
    lines = "".join(f"{root}{part}/{i}.jpg,cat\n" for i, part in enumerate(["train", "Test", "train", "valid"]))
    path = written(tmp_path, f"file_name,label\n{lines}")
    images = find_labelled(path, part="train")
    assert [image.name for image in images.paths] == ["0.jpg", "2.jpg"]
    assert "reading train (2 images); val (1 image) and test (1 image): left for --tune" in images.notes[0]
    assert [image.name for image in find_labelled(path, part="test").paths] == ["1.jpg"]


@pytest.mark.parametrize(
    "lines",
    ["train/1.jpg,train\ntest/2.jpg,test\n", "train/1.jpg,cat\nbus/2.jpg,dog\n", "val/1.jpg,cat\ntest/2.jpg,cat\n"],
)
def test_fault_75_folders_of_listed_photos_that_may_be_classes_are_no_parts(tmp_path, lines):
    assert len(rows(written(tmp_path, f"file_name,label\n{lines}"))) == 2


def test_fault_79_a_column_of_parts_says_more_than_the_folders(tmp_path):
    path = written(tmp_path, "file_name,label,split\ntrain/1.jpg,cat,test\ntest/2.jpg,cat,train\n")
    assert rows(path) == [("test/2.jpg", "cat")]


MARK = "\ufeff"


@pytest.mark.parametrize(
    "text",
    [
        f"{MARK}file_name,label\n1.jpg,cat\n{MARK}2.jpg,dog\n",
        f"{MARK}file_name,label\n1.jpg,cat\n{MARK}file_name,label\n2.jpg,dog\n",
        f"{MARK}{MARK}file_name,label\n1.jpg,cat\n2.jpg,dog\n",
    ],
    ids=["a row", "a header", "twice"],
)
def test_fault_79_byte_order_marks_within_a_joined_list_are_ignored(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    photos = find_labelled(tmp_path / "list.csv", part="train")
    assert [(path.name, label) for path, label in zip(photos.paths, photos.labels, strict=True)] == [
        ("1.jpg", "cat"),
        ("2.jpg", "dog"),
    ]


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ('1.jpg,"cat\n2.jpg,dog"\n', "label"),
        ('1.jpg,cat"\n2.jpg,"dog\n3.jpg,x"\n', "label"),
        ('"1.jpg,cat\n2.jpg",dog\n', "file_name"),
    ],
)
def test_fault_79_rows_that_a_quote_joins_are_an_error_that_shows_the_cell(tmp_path, rows, column):
    (tmp_path / "list.csv").write_text(f"file_name,label\n{rows}")
    with pytest.raises(
        FolderError, match=rf"line \d: quotes join lines into one cell, {column} '.*\\n.*'; close the quotes"
    ):
        find_labelled(tmp_path / "list.csv", part="train")


def test_fault_79_a_line_break_in_a_cell_or_a_column_that_is_not_read_is_no_error(tmp_path):
    (tmp_path / "list.csv").write_text('file_name,label,remark\n"1.jpg\n",cat,"a,\nb, c"\n2.jpg,dog,\n')
    assert find_labelled(tmp_path / "list.csv", part="train").labels == ("cat", "dog")


def test_fault_79_a_list_of_numbered_classes_names_the_file_of_their_names(tmp_path):
    (tmp_path / "classes.txt").touch()
    (tmp_path / "list.csv").write_text("file_name,label\n1.jpg,0\n2.jpg,1\n")
    (note,) = find_labelled(tmp_path / "list.csv", part="train").notes
    assert "classes are numbers (0, 1); if classes.txt has their names, give them as class names" in note


IDS = [
    "id,name,label\n1,2.jpg,ant\n2,1.jpg,bee\n",
    "image_id;original_name;label\n1;2.jpg;ant\n2;1.jpg;bee\n",
    "label,id,attachment\nant,1,2.jpg\nbee,2,1.jpg\n",
]


@pytest.mark.parametrize(
    "text", [*IDS, '{"id": 1, "file": "2.jpg", "label": "ant"}\n{"id": 2, "photo_1": "1.jpg", "label": "bee"}\n']
)
def test_fault_79_numbers_of_rows_are_no_names_if_another_column_names_the_images(tmp_path, text):
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    if text.startswith("{"):
        text = text.replace('"file"', '"photo_1"')
    found = find_labelled(
        written(tmp_path, text, name="list.jsonl" if text.startswith("{") else "list.csv"), part="train"
    )
    assert [(path.name, label) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("2.jpg", "ant"),
        ("1.jpg", "bee"),
    ]
    (note,) = found.notes
    assert "the images are those that its column " in note


def test_fault_79_ids_are_names_if_the_other_names_are_of_no_images(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    source = written(tmp_path, "id,original_name,label\n1,IMG_7.jpg,ant\n2,1.jpg,bee\n")
    found = find_labelled(source, part="train")
    assert ([path.name for path in found.paths], found.notes) == (["1.jpg", "2.jpg"], ())


def test_fault_79_two_columns_that_name_images_are_told_apart_by_the_user(tmp_path):
    for name in ("1.jpg", "2.jpg", "a.png", "b.png"):
        (tmp_path / name).touch()
    source = written(tmp_path, "id,left,right,label\n7,1.jpg,a.png,ant\n8,2.jpg,b.png,bee\n")
    with pytest.raises(FolderError, match="its columns left, right name images; call the one to read file_name; found"):
        find_labelled(source, part="train")
    with pytest.raises(FolderError, match="its columns left, right name images"):
        find_images(source)


@pytest.mark.parametrize("column", ["label_text", "names", "description", "Common Name"])
def test_fault_79_a_column_with_the_names_of_numbers_is_named(tmp_path, column):
    found = find_labelled(written(tmp_path, f"filename,label,{column}\n1.jpg,0,cat\n2.jpg,1,dog\n"), part="train")
    assert found.classes == ("0", "1")
    assert any(f"not read as the label: {column}; rename the columns if it should be" in note for note in found.notes)


def test_fault_79_a_description_next_to_labels_that_are_words_says_nothing(tmp_path):
    source = written(tmp_path, "filename,label,description\n1.jpg,cat,asleep\n2.jpg,dog,awake\n")
    assert find_labelled(source, part="train").notes == ()


def test_fault_79_lines_that_begin_like_comments_but_may_be_rows_are_counted(tmp_path):
    for name in ("#1.jpg", "3.jpg"):
        (tmp_path / name).touch()
    found = find_labelled(written(tmp_path, "# made by hand\nid,label\n#1,cat\n# by hand, too\n3,owl\n"), part="train")
    assert found.labels == ("owl",)
    assert [note.partition(": ")[2] for note in found.notes] == [
        "2 lines that begin with # skipped as comments; if they name photos, write the endings of these"
    ]


def test_fault_79_of_two_columns_of_names_the_one_whose_images_exist_is_read(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "a/2.jpg"):
        (tmp_path / name).touch()
    found = find_labelled(
        written(tmp_path, "filename,filepath,label\n1.jpg,a/1.jpg,ant\n2.jpg,a/2.jpg,bee\n"), part="train"
    )
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a/1.jpg", "a/2.jpg"]
    assert [note.partition(": ")[2] for note in found.notes] == ["the images are those that its column filepath names"]


def test_fault_79_an_id_is_no_folder_of_that_name(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1.jpg").touch()
    assert find_labelled(written(tmp_path, "id,label\n1,ant\n"), part="train").paths == (tmp_path / "1.jpg",)


def test_fault_75_a_photo_outside_the_folders_of_parts_is_reported(tmp_path):
    listed = "file_name,label\ntrain/1.jpg,cat\ntest/2.jpg,dog\nextra/3.jpg,dog\n4.jpg,dog\n"
    found = find_labelled(written(tmp_path, listed), part="train")
    assert len(found) == 4
    (note,) = found.notes
    assert "its images are in folders of parts, but for 2 in extra, no folder; all rows are read; remove those" in note


def test_fault_79_a_git_lfs_pointer_is_named(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    with pytest.raises(FolderError, match="it is a Git LFS pointer instead of the list; run git lfs pull"):
        find_labelled(written(tmp_path, pointer), part="train")


def test_fault_79_a_list_of_absolute_paths_of_another_machine_says_so(tmp_path):
    source = written(tmp_path, "file_name,label\n/content/drive/1.jpg,cat\n/content/drive/2.jpg,dog\n")
    with pytest.raises(
        NothingReadable, match=r"their paths begin elsewhere \(/content/drive/1\.jpg\); write paths that begin in"
    ):
        FewShotClassifier("toy").fit_folder(source)


def test_fault_79_a_header_that_begins_like_a_comment_is_one(tmp_path):
    assert rows(written(tmp_path, "# file_name, label\na.jpg, cat\n")) == [("a.jpg", "cat")]
    assert rows(written(tmp_path, "# names and labels of my cats\nfile_name,label\na.jpg,cat\n")) == [("a.jpg", "cat")]


def test_fault_79_labels_that_this_program_marked_in_csv_are_read_back(tmp_path):
    label = "=x"
    assert rows(written(tmp_path, f"file_name,label\n{csv_line(['a.jpg', label])}\n")) == [("a.jpg", label)]


@pytest.mark.parametrize("header", ["image,logo,tag,box", "image_id,cat,dog,species"])
def test_fault_79_a_column_for_each_class_is_refused_whatever_one_is_called(tmp_path, header):
    source = written(tmp_path, f"{header}\na.jpg,0,1,0\nb.jpg,1,0,0\n")
    with pytest.raises(
        FolderError, match=r"no column label, but .* hold 0 and 1 or true and false, as if each were a class"
    ):
        find_labelled(source, part="train")


def test_a_label_of_0_and_1_next_to_other_columns_of_0_and_1_is_a_label(tmp_path):
    assert rows(written(tmp_path, "image,label,male,old\na.jpg,0,1,0\nb.jpg,1,0,0\n")) == [
        ("a.jpg", "0"),
        ("b.jpg", "1"),
    ]


@pytest.mark.parametrize("column", ["part", "dataset", "usage"])
def test_columns_of_that_name_with_other_words_say_nothing(tmp_path, column):
    source = written(tmp_path, f"file_name,label,{column}\na.jpg,cat,leaf\nb.jpg,dog,flower\n")
    assert find_labelled(source, part="train").notes == ()


def test_fault_79_a_list_whose_images_are_all_of_classes_of_their_own_says_so(tmp_path):
    text = "image,tag,animal\n" + "".join(f"{n}.jpg,T{n:03},cat\n" for n in range(6))
    (note,) = find_labelled(written(tmp_path, text), part="train").notes
    assert (
        "each of its 6 images is of a class of its own; if that is not its label, rename the columns; found UTF-8"
        in note
    )


def test_fault_75_a_column_that_marks_the_test_rows_alone_says_the_part(tmp_path):
    source = written(tmp_path, "file_name,label,test\na.jpg,cat,\nb.jpg,dog,\nc.jpg,cat,x\n")
    assert [path.name for path in find_labelled(source, part="train").paths] == ["a.jpg", "b.jpg"]
    assert [path.name for path in find_labelled(source, part="test").paths] == ["c.jpg"]


def test_a_list_is_not_said_to_have_the_names_of_its_own_labels(tmp_path):
    source = written(tmp_path, "file_name,label\na.jpg,0\nb.jpg,1\n", name="labels.csv")
    assert find_labelled(source, part="train").notes == ()
