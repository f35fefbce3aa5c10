"""`make ui` and `make dashboard` where they cannot listen: one line, before any link."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from study.commands.serve import can_listen
from study.spec.errors import InputError
from tests.conftest import Project

HERE = "127.0.0.1"


@pytest.fixture(params=[HERE, "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[str]:
    """A port on which a program listens: at this address, or at all."""
    with socket.create_server((request.param, 0)) as listening:
        yield str(listening.getsockname()[1])


@pytest.mark.parametrize("host", [HERE, "0.0.0.0", "localhost"])
def test_a_port_in_use_is_refused(taken: str, host: str) -> None:
    with pytest.raises(InputError, match=rf"PORT must be free .*, got {taken} of {host}, .*; name another with PORT="):
        can_listen(host, taken)


def test_a_port_is_free_once_its_server_ends() -> None:
    with socket.create_server((HERE, 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection((HERE, port)) as client:
            listening.accept()[0].close()  # the side that closes first waits for a minute
            client.recv(1)
    for host in (HERE, "0.0.0.0", "localhost"):
        can_listen(host, str(port))


@pytest.mark.parametrize("port", ["0", "-1", "65536", "70000", "", "http", "80.5", "\u0661"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(InputError, match=r"PORT must be a whole number from 1 to 65535, got .*; name one with PORT="):
        can_listen(HERE, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=r"HOST must be an address of this machine, got .*; name one with HOST="):
        can_listen(host, "5000")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ui", "dashboard"])
def test_a_taken_port_ends_commands_in_one_line(project: Project, taken: str, command: str) -> None:
    told = project.python("-m", "study", command, "--port", taken, check=False)
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.count("\n") == 1 and told.stderr.startswith("error: PORT must be free")
