"""`tip-adapter serve`: a model folder in, an HTTP service out; without one, a service that learns."""

from __future__ import annotations

import signal
import sys
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tip_adapter.cli._options import complete_encoders, whole
from tip_adapter.cli._output import notes, say
from tip_adapter.errors import UsageError
from tip_adapter.plugins import require_extra
from tip_adapter.text import printable

_MORE = "Host name that requests may use, in addition to localhost and HOST; may be repeated"


def serve(
    model_dir: Annotated[
        Path | None,
        Argument(metavar="[MODEL_DIR]", help="A model folder; without one, projects learn from photos over HTTP."),
    ] = None,
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
    encoder: Annotated[
        str | None,
        Option(
            help="Encoder of projects; default: pocket, or TIP_ADAPTER_ENCODER.",
            metavar="NAME",
            autocompletion=complete_encoders,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        Option(
            help="Folder of the projects' database; default: the user's data folder, or TIP_ADAPTER_DATA_DIR.",
            metavar="DIR",
        ),
    ] = None,
    database: Annotated[
        str | None,
        Option(
            help="PostgreSQL for projects, as a URL; default: SQLite in DIR, or TIP_ADAPTER_DATABASE.", metavar="URL"
        ),
    ] = None,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Classify photos over HTTP, by a model or by what projects learn. If other machines can reach HOST, requests need the token in TIP_ADAPTER_TOKEN."""
    server = require_extra("tip_adapter.serve.server", "the web service", "serve")
    settings = require_extra("tip_adapter.serve.settings", "the web service", "serve").Settings
    # uvicorn drains at SIGTERM, and then raises it again: the program ends as one that was asked to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    of_projects = {"encoder": encoder, "data": data, "database": database}
    with notes(quiet):
        given = [f"--{name}" for name, value in of_projects.items() if value is not None]
        if model_dir is not None and given:
            raise UsageError(f"{given[0]} is for projects, and {printable(model_dir)} is a model; leave one out")
        chosen = settings.of(
            host=host, port=port, allow_host=allow_host or None, encoder=encoder, data_dir=data, database=database
        )
        with closing(server.listen(chosen)) as listening:
            from tip_adapter.images.decoding_pool import start_decoding  # here: help needs no NumPy

            start_decoding()  # the first decoding process starts while the model loads
            url = server.url_of(listening)
            if model_dir is not None:
                app = server.model_app(model_dir, chosen, device=device, threads=threads)
                if not quiet:
                    say(f"note: {model_dir} is served at {url}")
                    say(f"note: programs send photos to {url}/v1/classify; {url}/v1/info describes the model")
            else:
                app = server.projects_app(chosen, device=device, threads=threads)
                _show_page(url, needs_token=chosen.token is not None, quiet=quiet)
            server.serve(app, listening)


def _show_page(url: str, *, needs_token: bool, quiet: bool) -> None:
    """Say where the page of projects is, and open it where a person is at the terminal."""
    if not quiet:
        say(f"note: the page is served at {url}")
        if needs_token:
            say("note: a browser opens it first at that address followed by /?token= and TIP_ADAPTER_TOKEN")
    if not needs_token and sys.stderr.isatty():
        webbrowser.open(url)
