"""Every error this package raises on purpose, as one tree.

    TipAdapterError
    ├── UsageError (ValueError)               what was asked for makes no sense together
    │   └── UnknownName (LookupError)         no encoder, method, template of that name
    ├── MissingExtra (ImportError)            a part that is not installed
    ├── ImageError (ValueError)               one photo cannot be used
    │   └── ImageTooLarge                     … because it is above the limits
    ├── FolderError (ValueError)              a folder or list of photos cannot be used
    │   ├── MissingDataset                    … because a data set is not there, or not whole
    │   └── SplitError                        … because a data set's split is damaged, or names photos that are not there
    ├── LabelError (ValueError)               labels that contradict each other
    ├── VectorError (ValueError)              NaN, infinite or zero vectors, wrong widths
    ├── Diverged (ValueError)                 training whose loss is no number any more
    ├── CheckpointError (ValueError)          third-party weights that are not what they should be
    ├── ModelFolderError (ValueError)              a model folder that cannot be read
    │   ├── DamagedModelFolder                     … because a file is not the one that was saved
    │   └── WrongEncoder                      … because it, or stored vectors, were made with another encoder
    ├── FeaturesError (ValueError)            stored vectors that cannot be used
    │   └── DamagedFeatures                   … because a file is not what it should be
    ├── ExportError (ValueError)              a model that cannot become an ONNX file
    ├── DownloadError (OSError)               weights or a model that could not be fetched
    │   └── UnaskedDownload                   … because only a file names them, and nobody asked for them
    ├── UploadError (OSError)                 a model that could not be sent to the hub
    ├── NotWritable (OSError)                 a file or folder could not be written
    │   └── OutputExists (FileExistsError)    … because something is there already
    ├── NothingReadable (ValueError)          not one photo could be read
    └── ResultsError (ValueError)             a file of results that cannot be read

    TipAdapterWarning (UserWarning)           it works, and a person should know

A message says what happened, to what, and what to do next. `code` is stable: programs may rely on it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class TipAdapterError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "error"


class UsageError(TipAdapterError, ValueError):
    """What was asked for makes no sense together."""

    code = "usage"


class UnknownName(UsageError, LookupError):
    """No encoder, method or template set of that name; the nearest known one is suggested."""

    code = "unknown_name"


class MissingExtra(TipAdapterError, ImportError):
    """A part that is not installed; the message holds the pip line to type."""

    code = "missing_extra"

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtra:
        """The error for a part that an extra brings."""
        return cls(f"{what} is not installed: pip install 'tip-adapter[{extra}]'")


class ImageError(TipAdapterError, ValueError):
    """One photo cannot be used."""

    code = "unreadable_image"


class ImageTooLarge(ImageError):
    """One photo is above the limits on pixels or bytes."""

    code = "image_too_large"


class FolderError(TipAdapterError, ValueError):
    """A folder or list of photos cannot be used."""

    code = "bad_folder"


class MissingDataset(FolderError):
    """A data set is not below the data root, or not whole."""

    code = "missing_dataset"


class SplitError(FolderError):
    """A data set's split cannot be read, or names photos that are not there."""

    code = "bad_split"


class LabelError(TipAdapterError, ValueError):
    """Labels that contradict each other or the model."""

    code = "bad_labels"


class VectorError(TipAdapterError, ValueError):
    """NaN, infinite or zero vectors, or vectors of the wrong width."""

    code = "bad_vectors"


class Diverged(TipAdapterError, ValueError):
    """The loss of a training is no longer a number."""

    code = "diverged"


class CheckpointError(TipAdapterError, ValueError):
    """Third-party weights that are not what they should be; nothing of them was run."""

    code = "untrusted_checkpoint"


class ModelFolderError(TipAdapterError, ValueError):
    """A model folder that cannot be read."""

    code = "bad_model_folder"


class DamagedModelFolder(ModelFolderError):
    """A file of a model folder is not the one that was saved."""

    code = "damaged_model_folder"


class WrongEncoder(ModelFolderError):
    """A model folder or stored vectors were made with another encoder than the one at hand."""

    code = "wrong_encoder"


class ExportError(TipAdapterError, ValueError):
    """A model that cannot become an ONNX file; nothing was written."""

    code = "cannot_export"


class DownloadError(TipAdapterError, OSError):
    """Weights or a model are not here and could not be downloaded."""

    code = "download_failed"


class UnaskedDownload(DownloadError):
    """A model folder or stored vectors name weights that are not here, and nobody else did; nothing was downloaded."""

    code = "unasked_download"


class UploadError(TipAdapterError, OSError):
    """A model could not be sent to the hub; what the repository held before, it still holds."""

    code = "upload_failed"


class FeaturesError(TipAdapterError, ValueError):
    """A folder of features or a file of vectors that cannot be used."""

    code = "bad_features"


class DamagedFeatures(FeaturesError):
    """A file of stored vectors is not the one that was saved, or not what it should be."""

    code = "damaged_features"


class NotWritable(TipAdapterError, OSError):
    """A file or folder could not be written; what was there before still is."""

    code = "not_writable"


class OutputExists(NotWritable, FileExistsError):
    """Something stands where the output should go."""

    code = "output_exists"


class NothingReadable(TipAdapterError, ValueError):
    """Not one photo could be read."""

    code = "nothing_readable"

    @classmethod
    def among(cls, errors: Sequence[str]) -> NothingReadable:
        """The error for photos of which each has an error."""
        if len(errors) == 1:
            return cls(f"the only photo cannot be read: {errors[0]}")
        return cls(f"none of {len(errors)} photos can be read; the first: {errors[0]}")


class ResultsError(TipAdapterError, ValueError):
    """A file of results that cannot be read, is of another version, or of another encoder of the same name."""

    code = "bad_results"


class TipAdapterWarning(UserWarning):
    """It works, and a person should know."""


def warn(*notes: str) -> None:
    """Say what a person should know, each note as a TipAdapterWarning."""
    for note in notes:
        warnings.warn(note, TipAdapterWarning, stacklevel=3)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it: libraries hide what the system said behind errors of their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
