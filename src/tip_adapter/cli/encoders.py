"""`tip-adapter encoders`: which encoders can be loaded here."""

from __future__ import annotations

from dataclasses import asdict

from tip_adapter.cli._everywhere import Device, Json, Quiet, Threads, Version
from tip_adapter.cli._output import print_json, print_table
from tip_adapter.encoders import encoder_records


def encoders(
    json: Json = False,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """List the encoders that can be loaded here: what each needs, languages, size, licence of its weights."""
    records = dict(encoder_records())
    if json:
        print_json({"encoders": [{"name": name, **asdict(record)} for name, record in records.items()]})
        return
    rows = [
        [name, r.description, " ".join(r.languages), f"{r.size_mib} MiB", r.licence, " ".join(r.needs) or "nothing"]
        for name, r in records.items()
    ]
    print_table(["encoder", "what it is", "languages", "size", "licence", "needs"], rows)
