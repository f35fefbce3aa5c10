"""The architecture: imports go down, one importer a tool, two pillars, and DVC's deps hold what a stage imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import study
from study import code

ROOT = code.ROOT
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.glob("study/**/*.py"))
}
SCRIPTS = {f"pipelines.{path.stem}": path for path in sorted((ROOT / "pipelines").glob("*.py"))}
LISTED = [(f"study.{place}", number) for number, row in enumerate(study.LAYERS) for place in row]


def _rows(module: str) -> list[int]:
    """Where a module stands: by its name, else by a pattern such as ``data.*``."""
    named = [row for place, row in LISTED if place == module]
    return named or [row for place, row in LISTED if "*" in place and fnmatch(module, place)]


ROWS = {module: min(rows) for module in MODULES if (rows := _rows(module))}
STAGES = {name: stage["do"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}


def _imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, functions too: ``from study import code`` gives ``study.code``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: the code digest follows absolute imports only"
            subs = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {sub if sub in MODULES else node.module for sub in subs}
    return found


def _loaded(*modules: str) -> set[str]:
    """What a fresh Python has loaded after importing the modules."""
    script = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_every_module_stands_in_exactly_one_layer():
    wrong = {module: rows for module in MODULES if module != "study" and len(rows := _rows(module)) != 1}
    assert not wrong, "a module must stand in one row of LAYERS in study/__init__.py"


def test_a_new_data_set_has_its_place_without_a_line_in_the_layers():
    assert _rows("study.data.a_new_one") == _rows("study.data.camvid") != []


def test_every_layer_names_modules_that_are_there():
    assert not [place for place, _ in LISTED if not any(fnmatch(module, place) for module in MODULES)]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"study"}))
def test_a_module_imports_from_lower_layers_only(module):
    upward = {name for name in _imported(MODULES[module]) if ROWS.get(name, -1) >= ROWS[module]}
    assert not upward


def test_the_package_itself_imports_nothing_so_that_any_module_can_be_had_alone():
    assert _imported(MODULES["study"]) == {"os"}, "for the variables that modules read when they are imported"


@pytest.mark.parametrize("name", [*MODULES, *SCRIPTS])
def test_project_modules_are_imported_in_the_form_that_the_code_digest_follows(name):
    path = (MODULES | SCRIPTS)[name]
    plain = [alias.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)
             for alias in node.names]  # fmt: skip
    assert not [p for p in plain if p.split(".")[0] in ("study", "pipelines")], "write `from study import ...`"


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["mlflow", "optuna", "pydantic", "ray", "seaborn", "typst", "yaml"])
def test_a_third_party_tool_has_one_importer(tool):
    importers = {
        name for name, path in (MODULES | SCRIPTS).items() if any(i.split(".")[0] == tool for i in _imported(path))
    }
    assert importers == {f"study.{study.SOLE_IMPORTERS[tool]}"}


def test_the_list_of_sole_importers_is_complete():
    assert set(study.SOLE_IMPORTERS) == {"mlflow", "optuna", "pydantic", "ray", "seaborn", "typst", "yaml"}


@pytest.mark.slow
def test_the_paper_pillar_loads_no_torch():
    pillar = ("spec", "paper", "tier", "plan", "results", "report", "figures", "store", "stage", "progress")
    loaded = _loaded(*(f"study.{name}" for name in pillar))
    assert {"study.plan", "study.results", "study.report"} <= loaded
    assert not {name for name in loaded if name.split(".")[0] in ("torch", "torchvision", "timm", "ray", "mlflow")}


@pytest.mark.slow
def test_the_science_pillar_loads_no_paper_and_no_trackers():
    science = [name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in study.SCIENCE]
    assert len(science) > len(study.SCIENCE), "models and data have modules of their own"
    loaded = _loaded(*science)
    foreign = {"pandas", "mlflow", "optuna", "ray", "seaborn", "typst", "yaml"}
    assert "torch" in loaded
    assert not {name for name in loaded if name.split(".")[0] in foreign}
    assert not {"study.paper", "study.tier", "study.plan", "study.results", "study.report"} & loaded
    for name in science:  # nor inside a function, which loading does not show
        assert not {i for i in _imported(MODULES[name]) if i.split(".")[0] in foreign or i == "study.paper"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_script_and_all_that_it_imports(name):
    stage = STAGES[name]
    script = stage["cmd"].split()[-1]
    needed = {SCRIPTS[m] if m in SCRIPTS else MODULES[m] for m in code.imports(script)} | {MODULES["study"]}
    deps = [ROOT / dep for dep in stage["deps"] if "${" not in dep]
    assert all(dep.exists() for dep in deps)
    missing = {p.relative_to(ROOT).as_posix() for p in needed if not any(p.is_relative_to(dep) for dep in deps)}
    assert not missing, f"add to the deps of {name} in dvc.yaml"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_after_those_that_make_what_it_reads(name):
    made = {}
    for other, stage in STAGES.items():
        listed = stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", [])
        made |= {out if isinstance(out, str) else next(iter(out)): other for out in listed}
    order = list(STAGES)
    for dep in (dep for dep in STAGES[name]["deps"] if "${" in dep):
        assert order.index(made[dep]) < order.index(name)


def test_every_decision_that_is_named_is_written_down():
    decisions = ROOT / "reports" / "decisions.md"
    if not decisions.is_file():
        pytest.skip("reports/decisions.md is not written yet")
    written = set(re.findall(r"\bD\d{2,3}\b", decisions.read_text()))
    sources = [*MODULES.values(), *SCRIPTS.values(), ROOT / "params.yaml", ROOT / "study" / "templates" / "report.typ"]
    named = {(number, path.name) for path in sources for number in re.findall(r"\bD\d{2,3}\b", path.read_text())}
    assert named, "code and params name decisions"
    assert not {(number, path) for number, path in named if number not in written}


@pytest.mark.parametrize("path", sorted([*MODULES.values(), *SCRIPTS.values()]), ids=lambda path: path.stem)
def test_no_call_has_more_than_five_positional_arguments(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    long = [f"{path.name}:{call.lineno}" for call in calls if len(call.args) > 5]
    assert long == [], "name the arguments"
