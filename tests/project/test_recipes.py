"""Checks the recipes for Slurm, Kubernetes and the cloud as far as possible without a cluster.

The Slurm script really runs, with stand-ins for the programs that it calls. The manifests are checked against the
fields that KubeRay 1.x and Kubernetes define (those a recipe could need), the cloud file against Ray's own schema.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT

RECIPES = ROOT / "docs" / "recipes"
SCRIPT = RECIPES / "slurm" / "study.sbatch"
FILES = sorted(path for path in RECIPES.rglob("*") if path.is_file())
DIRECTIVES = {
    "job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "time", "output", "open-mode", "requeue",
    "signal", "partition", "account", "mem",
}  # fmt: skip

# A stand-in logs its call and the relevant part of its environment. `srun` then runs the command it was given.
SAY = 'echo "{name} $*" >>"$CALLS"\n'
SRUN = SAY + 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
RAY = (
    '[[ $1 != start ]] || trap \'echo "ray $2 ends" >>"$CALLS"; exit 0\' TERM\n'
    'grep -sq "^ray start --head" "$CALLS"; stands=$?\n'
    'echo "ray $* [$RAY_AUTH_MODE $(wc -c <"$RAY_AUTH_TOKEN_PATH")]" >>"$CALLS"\n'
    "[[ $1 != start ]] || while :; do sleep 0.05; done\n"
    "exit $stands\n"  # health-check
)
# `make repro` ends once the cluster is up, with the status DRIVER, or waits until it is interrupted.
MAKE = (
    'trap \'echo "make is interrupted" >>"$CALLS"; exit 130\' INT\n'
    'echo "make $* [$RAY_ADDRESS $STUDY_STORE]" >>"$CALLS"\n'
    "[[ $* == *repro* && -n $DRIVER ]] || exit 0\n"
    'until [[ $(grep -c "^ray start" "$CALLS") == 2 ]]; do sleep 0.05; done\n'
    '[[ $DRIVER == waits ]] || exit "$DRIVER"\n'
    'touch "$CALLS.waits"\n'
    "while :; do sleep 0.05; done\n"
)


class Job:
    """The project's folder on a Slurm cluster of stand-ins; ``calls`` lists their calls in order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls"
        programs = folder / "programs"
        for path, text in {
            programs / "srun": SRUN.format(name="srun"),
            programs / "hostname": "echo 10.0.0.1 fe80::1\n",
            programs / "scontrol": SAY.format(name="scontrol") + "[[ $1 != show ]] || printf 'n1\\nn2\\nn3\\n'\n",
            programs / "make": MAKE,
            folder / ".venv" / "bin" / "ray": RAY,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/usr/bin/env bash\n" + text)
            path.chmod(0o755)
        (folder / "params.yaml").write_text("execution:\n  engine: ray\n  address: auto\n")
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CALLS": str(self.log), "DRIVER": "0",
            "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_CPUS_PER_TASK": "16", "SLURM_GPUS_ON_NODE": "4", "TIER": "smoke",
        }  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT)], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_the_slurm_script_uses_known_options() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SCRIPT, RECIPES / "run.sh"], check=True)
    lines = SCRIPT.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [(i, *re.fullmatch(r"#SBATCH --([\w-]+)(?:=(\S+))?", line).groups())
             for i, line in enumerate(lines) if line.startswith("#SBATCH")]  # fmt: skip
    assert all(i < first for i, *_ in asked)  # Slurm does not read later ones
    found = {name: value for _, name, value in asked}
    assert found.keys() <= DIRECTIVES and len(found) == len(asked)
    assert found["signal"] == "B:TERM@120" and "requeue" in found and found["ntasks-per-node"] == "1"


@pytest.mark.slow
def test_slurm_starts_the_head_then_workers_then_driver(job: Job) -> None:
    process = job.start()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    rays = [call for call in job.calls if call.startswith("ray start") or call.startswith("make repro")]
    address, own = "10.0.0.1:24711", "--num-cpus=16 --num-gpus=4"
    assert len(rays) == 3
    assert rays[0].startswith("ray start --head --node-ip-address=10.0.0.1 --port=24711 ") and own in rays[0]
    assert any(call.startswith(f"ray start --address={address} {own} ") for call in rays[1:])
    assert f"make repro TIER=smoke [{address} {job.folder}/runs]" in rays
    assert all("[token 64]" in call for call in rays if call.startswith("ray"))
    steps = [call for call in job.calls if call.startswith("srun") and "ray start" in call]
    assert "--nodes=1 --nodelist=n1 " in steps[0] and "--nodes=2 --exclude=n1 " in steps[1]
    asked = f"ray health-check --address {address} [token 64]"
    wanted = ("ray start --head", asked, "ray start --address")  # polled once more after it was up
    order = [max(i for i, call in enumerate(job.calls) if call.startswith(what)) for what in wanted]
    assert order == sorted(order)
    assert sum(call.endswith(" ends") for call in job.calls) == 2  # both steps end before the job does
    assert not any("requeue" in call for call in job.calls) and not list(job.folder.glob(".ray-token*"))


@pytest.mark.slow
def test_a_failed_make_fails_the_job_without_requeueing(job: Job) -> None:
    job.environment["DRIVER"] = "2"
    process = job.start()
    process.communicate(timeout=240)
    assert process.returncode == 2 and not any("requeue" in call for call in job.calls)


@pytest.mark.slow
def test_slurms_warning_stops_the_driver_and_requeues(job: Job) -> None:
    job.environment["DRIVER"] = "waits"
    process = job.start()
    waits = Path(f"{job.log}.waits")
    end = time.monotonic() + 60
    while not waits.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # to the script alone, as B: says
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 130, said
    last = [call for call in job.calls if call.endswith((" interrupted", " ends", " 4711"))]
    assert [call.split()[-1] for call in last] == ["interrupted", "ends", "ends", "4711"]
    assert job.calls[-1] == "scontrol requeue 4711"  # last, because Slurm then ends the script


def test_a_project_without_cluster_settings_starts_nothing(job: Job) -> None:
    (job.folder / "params.yaml").write_text("execution:\n  address: null\n")
    process = job.start()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 2 and "execution.address of params.yaml must be auto" in said
    assert not job.log.exists()


def test_run_sh_makes_the_environment_only_once(job: Job, tmp_path: Path) -> None:
    python = tmp_path / "programs" / "python"
    python.write_text('#!/usr/bin/env bash\necho "python $*" >>"$CALLS"\n')
    python.chmod(0o755)
    (tmp_path / "requirements.lock").write_text("a==1\n")
    job.environment["DRIVER"] = ""
    for _ in range(2):
        subprocess.run(["bash", RECIPES / "run.sh", tmp_path, "voc"], env=job.environment, check=True)
    made = "python -m venv --system-site-packages .venv"
    assert [call.split(" [")[0] for call in job.calls] == [made, "make repro TIER=voc", "make repro TIER=voc"]
    assert (tmp_path / ".venv" / "ready").read_text() == "a==1\n", "what make takes for installed"


def _only(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, COUNT, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


CONTAINER = _only(
    {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "image": TEXT,
        "command": _list(TEXT),
        "env": _list(_only({"name": TEXT, "value": TEXT}, "name", "value")),
        "resources": _only({"limits": TEXTS, "requests": TEXTS}),
        "volumeMounts": _list(_only({"name": TEXT, "mountPath": TEXT, "readOnly": YES}, "name", "mountPath")),
    },
    "name",
    "image",
)
CLAIM = _only({"claimName": TEXT}, "claimName")
POD = _only(
    {
        "containers": _list(CONTAINER),
        "volumes": _list(
            _only(
                {"name": TEXT, "persistentVolumeClaim": CLAIM, "emptyDir": _only({"medium": TEXT, "sizeLimit": TEXT})}
            )
        ),
        "tolerations": _list(_only({"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}, "effect": TEXT})),
        "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
    },
    "containers",
)
TEMPLATE = _only({"metadata": {"type": "object"}, "spec": POD}, "spec")
GROUP = {"rayStartParams": TEXTS, "template": TEMPLATE}
# RayClusterSpec and RayJobSpec of the API ray.io/v1
CLUSTER = _only(
    {
        "rayVersion": TEXT,
        "enableInTreeAutoscaling": YES,
        "autoscalerOptions": _only({"idleTimeoutSeconds": COUNT, "upscalingMode": TEXT}),
        "headGroupSpec": _only(GROUP | {"serviceType": TEXT}, "rayStartParams", "template"),
        "workerGroupSpecs": _list(
            _only(
                GROUP | {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT},
                "groupName", "minReplicas", "maxReplicas", "rayStartParams", "template",
            )
        ),
    },
    "headGroupSpec",
)  # fmt: skip
RAY_JOB = _only(
    {
        "entrypoint": TEXT,
        "shutdownAfterJobFinishes": YES,
        "ttlSecondsAfterFinished": COUNT,
        "backoffLimit": COUNT,
        "rayClusterSpec": CLUSTER,
    },
    "entrypoint",
    "rayClusterSpec",
)
META = {"type": "object", "properties": {"annotations": TEXTS, "labels": TEXTS}}
CLAIMED = _only({"accessModes": _list(TEXT), "storageClassName": TEXT, "resources": {"type": "object"}}, "accessModes")
KINDS = {
    ("ray.io/v1", "RayJob"): RAY_JOB,
    ("v1", "PersistentVolumeClaim"): CLAIMED,
    ("v1", "Pod"): POD,
}


def _manifests() -> list[dict[str, Any]]:
    paths = (RECIPES / "kubernetes").glob("*.yaml")
    return [part for path in sorted(paths) for part in yaml.safe_load_all(path.read_text())]


def _pods(part: Any) -> Iterator[dict[str, Any]]:
    """Everything that has containers."""
    if isinstance(part, dict):
        if "containers" in part:
            yield part
        for value in part.values():
            yield from _pods(value)
    elif isinstance(part, list):
        for value in part:
            yield from _pods(value)


def test_manifests_use_only_kuberay_and_kubernetes_fields() -> None:
    manifests = _manifests()
    for part in manifests:
        spec = KINDS[part["apiVersion"], part["kind"]]
        jsonschema.validate(part, _only({"apiVersion": TEXT, "kind": TEXT, "metadata": META, "spec": spec}, "spec"))
    assert {part["kind"] for part in manifests} == {kind for _, kind in KINDS}


def test_mounts_have_volumes_and_pods_share_one_folder() -> None:
    manifests = _manifests()
    (claimed,) = (part["metadata"]["name"] for part in manifests if part["kind"] == "PersistentVolumeClaim")
    pods = list(_pods(manifests))
    assert len(pods) == 3
    for pod in pods:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == volumes.keys()
        assert mounted["shared"] == "/shared"
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claimed
    (job,) = (part for part in manifests if part["kind"] == "RayJob")
    words = job["spec"]["entrypoint"].split()
    assert words[:3] == ["bash", "/shared/project/docs/recipes/run.sh", "/shared/project"] and len(words) == 4
    stores = {entry["value"] for pod in _pods(job) for c in pod["containers"] for entry in c["env"]
              if entry["name"] == "STUDY_STORE"}  # fmt: skip
    assert len(stores) == 1 and stores.pop().startswith("/shared/")


def test_ray_and_kubernetes_agree_on_cores_and_gpus() -> None:
    (job,) = (part for part in _manifests() if part["kind"] == "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    head, (worker,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    (trains,) = worker["template"]["spec"]["containers"]
    told, given = worker["rayStartParams"], trains["resources"]
    assert given["limits"] == given["requests"]
    assert told == {"num-cpus": given["limits"]["cpu"], "num-gpus": given["limits"]["nvidia.com/gpu"]}
    assert int(told["num-gpus"]) >= 1 and worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_rays_launcher_accepts_the_cloud_file() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load((RECIPES / "cloud" / "aws.yaml").read_text())
    full = fillout_defaults(config)
    validate_config(full)
    assert full["setup_commands"] == []  # Ray's default would install a version of its own
    types = full["available_node_types"]
    head, gpu = types[full["head_node_type"]], types["gpu"]
    assert set(head["resources"].values()) == {0} and gpu["resources"]["GPU"] == 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert gpu["min_workers"] == 0 and gpu["max_workers"] == full["max_workers"]
    (start,) = (command for command in full["worker_start_ray_commands"] if "ray start" in command)
    assert f"--num-cpus={gpu['resources']['CPU']} --num-gpus={gpu['resources']['GPU']} " in start
    (start,) = (command for command in full["head_start_ray_commands"] if "ray start" in command)
    assert "--num-cpus=0 --num-gpus=0" in start and "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    mounts = [command for command in full["initialization_commands"] if "sudo mount " in command]
    assert len(mounts) == 1 and mounts[0].endswith(" /shared") and full["provider"]["region"] in mounts[0]
    assert full["provider"]["availability_zone"].startswith(full["provider"]["region"])
    assert "--volume=/shared:/shared" in full["docker"]["run_options"]


def test_recipes_name_the_locked_ray_and_one_python() -> None:
    (locked,) = re.findall(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    named = {path: re.findall(r":(\d+\.\d+\.\d+)-py(\d)(\d+)", path.read_text()) for path in FILES}
    assert {path.name for path, found in named.items() if found} == {
        "Dockerfile",
        "aws.yaml",
        "rayjob.yaml",
        "volume.yaml",
    }
    versions = {version for found in named.values() for version in found}
    assert {version for version, *_ in versions} == {locked}
    (job,) = (part for part in _manifests() if part["kind"] == "RayJob")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == locked
    ((major, minor),) = {(int(major), int(minor)) for _, major, minor in versions}
    takes = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", takes).groups()
    assert major == 3 and int(low) <= minor < int(high)


def test_recipes_are_linked_and_fit_120_columns() -> None:
    page = (ROOT / "docs" / "run-on-a-cluster.md").read_text()
    for path in FILES:
        assert f"({path.relative_to(ROOT / 'docs').as_posix()})" in page, path
        for line in path.read_text().splitlines():
            assert len(line) <= 120, (path, line)
