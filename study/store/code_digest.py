"""The code digest: a digest, by content, of all project code that a training reaches.

A definition (a top-level function, class or assignment) counts as its syntax tree, in which each name of this project
is replaced by the digest of the definition it resolves to. So moving or renaming a definition, or importing it another
way, changes no digest. Editing a definition, or swapping it for another of the same name, changes the digest of
everything that reaches it. Docstrings, comments, error messages and annotations do not count. But an annotation reaches
the definitions that it names, because they determine which methods are called (a TypedDict has no methods).

Dictionaries named in REGISTRIES are tables of contents: mentioning one reaches none of its entries.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = "study"
REGISTRIES = {"BACKBONES", "HEADS", "TABLES", "FIGURES", "METRICS", "ERRORS", "MEASURES"}
Symbol = tuple[str, str]  # (module, name); the name "" means the whole module
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def code_digest(*roots: Symbol) -> str:
    """sha256, in hexadecimal, of the content of all that the roots reach. Raises FileNotFoundError for an unknown
    module, KeyError for an unknown name."""
    return _sha256(*sorted({_digest(root) for root in roots}))


def reached(*roots: Symbol) -> set[Symbol]:
    """Every definition that the roots reach."""
    found: set[Symbol] = set()
    todo = list(roots)
    while todo:
        symbol = todo.pop()
        if symbol not in found:
            found.add(symbol)
            definition = _definition(symbol)
            todo += [*definition.mentions, *definition.annotated]
    return {(module, name) for module, name in found if name}


def entry(module: str, registry: str, key: str) -> Symbol:
    """The symbol that a registry's entry names, such as ``entry("study.models.backbones", "BACKBONES", "resnet")``.

    Raises KeyError if the registry has no such entry.
    """
    node = _module(module).definitions[registry][0]
    assert isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
    for name, value in zip(node.value.keys, node.value.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key and isinstance(value, ast.Name):
            return (module, value.id)
    raise KeyError(key)


def path_of(module: str) -> Path | None:
    """The file of a module of this project, None for other modules."""
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def imports(module: str) -> set[str]:
    """Modules of this project that ``module`` imports, anywhere in its text and transitively, including itself."""
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


def forget() -> None:
    """Clear the caches, so that every file is read again."""
    _module.cache_clear()
    _definition.cache_clear()
    _known.clear()


def _is_ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == PROJECT


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# ---------------------------------------------------------------------------- modules and names
class _Module:
    """The definitions and imported names of one module of this project."""

    def __init__(self, name: str) -> None:
        path = path_of(name)
        if path is None:
            raise FileNotFoundError(f"no module {name} in this project")
        self.definitions: dict[str, list[ast.stmt]] = {}  # a name may be bound or extended more than once
        self.imports: dict[str, Symbol] = {}
        self.external: dict[str, str] = {}  # local name -> dotted name in another package
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    self.external[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and not _is_ours(node.module):
                self.external |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for part in ast.walk(tree):
            if isinstance(part, ast.ImportFrom) and _is_ours(part.module):
                for alias in part.names:
                    sub = f"{part.module}.{alias.name}"
                    symbol = (sub, "") if path_of(sub) else (str(part.module), alias.name)
                    self.imports[alias.asname or alias.name] = symbol
        for node in tree.body:
            for bound in _bound_by(node):
                if bound not in self.imports and bound not in self.external:  # os.environ[name] = ... binds no os
                    self.definitions.setdefault(bound, []).append(node)


_module = functools.cache(_Module)


def _bound_by(node: ast.stmt) -> list[str]:
    """Names that a statement binds or whose value it changes (``TABLE[key] = ...``)."""
    if isinstance(node, _Function | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [name for target in node.targets for name in _names(target)]
    return _names(node.target) if isinstance(node, ast.AnnAssign | ast.AugAssign) else []


def _names(target: ast.expr) -> list[str]:
    """Names in the target of an assignment or a loop."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Tuple | ast.List):
        return [name for part in target.elts for name in _names(part)]
    return _names(target.value) if isinstance(target, ast.Starred | ast.Subscript | ast.Attribute) else []


def _resolve(symbol: Symbol) -> Symbol | None:
    """The definition that a symbol refers to, followed through imports; None if there is none."""
    seen: set[Symbol] = set()
    while symbol not in seen:
        seen.add(symbol)
        module, name = symbol
        if not name or name in _module(module).definitions:
            return symbol
        symbol = _module(module).imports.get(name, symbol)
    return None


def _bound_in(body: list[ast.stmt] | list[ast.expr]) -> set[str]:
    """Names that the body of a function or class binds itself, not those bound in nested functions, classes or
    comprehensions."""
    found, elsewhere = set(), set()
    todo: list[ast.AST] = list(body)
    while todo:
        part = todo.pop()
        if isinstance(part, _Function | ast.ClassDef):
            found.add(part.name)
        elif isinstance(part, _Comprehension):
            todo += [node for loop in part.generators for node in (loop.iter, *loop.ifs)]
            todo += [part.key, part.value] if isinstance(part, ast.DictComp) else [part.elt]
        elif isinstance(part, ast.Global | ast.Nonlocal):
            elsewhere |= set(part.names)
        elif isinstance(part, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            found |= set() if _is_ours(part.module) else {alias.asname or alias.name for alias in part.names}
        elif isinstance(part, ast.Name):
            found |= set() if isinstance(part.ctx, ast.Load) else {part.id}
        elif not isinstance(part, ast.Lambda):
            if isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
                found.add(part.name)
            todo += ast.iter_child_nodes(part)
    return found - elsewhere


# ------------------------------------------------------------------------------------ definitions
@dataclass(frozen=True)
class _Definition:
    """The tree of a definition as text, with ``@i@`` for ``mentions[i]``; ``annotated`` are the definitions that only
    its annotations name."""

    text: str
    mentions: tuple[Symbol, ...]
    annotated: frozenset[Symbol]


@functools.cache
def _definition(symbol: Symbol) -> _Definition:
    module, name = symbol
    definitions = _module(module).definitions
    if not name:
        return _Definition("module", (), frozenset((module, inner) for inner in definitions))
    if name not in definitions:
        found = _resolve(symbol)
        if found is None:
            raise KeyError(f"{module} has no {name}")
        return _definition(found)
    bare = _Bare(module, name)
    texts = [bare.text_of(node) for node in definitions[name]]
    return _Definition("\n".join(texts), tuple(bare.mentions), frozenset(bare.annotated) - {symbol})


def _is_typed_dict(symbol: Symbol) -> bool:
    """Whether a definition is a TypedDict, which declares the keys of a mapping and has no methods."""
    module, name = symbol
    here = _module(module)
    node = here.definitions[name][0]
    for base in node.bases if isinstance(node, ast.ClassDef) else ():
        if isinstance(base, ast.Name):
            other = (module, base.id) if base.id in here.definitions else here.imports.get(base.id)
            if here.external.get(base.id, "").endswith(".TypedDict") or (other and _is_typed_dict(other)):
                return True
    return False


@dataclass
class _Scope:
    names: set[str]
    of_class: bool = False  # functions inside a class do not see its names


class _Bare(ast.NodeTransformer):
    """Removes prose from a definition's tree and replaces this project's names by numbers."""

    def __init__(self, module: str, own: str) -> None:
        self.module, self.own, self.here = module, own, _module(module)
        self.scopes: list[_Scope] = []
        self.mentions: list[Symbol] = []
        self.annotated: set[Symbol] = set()

    def text_of(self, node: ast.stmt) -> str:
        node = ast.parse(ast.unparse(node)).body[0]  # a copy
        if isinstance(node, _Function | ast.ClassDef):
            node.name = ""
        return ast.dump(self.visit(node))

    def _is_local(self, name: str) -> bool:
        return any(name in scope.names for scope in self.scopes[-1:] + [s for s in self.scopes if not s.of_class])

    def _symbol(self, name: str) -> Symbol | None:
        """The symbol of this project that a name refers to here; None for other names."""
        if self._is_local(name):
            return None
        return (self.module, name) if name in self.here.definitions else self.here.imports.get(name)

    def _mention(self, symbol: Symbol) -> str | None:
        """The replacement for a symbol; None if nothing defines it."""
        found = _resolve(symbol)
        if found is None:
            return None
        if found[1] in REGISTRIES:
            return f"={found[1]}"
        if found not in self.mentions:
            self.mentions.append(found)
        return f"@{self.mentions.index(found)}@"

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if not self.scopes and not isinstance(node.ctx, ast.Load):  # the target of the definition itself
            return ast.Name("own" if node.id == self.own else "other", node.ctx)
        symbol = self._symbol(node.id)
        if symbol is not None:
            return ast.Name(self._mention(symbol) or node.id, node.ctx)
        if node.id in self.here.external and not self._is_local(node.id):
            return ast.Name(f":{self.here.external[node.id]}", node.ctx)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name):
            owner, inner = self._symbol(node.value.id) or ("", "")
            name = self._mention((owner, node.attr)) if owner and not inner else None
            if name is not None:
                return ast.Name(name, node.ctx)
        node.value = self.visit(node.value)
        if isinstance(node.value, ast.Name) and node.value.id.startswith(":"):
            return ast.Name(f"{node.value.id}.{node.attr}", node.ctx)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if _is_ours(node.module) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self._annotation(node.annotation)
        if self.scopes and self.scopes[-1].of_class:  # a field
            field = ast.AnnAssign(node.target, ast.Constant(None), node.value, node.simple)
            return self.generic_visit(field)
        return self.visit(ast.Assign([node.target], node.value)) if node.value else None

    def _annotation(self, annotation: ast.expr | None) -> None:
        """Record the definitions that an annotation names."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if annotation is not None:
            inner = _Bare(self.module, self.own)
            inner.scopes = [_Scope(set()), *self.scopes]
            inner.visit(annotation)
            self.annotated |= {symbol for symbol in (*inner.mentions, *inner.annotated) if not _is_typed_dict(symbol)}

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(part) for part in node.decorator_list]
        self._annotation(node.returns)
        node.returns = None
        names = self._arguments(node.args) | _bound_in(node.body)
        node.body = self._body(node.body, _Scope(names))
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.scopes.append(_Scope(self._arguments(node.args) | _bound_in([node.body])))
        node.body = self.visit(node.body)
        self.scopes.pop()
        return node

    def _arguments(self, arguments: ast.arguments) -> set[str]:
        """Visit defaults and annotations, which belong to the enclosing scope; returns the names of the arguments."""
        arguments.defaults = [self.visit(part) for part in arguments.defaults]
        arguments.kw_defaults = [part and self.visit(part) for part in arguments.kw_defaults]
        own = [part for part in ast.walk(arguments) if isinstance(part, ast.arg)]
        for argument in own:
            self._annotation(argument.annotation)
            argument.annotation = None
        return {argument.arg for argument in own}

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for name in ("decorator_list", "bases", "keywords"):
            setattr(node, name, [self.visit(part) for part in getattr(node, name)])
        node.body = self._body(node.body, _Scope(_bound_in(node.body), of_class=True))
        return node

    def _body(self, body: list[ast.stmt], scope: _Scope) -> list[ast.stmt]:
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            body = body[1:]
        self.scopes.append(scope)
        found = [part for statement in body if (part := self.visit(statement)) is not None]
        self.scopes.pop()
        return found or [ast.Pass()]

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        first = node.generators[0]
        first.iter = self.visit(first.iter)  # in the enclosing scope
        self.scopes.append(_Scope({name for loop in node.generators for name in _names(loop.target)}))
        for loop in node.generators:
            loop.iter = loop.iter if loop is first else self.visit(loop.iter)
            loop.ifs = [self.visit(part) for part in loop.ifs]
        for name in ("key", "value") if isinstance(node, ast.DictComp) else ("elt",):
            setattr(node, name, self.visit(getattr(node, name)))
        self.scopes.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension


# ---------------------------------------------------------------------------------------- digests
_known: dict[Symbol, str] = {}


def _digest(symbol: Symbol) -> str:
    """The digest of a definition's content."""
    if symbol not in _known:
        _Components().visit(symbol)
    return _known[symbol]


class _Components:
    """Tarjan's algorithm: computes the digests of definitions; those that reach each other get theirs together."""

    def __init__(self) -> None:
        self.index: dict[Symbol, int] = {}
        self.low: dict[Symbol, int] = {}
        self.stack: list[Symbol] = []

    def visit(self, symbol: Symbol) -> None:
        self.index[symbol] = self.low[symbol] = len(self.index)
        self.stack.append(symbol)
        definition = _definition(symbol)
        for other in (*definition.mentions, *definition.annotated):
            if other in _known:
                continue
            if other not in self.index:
                self.visit(other)
            self.low[symbol] = min(self.low[symbol], self.low[other])
        if self.low[symbol] == self.index[symbol]:
            place = self.stack.index(symbol)
            _known.update(_digests_of_cycle(self.stack[place:]))
            del self.stack[place:]


def _digests_of_cycle(cycle: list[Symbol]) -> dict[Symbol, str]:
    """Digests of definitions that reach each other (or of a single one).

    Each round replaces a name by its digest from the round before. After as many rounds as there are definitions, all
    definitions that differ have different digests.
    """
    known = dict.fromkeys(cycle, "")
    for _ in cycle:
        known = {symbol: _content(_definition(symbol), known) for symbol in cycle}
    return known


def _content(definition: _Definition, cycle: dict[Symbol, str]) -> str:
    def digest(symbol: Symbol) -> str:
        return cycle[symbol] if symbol in cycle else _known[symbol]

    text = re.sub(r"@(\d+)@", lambda match: digest(definition.mentions[int(match[1])]), definition.text)
    return _sha256(text, *sorted({digest(symbol) for symbol in definition.annotated}))
