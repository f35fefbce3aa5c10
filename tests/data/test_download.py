"""Archives are found, downloaded, resumed and unpacked: a real server, real files, and processes that are killed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from study.data import download as fetching
from study.data.download import Archive, fetch, masked, mirrors_from, missing
from study.spec.errors import InputError
from study.store.runs import StoreError
from tests.conftest import ROOT

NOISE = random.Random(0).randbytes(500_000)
FILES = {"set/train.txt": b"a\nb\n", "set/images/a.png": NOISE[:300_000], "set/images/b.png": NOISE[300_000:]}
PROVIDES = ("set/images", "set/train.txt")
RULE = re.compile(r".+ must .+, got .+; .+")


@dataclass
class Page:
    """What the server gives at one path. ``cut``: bytes until each answer in turn ends; ``hold``: it stalls there."""

    content: bytes
    cut: list[int] = field(default_factory=list)
    hold: bool = False
    ranges: bool = True  # it honours Range
    if_range: bool = True  # ... and If-Range
    length: bool = True  # it tells Content-Length
    cap: int = 0  # the most bytes that it gives of a range
    compresses: bool = False  # on the way, for whoever accepts it
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after: Callable[[Page], None] = lambda page: None  # what happens once an answer has ended


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        asked = self.headers.get("Range", "")
        name = self.path.partition("?")[0]
        page = server.pages.get(name)
        server.asked.append((self.path, asked, self.headers.get("If-Range", "")))
        if page is None or page.status != 200:
            self.send_error(404 if page is None else page.status)
            return
        content, start, status = page.content, 0, 200
        compressed = page.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
        content = gzip.compress(content) if compressed else content
        version = self.headers.get("If-Range")
        if asked and page.ranges and (not page.if_range or version is None or version in page.headers.values()):
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        body = content[start:][: page.cap or None]
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}")
        if page.length:
            self.send_header("Content-Length", str(len(body)))
        for key, value in (page.headers | ({"Content-Encoding": "gzip"} if compressed else {})).items():
            self.send_header(key, value)
        self.end_headers()
        end = page.cut.pop(0) if page.cut else len(body)
        self.wfile.write(body[:end])
        self.wfile.flush()
        server.sent.append(len(body[:end]))
        if end < len(body) and page.hold:
            server.released.wait(20)
        page.after(page)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Pages by path; ``asked`` are (path, Range, If-Range) of every request, ``sent`` the body bytes of each answer."""

    daemon_threads = False  # it is closed only when every answer has ended

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.sent: list[int] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def give(self, name: str, content: bytes, **options: Any) -> str:
        self.pages[f"/{name}"] = Page(content, **options)
        return f"{self.url}/{name}"

    def ranges(self) -> list[str]:
        return [asked for _, asked, _ in self.asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of the server's."""
        if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PAUSE_S", 0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def tar(files: dict[str, bytes] = FILES, mode: str = "w", links: tuple[tuple[str, str, bytes], ...] = ()) -> bytes:
    """An archive of files and of links: (name, target, kind)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes] = FILES, link: str = "", method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)  # without the time of the day
        if link:
            member = zipfile.ZipInfo("set/link")
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, link)
    return buffer.getvalue()


WHOLE = tar()
HALF = len(WHOLE) // 2
ETAG, DATE = {"ETag": '"one"'}, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def archive_of(content: bytes, *urls: str, name: str = "set.tar", **changes: Any) -> Archive:
    return replace(Archive(name, PROVIDES, len(content), md5(content), urls), **changes)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(root: Path) -> bool:
    """Every file of the set is there, and nothing of the way that it came."""
    left = {name: content for name, content in tree(root).items() if name != ".fetch.lock"}
    return left == FILES


def refused(action: Callable[[], Any], kind: type[Exception] = InputError) -> str:
    """The message: one line of rule, value and remedy."""
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert RULE.fullmatch(text), text
    return text


class Child:
    """A real process that fetches, says on stdout what it did after each piece, and stops at a given byte."""

    SCRIPT = """
import sys, time
from pathlib import Path
from study.data import download
download.PAUSE_S = 0
def tick_of(what):
    def tick(done, every):
        print(what, done, flush=True)
        if what.startswith(sys.argv[1]) and done >= int(sys.argv[2]):
            time.sleep(60)
    return tick
download.fetch([{archive}], Path({root!r}), tick_of=tick_of)
"""

    def __init__(self, archive: Archive, root: Path, step: str = "-", stop: int = 0) -> None:
        script = self.SCRIPT.format(archive=f"download.{archive!r}", root=str(root))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", script, step, str(stop)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def killed_at(self, step: str, done: int) -> None:
        """End it without a warning once it has told of so many bytes."""
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                what, _, said = line.rpartition(" ")
                if what.startswith(step) and int(said) >= done:
                    break
            else:
                pytest.fail("the child ended by itself")
            self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(20) == -signal.SIGKILL


# where an archive is found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("set.tar", WHOLE),
        ("set.tar.gz", tar(mode="w:gz")),
        ("set.tgz", tar(mode="w:gz")),
        ("set.zip", zipped(method=zipfile.ZIP_DEFLATED)),
    ],
)
def test_an_archive_is_downloaded_checked_unpacked_and_deleted(
    server: Server, root: Path, name: str, content: bytes
) -> None:
    archive = archive_of(content, server.give(name, content), name=name)
    ticks: dict[str, list[tuple[int, int]]] = {}

    def tick_of(what: str) -> Callable[[int, int], None]:
        return lambda done, every: ticks.setdefault(what, []).append((done, every))

    assert missing([archive], root) == [archive]
    fetch([archive], root, tick_of=tick_of)
    assert unpacked(root) and missing([archive], root) == []
    for step in ("fetching", "unpacking"):
        told = ticks[f"{step} {name}"]
        assert told == sorted(told) and all(0 < done <= every for done, every in told)
    assert ticks[f"fetching {name}"][-1] == (len(content), len(content))
    fetch([archive], root)
    assert len(server.asked) == 1


def test_a_shared_archive_is_fetched_once(server: Server, root: Path) -> None:
    url = server.give("set.tar", WHOLE)
    fetch([archive_of(WHOLE, url), archive_of(WHOLE, url)], root)
    assert len(server.asked) == 1 and unpacked(root)


def test_it_is_unpacked_in_its_folder(server: Server, root: Path) -> None:
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE), into="deep/er", provides=("deep/er/set/train.txt",))
    fetch([archive], root)
    assert (root / "deep/er/set/images/a.png").read_bytes() == FILES["set/images/a.png"]


@pytest.mark.parametrize("place", [".", "inner", ".downloads", "mirror"])
def test_an_existing_file_is_used_in_place(server: Server, root: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "mirror" if place == "mirror" else root / place
    folder.mkdir(parents=True)
    (folder / "set.tar").write_bytes(WHOLE)
    url = server.give("set.tar", WHOLE)
    archive = archive_of(WHOLE, url, into="inner", provides=("inner/set/images", "inner/set/train.txt"))
    before = (folder / "set.tar").stat()
    fetch([archive], root, mirrors_from(f" {folder if place == 'mirror' else tmp_path} \n {server.url}/ "))
    after = (folder / "set.tar").stat()
    assert server.asked == [] and missing([archive], root) == []
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(list(tmp_path.rglob("set.tar*"))) == 1, "it was copied"


@pytest.mark.parametrize("place", ["data", "data/.downloads", "mirror"])
def test_a_wrong_user_file_is_reported_and_kept(server: Server, root: Path, tmp_path: Path, place: str) -> None:
    path = tmp_path / place / "set.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(tar({"set/other": b"x"}))
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE))
    mirrors = (str(path.parent),) if place == "mirror" else ()
    text = refused(lambda: fetch([archive], root, mirrors))
    assert f"{path} must be the published file" in text
    assert f"expected md5 {archive.checksum[4:]}, found {md5(path.read_bytes())[4:]}" in text
    assert path.read_bytes() == tar({"set/other": b"x"}) and server.asked == [] and not (root / "set").exists()


def test_a_users_own_folder_is_used_untouched(server: Server, root: Path) -> None:
    """Made by hand: neither written, nor locked, nor asked for."""
    (root / "set/images").mkdir(parents=True)
    (root / "set/train.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE))
    fetch([archive], root, (server.url,))
    assert {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))} == before and server.asked == []


@pytest.mark.parametrize("absent", PROVIDES)
def test_a_folder_that_lacks_one_part_is_missing(root: Path, absent: str) -> None:
    for name in {*PROVIDES} - {absent}:
        (root / name).mkdir(parents=True)
    assert missing([archive_of(WHOLE)], root) == [archive_of(WHOLE)]


def test_a_mirror_comes_before_the_publisher(server: Server, root: Path) -> None:
    own = server.give("own/set.tar", WHOLE)
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE))
    fetch([archive], root, (own.removesuffix("set.tar") + "?token=t0ken",))
    assert [path for path, _, _ in server.asked] == ["/own/set.tar?token=t0ken"] and unpacked(root)


def test_a_mirror_without_the_file_is_skipped(server: Server, root: Path, tmp_path: Path) -> None:
    fetch([archive_of(WHOLE, server.give("set.tar", WHOLE))], root, (str(tmp_path), f"{server.url}/none"))
    assert [path for path, _, _ in server.asked] == ["/none/set.tar", "/set.tar"] and unpacked(root)


def test_a_missing_mirror_folder_is_reported(root: Path, tmp_path: Path) -> None:
    text = refused(lambda: fetch([archive_of(WHOLE)], root, (str(tmp_path / "typo"),)))
    assert f"got {tmp_path / 'typo'}; correct STUDY_MIRROR" in text and not root.exists()


def test_the_variable_names_several_mirrors() -> None:
    assert mirrors_from(None) == mirrors_from(" \n") == ()
    assert mirrors_from(" /a\thttps://b/c\n d ") == ("/a", "https://b/c", "d")


# downloads that are cut


@pytest.mark.parametrize("headers", [ETAG, DATE, {}, {"ETag": 'W/"weak"'}], ids=["etag", "date", "none", "weak"])
def test_a_cut_download_resumes_where_it_stopped(server: Server, root: Path, headers: dict[str, str]) -> None:
    cuts = [200_000, 100_000, 70_000]
    url = server.give("set.tar", WHOLE, cut=list(cuts), headers=headers)
    fetch([archive_of(WHOLE, url)], root)
    assert unpacked(root)
    starts = [int(asked[6:-1]) for asked in server.ranges()[1:]]
    assert server.ranges()[0] == "" and starts == sorted(starts) and len(starts) == 3
    # At most one piece in the making is lost by a cut.
    assert all(sum(cuts[: i + 1]) - start <= (i + 1) * fetching.PIECE for i, start in enumerate(starts))
    assert {version for _, _, version in server.asked[1:]} == ({*headers.values()} - {'W/"weak"'} or {""})


def test_a_server_without_ranges_starts_anew(server: Server, root: Path) -> None:
    url = server.give("set.tar", WHOLE, cut=[HALF], ranges=False, headers=ETAG)
    fetch([archive_of(WHOLE, url)], root)
    assert unpacked(root) and len(server.asked) == 2 and server.sent[-1] == len(WHOLE)
    assert server.ranges()[1] != "", "it was asked to go on"


def test_capped_ranges_still_complete_a_download(server: Server, root: Path) -> None:
    url = server.give("set.tar", WHOLE, cut=[HALF], cap=0, headers=ETAG)
    server.pages["/set.tar"].after = lambda page: setattr(page, "cap", 100_000)
    fetch([archive_of(WHOLE, url)], root)
    assert unpacked(root) and len(server.asked) > 3


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range", "Range alone"])
@pytest.mark.parametrize("key", ["ETag", "Last-Modified"])
def test_a_file_that_changed_meanwhile_starts_anew(server: Server, root: Path, key: str, if_range: bool) -> None:
    """Also at a server that goes on with another version than it is asked for."""
    old = tar({name: bytes(len(content)) for name, content in FILES.items()})
    assert len(old) == len(WHOLE)
    url = server.give("set.tar", old, cut=[HALF], headers={key: '"one"'}, if_range=if_range)

    def change(page: Page) -> None:
        page.content, page.headers = WHOLE, {key: '"two"'}

    server.pages["/set.tar"].after = change
    fetch([archive_of(WHOLE, url, checksum="")], root)
    assert unpacked(root) and server.asked[1][2] == '"one"'


@pytest.mark.parametrize("headers", [ETAG, {}], ids=["etag", "none"])
def test_a_complete_part_is_not_downloaded_again(server: Server, root: Path, headers: dict[str, str]) -> None:
    url = server.give("set.tar", WHOLE, cut=[HALF] + [0] * 9, headers=headers)
    archive = archive_of(WHOLE, url)
    refused(lambda: fetch([archive], root))
    archive.part(root).write_bytes(WHOLE)
    server.pages["/set.tar"].cut, server.sent[:] = [], []
    fetch([archive], root)
    assert unpacked(root) and server.sent == [] and server.ranges()[-1] == f"bytes={len(WHOLE)}-"


def test_an_overlong_part_restarts_the_download(server: Server, root: Path) -> None:
    url = server.give("set.tar", WHOLE, cut=[HALF] + [0] * 9)
    archive = archive_of(WHOLE, url)
    refused(lambda: fetch([archive], root))
    archive.part(root).write_bytes(WHOLE + b"more")
    server.pages["/set.tar"].cut = []
    fetch([archive], root)
    assert unpacked(root) and server.ranges()[-2:] == [f"bytes={len(WHOLE) + 4}-", ""]


def test_a_truncated_download_continues_from_the_next_mirror(server: Server, root: Path) -> None:
    """The server says more than it ever gives; its part is there for the next run."""
    short = server.give("short/set.tar", WHOLE, cut=[HALF] + [0] * 9, headers=ETAG)
    archive = archive_of(WHOLE, short)
    text = refused(lambda: fetch([archive], root))
    kept = archive.part(root).read_bytes()
    assert f"at {len(kept)} of {len(WHOLE)} bytes" in text and HALF - fetching.PIECE <= len(kept) <= HALF
    assert kept == WHOLE[: len(kept)] and not (root / "set").exists()
    asked = len(server.asked)
    assert asked == 1 + fetching.RESUMES
    server.pages["/short/set.tar"].cut = [0] * 9
    fetch([replace(archive, urls=(short, server.give("set.tar", WHOLE, headers=ETAG)))], root)
    path, wanted, version = server.asked[-1]
    assert (path, wanted, version) == ("/set.tar", f"bytes={len(kept)}-", '"one"') and unpacked(root)
    assert len(server.asked) == asked + 2, "a mirror that gives nothing is left at once"


def test_a_part_without_version_restarts_on_another_mirror(server: Server, root: Path) -> None:
    first = server.give("a/set.tar", tar({"set/other": b"x" * 500_000}), cut=[HALF] + [0] * 9)
    fetch([archive_of(WHOLE, first, server.give("b/set.tar", WHOLE))], root)
    assert server.asked[-1] == ("/b/set.tar", "", "") and unpacked(root)


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_missing_lengths_and_declared_encodings_are_accepted(server: Server, root: Path, length: bool) -> None:
    content = tar(mode="w:gz")
    url = server.give("set.tgz", content, length=length, headers={"Content-Encoding": "gzip"})
    fetch([archive_of(content, url, name="set.tgz")], root)
    assert unpacked(root)


def test_nothing_is_compressed_on_the_way(server: Server, root: Path) -> None:
    """Else a range would be of other bytes than those on disk."""
    fetch([archive_of(WHOLE, server.give("set.tar", WHOLE, compresses=True))], root)
    assert unpacked(root)


def test_a_user_file_replaces_a_partial_download(server: Server, root: Path) -> None:
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE, cut=[HALF] + [0] * 9))
    refused(lambda: fetch([archive], root))
    (root / "set.tar").write_bytes(WHOLE)
    asked = len(server.asked)
    fetch([archive], root)
    assert tree(root) == FILES | {".fetch.lock": b"", "set.tar": WHOLE} and len(server.asked) == asked


@pytest.mark.slow
def test_a_server_that_stalls_is_given_up(server: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", (2, 0.4))
    silent = server.give("a/set.tar", WHOLE, cut=[0], hold=True)
    slow = server.give("b/set.tar", WHOLE, cut=[HALF], hold=True, headers=ETAG)
    fetch([archive_of(WHOLE, silent, slow)], root)
    assert [path for path, _, _ in server.asked] == ["/a/set.tar", "/b/set.tar", "/b/set.tar"] and unpacked(root)


def test_a_killed_download_fetches_only_the_rest(server: Server, root: Path) -> None:
    url = server.give("set.tar", WHOLE, cut=[HALF], hold=True, headers=ETAG)
    archive = archive_of(WHOLE, url)
    Child(archive, root).killed_at("fetching", HALF // 2)
    kept = archive.part(root).stat().st_size
    assert HALF // 2 <= kept < len(WHOLE)
    server.released.set()
    server.sent.clear()
    fetch([archive], root)
    assert server.asked[1:] == [("/set.tar", f"bytes={kept}-", '"one"')]
    assert server.sent[-1] == len(WHOLE) - kept and unpacked(root)


# mirrors that fail


def _closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_every_failed_mirror_is_reported_with_its_reason(server: Server, root: Path) -> None:
    other = tar({"set/other": b"x"})
    wrong, busy = server.give("wrong.tar", other), server.give("busy.tar", b"", status=503)
    closed = f"http://127.0.0.1:{_closed_port()}/set.tar"
    archive = archive_of(WHOLE, f"{server.url}/none.tar", busy, wrong, closed, "gopher://x/set.tar")
    text = refused(lambda: fetch([archive], root, (f"{server.url}/own",)))
    reasons = [
        f"{server.url}/own/set.tar : HTTP 404",
        f"{server.url}/none.tar : HTTP 404",
        f"{busy} : HTTP 503",
        f"{wrong} : another one (expected md5 {archive.checksum[4:]}, found {md5(other)[4:]})",
        f"{closed} : ConnectionError",
        "gopher://x/set.tar : InvalidSchema",
    ]
    assert ", ".join(reasons) in text
    assert text.endswith(f"put the file into {root} by hand, or set STUDY_MIRROR to a folder or a base URL that has it")
    assert [path for path, _, _ in server.asked] == ["/own/set.tar", "/none.tar", "/busy.tar", "/wrong.tar"]


@pytest.mark.parametrize("checksum", [md5(WHOLE), f"sha256:{hashlib.sha256(WHOLE).hexdigest().upper()}"])
def test_a_wrong_download_is_discarded_for_another_mirror(server: Server, root: Path, checksum: str) -> None:
    wrong = server.give("wrong.tar", WHOLE[:-1] + b"x", headers=ETAG)
    archive = archive_of(WHOLE, wrong, checksum=checksum)
    refused(lambda: fetch([archive], root))
    assert tree(root) == {".fetch.lock": b""}
    fetch([replace(archive, urls=(wrong, server.give("set.tar", WHOLE, headers=ETAG)))], root)
    assert server.asked[-1] == ("/set.tar", "", "") and unpacked(root)


@pytest.mark.parametrize("name", ["set.tar", "set.zip"])
def test_a_mirror_serving_a_web_page_is_skipped(server: Server, root: Path, name: str) -> None:
    page = server.give(f"login/{name}", b"<html>log in</html>")
    content = WHOLE if name == "set.tar" else zipped()
    fetch([archive_of(b"", page, server.give(name, content), name=name, checksum="")], root)
    assert unpacked(root)


def test_a_download_damaged_later_is_fetched_again(server: Server, root: Path) -> None:
    """A kill between the download and the unpacking, and a damage since."""
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE), provides=("set/nothing",))
    Child(archive, root, "unpacking", 1).killed_at("unpacking", 1)
    path = root / ".downloads" / "set.tar"
    path.write_bytes(WHOLE[:-1] + b"x")
    fetch([archive_of(WHOLE, server.give("set.tar", WHOLE))], root)
    assert len(server.asked) == 2 and unpacked(root)


SECRETS = ("s3cret", "t0ken", "us3r")


def test_secrets_are_masked(server: Server, root: Path) -> None:
    port = server.server_address[1]
    addresses = [
        f"http://us3r:s3cret@127.0.0.1:{port}/none.tar?token=t0ken",
        f"http://us3r:s3cret@127.0.0.1:{_closed_port()}/none.tar#t0ken",
        "http://us3r:s3c/s3cret@127.0.0.1/none.tar",
    ]
    mirror = f"http://us3r:s3cret@127.0.0.1:{port}/own?token=t0ken"
    part = server.give("cut.tar", WHOLE, cut=[HALF] + [0] * 9).replace("//", "//us3r:s3cret@") + "?token=t0ken"
    text = refused(lambda: fetch([archive_of(WHOLE, *addresses, part)], root, (mirror,)))
    assert f"http://***@127.0.0.1:{port}/none.tar?*** : HTTP 404" in text
    assert f"http://***@127.0.0.1:{port}/own/set.tar?*** : HTTP 404" in text
    assert f"http://***@127.0.0.1:{port}/cut.tar?*** : " in text
    assert len(server.asked) >= 3, "the secrets were used"
    kept = text.encode() + b"".join(tree(root).values())
    assert not [secret for secret in SECRETS if secret.encode() in kept]
    assert masked("see https://a.b/c/d.tar and /e") == "see https://a.b/c/d.tar and /e"
    forgotten = refused(lambda: fetch([archive_of(WHOLE)], root, (f"us3r:s3cret@127.0.0.1:{port}/own?token=t0ken",)))
    assert f"***@127.0.0.1:{port}/own?***; correct" in forgotten and "s3cret" not in forgotten


# files behind a login


def _behind_a_login(name: str, **changes: Any) -> Archive:
    content = zipped({f"{name}/a": b"x"})
    archive = Archive(f"{name}.zip", (f"{name}/a",), len(content), "", where=f"the page of {name}")
    return replace(archive, **({"checksum": md5(content)} | changes))


def test_all_files_behind_a_login_are_reported_first(server: Server, root: Path) -> None:
    free = archive_of(WHOLE, server.give("set.tar", WHOLE))
    first = _behind_a_login("first", size=2_500_000_000)
    second = _behind_a_login("second", size=11_600_000_000, into="inner", provides=("inner/second/a",))
    there, own = _behind_a_login("there"), _behind_a_login("own")
    (root / "own").mkdir(parents=True)
    (root / "own" / "a").touch()
    (root / "there.zip").write_bytes(zipped({"there/a": b"x"}))
    text = refused(lambda: fetch([free, first, there, own, second], root))
    assert "got none of first.zip, second.zip;" in text
    assert f"put first.zip (about 2.5 GB; the page of first) into {root}, or unpack it so that {root}/first/a" in text
    assert f"put second.zip (about 11.6 GB; the page of second) into {root}, or" in text
    assert f"{root}/inner/second/a" in text and "there" not in text
    assert server.asked == [] and not (root / "set").exists() and not (root / "there").exists()


def test_a_mirror_may_supply_files_behind_a_login(server: Server, root: Path) -> None:
    free = archive_of(WHOLE, server.give("set.tar", WHOLE))
    first, second = _behind_a_login("first"), _behind_a_login("second")
    server.give("own/first.zip", zipped({"first/a": b"x"}))
    text = refused(lambda: fetch([free, first, second], root, (f"{server.url}/own",)))
    assert "got none of second.zip;" in text and not (root / "first").exists() and not (root / "set").exists()
    server.give("own/second.zip", zipped({"second/a": b"x"}))
    fetch([free, first, second], root, (f"{server.url}/own",))
    assert missing([free, first, second], root) == []


def test_a_marker_hiding_user_files_is_reported(root: Path) -> None:
    archive = _behind_a_login("first")
    (root / "first").mkdir(parents=True)
    (root / "first" / "a").touch()
    archive.marker(root).touch()
    assert f"exist and delete {root}/.unpacking-first.zip" in refused(lambda: fetch([archive], root))


# archives that are bad

OUT = "evil"
BAD_TARS = {
    "..": tar({"set/train.txt": b"", f"../{OUT}": b"x"}),
    ".. in the middle": tar({"set/train.txt": b"", f"set/../../{OUT}": b"x"}),
    "link out": tar({"set/train.txt": b""}, links=(("set/link", f"../../{OUT}", tarfile.SYMTYPE),)),
    "absolute link": tar({"set/train.txt": b""}, links=(("set/link", f"/tmp/{OUT}", tarfile.SYMTYPE),)),
    "hard link out": tar({"set/train.txt": b""}, links=(("set/link", f"../{OUT}", tarfile.LNKTYPE),)),
    "through a link": tar({f"set/link/{OUT}": b"x"}, links=(("set/link", "../..", tarfile.SYMTYPE),)),
    "device": tar({"set/train.txt": b""}, links=(("set/link", "", tarfile.FIFOTYPE),)),
}
BAD_ZIPS = {
    "..": zipped({"set/train.txt": b"", f"../{OUT}": b"x"}),
    ".. in the middle": zipped({"set/train.txt": b"", f"set/../../{OUT}": b"x"}),
    "backslashes": zipped({"set/train.txt": b"", f"..\\{OUT}": b"x"}),
    "link": zipped({"set/train.txt": b""}, link=f"../../{OUT}"),
}


@pytest.mark.parametrize(
    ("name", "content"),
    [pytest.param("set.tar", content, id=f"tar {key}") for key, content in BAD_TARS.items()]
    + [pytest.param("set.zip", content, id=f"zip {key}") for key, content in BAD_ZIPS.items()],
)
def test_nothing_of_an_unsafe_archive_leaves_the_folder(
    server: Server, root: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    archive = archive_of(content, server.give(name, content), name=name, provides=("set",))
    text = refused(lambda: fetch([archive], root))
    member = re.search(r"got '(.+)'; use the published", text)
    assert member and (OUT in member[1] or member[1].endswith("link")) and "every member of" in text
    assert not list(tmp_path.rglob(f"*{OUT}*")) and not Path(f"/tmp/{OUT}").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert missing([archive], root) == [archive], "what was unpacked before is not taken for the set"


@pytest.mark.parametrize("pack", [tar, zipped])
def test_absolute_paths_are_refused(root: Path, tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    outside = tmp_path / "outside" / OUT
    content = pack({str(outside): b"x", **FILES})
    name = "set.tar" if pack is tar else "set.zip"
    root.mkdir()
    (root / name).write_bytes(content)
    text = refused(lambda: fetch([archive_of(content, name=name)], root))
    assert f"got {str(outside)!r}; use the published" in text
    assert not list(tmp_path.rglob(OUT)), "neither there nor below the root"


def test_links_within_the_folder_survive_unpacking_again(root: Path) -> None:
    links = (("set/soft", "train.txt", tarfile.SYMTYPE),)
    content = tar({"set/train.txt": b"a"}, links=links)
    buffer = io.BytesIO(content)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        member = tarfile.TarInfo("set/hard")
        member.type, member.linkname = tarfile.LNKTYPE, "set/train.txt"
        archive.addfile(member)
    root.mkdir()
    (root / "set.tar").write_bytes(buffer.getvalue())
    wanted = archive_of(buffer.getvalue(), provides=("set",))
    for _ in range(2):
        wanted.marker(root).touch()  # as if killed
        fetch([wanted], root)
        assert (root / "set/hard").read_bytes() == (root / "set/soft").read_bytes() == b"a"


def _damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def _undecodable(content: bytes, start: int) -> bytes:
    """Compressed data that is damaged where no checksum is needed to see it."""
    for at in range(start, len(content)):
        try:
            zlib.decompress(_damaged(content, at)[10:], -15)
        except zlib.error:
            return _damaged(content, at)
    raise AssertionError("every damage can be decoded")


TEXT = tar({"set/train.txt": b" ".join(b"%d" % (i * i) for i in range(9999))}, "w:gz")


def _encrypted(content: bytes) -> bytes:
    """The flag alone: what counts is that it cannot be read."""
    central = content.index(b"PK\x01\x02")
    return content[:6] + b"\x01" + content[7 : central + 8] + b"\x01" + content[central + 9 :]


def _between_members() -> int:
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as archive:
        return archive.getmembers()[-1].offset


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("set.tar", WHOLE[:HALF], id="tar cut in a file"),
        pytest.param("set.tar", WHOLE[: _between_members()], id="tar cut between two files"),
        pytest.param("set.tar", WHOLE[: _between_members() + 100], id="tar cut in a header"),
        pytest.param("set.tar", _damaged(WHOLE, _between_members() + 5), id="tar with a damaged header"),
        pytest.param("set.tar", b"", id="empty tar"),
        pytest.param("set.tgz", tar(mode="w:gz")[:HALF], id="tgz cut"),
        pytest.param("set.tgz", tar(mode="w:gz")[:-8], id="tgz cut in its checksum"),
        pytest.param("set.tgz", _damaged(tar(mode="w:gz"), HALF), id="tgz damaged"),
        pytest.param("set.tgz", _undecodable(TEXT, len(TEXT) // 2), id="tgz that cannot be decoded"),
        pytest.param("set.tgz", WHOLE, id="tgz that is none"),
        pytest.param("set.zip", zipped()[:HALF], id="zip cut"),
        pytest.param("set.zip", zipped()[:-10], id="zip cut at its end"),
        pytest.param("set.zip", _damaged(zipped(), HALF), id="zip damaged"),
        pytest.param("set.zip", _encrypted(zipped()), id="zip encrypted"),
        pytest.param("set.zip", b"<html></html>", id="zip that is none"),
    ],
)
def test_a_broken_user_archive_is_reported_and_kept(root: Path, name: str, content: bytes) -> None:
    """One without a published checksum, so that nothing else can tell."""
    root.mkdir()
    (root / name).write_bytes(content)
    archive = archive_of(content, name=name, provides=("set/train.txt",), checksum="")
    text = refused(lambda: fetch([archive], root))
    if f"{root / name} must be the published file, got no archive;" not in text:
        assert f"{root / name} must be a whole archive, got a broken or truncated one" in text
        assert f"delete {root}/.unpacking-{name}" in text
    assert (root / name).read_bytes() == content and missing([archive], root) == [archive]


@pytest.mark.parametrize("name", ["set.tar", "set.tgz"])
def test_a_published_archive_may_end_oddly(root: Path, name: str) -> None:
    """Its checksum says that it is whole: an end that is missing, or followed by something, is its maker's."""
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as archive:
        archive.getmembers()
        content = WHOLE[: archive.offset] if name == "set.tar" else tar(mode="w:gz") + b"more"
    root.mkdir()
    (root / name).write_bytes(content)
    fetch([archive_of(content, name=name)], root)
    (root / name).unlink()
    assert unpacked(root)


def test_a_broken_download_is_not_found_again(server: Server, root: Path) -> None:
    archive = archive_of(b"", server.give("set.tar", WHOLE[:HALF]), checksum="")
    assert "broken or truncated" in refused(lambda: fetch([archive], root))
    server.give("set.tar", WHOLE)
    fetch([archive], root)
    assert unpacked(root)


@pytest.mark.parametrize("ours", [True, False])
def test_a_wrong_archive_is_told(server: Server, root: Path, ours: bool) -> None:
    content = tar({"set/train.txt": b"x"})
    archive = archive_of(content, server.give("set.tar", content))
    if not ours:
        root.mkdir()
        (root / "set.tar").write_bytes(content)
    text = refused(lambda: fetch([archive], root))
    assert "must hold set/images, set/train.txt, got an archive without set/images; use" in text
    assert [path.name for path in root.rglob("set.tar*")] == ([] if ours else ["set.tar"])


def test_a_killed_unpacking_is_done_again(server: Server, root: Path) -> None:
    """The half that is there looks whole by the paths that are asked for."""
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE), provides=("set/images",))
    Child(archive, root, "unpacking", HALF).killed_at("unpacking", HALF)
    assert (root / "set/images").is_dir() and not (root / "set/images/b.png").exists()
    (root / "set/images/a.png").write_bytes(b"half")
    assert missing([archive], root) == [archive]
    fetch([archive], root)
    assert unpacked(root) and missing([archive], root) == [] and len(server.asked) == 1


# the disk, and two at once


@pytest.mark.parametrize("there", [True, False])
def test_disk_space_is_checked_before_downloading(server: Server, root: Path, there: bool) -> None:
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE), size=10**15)
    if there:
        root.mkdir()
        (root / "set.tar").write_bytes(WHOLE)
    text = refused(lambda: fetch([archive, archive_of(WHOLE, *archive.urls)], root), StoreError)
    assert f"must have about {2e6 if there else 3e6:.1f} GB free (set.tar" in text
    assert re.search(r"got \d+\.\d GB; free some space", text) and server.asked == []


def test_what_is_downloaded_already_needs_no_room(server: Server, root: Path) -> None:
    """The file has holes: it is long without taking room."""
    (root / ".downloads").mkdir(parents=True)
    free = shutil.disk_usage(root).free
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE), size=(free + 4 * 10**9) // 3)
    refused(lambda: fetch([archive], root), StoreError)
    archive.part(root).touch()
    os.truncate(archive.part(root), 8 * 10**9)
    fetch([archive], root)
    assert unpacked(root)


def test_a_full_disk_is_reported_and_downloads_resume(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of a file refuses as a full disk does: in the middle of a write."""
    resource = pytest.importorskip("resource")
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE, headers=ETAG))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
    try:
        text = refused(lambda: fetch([archive], root), StoreError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{root} must be a writable folder with free space, got [Errno" in text and "(downloads are kept)" in text
    kept = archive.part(root).stat().st_size
    assert 0 < kept <= HALF
    fetch([archive], root)
    assert server.ranges() == ["", f"bytes={kept}-"] and unpacked(root)


def test_a_root_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE))
    assert "must be a writable folder" in refused(lambda: fetch([archive], tmp_path / "file/x"), StoreError)


@pytest.mark.slow
def test_two_at_once_fetch_once(server: Server, root: Path) -> None:
    archive = archive_of(WHOLE, server.give("set.tar", WHOLE, cut=[HALF], hold=True))
    child = Child(archive, root)
    while not server.asked:
        time.sleep(0.01)
    second = threading.Thread(target=fetch, args=([archive], root))
    second.start()
    second.join(0.2)
    assert second.is_alive() and len(server.asked) == 1, "it waits for the first"
    server.released.set()
    second.join(20)
    assert child.process.wait(20) == 0 and child.process.stdout is not None
    child.process.stdout.close()
    assert unpacked(root) and sum(asked == "" for asked in server.ranges()) == 1
