"""`tip-adapter add`, `remove`, `retune`: the folder holds the old model or the new one, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.model.format import ARRAYS, CARD, CONFIG
from tip_adapter.model.head import load_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran

SOAK = "TIP_ADAPTER_SOAK" in os.environ


@pytest.fixture
def taught(model: Path, tmp_path: Path) -> Path:
    """A copy of the toy model, to be taught: four photos each of red, green and blue."""
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture
def yellow(make_photos: Callable[..., Path]) -> Path:
    """A folder of three yellow photos."""
    return make_photos("more", yellow=3) / "yellow"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def images_of(folder: Path) -> dict[str, list[str]]:
    """Label → ids, as the folder has them."""
    head, _ = load_head(folder)
    return {label: head.support.ids[head.support.labels == label].tolist() for label in head.names}


# ---- add -------------------------------------------------------------------------------------------------------------


def test_add_teaches_a_new_class(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    before = FewShotClassifier.load(taught)
    ran = run("add", taught, "yellow", yellow)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "Added 3 images to yellow. The model has 4 classes and 15 images.",
        f"alpha and beta are unchanged; `tip-adapter retune {taught}` chooses them again.",
    ]
    after = FewShotClassifier.load(taught)
    assert images_of(taught)["yellow"] == [str(yellow / f"{number}.png") for number in range(3)]
    assert after.choice_ == before.choice_
    before.partial_fit(sorted(yellow.iterdir()), ["yellow"] * 3)
    np.testing.assert_array_equal(
        after.predict_proba(sorted(yellow.iterdir())), before.predict_proba(sorted(yellow.iterdir()))
    )


def test_add_takes_photos_folders_and_lists(
    run: Callable[..., Ran], taught: Path, yellow: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("file_name\nmore/yellow/0.png\n")
    ran = run("add", taught, "red", yellow / "1.png", tmp_path / "list.csv", yellow / "2.png")
    assert ran.out.startswith("Added 3 images to red. The model has 3 classes and 15 images.")
    assert images_of(taught)["red"][4:] == [str(yellow / f"{number}.png") for number in (1, 0, 2)]


def test_add_asks_whether_a_class_of_the_model_was_meant(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    ran = run("add", taught, "grean", yellow / "0.png")
    assert "grean is a new class; did you mean green? If so, remove it" in ran.err
    assert ran.out.startswith("Added 1 image to grean. The model has 4 classes")
    assert "did you mean" not in run("add", taught, "yellow", yellow / "1.png").err


@pytest.mark.slow
def test_add_takes_features_whatever_they_call_their_photos(
    run: Callable[..., Ran], taught: Path, yellow: Path, tmp_path: Path
) -> None:
    assert run("extract", yellow, "--out", tmp_path / "features", "--encoder", "toy").status == 0
    ran = run("add", taught, "yellow", tmp_path / "features")
    assert ran.out.startswith("Added 3 images to yellow. The model has 4 classes and 15 images.")
    assert images_of(taught)["yellow"] == ["0.png", "1.png", "2.png"]
    before = contents(taught)
    ran = run("add", taught, "yellow", yellow)
    assert "skipped 3 images identical to others of the same class" in ran.err
    assert ran.out.startswith("Added 0 images to yellow. The model has 4 classes and 15 images.")
    assert run("extract", yellow, "--out", tmp_path / "pocket").status == 0
    assert "holds vectors of pocket" in run("add", taught, "yellow", tmp_path / "pocket").err
    assert contents(taught) == before


def test_add_takes_a_class_in_any_script_and_form(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    assert run("add", taught, "黄色", yellow / "0.png").out.startswith("Added 1 image to 黄色.")
    run("add", taught, unicodedata.normalize("NFD", "citroën"), yellow / "1.png")
    run("add", taught, unicodedata.normalize("NFC", "citroën"), yellow / "2.png")
    counts = {label: len(ids) for label, ids in images_of(taught).items()}
    assert counts == {"blue": 4, "green": 4, "red": 4, "黄色": 1, "citroën": 2}


def test_add_leaves_out_what_cannot_be_read_and_says_so(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    (yellow / "1.png").write_bytes(b"no photo")
    ran = run("add", taught, "yellow", yellow, yellow / "nothing.png")
    assert ran.status == 0
    assert ran.err.startswith("note: left out 2 of 4 images: cannot read ")
    assert ran.out.startswith("Added 2 images to yellow.")
    assert run("add", taught, "red", yellow / "nothing.png", "--quiet").err.startswith("error: ")


@pytest.fixture
def names_alone(run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path) -> Path:
    """A Tip-Adapter of two empty class folders."""
    photos = make_photos("empty", red=0, green=0)
    assert run("fit", photos, "--out", tmp_path / "names", "--encoder", "toy").status == 0
    return tmp_path / "names"


def test_the_first_photos_choose_the_pair_and_it_is_said(
    run: Callable[..., Ran], names_alone: Path, train: Path
) -> None:
    ran = run("add", names_alone, "red", train / "red")
    assert ran.status == 0
    assert "are unchanged" not in ran.out
    assert "chosen on the images themselves" in ran.out
    assert load_head(names_alone)[0].choice is not None


def test_names_alone_learn_a_name_and_no_photo(
    run: Callable[..., Ran], train: Path, yellow: Path, tmp_path: Path
) -> None:
    run("fit", train, "--out", tmp_path / "names", "--encoder", "toy", "--method", "zero-shot")
    ran = run("add", tmp_path / "names", "yellow", yellow)
    assert ran.out.splitlines() == [
        "Images are not stored: zero-shot uses class names only. The model has 4 classes and 0 images.",
        "zero-shot has nothing to tune: it uses class names only.",
    ]


def test_what_was_fine_tuned_says_that_it_is_to_be_again(
    run: Callable[..., Ran], train: Path, yellow: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    run("fit", train, "--out", model, "--encoder", "toy", "--method", "tip-adapter-f")
    ran = run("add", model, "yellow", yellow)
    assert ran.err.startswith("note: tip-adapter-f cannot be updated in place")
    assert json.loads(run("info", model, "--json").out)["method"] == "tip-adapter"
    assert "photos were added or removed after fine-tuning with tip-adapter-f" in (model / CARD).read_text("utf-8")
    assert run("add", model, "red", yellow / "0.png", "--quiet").status == 2  # it is there already, as yellow
    ran = run("retune", model)
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(run("info", model, "--json").out)["method"] == "tip-adapter-f"
    assert FewShotClassifier.load(model).predict([yellow / "1.png"]).tolist() == ["yellow"]


# ---- remove ----------------------------------------------------------------------------------------------------------


def test_remove_takes_ids_and_paths_and_a_class(run: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run("fit", train, "--out", model, "--encoder", "toy")
    photos = ["--photo", "red/0.png", "--photo", train / "red" / "1.png", "--photo", f"{train}/green/../red/./2.png"]
    ran = run("remove", model, *photos, "--class", "blue")
    assert (ran.status, ran.err) == (0, "")
    assert (
        ran.out.splitlines()[0]
        == "Removed: red/0.png, red/1.png, red/2.png, class blue. The model has 2 classes and 5 images."
    )
    assert images_of(model) == {"green": [f"green/{number}.png" for number in range(4)], "red": ["red/3.png"]}


def test_what_was_added_is_removed_by_the_path_it_was_added_by(
    run: Callable[..., Ran], taught: Path, yellow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images_of(taught)
    monkeypatch.chdir(tmp_path)
    run("add", taught, "red", "./more/yellow/0.png", yellow / "1.png", "more/../more/yellow/2.png")
    for path in ("more/yellow/0.png", yellow / "1.png", "more/../more/yellow/2.png"):
        assert run("remove", taught, "--photo", path).status == 0
    assert images_of(taught) == before


def test_fault_60_added_and_removed_is_never_added(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    run("add", taught, "yellow", yellow)
    run("remove", taught, "--class", "yellow")
    once = contents(taught)
    assert run("add", taught, "yellow", yellow).status == 0
    assert run("remove", taught, "--class", "yellow").status == 0
    assert contents(taught) == once
    assert run("retune", taught).status == 0
    run("add", taught, "red", yellow)
    run("remove", taught, *[part for path in sorted(yellow.iterdir()) for part in ("--photo", path)])
    assert run("retune", taught).status == 0
    again = contents(taught)
    assert run("retune", taught).status == 0
    assert contents(taught) == again


def test_all_photos_may_go(run: Callable[..., Ran], taught: Path, unseen: Path) -> None:
    ids = [name for names in images_of(taught).values() for name in names]
    ran = run("remove", taught, *[part for name in ids for part in ("--photo", name)])
    assert " and 7 more. The model has 3 classes and 0 images." in ran.out
    assert run("retune", taught).status == 0
    rows = [json.loads(line) for line in run("predict", taught, unseen / "red", "--json").out.splitlines()]
    assert [row["label"] for row in rows] == ["red"] * 3


# ---- retune ----------------------------------------------------------------------------------------------------------


def test_retune_is_what_fit_would_have_chosen(
    run: Callable[..., Ran], taught: Path, yellow: Path, tmp_path: Path
) -> None:
    run("add", taught, "yellow", yellow)
    assert load_head(taught)[0].left_out is None
    ran = run("retune", taught)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "The model has 4 classes and 15 images."
    assert "chosen by leave-one-out. Leave-one-out accuracy, mean over classes: 100.0 % (15 images)" in ran.out
    head, _ = load_head(taught)
    refit = FewShotClassifier("toy", "tip-adapter").fit_support(head.support).head_
    assert (head.choice, head.left_out) == (refit.choice, refit.left_out)


# ---- what cannot be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "named"),
    [
        (("add", "MODEL", "red", "nothing.png"), 1, "nothing.png"),
        (("add", "MODEL", "red", "empty"), 1, "empty holds no photos"),
        (("add", "MODEL", "red", "text.png"), 1, "text.png"),
        (("add", "MODEL", "red", "nothing.csv"), 1, "nothing.csv"),
        (("add", "MODEL", "", "yellow.png"), 2, "an argument is empty"),
        (("add", "MODEL", "Red", "yellow.png"), 1, "'red' and 'Red' differ only by case"),
        (("add", "MODEL", "x" * 1001, "yellow.png"), 1, "1,001 characters"),
        (("add", "MODEL", "red", ""), 2, "an argument is empty"),
        (("add", "MODEL", "red"), 2, "IMAGE_OR_DIR"),
        (("add", "nothing", "red", "yellow.png"), 1, "nothing is not a model folder"),
        (("add", "empty", "red", "yellow.png"), 1, "empty is not a model folder"),
        (("remove", "MODEL"), 2, "nothing to remove: give --class NAME, --photo ID_OR_PATH, or both"),
        (("remove", "MODEL", "--class", "rde"), 2, "no class 'rde'; did you mean red? nothing was removed"),
        (("remove", "MODEL", "--class", ""), 2, "an argument is empty"),
        (("remove", "MODEL", "--photo", "image 0", "--photo", "image 99"), 2, "no photo 'image 99'"),
        (("remove", "MODEL", "--photo", "image 0", "--photo", "image 0"), 2, "'image 0' is given twice"),
        (("remove", "MODEL", "--photo", "image 0", "--class", "nothing"), 2, "no class 'nothing'"),
        (("remove", "MODEL", "--photo", ""), 2, "an argument is empty"),
        (("remove", "nothing", "--class", "red"), 1, "nothing is not a model folder"),
        (("retune", "nothing"), 1, "nothing is not a model folder"),
        (("retune", "MODEL", "--threads", "0"), 2, "threads"),
    ],
    ids=lambda value: " ".join(map(str, value))[:50] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_sentence_and_the_model_stays(
    run: Callable[..., Ran],
    taught: Path,
    yellow: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    status: int,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no photo")
    shutil.copy(yellow / "0.png", tmp_path / "yellow.png")
    before = contents(taught)
    ran = run(*("model" if arg == "MODEL" else arg for arg in args))
    assert (ran.status, ran.out) == (status, "")
    assert named in ran.err
    assert contents(taught) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "model", "more", "text.png", "yellow.png"]


def test_a_photo_that_is_there_is_not_learned_again(run: Callable[..., Ran], taught: Path, yellow: Path) -> None:
    run("add", taught, "yellow", yellow)
    before = contents(taught)
    ran = run("add", taught, "green", yellow / "2.png")
    assert ran.status == 2
    place = yellow / "2.png"
    assert ran.err == (
        f"error: photo {place} is in the model already, as yellow; relabel it (tip-adapter relabel-photo), remove it first, "
        "or rename it\n"
    )
    assert contents(taught) == before


def test_the_only_class_stays(run: Callable[..., Ran], taught: Path) -> None:
    assert run("remove", taught, "--class", "red").status == run("remove", taught, "--class", "green").status == 0
    before = contents(taught)
    ran = run("remove", taught, "--class", "blue")
    assert (ran.status, ran.err) == (2, "error: 'blue' is the only class; a classifier needs one\n")
    assert contents(taught) == before


def test_fault_16_names_cannot_steer_a_terminal(
    run: Callable[..., Ran], taught: Path, yellow: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "\x1b[2J.png"
    shutil.copy(yellow / "0.png", photo)
    for ran in (
        run("add", taught, "re\x1b[2Jd\n", photo),
        run("add", taught, "red", photo),
        run("remove", taught, "--class", "re\x1b[2J"),
        run("remove", taught, "--photo", "\x1b[2J.pn"),
    ):
        assert "\x1b" not in ran.out + ran.err
    assert images_of(taught)["re\x1b[2Jd"] == [str(photo)]
    assert run("remove", taught, "--photo", photo, "--class", "re\x1b[2Jd\n").status == 0


@pytest.mark.parametrize("file", [CONFIG, ARRAYS, CARD])
@pytest.mark.parametrize(
    "command", [("add", "red", "PHOTO"), ("remove", "--class", "red"), ("retune",)], ids=lambda c: c[0]
)
def test_fault_42_a_damaged_model_is_not_taught(
    run: Callable[..., Ran], taught: Path, yellow: Path, command: tuple[str, ...], file: str
) -> None:
    (taught / file).write_bytes((taught / file).read_bytes()[:-1] + b"?")
    before = contents(taught)
    name, *args = command
    ran = run(name, taught, *(yellow if arg == "PHOTO" else arg for arg in args))
    assert (ran.status, ran.out) == (1, "")
    assert "is damaged" in ran.err
    assert contents(taught) == before


@pytest.mark.parametrize(
    "command", [("add", "red", "PHOTO"), ("remove", "--class", "red"), ("retune",)], ids=lambda c: c[0]
)
def test_fault_47_a_full_disk_leaves_the_old_model(
    run: Callable[..., Ran], taught: Path, yellow: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tip_adapter.io.files._sync_folder", fail)
    before = contents(taught)
    name, *args = command
    ran = run(name, taught, *(yellow if arg == "PHOTO" else arg for arg in args))
    assert (ran.status, ran.out) == (1, "")
    assert f"cannot write {taught}: No space left on device" in ran.err
    assert contents(taught) == before
    assert sorted(os.listdir(taught.parent)) == ["model", "more"]


# ---- several at once, and none to the end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [("add", "red", "PHOTO"), ("remove", "--class", "red"), ("retune",)], ids=lambda c: c[0]
)
def test_fault_48_what_another_program_saved_meanwhile_is_not_lost(
    run: Callable[..., Ran], taught: Path, yellow: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = FewShotClassifier.load

    def load_and_be_overtaken(folder: Path, **options: Any) -> FewShotClassifier:
        mine = load(folder, **options)
        load(folder).remove("image 7").save(folder, force=True)
        return mine

    monkeypatch.setattr(FewShotClassifier, "load", load_and_be_overtaken)
    name, *args = command
    ran = run(name, taught, *(yellow if arg == "PHOTO" else arg for arg in args))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith("was changed by another program meanwhile; nothing was saved, run the command again\n")
    assert {label: len(ids) for label, ids in images_of(taught).items()} == {"blue": 4, "green": 3, "red": 4}


@pytest.mark.slow
def test_fault_48_of_several_adds_at_once_all_are_learned(taught: Path, make_photos: Callable[..., Path]) -> None:
    folders = [make_photos(f"more-{number}", 10 * number, red=2) / "red" for number in range(4)]
    adds = [
        subprocess.Popen([sys.executable, "-m", "tip_adapter", "add", taught, "red", folder], stdout=subprocess.PIPE)
        for folder in folders
    ]
    said = [add.communicate(timeout=100)[0].decode() for add in adds]
    assert [add.returncode for add in adds] == [0] * 4, said
    learned = set(images_of(taught)["red"][4:])
    assert learned == {str(path) for folder in folders for path in folder.iterdir()}
    assert sorted(os.listdir(taught.parent)) == ["model", *(f"more-{number}" for number in range(4))]


# A line on stdin starts a process that adds for ever; forked, since importing takes longer than all the rest.
_ADDERS = """
import os, sys
from itertools import count
import tip_adapter.model.classifier
from tip_adapter.cli import main, update

def add_for_ever(model, photos):
    for number in count():
        sys.argv = ["tip-adapter", "add", model, f"class {number}", f"{photos}/{number}.png", "--quiet"]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code

_, model, photos = sys.argv
for _ in sys.stdin:
    child = os.fork()
    if not child:
        add_for_ever(model, photos)
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_fault_46_kill_9_at_any_moment_of_add_leaves_the_old_or_the_new_model(
    taught: Path, make_photos: Callable[..., Path]
) -> None:
    photos, moments = make_photos("many", red=200) / "red", random.Random(0)
    original = contents(taught)
    with subprocess.Popen(
        [sys.executable, "-c", _ADDERS, taught, photos], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as adders:
        for _ in range(1000 if SOAK else 8):
            acknowledged = killed_while_adding(adders, moments)
            learned = [label for label in images_of(taught) if label.startswith("class ")]
            assert acknowledged <= len(learned) <= acknowledged + 1
            assert set(learned) == {f"class {number}" for number in range(len(learned))}
            restored = FewShotClassifier.load(taught)
            for label in learned:
                restored.remove_class(label)
            restored.save(taught, force=True)
            # What a killed writer left is swept a day later.
            left = {name for name in os.listdir(taught.parent) if not name.startswith(".tip-adapter-")}
            assert left == {"many", "model"}
            assert (taught / ARRAYS).read_bytes() == original[ARRAYS]


def killed_while_adding(adders: subprocess.Popen[str], moments: random.Random) -> int:
    """Let a process add, kill it somewhere in its third photo or soon after; how many it said it had learned."""
    assert adders.stdin is not None
    assert adders.stdout is not None
    print(file=adders.stdin, flush=True)
    said, times = [], []
    while sum(line.startswith("Added") for line in said) < 2:
        said.append(adders.stdout.readline())
        assert said[-1], "the adders have died"
        times.append(time.monotonic())
    time.sleep(moments.uniform(0, 1.5 * (times[-1] - times[0])))
    (child,) = (int(line.split()[1]) for line in said if line.startswith("child"))
    os.kill(child, signal.SIGKILL)
    while said[-1] != "dead\n":
        said.append(adders.stdout.readline())
    return sum(line.startswith("Added") for line in said)


# ---- update and relabel-photo ----------------------------------------------------------------------------------------


@pytest.fixture
def followed(run: Callable[..., Ran], train: Path, tmp_path: Path, paint: Callable[..., Any]) -> Path:
    """A model of a folder that has changed since: a photo moved, one gone, and one new."""
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    (train / "red" / "0.png").rename(train / "green" / "moved.png")
    (train / "red" / "1.png").unlink()
    paint("blue", 9).save(train / "blue" / "9.png")
    return tmp_path / "model"


CHANGES = (
    "Changes: learn 1 image (blue/9.png); relabel 1 image (green/moved.png: red to green); remove 1 image (red/1.png)."
)


def test_update_says_what_changes_and_makes_the_model_of_the_folder(
    run: Callable[..., Ran], followed: Path, train: Path, tmp_path: Path
) -> None:
    before = contents(followed)
    ran = run("update", followed, train, "--dry-run")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [CHANGES, "The model is unchanged (--dry-run)."]
    assert contents(followed) == before
    ran = run("update", followed, train)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:2] == [CHANGES, "The model has 3 classes and 12 images."]
    run("fit", train, "--out", tmp_path / "fresh", "--encoder", "toy")
    assert contents(followed) == contents(tmp_path / "fresh")
    ran = run("update", followed, train)
    assert ran.out.splitlines() == ["Changes: none.", f"The model is unchanged: it has the images of {train}."]


def test_fault_47_an_update_that_cannot_be_written_leaves_the_old_model(
    run: Callable[..., Ran], followed: Path, train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tip_adapter.io.files._sync_folder", fail)
    before = contents(followed)
    ran = run("update", followed, train)
    assert ran.status == 1
    assert f"cannot write {followed}: No space left on device" in ran.err
    assert contents(followed) == before


def test_update_refuses_what_fit_refuses_and_the_model_stays(
    run: Callable[..., Ran], followed: Path, tmp_path: Path
) -> None:
    before = contents(followed)
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nothing"):
        ran = run("update", followed, tmp_path / place)
        assert (ran.status, ran.out) == (1, "")
        assert place in ran.err
    assert contents(followed) == before


def test_a_folder_added_again_is_skipped_and_the_figure_stays(
    run: Callable[..., Ran], train: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    run("fit", train, "--out", model, "--encoder", "toy", "--method", "tip-adapter")
    before = contents(model)
    for label in ("red", "green", "blue"):
        ran = run("add", model, label, train / label)
        assert ran.err.startswith("note: skipped 4 images identical to others of the same class: ")
        assert ran.out.splitlines() == [
            f"Added 0 images to {label}. The model has 3 classes and 12 images.",
            "The model is unchanged.",
        ]
    assert "(12 images)" in run("retune", model).out
    assert contents(model) == before


def test_relabel_photo_takes_an_id_or_a_path(run: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run("fit", train, "--out", model, "--encoder", "toy")
    ran = run("relabel-photo", model, "red/0.png", "blue")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "red/0.png: red to blue. The model has 3 classes and 12 images.",
        f"penalty and text weight are unchanged; `tip-adapter retune {model}` chooses them again.",
    ]
    assert run("relabel-photo", model, "red/0.png", "blue").out.splitlines() == [
        "red/0.png is of class blue already.",
        "The model is unchanged.",
    ]
    renamed = (train / "red" / "1.png").rename(tmp_path / "another name.png")
    assert run("relabel-photo", model, renamed, "blue").out.startswith("red/1.png: red to blue.")
    assert {label: len(ids) for label, ids in images_of(model).items()} == {"blue": 6, "green": 4, "red": 2}


def test_a_photo_that_is_in_two_classes_is_named_by_both_ids(
    run: Callable[..., Ran], train: Path, tmp_path: Path
) -> None:
    shutil.copy(train / "red" / "0.png", train / "blue" / "other.png")
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    shutil.copy(train / "red" / "0.png", tmp_path / "again.png")
    ran = run("remove", tmp_path / "model", "--photo", tmp_path / "again.png")
    assert ran.status != 0
    assert (
        "again.png is 2 photos of the model: blue/other.png (blue), red/0.png (red); give the id of one of them"
        in ran.err
    )


@pytest.mark.parametrize(
    ("photo", "label", "reason"),
    [
        ("red/00.png", "blue", "no photo 'red/00.png'; did you mean red/0.png? nothing was relabelled"),
        ("red/0.png", "bleu", "no class 'bleu'; did you mean blue? nothing was relabelled"),
    ],
)
def test_relabel_photo_names_what_is_near(
    run: Callable[..., Ran], train: Path, tmp_path: Path, photo: str, label: str, reason: str
) -> None:
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    before = contents(tmp_path / "model")
    ran = run("relabel-photo", tmp_path / "model", photo, label)
    assert (ran.status, ran.out) == (2, "")
    assert reason in ran.err
    assert contents(tmp_path / "model") == before


@pytest.mark.parametrize("kind", ["folder", "list", "vectors"])
def test_fault_75_added_images_that_are_of_other_classes_by_their_own_account_are_reported(
    run: Callable[..., Ran], taught: Path, make_photos: Callable[..., Path], kind: str
) -> None:
    place = make_photos("several", red=2, blue=2)
    others = "blue"
    if kind == "list":
        place = place / "list.csv"
        place.write_text("file_name,label\nred/0.png,red\nblue/0.png,azure\n")
        others = "azure"
    elif kind == "vectors":
        assert run("extract", place, "--out", place.parent / "vectors", "--encoder", "toy", "--quiet").status == 0
        place = place.parent / "vectors"
    ran = run("add", taught, "red", place)
    assert ran.status == 0
    assert f"{place} names other classes ({others}); all of its images are added to red" in ran.err


def test_fault_75_folders_within_a_class_are_no_other_classes(
    run: Callable[..., Ran], taught: Path, yellow: Path
) -> None:
    (yellow / "deep").mkdir()
    for photo in list(yellow.glob("*.png"))[:1]:
        photo.rename(yellow / "deep" / photo.name)
    assert run("add", taught, "yellow", yellow).err == ""


def test_fault_79_a_file_in_a_model_folder_is_named_where_it_prevents_an_update(
    run: Callable[..., Ran], taught: Path, yellow: Path
) -> None:
    (taught / "model.onnx").write_bytes(b"mine")
    ran = run("add", taught, "yellow", yellow)
    assert ran.status == 1
    assert f"{taught} holds model.onnx, which is no part of a model, and is not replaced" in ran.err


@pytest.mark.parametrize("label", ["-", "red (1)"])
def test_fault_78_an_added_class_that_is_probably_none_is_reported(
    run: Callable[..., Ran], taught: Path, yellow: Path, label: str
) -> None:
    assert f": {label}; if it is" in run("add", taught, label, yellow).err
