"""Training, validation and test parts: by the names of folders, and by the columns of a list."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

from tip_adapter.images.labels import folded
from tip_adapter.text import first_of, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_SPLIT_WORDS = {
    "train": "train training trainval trainings trn entrainement apprentissage entrenamiento treino treinamento"
    " addestramento allenamento trainen treningowy egitim обучение обучающая тренировочная 训练 訓練 学習 훈련 학습",
    "val": "val valid validate validation vld dev devel validierung validierungs validacion validacao validazione"
    " validatie valideren walidacyjny dogrulama валидация валидационная 验证 驗證 検証 검증",
    "test": "test testing tst eval evaluation holdout prueba pruebas teste prova testen testowy тест тестовая"
    " 测试 測試 テスト 評価 테스트 평가",
}
#: Part → the words for it in the names of folders, as `folded` gives them; in English and other common languages.
SPLIT_WORDS = {part: tuple(folded(words).split()) for part, words in _SPLIT_WORDS.items()}
#: What the names of such folders may contain as well: "Training Images", "trainset", "val2017", "seg_test". Each text is matched in one way
#: only ("dataset" by two words), else a long name could take hours.
_FILLER = (
    r"(?:set|data|daten|images?|imgs?|photos?|pictures?|pics|jpe?g|png|bilder|split|part|folder|seg|集|数据|"
    rf"{folded('データ|セット|데이터|用|용|выборка')}|[\W\d_])*"
)
_PART_NAMES = {part: re.compile(f"{_FILLER}(?:{'|'.join(words)}){_FILLER}") for part, words in SPLIT_WORDS.items()}
#: Names of columns, as `plain_name` gives them, that say which part an image is in.
_COLUMNS = frozenset(
    {"split", "splits", "splitname", "splittype", "datasplit", "datasettype", "subset", "partition", "set", "setname"}
    | {"settype", "part", "dataset", "usage", "mluse", "phase", "fold", "traintest", "traintestsplit", "trainvaltest"}
)
#: Short forms of the words, only in such columns.
_CODES = {"tr": "train", "va": "val", "vl": "val", "te": "test", "ts": "test"}
#: What may number the parts; other words are of something else (part: leaf, flower).
_NUMBERED_PART = re.compile(r"\d*(?:\.0)?|[a-z]", re.IGNORECASE)
_YES, _NO = frozenset(["1", "1.0", "true", "yes", "y", "t", "x"]), frozenset(["0", "0.0", "false", "no", "n", "f"])
#: More values than this in a column, or longer ones, are no names of parts.
_MOST_VALUES, _LONGEST_VALUE = 20, 40


@lru_cache(maxsize=10_000)
def part_of(name: str) -> str | None:
    """The part that a name is a word for, with what such names contain around it."""
    return next((part for part, names in _PART_NAMES.items() if names.fullmatch(folded(name))), None)


@lru_cache(maxsize=10_000)
def part_within(name: str) -> str | None:
    """The part that a word of the name means: train_cropped, PublicTest; the first of train_val."""
    words = [folded(word) for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+", name)]
    return part_of(name) or next((part for word in words for part, known in SPLIT_WORDS.items() if word in known), None)


def without_shared_words(names: Sequence[str]) -> Sequence[str]:
    """Names without the words that all begin with, unless one is a part with them: asl_train, asl_test → train, test."""
    if len(names) < 2 or any(map(part_of, names)):
        return names
    words = zip(*(re.split(r"(?<=[\W_])", name) for name in names), strict=False)
    shared = "".join(first for first, *_ in takewhile(lambda column: len(set(column)) == 1, words))
    return [name.removeprefix(shared) for name in names]


def is_split(parts: Collection[str | None]) -> bool:
    """Whether these are parts alone, at least two, train among them."""
    return None not in parts and len(parts) > 1 and "train" in parts


def part_cells(cells: Mapping[str, object], excluded: set[str]) -> dict[str, str]:
    """The cells of a row that may say which part it is in: by the name of their column, or by what they say.

    Columns of another name are added to `excluded`, and skipped in later rows, once a cell says something else.
    """
    found = {}
    for name, value in cells.items():
        if name not in excluded:
            text = str(value).strip() if isinstance(value, (str, int, float)) else ""
            fits = len(text) <= _LONGEST_VALUE
            if may_say_part(name) or (fits and part_within(text)):
                found[name] = text
            else:
                excluded.add(name)
    return found


def divided(rows: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[list[str], list[str]]:
    """The part of each row of a list, empty if the list does not say, and what is doubtful.

    Each column allows some parts: *train* of a column split one, *no* of is_test all others. A row is in the part that all
    its columns allow, in train if there are several, else in test.

    Parameters
    ----------
    rows : number of the line and `part_cells` of each row

    Raises
    ------
    ValueError
        Two columns contradict each other; the message names the line.
    """
    named: dict[str, list[frozenset[str]]] = {}
    by_value: dict[str, list[frozenset[str]]] = {}
    doubts = []
    for column in dict.fromkeys(name for _, cells in rows for name in cells):
        values = [cells.get(column, "") for _, cells in rows]
        known = {value: _allowed(column, value) for value in dict.fromkeys(values)}
        flag = _flagged(column)
        if flag and "" in known and all(allowed == {flag} for value, allowed in known.items() if value):
            known[""] = frozenset(SPLIT_WORDS) - {flag}  # only what is in the part is marked
        others = [value for value, allowed in known.items() if not allowed]
        is_named = may_say_part(column)
        if not others:
            says = frozenset[str]().union(*known.values())
            if is_named or (len(known) <= _MOST_VALUES and len(says) > 1 and "train" in says):
                (named if is_named else by_value)[column] = [known[value] for value in values]
        elif is_named and len(others) < len(known):
            found = first_of(sorted(value or "nothing" for value in others))
            doubts.append(f"its column of splits has {found} as well; all rows are read")
        elif is_part_column(column) and 1 < len(known) <= _MOST_VALUES and all(map(_NUMBERED_PART.fullmatch, known)):
            doubts.append(
                f"its column {printable(column)} has {first_of(sorted(filter(None, others)))}: no names of parts, so all rows are "
                "read; if these are parts, write train, val or test instead"
            )
    columns = named or by_value
    if not columns:
        return [""] * len(rows), doubts
    parts: list[str] = []
    for position, (line, cells) in enumerate(rows):
        common = frozenset(SPLIT_WORDS).intersection(*(sets[position] for sets in columns.values()))
        if not common:
            found = ", ".join(f"{printable(name)} says {printable(cells[name])}" for name in columns)
            raise ValueError(f"line {line}: its columns contradict each other: {found}; correct or remove one")
        parts.append(next(part for part in ("train", "test", "val") if part in common))
    return parts, []


def parts_of_paths(rows: Sequence[tuple[Sequence[str], str]]) -> tuple[list[str], list[str]]:
    """The part of each row by the folders of its image, if all say one and it is a split, else empty; and a note if only some do.

    Parameters
    ----------
    rows : folders of the image, and its label; a folder of the label's name is its class folder, not a part
    """
    found = [
        next(filter(None, (part_of(name) for name in reversed(names) if name != label)), "") for names, label in rows
    ]
    if not is_split({part or None for part in found} - {None}):
        return [""] * len(rows), []
    if "" not in found:
        return found, []
    others = ["/".join(names) or "no folder" for (names, _), part in zip(rows, found, strict=True) if not part]
    doubt = (
        f"its images are in folders of parts, but for {len(others):,} in {first_of(sorted(set(others)))}; all rows are read; "
        "remove those, or write a column split"
    )
    return [""] * len(rows), [doubt]


def _allowed(column: str, value: str) -> frozenset[str]:
    """The parts that a cell allows; empty if it says nothing about them."""
    word, flag = value.lower(), _flagged(column)
    if flag and word in _YES | _NO:
        return frozenset([flag]) if word in _YES else frozenset(SPLIT_WORDS) - {flag}
    part = part_within(value) or (_CODES.get(word) if is_part_column(column) else None)
    return frozenset([part] if part else [])


@lru_cache(maxsize=1000)
def is_part_column(column: str) -> bool:
    """Whether a column of this name says which part an image is in."""
    return plain_name(column) in _COLUMNS


def may_say_part(column: str) -> bool:
    """Whether a column of this name may say which part something is in, such as split or is_test."""
    return is_part_column(column) or bool(_flagged(column))


@lru_cache(maxsize=1000)
def _flagged(column: str) -> str | None:
    """The part that a column such as is_test or train says yes or no about."""
    return part_of(re.sub(r"^(is|in|for)(?=\w)", "", plain_name(column)))


@lru_cache(maxsize=1000)
def plain_name(name: str) -> str:
    """The name of a column without case, accents, spaces and punctuation."""
    return re.sub(r"[\W_]", "", folded(name))
