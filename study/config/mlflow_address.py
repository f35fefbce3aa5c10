"""The address of MLflow's view of the run store: the store's own database, or a server or database given by the user.

Passwords are neither stored nor printed: params.yaml accepts only an address without one. The variables STUDY_TRACKING
and MLFLOW_TRACKING_URI accept any address.
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
SECRETS = {"password", "sslpassword", "passfile", "token"}  # secret keys in the query of an address
ANSWER_S = 5.0


class Unreachable(InputError):
    """The server or database does not answer, or refuses the login."""


class Place(NamedTuple):
    """Where MLflow's data is: the ``uri`` of a database or server, the address of the ``artifacts`` (pictures, the
    report; None: the server decides), the ``prefix`` of experiment names, and the key or variable that ``named`` the
    uri ("": the default)."""

    uri: str
    artifacts: str | None
    prefix: str
    named: str

    @property
    def served(self) -> bool:
        """Whether the uri is an MLflow server, which has its own UI, rather than a database."""
        return self.uri.startswith("http")

    @property
    def shown(self) -> str:
        """The uri without user, password and query, for messages."""
        return _shown(self.uri)

    def experiment(self, tier: str) -> str:
        """The name of a tier's MLflow experiment."""
        return f"{self.prefix} {tier}".strip()

    def hidden(self, text: str) -> str:
        """``text`` in one line, with the uri and its secrets replaced by ***."""
        parts = urlsplit(self.uri)
        asked = parse_qs(parts.query)
        whole = self.uri if self.uri != self.shown else None
        for secret in (whole, parts.password, *(value for name in SECRETS for value in asked.get(name, ()))):
            text = text.replace(secret, "***") if secret else text
        return " ".join(text.split())

    def refusal(self, reason: str) -> Unreachable:
        """The error for a place that cannot be logged to, because of ``reason``."""
        remedy = f"start it, or change {self.named}"
        if not self.named:
            file = self.uri.removeprefix("sqlite:///")
            remedy = f"end the process that holds it, or delete {file}: `make replay` rewrites it"
        what = "server" if self.served else "database"
        return Unreachable(f"MLflow's {what} must answer, got {self.hidden(reason)} from {self.shown}; {remedy}")

    def reach(self) -> None:
        """Raises Unreachable if nothing listens at the uri's host. MLflow itself would retry for minutes."""
        parts = urlsplit(self.uri)
        if parts.hostname:
            try:
                port = parts.port or PORTS[parts.scheme.partition("+")[0]]
                socket.create_connection((parts.hostname, port), timeout=ANSWER_S).close()
            except OSError as error:
                raise self.refusal(str(error)) from None


def place(params: Params, store: Store) -> Place:
    """The place that STUDY_TRACKING names, else the block `tracking:` of ``params``, else MLFLOW_TRACKING_URI, else the
    database of ``store``. Raises InputError for an invalid address, and for a password in params.yaml."""
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
    except ValueError:  # the port is not a number
        known = ""
    if known not in {*PORTS, "sqlite"} or (known in ("http", "https") and not parts.hostname):
        raise InputError(
            f"{source} must be the address of an MLflow server or a database, got {_shown(uri)!r}; write e.g. "
            "http://host:5000, postgresql://user@host/name or mysql+pymysql://user@host/name"
        )
    secret = parts.password is not None or bool(SECRETS & parse_qs(parts.query).keys())
    if source.startswith(KEY) and (secret or (parts.username and known.startswith("http"))):
        raise InputError(
            f"{source} must have no password (params.yaml is shared), got one for {_shown(uri)}; put the whole "
            f"address in the variable {VARIABLE}"
        )


def _shown(uri: str) -> str:
    scheme, mark, rest = uri.partition("://")
    start, slash, path = rest.partition("/")
    if "@" in path:  # a password with a slash that is not escaped as %2F
        return f"{scheme}://..."
    return f"{scheme}{mark}{start.rpartition('@')[2]}{slash}{path.partition('?')[0]}" if mark else "a text without ://"
