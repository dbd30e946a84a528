"""The shape of the package: imports point downwards, files and functions stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pagap_jax"

# Lowest first: a room imports from itself and from those before it.
ROOMS = (
    "array_types errors ranges arguments stopping streams intervals accelerators buckets claims "
    "files roll_call peers processes compilation records progress extension lineage "
    "run_directory run_warnings data model losses sampling policies preference_models checkpoints "
    "train align mapping evaluation jobs study configuration library aot main"
).split()
# What the study may not load, itself or through a module of ours: it reads rows only.
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "seqio"}
MAX_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_MAIN_LINES = 80

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """'pagap_jax.room.file' of a source file; a package by its own name."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The part of the package that a module belongs to; '' for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST, at_import_only: bool = False) -> Iterator[tuple[str, int]]:
    """Every imported module with its line; with `at_import_only`, what importing the file runs."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif at_import_only and isinstance(node, ast.If) and is_for_types(node):
            pending.extend(node.orelse)
        elif not (at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))


def is_for_types(node: ast.If) -> bool:
    """Whether a type checker alone looks at what is in it."""
    return ast.unparse(node.test) == "TYPE_CHECKING"


def parse(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def upward(module: str, tree: ast.AST) -> list[str]:
    """Imports of a room that stands above the module's own."""
    found = []
    for imported, line in imports(tree):
        if imported.split(".")[0] == "pagap_jax" and room(imported) in ROOMS and room(module):
            if ROOMS.index(room(imported)) > ROOMS.index(room(module)):
                found.append(f"{module}:{line} imports {imported}")
    return found


def circles(trees: dict[str, ast.Module]) -> list[str]:
    """Modules that import each other, by way of any, also inside of functions; not for types."""
    graph = {}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and is_for_types(node):
                node.body = []
        names = {imported for imported, _ in imports(tree)}
        names |= {name.rpartition(".")[0] for name in names}
        graph[module] = names & trees.keys() - {module}
    found = []
    while leaves := [module for module, below in graph.items() if not below & graph.keys()]:
        for module in leaves:
            del graph[module]
    for module, below in graph.items():
        found.append(f"{module} -> {', '.join(sorted(below & graph.keys()))}")
    return found


def loaded(module: str, trees: dict[str, ast.Module], seen: set[str]) -> set[str]:
    """Everything that importing `module` imports, by way of modules of ours."""
    if module not in trees or module in seen:
        return set()
    seen.add(module)
    found = set()
    for imported, _ in imports(trees[module], at_import_only=True):
        found.add(imported)
        parts = imported.split(".")
        for depth in range(1, len(parts) + 1):
            found |= loaded(".".join(parts[:depth]), trees, seen)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_downwards(path):
    module = module_name(path)
    assert module == "pagap_jax" or room(module) in ROOMS, "name its place in ROOMS"
    assert not upward(module, parse(path))


def test_an_upward_import_is_found():
    tree = ast.parse("def f():\n    from pagap_jax.train import loop\n")
    assert upward("pagap_jax.losses.ipo", tree) == [
        "pagap_jax.losses.ipo:2 imports pagap_jax.train.loop"
    ]
    assert not upward("pagap_jax.align.step", tree)


def test_no_modules_import_each_other():
    trees = {module_name(path): parse(path) for path in SOURCES if path.name != "__init__.py"}
    assert not circles(trees)


def test_a_circle_is_found():
    trees = {
        "p.a": ast.parse("from p.b import x"),
        "p.b": ast.parse("def f():\n    from p import a"),
        "p.c": ast.parse("from p import a"),
    }
    assert circles(trees)[:2] == ["p.a -> p.b", "p.b -> p.a"]
    del trees["p.b"]
    assert not circles(trees)


def test_the_study_loads_no_array_library():
    trees = {module_name(path): parse(path) for path in SOURCES}
    for module in trees:
        if room(module) == "study":
            everything = loaded(module, trees, set())
            for imported, _ in imports(trees[module]):  # nor inside of its functions
                everything |= {imported} | loaded(imported, trees, set())
            assert not {imported.split(".")[0] for imported in everything} & HEAVY, module


def test_what_a_module_loads_through_others_is_found():
    trees = {
        "pagap_jax.study.a": ast.parse("from pagap_jax.records import x"),
        "pagap_jax.records": ast.parse("import jax.numpy as jnp\ndef f():\n    import seqio"),
    }
    assert "jax.numpy" in loaded("pagap_jax.study.a", trees, set())
    assert "seqio" not in loaded("pagap_jax.study.a", trees, set())


def test_importing_the_study_loads_no_array_library():
    modules = [module_name(path) for path in SOURCES if room(module_name(path)) == "study"]
    code = f"import sys, {', '.join(modules)}; print(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n", result.stderr


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function with its signature and docstring."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    limit = MAX_MAIN_LINES if path == PACKAGE / "main.py" else MAX_LINES
    assert len(text.splitlines()) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert function_lines(node) <= MAX_FUNCTION_LINES, node.name
