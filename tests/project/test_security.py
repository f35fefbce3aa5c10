"""What must not happen: code run from data or names, files written outside their folder, secrets in any output.

Listening addresses are tested with the servers (test_docs.py, test_queue.py), unsafe archives in test_download.py.
"""

from __future__ import annotations

import ast
import hashlib
import io
import pickle
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from study.config import tiers
from study.config.schema import Data
from study.data.download import fetch
from study.data.prepare import folder_of, prepare
from study.data.unpack import unpack
from study.models.build import build_backbone
from study.report.figures import families, samples
from study.spec.errors import InputError
from study.spec.training import Network, freeze
from study.store import stage
from study.store.runs import Store, StoreError
from study.training.worker import train
from tests.conftest import ROOT, Project
from tests.data.test_download import FILES, Server, archive_of, refused, root, server, tree, unpacked, zipped  # noqa: F401
from tests.training.test_resume import Stop, job, stop_after

SOURCES = sorted(path for part in ("study", "pipelines", "benchmarks") for path in (ROOT / part).rglob("*.py"))
RUNS_TEXT = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec", "compile"}
RUNS_DATA = {"pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "yaml.load", "yaml.unsafe_load",
             "torch.jit.load", "pandas.read_pickle", "pd.read_pickle", "shelve.open", "joblib.load"}  # fmt: skip
HOSTILE = ('#panic("x")', "<script>alert(1)</script>", "a'b; touch pwned", "$(touch pwned)", "$x^$", "_under_")


class Planted:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


# what the code can do


@pytest.mark.slow
def test_no_text_or_data_is_executed() -> None:
    calls = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    loads = 0
    for place, node in calls:
        name, options = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        loads += name in ("torch.load", "np.load")
        # Input from the parent process is trusted.
        assert name not in RUNS_TEXT | RUNS_DATA or ast.unparse(node) == "pickle.load(sys.stdin.buffer)", place
        assert options.get("shell", "False") == "False", place
        assert name != "torch.load" or options.get("weights_only") == "True", place
        assert options.get("allow_pickle", "False") == "False", place
        assert not name.endswith(("enable_unsafe_deserialization", "add_safe_globals", "safe_globals")), place
    assert loads > 10


def test_no_page_of_a_report_runs_text() -> None:
    pages = sorted(ROOT.glob("study/**/*.typ"))
    assert len(pages) >= 3
    for path in pages:
        assert "eval(" not in path.read_text(encoding="utf-8")


# weights and checkpoints


@pytest.mark.parametrize("legacy", [False, True], ids=["torch", "plain pickle"])
def test_weights_named_in_params_run_no_code(tmp_path: Path, legacy: bool) -> None:
    mark, path = tmp_path / "pwned", tmp_path / "weights.pt"
    if legacy:
        path.write_bytes(pickle.dumps({"conv1.weight": Planted(mark)}))
    else:
        torch.save({"conv1.weight": Planted(mark)}, path)
    network = Network("efficientnet_lite0", ("res5",), freeze({"weights": str(path)}))
    text = refused(lambda: build_backbone(network))
    assert "pretrained weights must be a state dict of tensors" in text and str(path) in text
    assert not mark.exists()
    pickle.loads(path.read_bytes()) if legacy else torch.load(path, weights_only=False)
    assert mark.exists(), "it would have"


@pytest.mark.slow
def test_a_forged_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Stop):
            train(job(tmp_path, "planted"))
    mark, buffer = tmp_path / "pwned", io.BytesIO()
    torch.save({"state": Planted(mark), "curve": {}, "seconds": 0.0}, buffer)
    content = buffer.getvalue()
    checkpoint = tmp_path / "planted" / "checkpoint.pt"
    assert checkpoint.is_file()
    checkpoint.write_bytes(hashlib.sha256(content).digest() + content)
    train(job(tmp_path, "planted"))
    assert not mark.exists()
    assert Store(tmp_path).run("planted").read("result.json")["resumed"] == [], "it was trained from its start"
    assert Store(tmp_path).run("planted").done()


def test_arrays_in_the_store_run_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    train(job(tmp_path, "key", steps=1))
    run = Store(tmp_path).run("key")
    np.savez(run.path("counts.npz"), counts=np.array([Planted(mark)], dtype=object))
    run.finish()  # with the right digests
    with pytest.raises(ValueError, match="allow_pickle"):
        train(job(tmp_path, "key", steps=1))
    assert not mark.exists()


# archives


def test_an_archive_larger_than_the_disk_writes_nothing(root: Path, tmp_path: Path) -> None:  # noqa: F811
    claimed = 1 << 60
    member = tarfile.TarInfo("set/train.txt")
    member.size = claimed
    header = member.tobuf(tarfile.GNU_FORMAT)
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        archive.filelist[0].file_size = claimed
    for name, content in (("set.tar", header), ("set.zip", forged.getvalue())):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=r"1152921504\.[0-9] GB"):
            unpack(tmp_path / name, tmp_path / "into", lambda done, every: None, known=True)
        assert not list((tmp_path / "into").iterdir())
    root.mkdir()
    (root / "set.tar").write_bytes(header)
    assert "free some space" in refused(lambda: fetch([archive_of(header)], root), StoreError)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_an_archive_makes_no_device(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("set/device")
    member.type, member.devmajor, member.devminor = kind, 1, 3
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(InputError, match="every member of"):
        unpack(tmp_path / "set.tar", tmp_path / "into", lambda done, every: None, known=True)
    assert not list(tmp_path.glob("into/*"))


def test_unpacked_files_lose_setuid_and_shared_write_bits(tmp_path: Path) -> None:
    member = tarfile.TarInfo("run.sh")
    member.mode = 0o6777
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.addfile(member)
    unpack(tmp_path / "set.tar", tmp_path / "into", lambda done, every: None, known=True)
    assert (tmp_path / "into" / "run.sh").stat().st_mode & 0o6022 == 0


# names


@pytest.fixture
def made(tmp_path: Path) -> Project:
    """A copy that `make` takes for set up."""
    project = Project(tmp_path)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    (tmp_path / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "ready":
            (tmp_path / ".venv" / path.name).symlink_to(path)
    (tmp_path / ".venv" / "ready").touch()
    return project


@pytest.mark.slow
def test_make_runs_no_name_as_a_command(made: Project) -> None:
    evil = "x; touch pwned `touch pwned` '; touch pwned; '\"; touch pwned; \""
    names = [f"{name}={evil}" for name in ("TIER", "CELL", "WITH", "PORT", "HOST", "JOBS", "FAST")]
    done = made.run("make", "-k", "status", "compare", "ui", *names, check=False)
    assert "tier must be one of" in done.stderr
    port = made.run("make", "dashboard", *names[1:], check=False)
    assert f"PORT must be a whole number from 1 to 65535, got {evil!r}; name" in port.stderr
    assert f"got {evil!r}; set" in done.stderr, "it arrives as it was written"
    assert not (made.folder / "pwned").exists()
    dry = made.run("make", "-n", "force", "gc", "test", "dashboard", *names).stdout
    assert "touch" not in dry and '"$JOBS"' in dry and '"$HOST"' in dry


@pytest.mark.parametrize("name", ["x; touch pwned", "../outside", "a b", ""])
def test_tier_names_must_be_plain(name: str) -> None:
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"] = {name: params["tiers"]["smoke"]}
    assert "a tier's name must be of letters" in refused(lambda: tiers.load(params, name))


def test_data_set_names_are_treated_as_text(tmp_path: Path) -> None:
    base, stems = tmp_path / "photos", [text.replace("/", "|") for text in (*HOSTILE, "two\nlines", '"quoted"')]
    for part, image in (("images", np.zeros((8, 8, 3), np.uint8)), ("masks", np.ones((8, 8), np.uint8))):
        (base / part).mkdir(parents=True)
        for stem in stems:
            Image.fromarray(image).save(base / part / f"{stem}.png")
    block = {"name": "folder", "images": "images", "masks": "masks", "classes": list(HOSTILE), "void": 255,
             "val": 0.25, "tune": 2, "pad": [8, 8]}  # fmt: skip
    facts = prepare(Data(**block).made(), base, tmp_path / "cache", 2)
    cached = folder_of(tmp_path / "cache", facts["fingerprint"])
    assert sorted(str(name) for split in facts["splits"] for name in np.load(cached / f"{split}-names.npy")) == sorted(
        stems
    )
    assert facts["classes"] == list(HOSTILE)
    assert not list(tmp_path.rglob("pwned"))
    labels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % len(HOSTILE)
    drawn = samples.qualitative(np.zeros((1, 8, 8, 3), np.uint8), labels, {"GCN": labels}, facts)
    families.save(drawn, tmp_path / "samples.svg")
    shown = [text.get_text().replace(r"\$", "$") for text in drawn.legends[0].get_texts()]
    assert shown == list(HOSTILE)
    assert "<script" not in (tmp_path / "samples.svg").read_text()


# secrets

SECRETS = ("s3cret", "t0ken", "us3r")


def test_a_fetch_reveals_no_secret(
    server: Server,  # noqa: F811
    root: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "TICK_S", 0)
    content = zipped()
    server.give("own/set.zip", content, headers={"ETag": '"one"'}, cut=[1000])
    mirror = server.url.replace("//", "//us3r:s3cret@") + "/own?token=t0ken"
    archive = archive_of(content, name="set.zip")
    fetch([archive], root, (mirror,), lambda what: stage.ticker(what, 1, " B"))
    assert unpacked(root) and any("t0ken" in path for path, *_ in server.asked)
    broken = ("http://us3r:s3cret@[::1/own?token=t0ken", "http://us3r:s3cret@host:port/own?token=t0ken")
    told = [refused(lambda m=m: fetch([archive_of(content, name="b.zip")], root / "b", (m,))) for m in broken]
    told += [refused(lambda m=m: fetch([archive_of(content, m, name="b.zip")], root / "b")) for m in broken]
    said = capfd.readouterr()
    assert "fetching set.zip: " in said.out
    everything = "".join([said.out, said.err, *told]).encode() + b"".join(tree(root).values())
    assert [secret for secret in SECRETS if secret.encode() in everything] == []


@pytest.mark.slow
def test_the_environment_is_read_by_name_only() -> None:
    """Nothing writes the whole environment, and only the project's own processes inherit it."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "benchmarks" or path.name == "rehearse.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
                line = text.splitlines()[node.lineno - 1]
                assert any(f"os.environ{way}" in line for way in (".get(", ".setdefault(", ".pop(", "[", " | ")), (
                    f"{path}: {line}"
                )


@pytest.mark.slow
def test_a_run_writes_no_secret_of_its_environment(project: Project) -> None:
    project.repository()
    project.run("git", "remote", "add", "origin", "https://us3r:t0ken@example.com/study.git")
    project.environment |= {
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "MLFLOW_TRACKING_URI": "http://us3r:s3cret@127.0.0.1:9",
        "STUDY_MIRROR": "http://us3r:s3cret@127.0.0.1:9/own?token=t0ken",
    }
    refused = project.stages("data", "plan", "ablate", check=False)
    assert "MLflow's server must answer" in refused.stderr
    assert not {secret for secret in ("s3cret", "t0ken", "us3r") if secret in refused.stdout + refused.stderr}
    del project.environment["MLFLOW_TRACKING_URI"]
    said = project.stages("ablate", "evaluate", "tune", "score", "report")
    written = {name: content for part in ("reports", "runs") for name, content in tree(project.folder / part).items()}
    assert {"smoke/report.json", "smoke/provenance.json", "mlflow/mlflow.db"} <= written.keys()
    written["what was said"] = (said.stdout + said.stderr).encode()
    assert [name for name, content in written.items() if any(secret.encode() in content for secret in SECRETS)] == []
