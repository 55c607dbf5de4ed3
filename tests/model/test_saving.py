"""Model folders: what is saved comes back, whole, or is refused with the reason."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter.errors import DamagedModelFolder, ModelFolderError, NotWritable, OutputExists
from tip_adapter.io import files
from tip_adapter.io.files import refuse_existing
from tip_adapter.model import saving
from tip_adapter.model.card import model_card
from tip_adapter.model.format import ARRAYS, CARD, CONFIG, DIGESTS, FORMATS
from tip_adapter.model.saving import read_config, read_model_folder, refuse_unreplaceable, write_model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CONFIGURATION: dict[str, Any] = {
    "tip_adapter": "0.1.0",
    "method": "tip-adapter",
    "seed": 0,
    "classes": [{"label": "cat_1", "name": "cat 1", "n_images": 2}, {"label": "狗", "name": "狗", "n_images": 0}],
    "encoder": {"name": "toy", "fingerprint": "ab" * 32, "width": 3},
    "parameters": {},
    "images": ["cat_1/1.jpg", "cat_1/2.jpg"],
    "logit_scale": 20.0,
    "templates": ["{}"],
    "choice": {"alpha": 1.5, "beta": 2.0, "accuracy": 0.5, "rule": "leave-one-out", "n_rows": 2, "temperature": 3.0},
    "left_out": {
        "accuracy": 0.5,
        "interval": [0.1, 0.9],
        "n_rows": 2,
        "per_class": [{"label": "cat_1", "accuracy": 0.5, "n_rows": 2}],
        "confusions": [{"label": "cat_1", "called": "狗", "n_rows": 1}],
        "kept": 0.95,
        "threshold": 0.25,
    },
    "finetune_with": None,
    "training": {},
}
VECTORS = np.eye(2, 3, dtype=np.float32)
MODEL: dict[str, NDArray[Any]] = {
    "class_embeddings": np.eye(2, 3, 1, dtype=np.float32),
    "support_vectors": VECTORS,
    "support_labels": np.array([0, 0]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model_folder(tmp_path / "model", CONFIGURATION, MODEL)
    return tmp_path / "model"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- there and back -----------------------------------------------------------------------------------------------


def test_what_is_written_is_read(folder: Path) -> None:
    config, arrays = read_model_folder(folder)
    digests = config.pop("files")
    assert config == {"format": FORMATS[0], **CONFIGURATION}
    stated = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    contents = {ARRAYS: (folder / ARRAYS).read_bytes(), CARD: (folder / CARD).read_bytes(), CONFIG: stated}
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert set(arrays) == set(MODEL)
    for name, array in MODEL.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_a_folder_holds_three_files_and_nothing_is_left_beside_it(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CONFIG, ARRAYS, CARD}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_array_that_is_not_contiguous_is_kept_as_it_is(tmp_path: Path) -> None:
    others = {"learned.columns": VECTORS.T, "learned.every_other": VECTORS[:, ::2]}
    write_model_folder(tmp_path / "model", CONFIGURATION, MODEL | others)
    _, arrays = read_model_folder(tmp_path / "model")
    for name, array in others.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "again", CONFIGURATION, MODEL)
    assert content(folder) == content(tmp_path / "again")


UNREADABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "seed expected `int`, got `float`, found nan": ({"seed": float("nan")}, {}),
    "choice.alpha expected `float` >= 0.0, found -1.0": ({"choice": {**CONFIGURATION["choice"], "alpha": -1.0}}, {}),
    r"can't encode character '\\udcff'": ({"images": ["a", "\udcff"]}, {}),
    "support_vectors are not unit rows": ({}, {"support_vectors": 2 * VECTORS}),
    "learned.flags of bool is not F32": ({}, {"learned.flags": np.ones(2, np.bool_)}),
    r"left_out.interval expected `array` of length 2, got 1, found \[0.5\]": (
        {"left_out": {**CONFIGURATION["left_out"], "interval": [0.5]}},
        {},
    ),
    r"finetune_with expected `str \| null`, got `int`, found 5": ({"finetune_with": 5}, {}),
    r"training\[\.\.\.\] expected .* found {'epochs': \[1\]}": ({"training": {"epochs": [1]}}, {}),
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_what_could_not_be_read_again_is_not_written(why: str, tmp_path: Path) -> None:
    config, arrays = UNREADABLE[why]
    with pytest.raises(NotWritable, match=why):
        write_model_folder(tmp_path / "model", CONFIGURATION | config, MODEL | arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "mib", "values"), [("x" * 2**20, 1, 2**21), ("," * 1000, 64, 1000)], ids=["long", "many"]
)
def test_names_too_long_or_too_many_to_be_read_again_are_not_written(
    text: str, mib: int, values: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_TEXT_MIB", mib)
    monkeypatch.setattr(saving, "MOST_VALUES", values)
    with pytest.raises(NotWritable, match=f"names are more than {mib} MiB or {values}; shorten"):
        write_model_folder(tmp_path / "model", CONFIGURATION | {"templates": [text]}, MODEL)
    assert not list(tmp_path.iterdir())


def test_long_names_below_the_limit_are_written_and_read(tmp_path: Path) -> None:
    templates = ["x" * 2**19 + "{}"]
    write_model_folder(tmp_path / "model", CONFIGURATION | {"templates": templates}, MODEL)
    assert read_config(tmp_path / "model")["templates"] == templates


@pytest.mark.parametrize(("n_classes", "n_images", "width"), [(9, 2, 3), (2, 9, 3), (2, 2, 9), (2, 2, 3)])
def test_a_learned_array_has_as_many_rows_as_the_largest_of_classes_images_and_width(
    n_classes: int, n_images: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tip_adapter.model.format.MOST_ROWS", 4)
    classes = [{"label": f"{c}", "name": "a name", "n_images": n_images if c == 0 else 0} for c in range(n_classes)]
    stated = CONFIGURATION | {"classes": classes, "images": [f"{row}.jpg" for row in range(n_images)]}
    stated |= {"encoder": CONFIGURATION["encoder"] | {"width": width}, "left_out": None}
    rows = {"class_embeddings": n_classes, "support_vectors": n_images}
    arrays: dict[str, NDArray[Any]] = {
        name: np.eye(1, width, dtype=np.float32).repeat(n, 0) for name, n in rows.items()
    }
    arrays["support_labels"] = np.zeros(n_images, np.int64)
    most = max(n_classes, n_images, width, 4) * max(width, 4)
    saving.model_folder_files(stated, arrays | {"learned.a": np.zeros(most, np.float32)})
    with pytest.raises(ValueError, match=rf"larger than any method learns \({most} values\)"):
        saving.model_folder_files(stated, arrays | {"learned.a": np.zeros(most + 1, np.float32)})


@pytest.mark.parametrize("name", [CONFIG, CARD])
def test_a_text_above_the_limit_is_refused_before_it_is_read(name: str, folder: Path) -> None:
    os.truncate(folder / name, saving.MOST_TEXT_MIB * 2**20 + 1)  # sparse
    with pytest.raises(DamagedModelFolder, match=rf"{name} is damaged: it is above the limit of 64 MiB"):
        read_model_folder(folder)


def test_a_configuration_above_the_limit_is_refused_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / CONFIG, saving.MOST_TEXT_MIB * 2**20 + 1)  # sparse
    with pytest.raises(DamagedModelFolder, match=rf"{CONFIG} is damaged: it is above the limit of 64 MiB"):
        read_config(folder)


# ---- what stands there already ------------------------------------------------------------------------------------


def test_an_existing_folder_is_refused_and_untouched(folder: Path) -> None:
    before = content(folder)
    with pytest.raises(OutputExists, match=r"model exists; .*force=True"):
        write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL)
    assert content(folder) == before


def test_an_existing_file_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(OutputExists):
        write_model_folder(tmp_path / "model", CONFIGURATION, MODEL)
    assert (tmp_path / "model").read_text() == "mine"


def test_an_empty_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_model_folder(tmp_path / "model", CONFIGURATION, MODEL)
    assert read_config(tmp_path / "model")["seed"] == 0


def test_what_a_file_manager_left_in_a_model_folder_is_no_obstacle(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert read_model_folder(folder)[0]["seed"] == 1


@pytest.mark.parametrize("name", ["@eaDir", ".Trash-1000", "#recycle", "$RECYCLE.BIN", ".@__thumb", ".AppleDouble"])
@pytest.mark.parametrize("at_once", [True, False])
def test_fault_76_folders_of_systems_move_along_with_a_replaced_model(
    folder: Path, name: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(files, "_exchange_at_once", lambda *_: False)
    (folder / name / "files").mkdir(parents=True)
    (folder / name / "files" / "thrown-away.jpg").write_bytes(b"mine")
    write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert read_model_folder(folder)[0]["seed"] == 1
    assert (folder / name / "files" / "thrown-away.jpg").read_bytes() == b"mine"
    assert os.listdir(folder.parent) == [folder.name]


def test_fault_76_a_folder_of_a_system_that_cannot_be_moved_leaves_the_model_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("#recycle", "@eaDir"):
        (folder / name).mkdir()
    rename = os.replace

    def refused(source: Path, target: Path) -> None:
        if source.name == "@eaDir":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        rename(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(NotWritable, match=r"cannot write .*: Permission denied"):
        write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert read_model_folder(folder)[0]["seed"] == 0
    assert {"#recycle", "@eaDir"} < set(os.listdir(folder))
    assert os.listdir(folder.parent) == [folder.name]


def test_a_model_folder_with_something_else_in_it_is_not_replaced(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(OutputExists, match="is not replaced"):
        write_model_folder(folder, CONFIGURATION, MODEL, replace=True)
    assert (folder / "notes.txt").read_text("utf-8") == "mine"


@pytest.mark.parametrize("what", ["photos", "a file"])
def test_what_is_no_model_folder_is_never_replaced(what: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if what == "photos":
        place.mkdir()
    mine = place / "cat.jpg" if what == "photos" else place
    mine.write_text("mine")
    with pytest.raises(OutputExists, match="is not a model folder and is not replaced"):
        write_model_folder(place, CONFIGURATION, MODEL, replace=True)
    assert mine.read_text() == "mine"


def fill_up(patch: pytest.MonkeyPatch, nth: int) -> None:
    """From the nth sync on, the disk is full."""
    calls, fsync = 0, os.fsync

    def sync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    patch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_fault_47_a_disk_that_fills_up_leaves_the_old_model(
    nth: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(folder)
    fill_up(monkeypatch, nth)
    with pytest.raises(NotWritable, match="No space left on device"):
        write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert read_model_folder(folder)[0]["seed"] == 0
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_fault_47_a_disk_that_fills_up_after_the_exchange_leaves_a_whole_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_up(monkeypatch, 5)  # three files, their folder, and now the folder around it
    with pytest.raises(NotWritable, match="No space left on device"):
        write_model_folder(folder, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert read_model_folder(folder)[0]["seed"] in (0, 1)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


# ---- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, ARRAYS, CARD])
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_fault_42_a_file_that_was_cut_is_named(name: str, kept: float, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * kept) if kept >= 0 else -3])
    with pytest.raises(DamagedModelFolder, match=re.escape(str(folder / name))):
        read_model_folder(folder)


def refusals(folder: Path, name: str) -> Iterator[tuple[bytes, ModelFolderError | None]]:
    """For every byte of a file, with one bit of it changed: what stands around it, and why reading is refused."""
    whole = (folder / name).read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        try:
            read_model_folder(folder)
            yield bytes(changed[max(position - 10, 0) : position + 10]), None
        except ModelFolderError as error:
            yield bytes(changed[max(position - 10, 0) : position + 10]), error


@pytest.mark.slow
@pytest.mark.parametrize("name", [ARRAYS, CARD])
def test_fault_42_a_file_with_any_byte_changed_is_named(name: str, folder: Path) -> None:
    wrong = [where for where, error in refusals(folder, name) if error is None or name not in str(error)]
    assert not wrong


@pytest.mark.slow
def test_fault_42_a_configuration_with_any_byte_changed_is_refused(folder: Path) -> None:
    assert not [where for where, error in refusals(folder, CONFIG) if error is None]


@pytest.mark.parametrize("name", [ARRAYS, CARD])
def test_fault_42_a_file_that_is_missing_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(DamagedModelFolder, match=rf"cannot read {re.escape(str(folder / name))}: No such file"):
        read_model_folder(folder)


def test_fault_42_files_of_two_models_do_not_mix(folder: Path, tmp_path: Path) -> None:
    write_model_folder(
        tmp_path / "other", {**CONFIGURATION, "method": "zero-shot"}, MODEL | {"support_vectors": VECTORS[::-1]}
    )
    for name in (ARRAYS, CARD):
        mine, theirs = (folder / name).read_bytes(), (tmp_path / "other" / name).read_bytes()
        (folder / name).write_bytes(theirs)
        with pytest.raises(DamagedModelFolder, match=re.escape(str(folder / name))):
            read_model_folder(folder)
        (folder / name).write_bytes(mine)
    assert read_model_folder(folder)[0]["method"] == "tip-adapter"


@pytest.mark.parametrize("what", ["missing", "empty folder", "a file", "a photo folder"])
def test_what_is_no_model_folder_is_called_that(what: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if what == "a file":
        place.write_text("{}")
    elif what != "missing":
        place.mkdir()
    if what == "a photo folder":
        (place / "cat").mkdir()
    found = {"a file": "it is a file", "missing": "there is no such folder"}.get(what, "it has no config.json")
    with pytest.raises(ModelFolderError, match=rf"is not a model folder: {found}; `tip-adapter fit` makes one"):
        read_model_folder(place)


@pytest.fixture
def denied(folder: Path) -> Iterator[Path]:
    """A model below a folder that may not be entered."""
    folder.parent.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may enter everything
    yield folder
    os.seteuid(user)
    folder.parent.chmod(0o700)


def test_a_model_that_may_not_be_read_is_not_called_missing(denied: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"cannot read .*config.json: Permission denied; ask") as refused:
        read_model_folder(denied)
    assert not isinstance(refused.value, DamagedModelFolder)


@pytest.mark.parametrize("replace", [False, True])
def test_a_place_that_may_not_be_entered_is_not_writable(replace: bool, denied: Path) -> None:
    with pytest.raises(NotWritable, match="Permission denied"):
        write_model_folder(denied, CONFIGURATION, MODEL, replace=replace)
    with pytest.raises(NotWritable, match="Permission denied"):
        refuse_unreplaceable(denied) if replace else refuse_existing(denied)


@pytest.mark.parametrize("place", ["/", "/dev/null", "."])
def test_reading_what_is_no_model_folder_changes_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("replace", "rename", "remove", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, lambda *_, name=name, **__: pytest.fail(f"{name} by a reader"))
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        read_model_folder(place)


def test_a_model_whose_replacement_was_cut_short_is_read_where_it_stands(folder: Path) -> None:
    folder.rename(files._old(folder))
    names = sorted(path.name for path in folder.parent.iterdir())
    assert read_model_folder(folder)[0]["seed"] == 0
    assert sorted(path.name for path in folder.parent.iterdir()) == names
    with pytest.raises(OutputExists):
        write_model_folder(folder, CONFIGURATION, MODEL)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_is_read_and_replaced_through_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to("model")
    write_model_folder(link, {**CONFIGURATION, "seed": 1}, MODEL, replace=True)
    assert link.is_symlink()
    assert read_model_folder(folder)[0]["seed"] == read_model_folder(link)[0]["seed"] == 1


@pytest.mark.parametrize("version", [max(FORMATS) + 1, 0, 10**30])
def test_fault_42_another_format_is_refused_with_the_way_out(version: int, folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text("utf-8")) | {"format": version}
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(
        ModelFolderError, match=rf"format {version}, this version reads formats 1 to 3; upgrade"
    ) as refused:
        read_model_folder(folder)
    assert not isinstance(refused.value, DamagedModelFolder)


def test_the_contents_of_photos_make_it_the_second_format_and_are_checked(folder: Path, tmp_path: Path) -> None:
    digests = np.array([[0, 0, 0, 0], [1, -2, 3, 2**63 - 1]])
    write_model_folder(tmp_path / "new", CONFIGURATION, MODEL | {DIGESTS: digests})
    config, arrays = read_model_folder(tmp_path / "new")
    assert config["format"] == FORMATS[1]
    np.testing.assert_array_equal(arrays[DIGESTS], digests)
    with pytest.raises(NotWritable, match=r"support_digests is int64 of shape \(2, 3\), not int64 of shape \(2, 4\)"):
        write_model_folder(tmp_path / "short", CONFIGURATION, MODEL | {DIGESTS: digests[:, :3]})


# ---- the model card -----------------------------------------------------------------------------------------------


def front_matter(card: str) -> dict[str, Any]:
    """The front matter of a card, whose lines are a subset of YAML: a key, and a plain word, a JSON text or a list."""
    start, head, _ = card.split("---\n", 2)
    assert not start
    found = {}
    for line in head.splitlines():
        key, value = re.fullmatch(r"([a-z_]+): (.+)", line).groups()
        if value.startswith('"'):
            found[key] = json.loads(value)
        elif value.startswith("["):
            found[key] = re.fullmatch(r"\[([a-z-]+(?:, [a-z-]+)*)\]", value)[1].split(", ")
        else:
            found[key] = re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", value)[0]
    return found


def test_the_card_starts_with_front_matter() -> None:
    assert front_matter(model_card(CONFIGURATION)) == {
        "library_name": "tip-adapter",
        "pipeline_tag": "image-classification",
        "tags": ["few-shot", "tip-adapter"],
        "base_encoder": "toy",
    }


def test_an_encoders_name_cannot_leave_the_front_matter() -> None:
    name = 'x"\n---\n# : mine'
    card = model_card({**CONFIGURATION, "encoder": CONFIGURATION["encoder"] | {"name": name}})
    assert front_matter(card)["base_encoder"] == name


def test_an_encoders_name_stays_text_in_the_table() -> None:
    card = model_card({**CONFIGURATION, "encoder": CONFIGURATION["encoder"] | {"name": "a | <b>[x](y)"}})
    assert "| encoder | a &#124; &lt;b&gt;&#91;x](y), fingerprint" in card


def test_the_card_says_classes_counts_encoder_and_protocol(folder: Path) -> None:
    card = (folder / CARD).read_text("utf-8")
    assert "| cat_1 | cat 1 | 2 |" in card
    assert "| 狗 | 狗 | 0 |" in card
    assert "| photos | 2 |" in card
    assert "| encoder | toy, fingerprint abababababab…, width 3 |" in card
    assert "| protocol | leave-one-out |" in card
    assert "| accuracy | 50.0% of 2 photos, each left out (95 % interval 10.0% to 90.0%) |" in card
    assert "| cat_1 | 50.0% | 2 |" in card
    assert "| cat_1 | 狗 | 1 |" in card
    assert "A score of\n0.250 or more is reached by 95% of the photos" in card
    assert "tip-adapter predict THIS_FOLDER" in card


def test_a_card_of_learned_keys_says_what_was_measured() -> None:
    assert "each left out, before the keys were fine-tuned (95 %" in model_card(CONFIGURATION, trained=True)


def test_a_card_says_that_photos_were_added_after_fine_tuning() -> None:
    card = model_card({**CONFIGURATION, "left_out": None, "finetune_with": "tip-adapter-f"})
    assert "| method | tip-adapter; photos were added or removed after fine-tuning with tip-adapter-f |" in card
    assert "| accuracy | 50.0% of 2 photos (leave-one-out, before photos were added or removed) |" in card
    assert "How good it is" not in card


def test_a_card_without_alpha_and_beta_says_so() -> None:
    card = model_card({**CONFIGURATION, "choice": None, "left_out": None})
    assert "| alpha, beta | none |" in card
    assert "not measured" in card


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a | b",
        "line\nbreak\r\n\n# heading",
        "\u2028line\x00\x1b[31m",
        "`code`",
        "\u202eright to left",
        "&lt;script&gt;",
        "[click](javascript:alert(1))",
        "![](https://example.org/seen.png)",
        "<https://example.org>",
    ],
)
def test_fault_34_a_class_name_stays_text_in_its_cell(name: str) -> None:
    classes = [{"label": name, "name": name, "n_images": 1}]
    card = model_card({**CONFIGURATION, "classes": classes, "templates": [name]})
    row = card.splitlines()[-1]
    assert row.count("|") == 4
    assert row.endswith(" | 1 |")
    assert len(card.splitlines()) == len(model_card({**CONFIGURATION, "classes": classes[:1]}).splitlines())
    for active in ("<", ">", "`", "[", "\x1b", "\x00", "\u202e", "\u2028"):
        assert active not in row
    assert row.isprintable()
