"""The code digest: what a training reaches in this project's code, as syntax trees without docstrings.

Works on definitions, not files: a top-level function, class or assignment reaches the names it mentions. So polishing
prose, or adding a head, backbone, data set or table, changes no digest; editing the loss changes every one.
Dictionaries named in REGISTRIES are tables of contents: mentioning one reaches none of its entries.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRIES = {"BACKBONES", "HEADS", "TABLES", "FIGURES", "METRICS", "ERRORS", "MEASURES"}
Symbol = tuple[str, str]  # (module, name)


def path_of(module: str) -> Path | None:
    """The file of a module of this project, None for others."""
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


class _Module:
    """Definitions and imported names of one module of this project."""

    def __init__(self, name: str) -> None:
        path = path_of(name)
        if path is None:
            raise FileNotFoundError(f"no module {name} in this project")
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, Symbol] = {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                self.definitions |= dict.fromkeys(names, node)
        for part in ast.walk(tree):
            if isinstance(part, ast.ImportFrom) and part.module and part.module.split(".")[0] == "study":
                for alias in part.names:
                    sub = f"{part.module}.{alias.name}"
                    symbol = (sub, "") if path_of(sub) else (part.module, alias.name)
                    self.imports[alias.asname or alias.name] = symbol


_module = functools.lru_cache(maxsize=None)(_Module)


def _bare(node: ast.AST) -> ast.AST:
    """A copy of the node's syntax tree without docstrings and the words of errors."""
    tree = ast.parse(ast.unparse(node))
    for part in ast.walk(tree):
        if isinstance(part, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            first = part.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                part.body = part.body[1:] or [ast.Pass()]
        elif isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call):
            part.exc.args = []  # the words of an error are prose too
    return tree


def _mentions(module: str, node: ast.AST) -> set[Symbol]:
    """Symbols of this project that a definition mentions: ``name``, ``module.name`` or everything of a module."""
    here = _module(module)
    found: set[Symbol] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in here.imports:
            owner, name = here.imports[part.value.id]
            found.add((owner, part.attr) if not name else (owner, name))
        elif isinstance(part, ast.Name):
            if part.id in here.definitions:
                found.add((module, part.id))
            elif part.id in here.imports and here.imports[part.id][1]:
                found.add(here.imports[part.id])
    return {symbol for symbol in found if symbol[1] not in REGISTRIES}


def reached(*roots: Symbol) -> dict[Symbol, str]:
    """Every definition that the roots reach, with its bare syntax tree. A root (module, "") is a whole module."""
    todo = [
        s
        for module, name in roots
        for s in ([(module, n) for n in _module(module).definitions] if not name else [(module, name)])
    ]
    found: dict[Symbol, str] = {}
    while todo:
        module, name = symbol = todo.pop()
        if symbol in found:
            continue
        here = _module(module)
        if name not in here.definitions:
            if name in here.imports:  # re-exported by a package
                todo.append(here.imports[name])
            continue
        node = _bare(here.definitions[name])
        found[symbol] = ast.dump(node)
        todo += _mentions(module, node)
    return found


@functools.cache
def code_digest(*roots: Symbol) -> str:
    """sha256 over the definitions that the roots reach, in hexadecimal."""
    lines = [f"{module}.{name}:{tree}" for (module, name), tree in sorted(reached(*roots).items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def entry(module: str, registry: str, key: str) -> Symbol:
    """The symbol that a registry's entry names, such as ``entry("study.models.backbones", "BACKBONES", "resnet")``.

    Raises KeyError where the registry has no such entry.
    """
    node = _module(module).definitions[registry]
    assert isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
    for name, value in zip(node.value.keys, node.value.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key and isinstance(value, ast.Name):
            return (module, value.id)
    raise KeyError(key)


def imports(module: str) -> set[str]:
    """Modules of this project that ``module`` imports, anywhere in its text, itself included, transitively."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        todo += [owner for owner, _ in _module(name).imports.values()]
        if "." in name and path_of(name.rsplit(".", 1)[0]):
            todo.append(name.rsplit(".", 1)[0])
    return found
