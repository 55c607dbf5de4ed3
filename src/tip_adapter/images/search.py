"""Search folders for images: what counts as one, and what is skipped.

Hidden files and folders, those that systems create (`SYSTEM_FOLDERS`) and smaller copies of photos are skipped; file extensions
may be in upper case (see `ENDINGS`). Symbolic links are followed, except to a folder above or within the searched one, whose
images are found there already.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tip_adapter.errors import FolderError
from tip_adapter.io.files import is_folder, open_regular
from tip_adapter.text import counted, first_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ENDINGS = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .ppm .pgm .pbm .pnm"
)
ENDINGS = frozenset(_ENDINGS.split())
#: What `predict --sort-into` writes: where photos of no class go, and the table of all.
NONE_OF_THESE, SORTED_TABLE = "_none_of_these", "sorted.csv"
_SORTED_HEADER = b"image,sorted_to,label,"
#: Folders that operating systems and network storage create, in lower case; no words that could name a class.
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin"}
    | {"@__thumb", "@synoresource", "@sharebin", "@appstore", "@database", "~snapshot", "$extend", "$winreagent"}
    | {"system volume information", "lost+found", "lost.dir", "__pycache__", "_gsdata_", "onedrivetemp"}
    | {"network trash folder", "temporary items", "thevolumesettingsfolder", "thefindbycontentfolder", "resource.frk"}
    | {"@sharesnap", "@snapshot", "@activebackup", "@synologydrive", "@recycle bin", "@downloadstation", "@quarantine"}
    | {"@antivirus", "backup.backupdb"}
    | {"_vti_cnf", "_vti_pvt", "_svn"}
    | {"recycler", "windowsimagebackup", "node_modules", "ipod photo cache", "_thumbs", "_thumbnails", "msocache"}
    | {NONE_OF_THESE}  # photos that `predict --sort-into` gave no class
    | {"$windows.~bt", "$windows.~ws", "$sysreset", "$getcurrent", "config.msi", "perflogs", "captureone"}
)
#: Those whose names could be a class's in other letters.
_RECYCLED = frozenset(["Recycled", "RECYCLED", "Recycle Bin", "RECYCLE BIN"])
_NUMBERED = re.compile(r"found\.\d{3}|synofile_thumb.*")
#: Hidden names that systems use; other hidden files and folders may be a user's.
_HIDDEN_OF_SYSTEMS = re.compile(
    r"\.(_.*|ds_store|localized|directory|appledouble|apdisk|trash|trashes|trash-\d+|@__thumb|@upload_cache"
    r"|spotlight-v100|fseventsd|temporaryitems|documentrevisions-v100|snapshot|nfs[0-9a-f]+)"
)
#: Endings of folders in which photo programs keep their libraries and previews.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".lrdata", ".lrlibrary", ".cocatalog")
_OF_SYSTEMS = SYSTEM_FOLDERS | {"thumbs.db", "ehthumbs.db", "desktop.ini"}
#: Names of folders for smaller copies of the photos around them, and what the names of such copies, and of masks, have before or
#: after the names of those photos.
_PREVIEWS = frozenset({"thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews"})
_AFFIX = (
    r"(?:thumbs?|thumbnails?|previews?|small|medium|large|sm|tn|th|t|\d+x\d+|\d+px|\d+w|\dx|scaled|resized?|crop|cropped|compressed"
    r"|orig|original|copy of|copy|aug|augmented|flip|flipped|(?:depth)?masks?(?:[\W_]?\d+)?|(?:mask|depth)crop|segmentation|seg|gt"
    r"|superpixels|heatmap|overlay|depth|label"
    r"|edited|bearbeitet|modifié|modificato|editad[oa]|bewerkt|編集済み|已修改|수정됨)"  # Google Photos
)
#: IMG_E1234 is what an iPhone makes of IMG_1234.
_AFFIXES = re.compile(rf"^{_AFFIX}[\W_]+|[\W_]+{_AFFIX}$|(?<=^img_)e(?=\d)")
_LAST_AFFIX = re.compile(rf"[\W_]{_AFFIX}$")  # keeps the bracket of 1 (1)_mask
#: Kinds of skipped files that a note names.
_KINDS = 6
_MODEL_FILES = ("config.json", "adapter.safetensors")
#: Of features, labels and reports.
_WRITTEN_FILES = r"manifest\.json|shard-\w+\.parquet|plan\.parquet|part-\d{6}-[0-9a-f]{16}|index\.html"


class Search:
    """A search for images below `root` that remembers what it skips; links in its class folders to folders in `others` are skipped, too."""

    def __init__(self, root: Path, others: Iterable[Path] = ()) -> None:
        real = Path(os.path.realpath(root))
        self._others = [Path(os.path.realpath(other)) for other in others]
        self._name, self._root, self._above = printable(root), real, {real, *real.parents}
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()
        self._links: list[str] = []
        self._hidden: list[Path] = []
        self._counted: list[str] = []
        self._derived: list[str] = []

    def children(self, folder: Path) -> list[Path]:
        """What is in a folder, sorted, without what is hidden or a system's own."""
        try:
            entries = sorted(os.listdir(folder))
        except OSError as error:
            raise FolderError(f"cannot read folder {printable(folder)}: {error.strerror}") from error
        if absent := sum(name.startswith(".") and name.lower().endswith(".icloud") for name in entries):
            self._files["photos that are not downloaded (.icloud)"] += absent
        if hidden := sum(
            name.startswith(".") and Path(name).suffix.lower() in ENDINGS and not is_of_system(name) for name in entries
        ):
            self._files["hidden photos"] += hidden
        self._hidden += [folder / name for name in entries if name.startswith(".") and is_folder(folder / name)]
        names = [name for name in entries if not name.startswith(".")]
        own = set(filter(is_of_system, names))
        self._folders.update(name for name in own if is_folder(folder / name))
        return [folder / name for name in names if name not in own]

    def enters(self, folder: Path, others: Iterable[Path] = ()) -> bool:
        """Whether it is a folder that is searched: not a link to one above or within the root, or within one of the others."""
        if not is_folder(folder):
            return False
        if folder.is_symlink():
            real = Path(os.path.realpath(folder))
            # What a link finds in a hidden folder is found nowhere else.
            within = self._root in real.parents and not re.search(r"/\.", f"/{real.relative_to(self._root).as_posix()}")
            if real in self._above or within or any(other in (real, *real.parents) for other in others):
                self._links.append(printable(folder))
                return False
        return True

    def images(self, folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
        """Images below `folder` in order of their paths; a link to a folder in `above` is not followed."""
        real = os.path.realpath(folder)
        if real in above:
            return
        children = self.children(folder)
        around = {child.stem.lower() for child in children if child.suffix.lower() in ENDINGS}
        self._derived += [
            printable(child)
            for child in children
            if is_image(child) and around & (_names(child) - {child.stem.lower()})
        ]
        for child in children:
            if is_folder(child):
                if is_preview_name(child.name) and _has_copies(child):
                    self._folders[child.name] += 1
                elif self.enters(child, self._others):
                    if is_preview_name(child.name) or (around and _repeats(child, around)):
                        self._counted.append(printable(child))
                    yield from self.images(child, above | {real})
            elif child.suffix.lower() in ENDINGS:
                yield child
            else:
                self._files[kind_of(child)] += 1

    def skip_files(self, children: Iterable[Path]) -> None:
        """Count the files next to class folders that are no photos.

        Raises
        ------
        FolderError
            One is a link to nothing: it may be a class, on a disk that is not connected.
        """
        for child in children:
            if child.suffix.lower() in ENDINGS or is_folder(child):
                continue
            if child.is_symlink() and not child.exists():
                raise FolderError(
                    f"{printable(child)} is a link to {printable(child.readlink())}, which does not exist; connect the disk "
                    "that has it, or remove the link"
                )
            self._files[kind_of(child)] += 1

    def skipped_folders(self) -> str:
        """Which folders of systems, and of smaller copies, were skipped; empty if there are none."""
        if not self._folders:
            return ""
        names = [f"{name} ({n:,})" if n > 1 else name for name, n in sorted(self._folders.items())]
        return f"system folders and previews are skipped: {first_of(names)}"

    def skipped_files(self) -> str:
        """How many files are no images, by their endings; empty if there are none."""
        if not self._files:
            return ""
        most = self._files.most_common(_KINDS)
        kinds = ", ".join(f"{printable(kind)} {number:,}" for kind, number in most)
        if rest := self._files.total() - sum(number for _, number in most):
            kinds += f", {counted(len(self._files) - _KINDS, 'other kind', 'other kinds')} {rest:,}"
        total = counted(self._files.total(), "file that is no photo is", "files that are no photos are")
        return f"{total} skipped: {kinds}"

    def notes(self) -> list[str]:
        """What was skipped, a line for each reason."""
        skipped = self.skipped_files()
        notes = [f"{self._name}: {skipped}"] if skipped else []
        if skipped := self.skipped_folders():
            notes.append(skipped)
        if hidden := sorted({folder.name for folder in self._hidden if next(_images_below(folder), None)}):
            notes.append(f"hidden folders are skipped: {first_of(hidden)}")
        if self._derived:
            notes.append(
                f"counted as photos, though named as if made of others: {first_of(self._derived)}; if these are masks or "
                "copies, move them elsewhere"
            )
        if self._counted:
            notes.append(
                f"counted as photos: {first_of(self._counted)}; if these are smaller copies of photos, move them elsewhere"
            )
        if self._links:
            notes.append(f"links to folders that are searched anyway are skipped: {first_of(self._links)}")
        return notes


def sub_folders(folder: Path) -> list[Path]:
    """Sub-folders that may be classes or parts."""
    search = Search(folder)
    return [child for child in search.children(folder) if search.enters(child) and not is_output(child)]


def is_output(folder: Path) -> bool:
    """Whether this program wrote it: a model, features, labels, a report, sorted photos. `tip-adapter fit . --out model` can be run again."""
    if all(is_file(folder / name) for name in _MODEL_FILES) or _is_sorted(folder):
        return True
    found = False
    with suppress(OSError), os.scandir(folder) as entries:  # not listdir: a class may have very many images
        for entry in entries:
            if not is_skipped_name(entry.name):
                if not re.fullmatch(_WRITTEN_FILES, entry.name):
                    return False
                found = True
    return found


def _is_sorted(folder: Path) -> bool:
    """Whether `predict --sort-into` wrote it."""
    with suppress(OSError), open_regular(folder / SORTED_TABLE) as file:
        return file.read(len(_SORTED_HEADER)) == _SORTED_HEADER
    return False


def is_file(path: Path) -> bool:
    """Whether it is a file; false for what is no path of a file system."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_image(path: Path) -> bool:
    """Whether it is a file with the ending of an image."""
    return path.suffix.lower() in ENDINGS and not is_folder(path)


def is_preview_name(name: str) -> bool:
    """Whether folders of smaller copies have this name."""
    return name.strip("._ ").lower() in _PREVIEWS


def is_skipped_name(name: str) -> bool:
    """Whether a file or folder of this name is skipped: it is hidden, or a system's own."""
    return name.startswith(".") or is_of_system(name)


def is_of_system(name: str) -> bool:
    """Whether systems give this name to files or folders of their own."""
    plain = re.sub(r"\s*\(\d+\)$", "", name.strip().lower())  # copied with the photos a second time: @eaDir (1)
    return (
        plain in _OF_SYSTEMS
        or plain.endswith(_LIBRARIES)
        or name.strip() in _RECYCLED
        or name == "Icon\r"
        or bool(_NUMBERED.fullmatch(plain) or _HIDDEN_OF_SYSTEMS.fullmatch(plain))
    )


def kind_of(path: Path) -> str:
    """What a file that is no photo is counted as: its ending; or why nothing can be known, as of a folder below too many."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "paths longer than the system reads"
    if path.is_symlink() and not path.exists():
        return "links to nothing"
    return path.suffix.lower() or "no ending"


def _has_copies(folder: Path) -> bool:
    """Whether at least half of the photos in a folder have the names of photos around it."""
    around = {name for path in _images_below(folder.parent) if folder not in path.parents for name in _names(path)}
    copies = [not around.isdisjoint(_names(path)) for path in _images_below(folder)]
    return bool(copies) and 2 * sum(copies) >= len(copies)


def _repeats(folder: Path, names: set[str]) -> bool:
    """Whether a folder has several photos itself, all of these names."""
    stems = [path.stem.lower() for path in Search(folder).children(folder) if is_image(path)]
    return len(stems) > 1 and names.issuperset(stems)


def _images_below(folder: Path) -> Iterator[Path]:
    for place, _, files in os.walk(folder):
        yield from (Path(place, name) for name in files if Path(name).suffix.lower() in ENDINGS)


def _names(path: Path) -> set[str]:
    """The name of a photo without endings, and what it is a copy of by its name: 1_thumb.jpg, 1.jpg.png → 1."""
    name = path.stem.lower()
    while Path(name).suffix in ENDINGS:
        name = Path(name).stem
    return {name, _AFFIXES.sub("", name), _LAST_AFFIX.sub("", name)}
