"""The code digest on small made-up projects: what changes it, what does not, and what it follows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from study.store import code_digest

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
    """A project in its own folder; ``digest`` rereads it."""

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

    def digest(self, *roots: code_digest.Symbol) -> str:
        code_digest.forget()
        return code_digest.code_digest(*roots)

    def reached(self, *roots: code_digest.Symbol) -> set[code_digest.Symbol]:
        code_digest.forget()
        return code_digest.reached(*roots)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr(code_digest, "ROOT", tmp_path)
    yield Fake(tmp_path)
    code_digest.forget()


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
def test_prose_layout_and_unreachable_code_keep_the_digest(fake, module, old, new):
    before = fake.digest(("study.loss", "loss"))
    fake.edit(module, old, new)
    assert fake.digest(("study.loss", "loss")) == before


@pytest.mark.parametrize("words", ["x must be positive, got {x} at {unused()}", "positive: {FACTOR}"])
def test_error_messages_may_mention_unreachable_code(fake, words):
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


def test_names_are_followed_through_re_exports(fake):
    assert ("study.loss", "loss") in fake.reached(("study.registry", "through_the_package"))


def test_names_are_followed_through_local_imports(fake):
    fake.write("lazy", "def late():\n    from study.scale import half\n    return half()\n")
    assert ("study.scale", "half") in fake.reached(("study.lazy", "late"))


def test_a_root_without_a_name_covers_its_module(fake):
    assert {name for module, name in fake.reached(("study.scale", ""))} == {"FACTOR", "half", "unused"}


def test_a_registry_does_not_reach_its_entries(fake):
    before = fake.digest(("study.registry", "build"))
    assert fake.reached(("study.registry", "build")) == {("study.registry", "build")}
    fake.edit("registry", '    "second": Second,\n', '    "second": Second,\n    "third": Second,\n')
    assert fake.digest(("study.registry", "build")) == before


def test_the_order_of_roots_and_definitions_is_irrelevant(fake):
    roots = ("study.scale", "half"), ("study.scale", "unused")
    before = fake.digest(*roots)
    assert fake.digest(*reversed(roots)) == before
    lines = SCALE.strip().split("\n\n\n")
    fake.write("scale", "\n\n\n".join(reversed(lines)))
    assert fake.digest(*roots) == before


def test_equal_code_elsewhere_has_an_equal_digest(fake):
    half = fake.digest(("study.scale", "half"))
    fake.edit("scale", "return 1", "return 0.5")
    assert fake.digest(("study.scale", "unused")) == half
    fake.write("elsewhere", "def fraction():\n    return 0.5\n")
    assert fake.digest(("study.elsewhere", "fraction")) == half


def test_moving_and_renaming_code_keeps_the_digest(fake):
    before = fake.digest(("study.loss", "loss"))
    fake.write("numbers/half", "def a_half():\n    return 0.5\n")
    fake.write("numbers/__init__", "from study.numbers.half import a_half\n")
    fake.write("factors", "from study import numbers\n\nTWICE = numbers.a_half() * 2\n")
    moved = LOSS.replace("from study.scale import FACTOR, unused", "from study import factors")
    moved = moved.replace("FACTOR", "factors.TWICE").replace("LossError", "NoLoss").replace("def loss", "def mean_loss")
    fake.write("losses/mean", moved)
    (fake.root / "study" / "loss.py").unlink()
    assert fake.digest(("study.losses.mean", "mean_loss")) == before


def test_swapping_equally_named_definitions_changes_the_digest(fake):
    fake.write("other", "def half():\n    return 0.75\n")
    fake.write("user", "from study.scale import half\n\n\ndef use():\n    return half()\n")
    before = fake.digest(("study.user", "use"))
    fake.edit("user", "from study.scale", "from study.other")
    assert fake.digest(("study.user", "use")) != before


CYCLE = """
def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def up(n):
    return up(n + 1)
"""


def test_definitions_that_reach_each_other_count_as_one(fake):
    fake.write("cycle", CYCLE)
    names = ("even", "odd", "up")
    before = {name: fake.digest(("study.cycle", name)) for name in names}
    assert len(set(before.values())) == 3
    fake.write("cycle", CYCLE.replace("even", "straight").replace("odd", "bent"))
    assert [fake.digest(("study.cycle", name)) for name in ("straight", "bent", "up")] == list(before.values())
    fake.write("cycle", CYCLE.replace("n == 0", "n < 1"))
    after = {name: fake.digest(("study.cycle", name)) for name in names}
    assert after["even"] != before["even"] and after["odd"] != before["odd"] and after["up"] == before["up"]
    fake.write("cycle", CYCLE.replace("even(n - 1)", "odd(n - 1)"))
    assert fake.digest(("study.cycle", "odd")) != before["odd"]


SCOPES = """
import numpy as np

from study.scale import half, unused

low, high = 1, 2
TABLE = {}
TABLE["more"] = 1


class Sizes:
    half: int = 3

    def size(self):
        return half() + self.half


def shadowed(half):
    return half


def in_a_loop(values):
    return [half for half in values]


def outside_the_loop(values):
    return half(), [half for half in values]


def with_numpy(x):
    return np.abs(x)


def typed(x: list[Sizes]) -> int:
    return x[0].size()


def lazily():
    from study.loss import loss

    return loss(2)
"""


@pytest.mark.parametrize(
    ("name", "reaches_half"),
    [("Sizes", True), ("shadowed", False), ("in_a_loop", False), ("outside_the_loop", True), ("typed", True),
     ("lazily", True)],
)  # fmt: skip
def test_local_names_do_not_refer_to_globals(fake, name, reaches_half):
    fake.write("scopes", SCOPES)
    before = fake.digest(("study.scopes", name))
    assert (("study.scale", "half") in fake.reached(("study.scopes", name))) == reaches_half
    fake.edit("scale", "return 0.5", "return 0.25")
    assert (fake.digest(("study.scopes", name)) != before) == reaches_half


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("with_numpy", "import numpy as np", "import scipy as np", True),
        ("with_numpy", "import numpy as np", "from scipy import np", True),
        ("TABLE", 'TABLE["more"] = 1', 'TABLE["more"] = 2', True),
        ("high", "low, high = 1, 2", "low, high = 1, 3", True),
        ("high", "low, high = 1, 2", "high, low = 1, 2", True),
        ("high", "low, high = 1, 2", "bottom, high = 1, 2", False),
        ("Sizes", "    half: int = 3", "    half: float = 3", False),
        ("Sizes", "    half: int = 3", "    third: int = 3", True),
        ("typed", "x: list[Sizes]", "x: tuple[Sizes, ...]", False),
        ("typed", "x: list[Sizes]", "x", True),
    ],
)
def test_imports_targets_fields_and_annotations(fake, name, old, new, changes):
    fake.write("scopes", SCOPES)
    before = fake.digest(("study.scopes", name))
    fake.edit("scopes", old, new)
    assert (fake.digest(("study.scopes", name)) != before) == changes


def test_importing_a_name_differently_keeps_the_digest(fake):
    fake.write("scopes", SCOPES)
    before = fake.digest(("study.scopes", "with_numpy"))
    fake.edit("scopes", "import numpy as np\n", "from numpy import abs as size\n")
    fake.edit("scopes", "np.abs(x)", "size(x)")
    assert fake.digest(("study.scopes", "with_numpy")) == before


def test_mutating_an_import_does_not_define_it(fake):
    user = "import os\n{}\n\ndef use():\n    return os.getcwd()\n"
    fake.write("user", user.format(""))
    before = fake.digest(("study.user", "use"))
    fake.write("user", user.format('\nos.environ["NAME"] = "value"\n'))
    assert fake.digest(("study.user", "use")) == before and fake.reached(("study.user", "use")) == {
        ("study.user", "use")
    }


def test_a_missing_name_is_an_error(fake):
    with pytest.raises(KeyError, match="nothing"):
        fake.digest(("study.scale", "nothing"))


def test_registry_entries_resolve_to_their_symbols(fake):
    code_digest.forget()
    assert code_digest.entry("study.registry", "BACKBONES", "second") == ("study.registry", "Second")
    with pytest.raises(KeyError):
        code_digest.entry("study.registry", "BACKBONES", "third")


def test_editing_one_entry_keeps_the_others_digests(fake):
    before = {name: fake.digest(("study.registry", name)) for name in ("First", "Second")}
    fake.edit("registry", "return 2", "return 3")
    assert fake.digest(("study.registry", "First")) == before["First"]
    assert fake.digest(("study.registry", "Second")) != before["Second"]


def test_imports_are_a_closure_including_packages(fake):
    code_digest.forget()
    assert code_digest.imports("study.loss") == {"study", "study.loss", "study.scale"}
    assert code_digest.imports("study.registry") == {
        "study", "study.registry", "study.package", "study.loss", "study.scale",
    }  # fmt: skip


def test_a_missing_module_is_named(fake):
    with pytest.raises(FileNotFoundError, match=r"study\.nothing"):
        fake.digest(("study.nothing", ""))


def test_a_real_training_reaches_no_paper_or_plots():
    from study.spec.training import Network
    from study.store.keys import training_roots

    found = set(code_digest.reached(*training_roots(Network("shallow", ("res4",)))))
    wanted = {
        ("study.training.loop", "loss_of"),
        ("study.training.loop", "learning_rate"),
        ("study.models.heads", "ConvHead"),
        ("study.models.decoder", "FCN"),
        ("study.training.count", "image_counts"),
        ("study.metrics", "region_confusions"),
        ("study.training.batches", "Source"),
        ("study.seeds", "batch_indices"),
        ("study.models.backbones", "ShallowResNet"),
        ("study.spec.constants", "VOID"),
    }
    assert wanted <= found
    assert ("study.models.backbones", "TorchvisionResNet") not in found
    modules = {module for module, _ in found}
    foreign = ("study.paper", "study.config", "study.plan", "study.statistics", "study.report", "study.tracking")
    assert not {module for module in modules if module.startswith(foreign)}


def test_top_level_code_cannot_hide_from_the_digest():
    """The digest would not see a definition in a top-level ``if``, ``try`` or loop."""
    known = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Expr)
    modules = code_digest.imports("study.training.worker") - {"study"}
    assert "study.training.loop" in modules and "study.models.backbones" in modules
    for module in modules:
        for node in ast.parse(code_digest.path_of(module).read_text()).body:
            assert isinstance(node, known), f"{module}:{node.lineno}"
            assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant), f"{module}:{node.lineno}"
