"""`tip-adapter encoders`: which encoders can be loaded here."""

from __future__ import annotations

from dataclasses import asdict

from tip_adapter.cli._options import Json
from tip_adapter.cli._output import notes, print_json, print_table
from tip_adapter.encoders import encoder_families, encoder_records


def encoders(json: Json = False, quiet: bool = False) -> None:
    """List the encoders that can be loaded here: what each needs, languages, size, licence of its weights."""
    with notes(quiet):
        records = dict(encoder_records())
    with notes(quiet=True):  # it was said
        families = encoder_families().values()
    if json:
        encoders = [{"name": name, **asdict(record)} for name, record in records.items()]
        print_json({"encoders": encoders, "families": [family._asdict() for family in families]})
        return
    rows = []
    for name, r in records.items():
        languages = " ".join(r.languages) if len(r.languages) <= 16 else f"{len(r.languages)}, zh among them"
        languages = languages if r.reads_names else "reads no names"
        rows.append([name, r.description, languages, f"{r.size_mib} MiB", r.licence, " ".join(r.needs) or "nothing"])
    print_table(["encoder", "what it is", "languages", "size", "licence", "needs"], rows)
    sources = [[family.usage, family.description, " ".join(family.needs) or "nothing"] for family in families]
    print_table(["and any of", "what it is", "needs"], sources)
