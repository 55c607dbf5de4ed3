"""Labels that look alike: other case, white space, hyphens, letters of other scripts, characters that show nothing, numbers in other forms."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

#: Characters that show nothing and are of no category that says so.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
_BLACK_FLAG, _TAGS = "\U0001f3f4", frozenset(map(chr, range(0xE0020, 0xE0080)))
#: Letters and signs that look like others in most fonts: Cyrillic, Greek and phonetic letters, marks below, strokes, what
#: keyboards and word processors write for a sign. Not letters of one alphabet, such as l and I, and not those of Japanese and Chinese:
#: data sets of handwriting have a class for each.
_LOOKALIKES = dict(
    zip(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d\u0475\u04d5\u03bf\u03bd\u03c1"
        "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405\u04c0\u04d4"
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u00d0\u0189"
        "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2018\u2019\u201b\u02bb\u02bc\u00b4\u2032\u02b9\u05f3\u0060"
        "\u201c\u201d\u201f\u2033\u05f4\u00ba\u02da\u301c\u2044\u2215\u2236\ua789\u2022\u2027\u2219\u22c5\u30fb\u0326",
        "aeopcyxijsdhlqwv\u00e6ovp"
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
        "\u06a9\u06cc\u06c1\u06d5\u00d7\u0251\u0261" + "\u3078\u529b\u53e3\u4e8c\u5de5\u5915\u535c\u4e00",
        "\u0643\u064a\u0647\u0647xag" + "\u30d8\u30ab\u30ed\u30cb\u30a8\u30bf\u30c8\u30fc",
        strict=True,
    )
) | {"\u0640": ""}
#: Forms of a character that mean the same: of another width or font, ligatures, Roman numerals; not ² and ½. In words also
#: those of another place in an Arabic word.
_SAME_FORMS = ("<font>", "<compat>", "<wide>", "<narrow>", "<small>", "<noBreak>")
_FORMS_IN_WORDS = ("<initial>", "<medial>", "<final>", "<isolated>")


@lru_cache(maxsize=100_000)  # a model checks all its classes at every photo that it learns
def forms(name: str) -> list[tuple[str, str]]:
    """What a class name has in common with those that differ only by something: what that is, and the name without it."""
    normal = unicodedata.normalize("NFC", name)
    spaced = " ".join(normal.split())
    return [
        ("case", normal.lower()),
        ("white space", spaced.lower()),
        ("the characters between words", _words(spaced)),
        ("letters that look alike", _words(look(spaced))),
        ("how a number is written", _number(spaced)),  # 01, 1 and 1.0, which spreadsheets make of each other
    ]


def _words(label: str) -> str:
    """A label without case, its words separated by spaces, not by hyphens or underscores, and no spaces around other signs: 50 %."""
    close = re.sub(r"\s*([^\w\s])\s*", r"\1", label)
    return " ".join(re.sub(r"(?<=[^\W_])[-_]+(?=[^\W_])", " ", close).lower().split())


def _number(label: str) -> str:
    """A number as spreadsheets may write it, in the digits 0 to 9; any other label as it is.

    They drop leading zeros and a plus sign, add up to two decimals, and write 100000 as 1E+05. Decimals have a point, whichever
    mark the language writes: 1,5 and 1.5.
    """
    if len(label) == 1:  # data sets of handwriting have the digits of several scripts
        return label
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


def look(label: str) -> str:
    """A label as it looks: without characters that show nothing, and with the usual letter for one that looks like it."""
    if label.isascii() and label.isprintable() and "`" not in label:
        return label
    letters = unicodedata.normalize("NFD", label)  # ё looks like ë as е looks like e
    of_a_word = len(unicodedata.normalize("NFC", label)) > 1
    # After a black flag, characters that show nothing elsewhere say of which country it is.
    kept = _TAGS if _BLACK_FLAG in label else frozenset()
    seen = (letter if letter in kept else _seen(letter, of_a_word) for letter in letters)
    return unicodedata.normalize("NFC", "".join(seen))


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
