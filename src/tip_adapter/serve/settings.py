"""Settings of the service, from options or the environment, and the limits that it sets to requests."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - pydantic reads annotations at run time
from typing import Annotated, Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tip_adapter.encoders import DEFAULT
from tip_adapter.errors import UsageError
from tip_adapter.features.encode import BATCH
from tip_adapter.serve.database import sqlite_url
from tip_adapter.text import printable, shown

_PREFIX = "TIP_ADAPTER_"
#: Shorter tokens can be guessed.
_SHORTEST_TOKEN = 16
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class Limits:
    """What requests may cost.

    Parameters
    ----------
    body_bytes : of one request
    photos : of one request
    seconds_to_receive : for the body of one request, from its first line to its last byte
    waiting_photos, waiting_bytes : of all requests that are not answered yet; further requests are refused
    import_bytes : of a project file
    projects : in the database
    classes, photos_of_project : of one project
    pending_photos : of one project's collection that are not encoded yet; further ones are refused
    connections : open at once, also those without a request
    seconds_to_drain : for requests that are not answered when the service is stopped
    """

    body_bytes: int = 32 * 2**20
    photos: int = BATCH  # one batch, as `predict` makes it
    seconds_to_receive: float = 30.0
    waiting_photos: int = 8 * BATCH
    waiting_bytes: int = 256 * 2**20
    import_bytes: int = 2**30
    projects: int = 100
    classes: int = 1000
    photos_of_project: int = 50_000
    pending_photos: int = 500
    connections: int = 1000
    seconds_to_drain: int = 30


class Settings(BaseSettings):
    """What an operator chooses. A value that is not given is read from the environment: ``TIP_ADAPTER_HOST`` and so on.

    Parameters
    ----------
    host : address to listen on
    port : 0 for a free one
    allow_host : names that requests may call the service by, in addition to loopback names and `host`; in the
        environment separated by commas
    encoder : name of the encoder of projects
    data_dir : folder of the projects' database; None for the user's own, as the system has it
    database : URL of another database
    token : what requests must know; required unless `host` is a loopback address. Only from the environment, because
        other users of the machine see options
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    allow_host: Annotated[tuple[str, ...], NoDecode] = ()
    encoder: str = Field(DEFAULT, min_length=1)
    data_dir: Path | None = None
    database: SecretStr | None = None  # it may have a password
    token: SecretStr | None = None

    @field_validator("allow_host", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("allow_host")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        lower = tuple(map(_as_in_a_header, names))
        for name in lower:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"{shown(name)} is not the name of a host, such as photos.example.org, without port")
        return lower

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < _SHORTEST_TOKEN:
            raise ValueError(
                f"it has {len(token.get_secret_value())} characters, at least {_SHORTEST_TOKEN} are needed"
            )
        return token

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Settings from those values that are not None, and the environment.

        Raises
        ------
        UsageError
            A value is not what it takes, or the service could be reached from other machines without a token.
        """
        try:
            settings = cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise UsageError(_in_words(error, given)) from error
        if settings.token is None and not _is_loopback(settings.host):
            raise UsageError(
                f"other machines can reach {printable(settings.host)}, and {_PREFIX}TOKEN is not set: set it to a secret, "
                'such as what `python -c "import secrets; print(secrets.token_urlsafe())"` prints'
            )
        return settings

    @property
    def database_url(self) -> str:
        """The database of projects; NotWritable if its folder cannot be made."""
        if self.database is not None:
            return self.database.get_secret_value()
        return sqlite_url(self.data_dir or platformdirs.user_data_path("tip-adapter"))

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a request's Host header may have, in lower case, without port."""
        own = _as_in_a_header(self.host)
        is_any = own in ("0.0.0.0", "[::]")
        return frozenset({*_LOOPBACK_NAMES, *self.allow_host, *(() if is_any else (own,))})


def _as_in_a_header(host: str) -> str:
    """A name or address as a Host header has it: lower case, an IPv6 address in brackets."""
    with suppress(ValueError):
        return f"[{ipaddress.IPv6Address(host.strip('[]'))}]"
    return host.lower()


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _in_words(error: ValidationError, given: dict[str, Any]) -> str:
    """The first invalid value, by its option or by its variable in the environment."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    place = f"--{name.replace('_', '-')}" if given.get(name) is not None else f"{_PREFIX}{name.upper()}"
    reason = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "value_error" else f", found {shown(first['input'])}"
    return f"{place}: {reason[0].lower()}{reason[1:]}{found}"
