"""Labels that are probably not meant as classes: copies of another class, missing labels, marks of programs, damaged letters."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from tip_adapter.images.labels import folded
from tip_adapter.text import first_of
from tip_adapter.validation import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    #: What is said of the labels, which labels it fits, and what to do.
    _Reason = tuple[str, Callable[[str], object], str]

#: Text that a program wrote for several labels: ['scab', 'rust'], {"choices": ["scab"]}, [0, 0, 1].
_LIST_TEXT = re.compile(r"\s*[\[{(].*([\"']).+\1.*[\]})]\s*|\[[^\[\]()]*[\s,][^\[\]()]*\]|\[\d+\]", re.DOTALL)
#: Text that a program or spreadsheet wrote with its marks around the label: b'cat', np.str_('cat'), tensor(3), 'cat', ="007",
#: <Label.CAT: 1>, =VLOOKUP(A1), ####, '007 (text in a spreadsheet), two quoted labels in one cell, &amp; of a page, %20 of an address, \\u00e4 of JSON.
_CODE_TEXT = re.compile(
    r"(?:b|u|(?:np\.)?(?:str|bytes)_\(|=)?([\"']).+\1\)?|(?:tf\.)?(?:tensor|array)\(.+\)|np\.\w+\(.+\)|<.+>|=\w+\(.*\)|#{2,}|'(?:[-+=@].*|\d+(?:[.,]\d+)?)|.*[^\W\d]\"\w.*|.*&(?:amp|lt|gt|quot|apos|nbsp|#\w+);.*"
    r"|.*</?\w+ ?/?>.*|.*%(?:2[0-9a-f]|[c-f][0-9a-f]%).*|.*\\u[0-9a-f]{4}.*",
    re.DOTALL | re.IGNORECASE,
)
#: The path of a file, or a longer path: labels/1.txt, 1.png, data/train/cat, C:\\data\\cat.
_PATH = re.compile(
    r".*[\\/].*\.[a-z]\w{1,4}|.+\.(?:txt|xml|json|jpe?g|png|bmp|tiff?|webp|nii|npy)|[a-z]:[\\/].*|(?:[^\\/]*[\\/]){2,}.*",
    re.DOTALL | re.IGNORECASE,
)
_MONTHS = "jan|janv|ene|feb|fev|fevr|mar|mars|mrz|apr|avr|abr|may|mai|jun|juin|jul|juil|aug|aout|ago|sep|sept|set|oct|okt|out|nov|dec|dez|dic"
#: What spreadsheets make of labels such as 1-2, as `folded` gives it: 1-Feb, 01. Feb, 01-févr., Feb-01; and of long numbers.
_DATE = re.compile(
    rf"\d{{1,2}}(?:-|\. ?)(?:{_MONTHS})\.?|(?:{_MONTHS})\.?-\d{{2}}"
    r"|(?:jan|feb|mrz|apr|jun|jul|aug|sep|okt|nov|dez) \d{2}"  # of Germany; set 12 and out 22 are no dates
)
_NUMBER = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)?\s*")
_FRACTION = re.compile(r"[.,]\d*[1-9]")
_SHORT_NUMBER = re.compile(r"-?\d(?:[.,]\d+)?E\+\d{2,3}")
#: What is written for a missing label, and may be the name of a class.
_SIGNS = re.compile(r"[-?.–—*…_]+|無|无|なし|없음")
_NO_LABEL = re.compile(  # as `folded` gives it
    r"(no|without|missing|to)[\W_]*(labels?|class|category)|(un[\W_]?|not[\W_]*)(label+ed|sorted|classified|categori[sz]ed|assigned|annotated|tagged)"
    r"|to[\W_]*(sort|do|classify|annotate|be[\W_](determined|labell?ed|sorted))|tbd|todo"
    r"|(ohne|kein)[\W_](label|klasse|kategorie)|(nicht[\W_]|un)(klassifiziert|zugeordnet|sortiert|kategorisiert)"
    r"|(non|sans)[\W_](classee?s?|triee?s?|etiquetee?s?|etiquette|categorie)|(sin|sem)[\W_](clasificar|etiqueta[rs]?|rotulo|categoria|classificar)"
    r"|n[ao]o?[\W_](classificad[oa]|rotulad[oa])|non[\W_]classificat[oaie]|senza[\W_](etichetta|categoria)|без[\W_](метки|категории)|неразобранн?ое"
    r"|\[?unk\]?|undef|n\W{1,3}a\W?|[ns]/d|not[\W_]set|#(?:value|ref|name|div/0)|(?:not|non|nicht)[\W_](?:available|applicable|disponible|verfugbar)|no[\W_]data|keine[\W_]angaben?"
    r"|sin[\W_]datos?|no[\W_]aplica|нет[\W_]данных|aucune?[\W_]donnees?"
    + folded(r"|未(分类|标注|标记|整理|归类|分類|標註|標記|ラベル)|ラベルなし|미분류")
)
#: Names that file managers give to a new folder, as `folded` gives them.
_UNNAMED = re.compile(
    folded(
        r"(?:new|untitled|unnamed)[ _-]?folder|untitled|neuer ordner|nouveau dossier|dossier sans titre|nueva carpeta|carpeta sin titulo"
        r"|nova pasta|pasta sem titulo|nuova cartella|cartella senza titolo|nieuwe map|nowy folder|yeni klasor|новая папка|нова папка"
        r"|ny mappe|ny mapp|uusi kansio|nova slozka|uj mappa|folder nou|folder baru|thu muc moi|โฟลเดอร์ใหม่|مجلد جديد|תיקיה חדשה"
        r"|新建文件夹|新增資料夾|未命名文件夹|新しいフォルダー|名称未設定フォルダ|無題のフォルダ|새 폴더"
    )
)
#: Names of folders on the cards of cameras and phones, and in exports of photo programs, as `folded` gives them.
_CAMERA = re.compile(
    r"camera (?:roll|uploads)|\d{3}(?:apple|media|andro)|20\d{4}_[_a-z]|dji_\d{3}|whatsapp (?:images|video|animated gifs)"
    r"|photos-\d+-\d{3}|drive-download-\d{8}t\d{6}z-[\d-]+"
    r"|(?:photos?|fotos?|foto's) (?:from|von|de|del|uit|dal) \d{4}|\d{4}\s*年(?:の写真|的照片|的相片)"
)
#: What cameras call their folders by their common rule: three digits, from 100 on, and five capitals, digits or underscores.
_OF_CAMERAS = re.compile(r"1\d\d(?=\d*[A-Z_])[A-Z\d_]{5}")
_COPY = "copy|copie|kopie|kopia|copia|kopya|копия|副本|复件|複製|コピー|복사본|备份|備份|shortcut|verknüpfung"
#: What file managers and programs that synchronise folders add to the name of a copy, as `folded` gives it; never a number alone.
_COPIES = re.compile(
    rf"(?:{folded(_COPY)})(?: \(?\d+\)?)? (?:of|von|de|di|av|van) (?P<of>.+)"
    r"|(?P<name>.+?)(?:"
    r"\s*\(\d{1,3}\)"  # cat (1)
    # cat - Copy (2), cat (another copy), cat のコピー
    rf"|(?:[\s_.–—-]+|\s*\((?:another )?|(?=[^\x00-\x7f]))の?(?:{folded(_COPY)})\)?(?:\s*\(?\d{{1,3}}\)?)?"
    r"|[\s_.-]+(?:sync-)?(?:conflict|konflikt|conflit)\w*\b.*"  # cat.sync-conflict-20240102-…
    r"|\s*[(\[][^()]*(?:conflict|konflikt|conflit)[^()]*[)\]]"  # cat (Anna's conflicted copy 2024-01-02)
    r"|[\s_-](?:(?:desktop|laptop|win)(?:-\w+)+|macbook(?:-\w+)*)"  # cat-DESKTOP-AB12
    r"|\s+-\s+kopi"  # Danish; also coffee in Malay
    r"|-\d{8}t\d{6}z(?:-\d+)*"  # cat-20240102T120000Z-001
    r"|[\s_-](?:\d{2,}x\d{2,}|resized?|rescaled|cropped|aug|augmented|thumbs?|thumbnails?|compressed|converted)"  # by a program
    r"|[\s_.-]+(?:bak|backup|orig|dup|duplicate)\d*|~\d*"
    r")",
    re.DOTALL,
)

#: The time to match grows with the square of the length; no name of a folder that a program copied is longer.
_LONGEST_COPY = 100


def label_doubts(names: Iterable[str]) -> list[str]:
    """Notes on labels that are read as they are but look as if something else were meant, one for each reason.

    Parameters
    ----------
    names : labels, of folders, lists or programs; repeated ones count once
    """
    names = list(dict.fromkeys(names))
    series = _series(names)
    read = "read as a class of its own, though"
    notes = _notes(
        names,
        (f"{read} written like a list of labels", _LIST_TEXT.fullmatch, "write one label"),
        *_OF_TEXTS,
        (f"{read} written like the path of a file", _PATH.fullmatch, "write the name of the class alone"),
        (
            "read as they are, though spreadsheets make such dates and short numbers of labels",
            lambda name: (name not in series and _DATE.fullmatch(folded(name))) or _SHORT_NUMBER.fullmatch(name),
            "if so, write the labels again, into cells of text",
        ),
        (
            f"{read} such names are written where a label is missing",
            lambda name: _SIGNS.fullmatch(name) or _NO_LABEL.fullmatch(folded(name)) or is_missing(name),
            "if it is, leave these photos out",
        ),
        (f"{read} programs give this name to a new folder", _is_unnamed, "rename it"),
        (
            f"{read} cameras and programs that export photos name their folders so",
            lambda name: _CAMERA.fullmatch(folded(name)) or _OF_CAMERAS.fullmatch(name),
            "put the photos of each class into a folder of its own",
        ),
    )
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if len(numbers) == len(names):
        notes += _number_doubts(names)
    elif len(numbers) == 1 < len(names) - 1 and re.fullmatch(r"-\d+|9{3,}", numbers[0]):
        notes.append(_missing_number(numbers[0]))
    if several := _several(names):
        notes.append(f"{read} other rows have its parts as labels: {first_of(several)}")
    if copies := _copies(names):
        notes.append(
            f"{read} named like a copy of another class: {first_of(copies)}; if it is one, move its photos to that class or "
            "remove it"
        )
    return notes


def name_doubts(names: Iterable[str]) -> list[str]:
    """Notes on names given for classes, for the text encoder, that are probably not what was meant."""
    return _notes(names, *_OF_TEXTS)


def new_doubts(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Notes on labels that are added to known ones: those of `label_doubts` that these do not have without them."""
    known = dict.fromkeys(known)
    new = [name for name in names if name not in known]
    if not new:  # as for nearly every photo that is added
        return []
    before = label_doubts(known)
    return [note for note in label_doubts([*known, *new]) if note not in before]


def without_copy_mark(name: str) -> str:
    """A name as `folded`, without what is added to the name of a copy: cat (1), cat - Copy, cat-DESKTOP-AB12, cat_ → cat."""
    name = folded(name).strip(" _.,;:'\"")
    name = name.strip("*") if name.startswith("*") else name
    while len(name) <= _LONGEST_COPY and (copy := _COPIES.fullmatch(name)):
        name = (copy["of"] or copy["name"]).strip()
    return name


def _copies(names: Collection[str]) -> list[str]:
    """Names that are those of other classes but for the mark of a copy."""
    known = {folded(name).strip() for name in names}
    return sorted(name for name in names if (of := without_copy_mark(name)) in known and of != folded(name).strip())


def _several(names: Iterable[str]) -> list[str]:
    """Names that consist of other names, as lists with several labels a photo have them; by spaces only if all names of several words do."""
    known = {name.strip() for name in names}
    found = set[str]()
    for mark, all_do in ((r"\s*[|;,/+]\s*", False), (r"\s+", True)):
        parts = {name: split for name in known if len(split := re.split(mark, name)) > 1}
        of_others = {name for name, split in parts.items() if known.issuperset(split)}
        if not all_do or len(of_others) == len(parts):
            found |= of_others
    return sorted(found)


def _series(names: Iterable[str]) -> set[str]:
    """Labels that are a series, and no dates: set-01, set-02; what spreadsheets make of labels is of several months."""
    dates = {name: re.sub(r"[^a-z]", "", folded(name)) for name in names if _DATE.fullmatch(folded(name).strip())}
    return set(dates) if len(dates) > 1 and len(set(dates.values())) == 1 else set()


def _number_doubts(names: Sequence[str]) -> list[str]:
    """Notes on labels that are all numbers: the only negative one, and decimals."""
    below = [name for name in names if name.strip().startswith("-")]
    notes = []
    if len(below) == 1 < len(names) and set(names) not in ({"-1", "1"}, {"-1", "0", "1"}):
        notes.append(_missing_number(below[0]))
    if len(names) > 2 and any(map(_FRACTION.search, names)):
        notes.append(
            f"read as classes, though decimal numbers as of a measurement: {first_of(names)}; if so, write the class of each photo"
        )
    return notes


def _missing_number(name: str) -> str:
    return (
        f"read as a class of its own, though such a number is written where a label is missing: {name}; if it is, leave these "
        "photos out"
    )


def _is_damaged(name: str) -> bool:
    """Whether letters were replaced by U+FFFD, or UTF-8 was read as Windows' Latin letters: kÃ¤tzchen."""
    if "\ufffd" in name:
        return True
    with suppress(UnicodeError):
        return not name.isascii() and name.encode("cp1252").decode("utf-8") != name
    return False


def _is_unnamed(name: str) -> bool:
    return bool(_UNNAMED.fullmatch(re.sub(r" \d+$", "", without_copy_mark(name))))


def _notes(names: Iterable[str], *reasons: _Reason) -> list[str]:
    """A note for each reason that fits some of the names."""
    names = list(dict.fromkeys(names))
    return [
        f"{reason}: {first_of(found)}; {way_out}"
        for reason, fits, way_out in reasons
        if (found := [name for name in names if fits(name.strip())])
    ]


#: Reasons to doubt any text that people or programs wrote.
_OF_TEXTS: tuple[_Reason, ...] = (
    (
        "read as they are, though a program or spreadsheet wrote marks around the labels",
        _CODE_TEXT.fullmatch,
        "write the label alone",
    ),
    (
        "read as they are, though letters were lost when these names were written in another encoding",
        _is_damaged,
        "correct the names",
    ),
)
