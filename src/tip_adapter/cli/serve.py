"""`tip-adapter serve`: a model folder in, an HTTP service out."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from typing import Annotated

from typer import Option

import tip_adapter
from tip_adapter.cli._options import ModelDir, whole
from tip_adapter.cli._output import notes, say
from tip_adapter.plugins import require_extra

_MORE = "Host name that requests may use, in addition to localhost and HOST; may be repeated"


def serve(
    model_dir: ModelDir,
    host: Annotated[
        str | None,
        Option(help="Address to listen on; default: 127.0.0.1, or TIP_ADAPTER_HOST.", metavar="HOST"),
    ] = None,
    port: Annotated[
        int | None,
        Option(
            help="Port, 0 for a free one; default: 8000, or TIP_ADAPTER_PORT.", parser=whole(0, 65535), metavar="PORT"
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, Option(help=f"{_MORE}; default: TIP_ADAPTER_ALLOW_HOST.", metavar="NAME")
    ] = None,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Classify photos over HTTP. If other machines can reach HOST, requests need the token in TIP_ADAPTER_TOKEN."""
    server = require_extra("tip_adapter.serve.server", "the web service", "serve")
    settings = require_extra("tip_adapter.serve.settings", "the web service", "serve").Settings
    # uvicorn drains at SIGTERM, and then raises it again: the program ends as one that was asked to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with notes(quiet):
        chosen = settings.of(host=host, port=port, allow_host=allow_host or None)
        with closing(server.listen(chosen)) as listening:
            from tip_adapter.images.decoding_pool import start_decoding  # here: help needs no NumPy

            start_decoding()  # the first decoding process starts while the model loads
            model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
            if not quiet:
                say(f"note: {model_dir} is served at {server.url_of(listening)}")
            server.serve(model, chosen, listening)
