"""The architecture: contracts between packages, two pillars, and the packages that DVC's stages depend on."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from importlinter.cli import lint_imports

from study.models import backbones
from study.spec.training import Network
from study.store import code_digest, keys

ROOT = code_digest.ROOT
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.glob("study/**/*.py"))
}
SCRIPTS = {f"pipelines.{path.stem}": path for path in sorted((ROOT / "pipelines").glob("*.py"))}
STAGES = {name: stage["do"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}
BACKBONES = [Network(name, ("res4",), frozen=frozen) for name in backbones.BACKBONES for frozen in (False, True)]
KEYED = [root for network in BACKBONES for root in keys.training_roots(network)]
KEYED += [*keys.EVALUATION_CODE, *keys.LOOK_CODE]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
# For each kind of contract, a file and an import that breaks it.
PLANTED = {
    "layers": ("study/statistics/at_best.py", "from study.plan import planner"),
    "layers, of a neighbour": ("study/plan/halving.py", "from study.report import deviations"),
    "acyclic_siblings": ("study/spec/errors.py", "from study.spec import heads"),
    "protected, a stage": ("study/commands/gc.py", "from pipelines import ablate"),
    "protected, a tool": ("study/report/deviations.py", "import yaml"),
    "forbidden": ("study/training/loop.py", "from study.paper import tables"),
}


def _loaded(*modules: str) -> set[str]:
    """The modules that a fresh Python has loaded after importing these."""
    script = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_contracts_are_kept(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_an_import_that_breaks_a_contract_is_found(kind, tmp_path):
    shutil.copytree(ROOT / "study", tmp_path / "study", ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pipelines", "pyproject.toml"):
        (tmp_path / part).symlink_to(ROOT / part)
    file, line = PLANTED[kind]
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text + f"\n{line}\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", LINT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    names = [contract["name"] for contract in CONTRACTS if contract["type"] == kind.partition(",")[0]]
    assert ran.returncode == 1 and any(f"{name} BROKEN" in ran.stdout for name in names), ran.stdout + ran.stderr


def test_every_kind_of_contract_has_a_counterexample():
    assert {contract["type"] for contract in CONTRACTS} == {kind.partition(",")[0] for kind in PLANTED}


def test_the_top_package_imports_only_os():
    found = [node for node in ast.walk(ast.parse(MODULES["study"].read_text())) if isinstance(node, ast.Import)]
    assert [alias.name for node in found for alias in node.names] == ["os"], "for the variables that modules read"
    assert "from " not in MODULES["study"].read_text().split('"""')[2]


@pytest.mark.parametrize("name", [*MODULES, *SCRIPTS])
def test_project_imports_are_absolute_from_imports(name):
    tree = ast.parse((MODULES | SCRIPTS)[name].read_text(encoding="utf-8"))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [p for p in plain if p.split(".")[0] in ("study", "pipelines")], "write `from study import ...`"
    relative = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert relative == [], "import by the whole path"


@pytest.mark.slow
def test_the_paper_pillar_loads_no_torch():
    packages = ("spec", "paper", "store", "config", "plan", "statistics", "report")
    pillar = [name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in packages]
    loaded = _loaded(*pillar)
    assert set(pillar) <= loaded
    assert not {name for name in loaded if name.split(".")[0] in ("torch", "torchvision", "timm", "ray", "mlflow")}


@pytest.mark.slow
def test_the_science_pillar_loads_neither_paper_nor_trackers():
    packages = ("models", "data", "training", "inference")
    science = [name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in packages]
    loaded = _loaded(*science)
    assert "torch" in loaded
    assert not {"pandas", "mlflow", "optuna", "ray", "seaborn", "typst", "yaml"} & loaded
    foreign = ("study.paper", "study.config", "study.plan", "study.report")
    assert not {name for name in loaded if name.startswith(foreign)}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_everything_its_script_imports(name):
    stage = STAGES[name]
    script = stage["cmd"].split()[-1]
    modules = code_digest.imports(script) | {"study"}
    if "study.spec.data_set_plugins" in modules:  # which imports data sets by their names
        modules |= {name for name in MODULES if name.startswith("study.data.sets.")}
    if "study.store.keys" in modules:  # which reads the code that keys are made of
        modules |= {module for module, _ in code_digest.reached(*KEYED)}
    needed = {SCRIPTS[m] if m in SCRIPTS else MODULES[m] for m in modules}
    deps = [ROOT / dep for dep in stage["deps"] if "${" not in dep]
    assert all(dep.exists() for dep in deps)
    missing = {p.relative_to(ROOT).as_posix() for p in needed if not any(p.is_relative_to(dep) for dep in deps)}
    assert not missing, f"add to the deps of {name} in dvc.yaml"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_after_its_inputs_are_made(name):
    made = {}
    for other, stage in STAGES.items():
        listed = stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", [])
        made |= {out if isinstance(out, str) else next(iter(out)): other for out in listed}
    order = list(STAGES)
    for dep in (dep for dep in STAGES[name]["deps"] if "${" in dep):
        assert order.index(made[dep]) < order.index(name)


def test_only_the_report_stage_depends_on_study_report():
    """So an edited figure reruns only this stage and the stages that read the report."""
    assert [name for name, stage in STAGES.items() if "study/report" in stage["deps"]] == ["report"]


def test_stages_depend_on_packages():
    deps = {dep for stage in STAGES.values() for dep in stage["deps"] if dep.startswith("study/")}
    assert {dep for dep in deps if dep.count("/") > 1} == set()


def test_every_named_decision_is_written_down():
    decisions = ROOT / "reports" / "decisions.md"
    if not decisions.is_file():
        pytest.skip("reports/decisions.md is not written yet")
    written = set(re.findall(r"\bD\d{2,3}\b", decisions.read_text()))
    sources = [*MODULES.values(), *SCRIPTS.values(), ROOT / "params.yaml", *ROOT.glob("study/report/templates/*.typ")]
    named = {(number, path.name) for path in sources for number in re.findall(r"\bD\d{2,3}\b", path.read_text())}
    assert named, "code and params name decisions"
    assert not {(number, path) for number, path in named if number not in written}


@pytest.mark.parametrize("path", sorted([*MODULES.values(), *SCRIPTS.values()]), ids=lambda path: path.stem)
def test_no_call_has_more_than_five_positional_arguments(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    calls = [call for call in calls if not ast.unparse(call.func).startswith("torch.ops.")]  # torch's own order
    long = [f"{path.name}:{call.lineno}" for call in calls if len(call.args) > 5]
    assert long == [], "name the arguments"


LOOSE = re.compile(r"(dict|Mapping)\[str, Any\]")


def _package(name: str) -> str:
    return ".".join(name.split(".")[:2]) if name.startswith("study.") else name.split(".")[0]


def _crossing() -> set[tuple[str, str]]:
    """(module, name) of every definition in a package that another package or a stage uses."""
    found = set()
    for user, path in (MODULES | SCRIPTS).items():
        tree, modules = ast.parse(path.read_text(encoding="utf-8")), dict[str, str]()
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in MODULES:
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                elif node.module in MODULES:
                    found.add((user, node.module, alias.name))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found.add((user, modules[node.value.id], node.attr))
    return {(module, name) for user, module, name in found if _package(user) != _package(module)}


def _signatures(node: ast.stmt) -> list[str]:
    """The annotations of a function, or of a class's public fields and methods."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return [ast.unparse(part) for part in (*(one.annotation for one in given), node.returns) if part]
    if isinstance(node, ast.ClassDef):
        public = [part for part in node.body if not getattr(part, "name", "").startswith("_")]
        return [text for part in public for text in _signatures(part)]
    return [ast.unparse(node.annotation)] if isinstance(node, ast.AnnAssign) else []


@pytest.mark.slow
def test_no_untyped_mapping_crosses_a_package():
    crossing, loose = _crossing(), []
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (module, getattr(node, "name", "")) in crossing:
                loose += [f"{module}.{node.name}: {text}" for text in _signatures(node) if LOOSE.search(text)]
    assert len(crossing) > 300 and loose == [], "declare its keys in study.spec.documents"
