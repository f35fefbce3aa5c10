"""The code digest on small made-up projects: what changes it, what does not, and what it follows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from study import code

LOSS = '''
"""Losses."""

from study.scale import FACTOR, unused


class LossError(ValueError):
    """Raised where a loss cannot be."""


def loss(x):
    """Mean loss."""
    # a comment
    if x < 0:
        raise LossError(f"x must be positive, got {x}")
    return FACTOR * x
'''
SCALE = """
FACTOR = half() * 2


def half():
    return 0.5


def unused():
    return 1
"""
PACKAGE = """
from study.loss import loss
"""
REGISTRY = """
from study import package, scale


class First:
    def run(self):
        return scale.half()


class Second:
    def run(self):
        return 2


BACKBONES = {
    "first": First,
    "second": Second,
}


def build(name):
    return BACKBONES[name]()


def through_the_package():
    return package.loss(1)
"""


class Fake:
    """A project in a folder of its own; ``digest`` reads it anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {"loss": LOSS, "scale": SCALE, "package/__init__": PACKAGE, "registry": REGISTRY}.items():
            self.write(name, text)
        self.write("__init__", "")

    def write(self, name: str, text: str) -> None:
        path = self.root / "study" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / "study" / f"{name}.py").read_text()
        assert text.count(old) == 1
        self.write(name, text.replace(old, new))

    def digest(self, *roots: code.Symbol) -> str:
        code._module.cache_clear()
        code.code_digest.cache_clear()
        return code.code_digest(*roots)

    def reached(self, *roots: code.Symbol) -> set[code.Symbol]:
        code._module.cache_clear()
        return set(code.reached(*roots))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "ROOT", tmp_path)
    yield Fake(tmp_path)
    code._module.cache_clear()
    code.code_digest.cache_clear()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("loss", '"""Mean loss."""', '"""The mean of all losses,\n    in nats."""'),
        ("loss", '"""Mean loss."""\n', ""),
        ("loss", '"""Raised where a loss cannot be."""', "pass"),
        ("loss", "# a comment", "# other words"),
        ("loss", "x must be positive, got {x}", "a loss must have x from 0 up, got {x!r}; enlarge it"),
        ("loss", "\n\nclass LossError", "\n\n\n\n\n\nNEW = 3\n\n\nclass LossError"),
        ("loss", '"""Losses."""', '"""All losses."""'),
        ("loss", "FACTOR * x", "(FACTOR\n            * x)"),
        ("scale", "return 1", "return 17"),
        ("registry", "return 2", "return 3"),
    ],
)
def test_prose_layout_and_code_out_of_reach_leave_the_digest(fake, module, old, new):
    before = fake.digest(("study.loss", "loss"))
    fake.edit(module, old, new)
    assert fake.digest(("study.loss", "loss")) == before


@pytest.mark.parametrize("words", ["x must be positive, got {x} at {unused()}", "positive: {FACTOR}"])
def test_an_errors_words_may_mention_what_nothing_else_reaches(fake, words):
    before = fake.digest(("study.loss", "loss"))
    fake.edit("loss", "x must be positive, got {x}", words)
    assert fake.digest(("study.loss", "loss")) == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("loss", "x < 0", "x <= 0"),
        ("loss", "FACTOR * x", "FACTOR + x"),
        ("loss", "raise LossError", "raise ValueError"),
        ("loss", "class LossError(ValueError)", "class LossError(KeyError)"),
        ("scale", "FACTOR = half() * 2", "FACTOR = half() * 3"),
        ("scale", "return 0.5", "return 0.25"),
    ],
)
def test_code_within_reach_changes_the_digest(fake, module, old, new):
    before = fake.digest(("study.loss", "loss"))
    fake.edit(module, old, new)
    assert fake.digest(("study.loss", "loss")) != before


def test_names_are_followed_through_from_imports_and_assignments(fake):
    assert fake.reached(("study.loss", "loss")) == {
        ("study.loss", "loss"), ("study.loss", "LossError"), ("study.scale", "FACTOR"), ("study.scale", "half"),
    }  # fmt: skip


def test_names_are_followed_through_module_attributes(fake):
    assert ("study.scale", "half") in fake.reached(("study.registry", "First"))
    assert ("study.scale", "FACTOR") not in fake.reached(("study.registry", "First"))


def test_names_are_followed_through_a_package_that_re_exports_them(fake):
    assert ("study.loss", "loss") in fake.reached(("study.registry", "through_the_package"))


def test_names_are_followed_through_an_import_inside_a_function(fake):
    fake.write("lazy", "def late():\n    from study.scale import half\n    return half()\n")
    assert ("study.scale", "half") in fake.reached(("study.lazy", "late"))


def test_a_root_without_a_name_is_the_whole_module(fake):
    assert {name for module, name in fake.reached(("study.scale", ""))} == {"FACTOR", "half", "unused"}


def test_a_registry_is_a_table_of_contents_that_reaches_none_of_its_entries(fake):
    before = fake.digest(("study.registry", "build"))
    assert fake.reached(("study.registry", "build")) == {("study.registry", "build")}
    fake.edit("registry", '    "second": Second,\n', '    "second": Second,\n    "third": Second,\n')
    assert fake.digest(("study.registry", "build")) == before


def test_the_digest_does_not_depend_on_the_order_of_roots_or_definitions(fake):
    roots = ("study.scale", "half"), ("study.scale", "unused")
    before = fake.digest(*roots)
    assert fake.digest(*reversed(roots)) == before
    lines = SCALE.strip().split("\n\n\n")
    fake.write("scale", "\n\n\n".join(reversed(lines)))
    assert fake.digest(*roots) == before


def test_equal_code_in_another_place_has_another_digest(fake):
    fake.edit("scale", "return 1", "return 0.5")
    assert fake.digest(("study.scale", "half")) != fake.digest(("study.scale", "unused"))


def test_an_entry_is_the_symbol_that_a_registry_names(fake):
    code._module.cache_clear()
    assert code.entry("study.registry", "BACKBONES", "second") == ("study.registry", "Second")
    with pytest.raises(KeyError):
        code.entry("study.registry", "BACKBONES", "third")


def test_editing_one_entry_leaves_the_digest_of_the_others(fake):
    before = {name: fake.digest(("study.registry", name)) for name in ("First", "Second")}
    fake.edit("registry", "return 2", "return 3")
    assert fake.digest(("study.registry", "First")) == before["First"]
    assert fake.digest(("study.registry", "Second")) != before["Second"]


def test_imports_are_the_closure_of_a_module_itself_and_its_packages_included(fake):
    code._module.cache_clear()
    assert code.imports("study.loss") == {"study", "study.loss", "study.scale"}
    assert code.imports("study.registry") == {
        "study", "study.registry", "study.package", "study.loss", "study.scale",
    }  # fmt: skip


def test_a_module_that_is_not_there_is_named(fake):
    with pytest.raises(FileNotFoundError, match=r"study\.nothing"):
        fake.digest(("study.nothing", ""))


def test_what_a_real_training_reaches_is_the_loop_the_heads_and_the_counting_but_no_paper_and_no_plots():
    from study.identity import training_roots
    from study.spec import Network

    found = set(code.reached(*training_roots(Network("shallow", ("res4",)))))
    wanted = {
        ("study.engine", "loss_of"), ("study.engine", "learning_rate"), ("study.models.heads", "LinearHead"),
        ("study.models.fcn", "FCN"), ("study.evaluate", "image_counts"), ("study.metrics", "confusion"),
        ("study.source", "Source"), ("study.seeds", "batch_indices"), ("study.models.backbones", "ShallowResNet"),
        ("study.spec", "VOID"),
    }  # fmt: skip
    assert wanted <= found
    assert ("study.models.backbones", "TorchvisionResNet") not in found
    modules = {module for module, _ in found}
    assert not {"study.paper", "study.tier", "study.figures", "study.report", "study.results"} & modules


def test_no_module_hides_code_from_the_digest_at_its_top_level():
    """A definition in a top-level ``if``, ``try`` or loop would be none of the definitions that the digest knows."""
    known = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Expr)
    modules = code.imports("study.worker") - {"study"}
    assert "study.engine" in modules and "study.models.backbones" in modules
    for module in modules:
        for node in ast.parse(code.path_of(module).read_text()).body:
            assert isinstance(node, known), f"{module}:{node.lineno}"
            assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant), f"{module}:{node.lineno}"
