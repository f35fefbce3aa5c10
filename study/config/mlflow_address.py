"""Where MLflow's view of the run store is kept: the run store's own database, or a server that was named.

A password stands in no file and in no line that is printed: params.yaml takes an address without one, the variables
STUDY_TRACKING and MLFLOW_TRACKING_URI any.
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from study.config import schema
from study.spec.checks import checked
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.store.runs import Store, located

KEY, VARIABLE, GENERAL = "tracking", "STUDY_TRACKING", "MLFLOW_TRACKING_URI"
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
SECRETS = {"password", "sslpassword", "passfile", "token"}  # keys of an address's query
ANSWER_S = 5.0


class Unreachable(InputError):
    """The place that was named does not answer, or does not let us in."""


class Place(NamedTuple):
    """The ``uri`` of a database or server, where ``artifacts`` (pictures, the report) lie (None: where the server puts
    them), what stands before an experiment's name, and what ``named`` the uri."""

    uri: str
    artifacts: str | None
    prefix: str
    named: str

    @property
    def served(self) -> bool:
        """Whether it is an MLflow server, which has a UI of its own, and no database."""
        return self.uri.startswith("http")

    @property
    def shown(self) -> str:
        """The uri without user, password and query."""
        return _shown(self.uri)

    def experiment(self, tier: str) -> str:
        """The name of a tier's experiment here."""
        return f"{self.prefix} {tier}".strip()

    def hidden(self, text: str) -> str:
        """``text`` in one line, with the uri and its password taken out."""
        parts = urlsplit(self.uri)
        asked = parse_qs(parts.query)
        whole = self.uri if self.uri != self.shown else None
        for secret in (whole, parts.password, *(value for name in SECRETS for value in asked.get(name, ()))):
            text = text.replace(secret, "***") if secret else text
        return " ".join(text.split())

    def refusal(self, reason: str) -> Unreachable:
        """The error that this place does not take what is logged, because of ``reason``."""
        remedy = f"start it, or change {self.named}"
        if not self.named:
            file = self.uri.removeprefix("sqlite:///")
            remedy = f"end what holds it, or delete {file}: `make replay` writes it anew"
        what = "server" if self.served else "database"
        return Unreachable(f"MLflow's {what} must answer, got {self.hidden(reason)} from {self.shown}; {remedy}")

    def reach(self) -> None:
        """Raises Unreachable where no one listens at the uri's host: MLflow itself would try for minutes."""
        parts = urlsplit(self.uri)
        if parts.hostname:
            try:
                port = parts.port or PORTS[parts.scheme.partition("+")[0]]
                socket.create_connection((parts.hostname, port), timeout=ANSWER_S).close()
            except OSError as error:
                raise self.refusal(str(error)) from None


def place(params: Params, store: Store) -> Place:
    """What STUDY_TRACKING names, else the block `tracking:` of ``params``, else MLFLOW_TRACKING_URI, else the database
    of ``store``. Raises InputError for what is no address, or has a password in params.yaml."""
    block: schema.Tracking = checked(schema.Tracking, params.get("tracking") or {}, KEY)
    named = {VARIABLE: os.environ.get(VARIABLE), f"{KEY}.server": block.server, GENERAL: os.environ.get(GENERAL)}
    source = next((name for name, uri in named.items() if uri), "")
    uri = named.get(source) or f"sqlite:///{store.tracking_database.resolve()}"
    if source:
        _check(uri, source)
    folder = os.environ.get("STUDY_ARTIFACTS") or block.artifacts
    if folder is None and not uri.startswith("http"):
        folder = str(store.tracking_artifacts)
    if folder is not None and "://" not in folder:
        folder = located(folder).resolve().as_uri()
    return Place(uri, folder, block.name or "", source)


def _check(uri: str, source: str) -> None:
    try:
        parts = urlsplit(uri)
        known, _ = parts.scheme.partition("+")[0], parts.port
    except ValueError:  # a port that is no number
        known = ""
    if known not in {*PORTS, "sqlite"} or (known in ("http", "https") and not parts.hostname):
        raise InputError(
            f"{source} must be the address of an MLflow server or a database, got {_shown(uri)!r}; write such as "
            "http://host:5000, postgresql://user@host/name or mysql+pymysql://user@host/name"
        )
    secret = parts.password is not None or bool(SECRETS & parse_qs(parts.query).keys())
    if source.startswith(KEY) and (secret or (parts.username and known.startswith("http"))):
        raise InputError(
            f"{source} must have no password (params.yaml is shared), got one for {_shown(uri)}; name the whole "
            f"address in the variable {VARIABLE}"
        )


def _shown(uri: str) -> str:
    scheme, mark, rest = uri.partition("://")
    start, slash, path = rest.partition("/")
    if "@" in path:  # a password with a slash that should have been written as %2F
        return f"{scheme}://..."
    return f"{scheme}{mark}{start.rpartition('@')[2]}{slash}{path.partition('?')[0]}" if mark else "a text without ://"
