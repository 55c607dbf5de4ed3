"""Labels: class names in Unicode NFC, without white space around them; and ids made unique."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from tip_adapter.errors import LabelError
from tip_adapter.text import printable, shown
from tip_adapter.validation import BLANKS, MAX_TEXT, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterable


#: Characters that show nothing and are of no category that says so.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
#: Letters and signs that look like others in most fonts: Cyrillic, Greek and phonetic letters, marks below, strokes, what
#: keyboards and word processors write for a sign. Not letters of one alphabet, such as l and I, and not those of Japanese and Chinese:
#: data sets of handwriting have a class for each.
_LOOKALIKES = dict(
    zip(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d\u0475\u04d5\u03bf\u03bd\u03c1"
        "\u0251\u0261\u0131"
        "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405\u04c0\u04d4"
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u00d0\u0189"
        "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2018\u2019\u201b\u02bb\u02bc\u00b4\u2032\u02b9\u05f3\u0060"
        "\u201c\u201d\u201f\u2033\u05f4\u00ba\u02da\u301c\u2044\u2215\u2236\ua789\u2022\u2027\u2219\u22c5\u30fb\u0326",
        "aeopcyxijsdhlqwv\u00e6ovp"
        + "agi"
        + "ABEKMHOPCTXIJSI\u00c6"
        + "ABEZHIKMNOPTYX\u0110\u0110"
        + 7 * "-"
        + 10 * "'"
        + 5 * '"'
        + "\u00b0\u00b0~//::"
        + 5 * "\u00b7"
        + "\u0327",
        strict=True,
    )
) | {"\u0e41": "\u0e40\u0e40", "\u0ec1": "\u0ec0\u0ec0"}  # one Thai or Lao vowel, typed as two
#: What looks alike among other letters; by itself each is a class of its own in data sets of letters and signs. The last are hiragana
#: and Chinese characters that look like katakana, and the stroke that only stretches an Arabic word.
_LOOKALIKES_IN_WORDS = dict(
    zip(
        "\u06a9\u06cc\u06c1\u06d5\u00d7" + "\u3078\u529b\u53e3\u4e8c\u5de5\u5915\u535c\u4e00",
        "\u0643\u064a\u0647\u0647x" + "\u30d8\u30ab\u30ed\u30cb\u30a8\u30bf\u30c8\u30fc",
        strict=True,
    )
) | {"\u0640": ""}
#: Forms of a character that mean the same: of another width or font, ligatures, Roman numerals; not ² and ½. In words also
#: those of another place in an Arabic word.
_SAME_FORMS = ("<font>", "<compat>", "<wide>", "<narrow>", "<small>", "<noBreak>")
_FORMS_IN_WORDS = ("<initial>", "<medial>", "<final>", "<isolated>")


def label_of(text: str, where: str) -> str:
    """The label of a class name found at `where`: Unicode NFC, without white space around it.

    Raises
    ------
    LabelError
        It is empty, longer than `MAX_TEXT`, not UTF-8, contains NUL, or shows nothing.
    """
    if len(text) > MAX_TEXT:
        raise LabelError(
            f"class name '{printable(text[:40])}…' ({printable(where)}) has {len(text):,} characters; "
            f"shorten it to {MAX_TEXT:,}"
        )
    with suppress(UnicodeError):  # where the system's encoding is not UTF-8, the name of a folder may be
        text = os.fsencode(text).decode("utf-8")
    label = unicodedata.normalize("NFC", text).strip(BLANKS)
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        raise LabelError(f"class name {printable(text)} ({printable(where)}) is not UTF-8; rename it") from None
    if not label or "\0" in label:
        raise LabelError(f"class name '{printable(text)}' ({printable(where)}) is empty or contains NUL; rename it")
    if not _look(label).strip():
        raise LabelError(f"class name {label!a} ({printable(where)}) has only characters that show nothing; rename it")
    return label


def refuse_missing_labels(labels: Iterable[str]) -> None:
    """Raise LabelError, naming the first, if a label is what programs write for a missing one, such as nan."""
    if missing := next(filter(is_missing, labels), None):
        raise LabelError(
            f"the label {shown(missing)} is what programs write where a label is missing; leave out what has it, or call the class "
            "something else"
        )


def refuse_case_duplicates(names: Iterable[str]) -> None:
    """Refuse class names of an existing model that differ only by case or Unicode form: it may be older than the other rules.

    Raises
    ------
    LabelError
        The message names the first two.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = seen.setdefault(_forms(name)[0][1], name)
        if other != name:
            raise _duplicates(other, name, "case")


def refuse_lookalike_labels(names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Refuse class names that differ only by case, Unicode form, white space, hyphens, letters that look alike or how a number is written.

    White space around a name is ignored, as in `label_of`.

    Parameters
    ----------
    names : new class names
    known : names of existing classes, which new ones may not look like

    Raises
    ------
    LabelError
        The message names the first two.
    """
    seen: dict[tuple[str, str], str] = {}
    for name in known:
        for key in _forms(name):
            seen.setdefault(key, name)
    for name in dict.fromkeys(text.strip(BLANKS) for text in names):
        for key in _forms(name):
            other = seen.setdefault(key, name)
            if other != name:
                raise _duplicates(other, name, key[0])


def _duplicates(one: str, other: str, how: str) -> LabelError:
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        how = "Unicode form"
    both = f"'{printable(one)}' and '{printable(other)}'" if how == "case" else f"{one!a} and {other!a}"
    return LabelError(f"classes {both} differ only by {how}; rename or merge them")


@lru_cache(maxsize=100_000)  # a model checks all its classes at every photo that it learns
def _forms(name: str) -> list[tuple[str, str]]:
    """What a class name has in common with those that differ only by something: what that is, and the name without it."""
    normal = unicodedata.normalize("NFC", name)
    spaced = " ".join(normal.split())
    return [
        ("case", normal.casefold()),
        ("white space", spaced.casefold()),
        ("the characters between words", _words(spaced)),
        ("letters that look alike", _words(_look(spaced))),
        ("how a number is written", _number(spaced)),  # 01, 1 and 1.0, which spreadsheets make of each other
    ]


def _words(label: str) -> str:
    """A label without case, its words separated by spaces, not by hyphens or underscores."""
    return " ".join(re.sub(r"(?<=[^\W_])[-_]+(?=[^\W_])", " ", label).casefold().split())


def _look(label: str) -> str:
    """A label as it looks: without characters that show nothing, and with the usual letter for one that looks like it."""
    letters = unicodedata.normalize("NFD", label)  # ё looks like ë as е looks like e
    of_a_word = len(unicodedata.normalize("NFC", label)) > 1
    return unicodedata.normalize("NFC", "".join(_seen(letter, of_a_word) for letter in letters))


@lru_cache(maxsize=10_000)
def _seen(character: str, of_a_word: bool) -> str:
    """How a character looks, by itself or among others."""
    usual = _LOOKALIKES | _LOOKALIKES_IN_WORDS if of_a_word else _LOOKALIKES
    if character in usual:
        return usual[character]
    hidden = unicodedata.category(character) in ("Cc", "Cf") or "VARIATION SELECTOR" in unicodedata.name(character, "")
    if hidden or character in _FILLERS:
        return ""
    same = unicodedata.decomposition(character).startswith(_SAME_FORMS + _FORMS_IN_WORDS * of_a_word)
    if not same:
        return character
    return "".join(usual.get(letter, letter) for letter in unicodedata.normalize("NFKC", character))


def _number(label: str) -> str:
    """A number as spreadsheets may write it, in the digits 0 to 9; any other label as it is.

    They drop leading zeros and a plus sign, add up to two decimals, and write 100000 as 1E+05. Decimals have a point, whichever
    mark the language writes: 1,5 and 1.5.
    """
    digits = "".join(str(unicodedata.decimal(c, c)) for c in label)
    if number := re.fullmatch(r"[+]?(-?)0*(\d+?)(?:[.,]0?0?)?", digits):
        return number[1].removesuffix("-" if number[2] == "0" else "") + number[2]
    if fraction := re.fullmatch(r"[+]?(-?)0*(\d*)[.,](\d+)", digits):
        return f"{fraction[1]}{fraction[2] or '0'}.{fraction[3]}"
    if power := re.fullmatch(r"(-?)(\d)(?:[.,](\d{0,9}))?[Ee]\+?(\d{1,2})", digits):
        decimals = power[3] or ""
        if len(decimals) <= int(power[4]):
            return power[1] + power[2] + decimals.ljust(int(power[4]), "0")
    return label


def folded(text: str) -> str:
    """Text without case and accents, full-width letters as usual ones, to compare names of folders and columns."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def path_as_text(path: str | os.PathLike[str]) -> str:
    """A path as text that can be stored: bytes that are not UTF-8 as escapes."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:  # unpaired surrogates: no file has them, but a program may pass them
        content = os.fsdecode(path).encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def numbered(names: Iterable[str]) -> list[str]:
    """The same names, made unique: a repeated one gets a number."""
    names = list(names)
    taken, times, unique = set(names), Counter[str](), []
    for name in names:
        times[name] += 1
        candidate = name
        while times[name] > 1 and candidate in taken:
            candidate = f"{name}#{times[name]}"
            times[name] += candidate in taken
        taken.add(candidate)
        unique.append(candidate)
    return unique
