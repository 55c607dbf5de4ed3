from __future__ import annotations

import builtins
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from tip_adapter import FewShotClassifier, errors
from tip_adapter.errors import MissingExtra, NotWritable, OutputExists, TipAdapterError, TipAdapterWarning
from tip_adapter.plugins import require_extra, unknown_name

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TipAdapterError)]


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Class → (parent, builtin) as the module's docstring draws it."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+)(?: \((\w+)\))?(?:  |$)", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            tree[match[2]] = (path[depth - 1] if depth else None, match[3])
    return tree


def real_tree() -> dict[str, tuple[str | None, str | None]]:
    tree = {}
    for kind in [*CLASSES, TipAdapterWarning]:
        ours = [base.__name__ for base in kind.__bases__ if base.__module__ == errors.__name__]
        others = [
            base.__name__ for base in kind.__bases__ if hasattr(builtins, base.__name__) and base is not Exception
        ]
        tree[kind.__name__] = (ours[0] if ours else None, others[0] if others else None)
    return tree


def test_the_tree_that_is_drawn_is_the_tree_that_is():
    assert drawn_tree() == real_tree()


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_says_what_it_is(kind):
    assert kind.__doc__
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)


def test_every_class_has_a_code_of_its_own():
    codes = [kind.__dict__.get("code") for kind in CLASSES]
    assert None not in codes
    assert len(set(codes)) == len(CLASSES)


def test_codes_do_not_change():
    assert {kind.__name__: kind.code for kind in CLASSES} == {
        "TipAdapterError": "error",
        "UsageError": "usage",
        "UnknownName": "unknown_name",
        "MissingExtra": "missing_extra",
        "ImageError": "unreadable_image",
        "ImageTooLarge": "image_too_large",
        "FolderError": "bad_folder",
        "MissingDataset": "missing_dataset",
        "SplitError": "bad_split",
        "LabelError": "bad_labels",
        "VectorError": "bad_vectors",
        "Diverged": "diverged",
        "CheckpointError": "untrusted_checkpoint",
        "ModelFolderError": "bad_model_folder",
        "DamagedModelFolder": "damaged_model_folder",
        "WrongEncoder": "wrong_encoder",
        "FeaturesError": "bad_features",
        "DamagedFeatures": "damaged_features",
        "ExportError": "cannot_export",
        "DownloadError": "download_failed",
        "UnaskedDownload": "unasked_download",
        "UploadError": "upload_failed",
        "NotWritable": "not_writable",
        "OutputExists": "output_exists",
        "NothingReadable": "nothing_readable",
        "ResultsError": "bad_results",
        "InputChanged": "input_changed",
        "InputUnavailable": "input_unavailable",
        "JobStopped": "job_stopped",
        "TooManyErrors": "too_many_errors",
    }


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known():
    message = str(unknown_name("method", "tip-adaptor", ["zero-shot", "tip-adapter"]))
    assert message == "unknown method 'tip-adaptor': did you mean tip-adapter? known are tip-adapter, zero-shot"


def test_an_unknown_name_that_resembles_none_gets_no_suggestion():
    assert "did you mean" not in str(unknown_name("encoder", "xyzzy", ["pocket", "toy"]))


def test_a_missing_extra_says_what_to_type_however_this_package_was_installed():
    with pytest.raises(MissingExtra, match=r'is not installed: pip install "conformal-clip-data>=0.1.4"$'):
        require_extra("no_such_module", "conformal-clip-data", "demo")


def test_messages_of_system_errors_are_read_whole():
    assert str(NotWritable("cannot write here")) == "cannot write here"
    assert str(OutputExists("model exists")) == "model exists"


def test_a_warning_names_the_line_of_the_caller_not_one_of_the_package() -> None:
    photo = np.zeros((8, 8, 3), np.uint8)
    model = FewShotClassifier("toy").fit([photo, photo + 255], ["black", "white"])
    with pytest.warns(TipAdapterWarning, match="skipped 1 image identical") as seen:
        model.partial_fit([photo], ["black"])
    assert [Path(warning.filename).name for warning in seen] == [Path(__file__).name]
