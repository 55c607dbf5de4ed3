"""Every error this package raises on purpose, as one tree.

    TipAdapterError
    ├── UsageError (ValueError)               an argument, or a combination of arguments, is invalid
    │   └── UnknownName (LookupError)         an encoder, method or template set does not exist
    ├── MissingExtra (ImportError)            an optional extra is not installed
    ├── ImageError (ValueError)               one image cannot be used
    │   └── ImageTooLarge                     … because it is above the limits
    ├── FolderError (ValueError)              a folder or list of images cannot be used
    │   ├── MissingDataset                    … because a data set is missing or incomplete
    │   └── SplitError                        … because a data set's split is damaged or names missing images
    ├── LabelError (ValueError)               labels contradict each other or the model
    ├── VectorError (ValueError)              NaN, infinite or zero vectors, or a wrong width
    ├── Diverged (ValueError)                 the loss of a training became NaN or infinite
    ├── CheckpointError (ValueError)          third-party weights fail their checks
    ├── ModelFolderError (ValueError)         a model folder cannot be read
    │   ├── DamagedModelFolder                … because a file is not the one that was saved
    │   └── WrongEncoder                      … because it, or stored vectors, were made with another encoder
    ├── FeaturesError (ValueError)            stored vectors cannot be used
    │   └── DamagedFeatures                   … because a file is not the one that was saved
    ├── ExportError (ValueError)              a model cannot be exported to ONNX
    ├── DownloadError (OSError)               weights or a model cannot be downloaded
    │   └── UnaskedDownload                   … because only a file names them, not the user
    ├── UploadError (OSError)                 a model cannot be uploaded to the hub
    ├── NotWritable (OSError)                 a file or folder cannot be written
    │   └── OutputExists (FileExistsError)    … because the path exists already
    ├── NothingReadable (ValueError)          no image can be read
    ├── JobStopped (RuntimeError)             the labelling of very many images stopped; finished parts are kept
    │   ├── InputChanged                      … because an image is not the one that was planned
    │   ├── InputUnavailable                  … because a store of images does not answer or denies access
    │   └── TooManyErrors                     … because too many images are unreadable
    └── ResultsError (ValueError)             a file of results cannot be read

    TipAdapterWarning (UserWarning)           the result is valid, but the user should know something

A message says what happened, what was found, and what to do. `code` is stable: programs may rely on it.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class TipAdapterError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message : str
    arguments : Python arguments as the message writes them, such as ``alpha`` or ``force=True``; the command line shows
        its options instead
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *, arguments: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.arguments = tuple(arguments)


class UsageError(TipAdapterError, ValueError):
    """An argument, or a combination of arguments, is invalid."""

    code = "usage"


class UnknownName(UsageError, LookupError):
    """An encoder, method or template set does not exist; the message suggests the nearest name."""

    code = "unknown_name"


class MissingExtra(TipAdapterError, ImportError):
    """An optional extra is not installed; the message contains the pip command."""

    code = "missing_extra"


class ImageError(TipAdapterError, ValueError):
    """One image cannot be used."""

    code = "unreadable_image"


class ImageTooLarge(ImageError):
    """One image is above the limits on pixels, bytes or memory."""

    code = "image_too_large"


class FolderError(TipAdapterError, ValueError):
    """A folder or list of images cannot be used."""

    code = "bad_folder"


class MissingDataset(FolderError):
    """A data set is missing below the data root, or incomplete."""

    code = "missing_dataset"


class SplitError(FolderError):
    """A data set's split cannot be read, or names missing images."""

    code = "bad_split"


class LabelError(TipAdapterError, ValueError):
    """Labels contradict each other or the model."""

    code = "bad_labels"


class VectorError(TipAdapterError, ValueError):
    """Vectors are NaN, infinite or zero, or have the wrong width."""

    code = "bad_vectors"


class Diverged(TipAdapterError, ValueError):
    """The loss of a training became NaN or infinite."""

    code = "diverged"


class CheckpointError(TipAdapterError, ValueError):
    """Third-party weights fail their checks; no code in them was run."""

    code = "untrusted_checkpoint"


class ModelFolderError(TipAdapterError, ValueError):
    """A model folder cannot be read."""

    code = "bad_model_folder"


class DamagedModelFolder(ModelFolderError):
    """A file of a model folder is not the one that was saved."""

    code = "damaged_model_folder"


class WrongEncoder(ModelFolderError):
    """A model folder or stored vectors were made with another encoder."""

    code = "wrong_encoder"


class ExportError(TipAdapterError, ValueError):
    """A model cannot be exported to ONNX; nothing was written."""

    code = "cannot_export"


class DownloadError(TipAdapterError, OSError):
    """Weights or a model are not on this machine and cannot be downloaded."""

    code = "download_failed"


class UnaskedDownload(DownloadError):
    """Only a model folder or stored vectors name these weights, not the user; nothing was downloaded."""

    code = "unasked_download"


class UploadError(TipAdapterError, OSError):
    """A model cannot be uploaded to the hub; the repository is unchanged."""

    code = "upload_failed"


class FeaturesError(TipAdapterError, ValueError):
    """A feature folder or a vector file cannot be used."""

    code = "bad_features"


class DamagedFeatures(FeaturesError):
    """A file of stored vectors is not the one that was saved, or is malformed."""

    code = "damaged_features"


class NotWritable(TipAdapterError, OSError):
    """A file or folder cannot be written; earlier content is unchanged."""

    code = "not_writable"


class OutputExists(NotWritable, FileExistsError):
    """The output path exists already."""

    code = "output_exists"


class NothingReadable(TipAdapterError, ValueError):
    """No image can be read."""

    code = "nothing_readable"

    @classmethod
    def among(cls, errors: Sequence[str], hint: str = "") -> NothingReadable:
        """The error for images that all have one, with a hint of what may be the reason."""
        more = f"; {hint}" if hint else ""
        if len(errors) == 1:
            return cls(f"{errors[0]}; it is the only photo{more}")
        return cls(f"none of {len(errors):,} photos can be read; the first: {errors[0]}{more}")


class JobStopped(TipAdapterError, RuntimeError):
    """The labelling of very many images stopped; finished parts are kept, and the next run goes on from them."""

    code = "job_stopped"


class InputChanged(JobStopped):
    """An image, or the file that contains it, is not the one that was planned."""

    code = "input_changed"


class InputUnavailable(JobStopped):
    """A store of images does not answer, or denies access."""

    code = "input_unavailable"


class TooManyErrors(JobStopped):
    """The share of unreadable images is above the limit."""

    code = "too_many_errors"


class ResultsError(TipAdapterError, ValueError):
    """A file of results cannot be read, or has another version or another encoder of the same name."""

    code = "bad_results"


class TipAdapterWarning(UserWarning):
    """The result is valid, but the user should know something."""


def warn(*notes: str) -> None:
    """Issue each note as a TipAdapterWarning, located at the line outside this package that led to it."""
    package, frame, level = __name__.partition(".")[0], inspect.currentframe(), 1
    while frame and frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    for note in notes:
        warnings.warn(note, TipAdapterWarning, stacklevel=level)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the chain of its causes: libraries wrap the error of the operating system in their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
