"""Who may import whom, and how long files and functions may be: read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("privacy", "model", "clients", "server", "simulations")
OURS = {*FOLDERS, "tests"}
ALLOWED = {
    "privacy": {"privacy"},
    "model": {"model"},
    "clients": {"clients", "model", "privacy"},
    "server": {"server", "model", "privacy"},
    "simulations": {*FOLDERS},
}
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
NAMES = {path: str(path.relative_to(ROOT)) for path in MODULES}
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 40, 6

Function = ast.FunctionDef | ast.AsyncFunctionDef
each = pytest.mark.parametrize("path", MODULES, ids=NAMES.get)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module, wherever in the file; relative imports as a leading dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(TREES[path]) if isinstance(node, Function))


def _length(function: Function) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_all_five_folders_are_packages_and_no_test_folder_is() -> None:
    assert all((ROOT / folder / "__init__.py").is_file() for folder in FOLDERS)
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert len(MODULES) > 40


@each
def test_imports_of_ours_point_downwards_only(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    found = {name.split(".")[0] for name in _imports(TREES[path])}
    assert found & OURS <= ALLOWED[folder]


@each
def test_imports_are_absolute_and_flower_stays_out_of_the_mathematics(path: Path) -> None:
    found = set(_imports(TREES[path]))
    assert not [name for name in found if name.startswith(".")]
    if path.relative_to(ROOT).parts[0] in ("privacy", "model"):
        assert not [name for name in found if name.split(".")[0] in ("flwr", "ray", "polars", "typer")]


def test_torch_is_in_one_production_file() -> None:
    users = {NAMES[p] for p in MODULES if {"torch", "opacus"} & {n.split(".")[0] for n in _imports(TREES[p])}}
    assert {name for name in users if not name.startswith("simulations/")} == {"model/network.py"}


def test_the_modules_that_every_node_needs_do_without_torch() -> None:
    """Only a function body may import model.network: a scorecard partner installs without torch."""
    for path in MODULES:
        top = [node for node in TREES[path].body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name for node in top for name in _imports(node)}
        names |= {f"{n.module}.{a.name}" for n in top if isinstance(n, ast.ImportFrom) for a in n.names}
        assert "model.network" not in names, NAMES[path]


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "privacy"], ids=NAMES.get)
def test_privacy_knows_no_generator_that_can_be_seeded(path: Path) -> None:
    assert "random" not in {name.split(".")[0] for name in _imports(TREES[path])}
    attributes = {ast.unparse(node) for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)}
    assert not [name for name in attributes if name.startswith(("np.random", "numpy.random"))]
    parameters = {a.arg for f in _functions(path) for a in (*f.args.args, *f.args.kwonlyargs)}
    assert "seed" not in parameters


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name != "simulations"], ids=NAMES.get)
def test_no_file_seeds_the_global_generator(path: Path) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}
    assert not calls & {"np.random.seed", "numpy.random.seed", "random.seed", "torch.manual_seed"}


@each
def test_no_assert_stands_in_for_a_check(path: Path) -> None:
    assert not [node.lineno for node in ast.walk(TREES[path]) if isinstance(node, ast.Assert)]


@each
def test_every_module_says_its_subject_and_is_short(path: Path) -> None:
    assert ast.get_docstring(TREES[path])
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@each
def test_no_function_is_long_or_takes_many_parameters(path: Path) -> None:
    long = {f.name: _length(f) for f in _functions(path) if _length(f) > MAX_FUNCTION}
    wide = {}
    for function in _functions(path):
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MAX_PARAMETERS:
            wide[function.name] = count
    assert (long, wide) == ({}, {})


def test_nothing_is_called_utils_or_common() -> None:
    assert not {p.stem for p in MODULES} & {"utils", "common", "helpers", "base", "misc"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("name", ["server/app.py", "clients/app.py"])
def test_an_app_only_wires(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 75
