"""The rules of the code base, read from its syntax trees.

Who may import whom, which module starts programs, which one writes files, how
long things may be. A rule that has an exception names it here with its reason.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "sys_pxe"

MODULE_LINES = 400
FUNCTION_LINES = 50

# part -> parts it may import besides itself; "" are the shared modules
MAY_IMPORT = {
    "": set[str](),
    "render": {""},
    "agent": {"", "render"},
    "dom0": {"", "render"},
    "client": {""},
    "lab": {"", "render", "agent", "dom0", "client"},
}
# the part -> packages from outside of the standard library
OUTSIDE = {"render": {"jinja2"}, "dom0": {"yaml"}, "lab": {"yaml"}}
# module -> a package that only it may import, and why
OUTSIDE_ONE = {
    "dom0.qrexec": {"qubesadmin": "dom0's way to qubesd; not on other systems"}
}

PURE = (
    *("errors", "names", "document", "manifest", "pointer", "trust"),
    *("frames", "fields", "site", "plan", "ram", "usage", "loaders"),
    *("dhcp", "tpm2", "measured"),
    *("dom0.qubes_store", "dom0.qubes_write", "dom0.qubes_needs"),
    *("dom0.qubes_rewrite", "dom0.qubes_memory", "dom0.seal_rules"),
    *("agent.asked", "agent.firewall", "dom0.siteedit"),
    *("dom0.findings", "dom0.diagnose"),
    *("render.dnsmasq", "render.ipxe", "render.nginx", "render.server"),
)
IMPURE_MODULES = {
    *("os", "io", "time", "subprocess", "socket", "select", "selectors"),
    *("pathlib", "shutil", "tempfile", "fcntl", "signal", "threading"),
    *("random", "secrets", "sqlite3", "logging", "http.client", "sys"),
    *("sys_pxe.run", "sys_pxe.files", "sys_pxe.signature"),
}

STARTS_PROGRAMS = {"run"}
PROCESS_MODULES = {"subprocess", "pty", "multiprocessing", "asyncio"}
PROCESS_CALLS = ("exec", "spawn", "posix_spawn", "fork", "system", "popen")

WRITES_FILES = {"files"}
WRITING_MODULES = {"shutil", "tempfile"}
OS_WRITES = {
    *("open", "write", "pwrite", "truncate", "ftruncate", "rename", "renames"),
    *("replace", "unlink", "remove", "removedirs", "mkdir", "makedirs"),
    *("rmdir", "symlink", "link", "mkfifo", "mknod", "chmod", "fchmod"),
    *("chown", "fchown", "utime", "posix_fallocate", "sendfile"),
}
PATH_WRITES = {
    *("write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch"),
    *("symlink_to", "hardlink_to", "chmod", "lchmod", "rename", "replace"),
}
# (module, what) -> why it cannot go through files.py
WRITE_EXCEPTIONS = {
    ("client.fetch", "os.pwrite"): "each chunk goes to its place in RAM",
    ("client.screen", "os.open"): "a terminal device, not a file",
    ("client.screen", "os.write"): "a terminal device, not a file",
    ("client.started", "os.open"): "Xen's device, not a file",
    ("client.tpm", "os.open"): "a TPM's device, not a file",
    ("client.tpm", "os.write"): "a TPM's device, not a file",
    ("lab.world", "open"): "a log that the agent itself appends to",
    ("dom0.cli", "os.open"): "/dev/null in place of a closed stdout",
    ("dom0.seed_fill", "os.pwrite"): "each block goes to its place",
    ("dom0.bootfiles", "shutil"): "copyfileobj between two open files",
    ("signature", "os.write"): "a memory file for openssl",
}


def name_of(path: Path) -> str:
    """Return a module's dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__") or "__init__"


MODULES = {name_of(p): p for p in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def part_of(name: str) -> str:
    first, _, _ = name.partition(".")
    return first if (PACKAGE / first).is_dir() else ""


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of each module that a tree may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_faults(name: str, tree: ast.AST) -> Iterator[str]:
    part = part_of(name)
    for wanted in imports(tree):
        top, _, rest = wanted.partition(".")
        if top == "sys_pxe":
            other = part_of(rest)
            if other != part and other not in MAY_IMPORT[part]:
                yield f"{name} imports {wanted}"
        elif top not in (
            sys.stdlib_module_names
            | OUTSIDE.get(part, set())
            | OUTSIDE_ONE.get(name, {}).keys()
        ):
            yield f"{name} imports {wanted}"


def process_faults(name: str, tree: ast.AST) -> Iterator[str]:
    if name in STARTS_PROGRAMS:
        return
    for wanted in imports(tree):
        top, _, rest = wanted.partition(".")
        if top in PROCESS_MODULES or (
            top == "os" and rest.startswith(PROCESS_CALLS)
        ):
            yield f"{name} imports {wanted}"
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "os"
            and node.attr.startswith(PROCESS_CALLS)
        ):
            yield f"{name} uses os.{node.attr}"


def open_mode(call: ast.Call, position: int) -> str:
    """Return the mode of an open call; "?" if it is not a constant."""
    given = [k.value for k in call.keywords if k.arg == "mode"]
    if not given and len(call.args) > position:
        given = [call.args[position]]
    if not given:
        return "r"
    mode = given[0]
    if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
        return mode.value
    return "?"


def call_writes(call: ast.Call) -> str | None:
    """Return what a call writes with, or None if it writes nothing."""
    function = call.func
    if isinstance(function, ast.Name):
        writes = function.id == "open" and set(open_mode(call, 1)) & set(
            "wax+?"
        )
        return "open" if writes else None
    if not isinstance(function, ast.Attribute):
        return None
    owner, method = ast.unparse(function.value), function.attr
    if owner == "os":
        return f"os.{method}" if method in OS_WRITES else None
    if method == "open":
        position = 1 if owner in {"gzip", "lzma", "io"} else 0
        writes = set(open_mode(call, position)) & set("wax+?")
        return f"{owner}.open" if writes else None
    if method not in PATH_WRITES:
        return None
    # str.replace and datetime.replace take two texts or keywords
    harmless = method == "replace" and len(call.args) != 1
    return None if harmless or owner == "files" else f".{method}"


def write_faults(name: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    if name in WRITES_FILES:
        return
    for wanted in imports(tree):
        if wanted in WRITING_MODULES:
            yield name, wanted
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (what := call_writes(node)):
            yield name, what


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    assert list(import_faults(name, TREES[name])) == []


@pytest.mark.parametrize("name", OUTSIDE_ONE)
def test_what_is_not_everywhere_is_imported_when_it_is_needed(
    name: str,
) -> None:
    wanted = {w.split(".")[0] for w in imports(TREES[name])}
    assert OUTSIDE_ONE[name].keys() <= wanted
    tops = [n for n in TREES[name].body if not isinstance(n, ast.FunctionDef)]
    early = {w.split(".")[0] for node in tops for w in imports(node)}
    assert early & OUTSIDE_ONE[name].keys() == set()


@pytest.mark.parametrize("name", MODULES)
def test_one_module_starts_programs(name: str) -> None:
    assert list(process_faults(name, TREES[name])) == []


def test_one_module_writes_files() -> None:
    found = {f for n, t in TREES.items() for f in write_faults(n, t)}
    assert found - WRITE_EXCEPTIONS.keys() == set()


def test_no_exception_outlives_its_reason() -> None:
    found = {f for n, t in TREES.items() for f in write_faults(n, t)}
    assert WRITE_EXCEPTIONS.keys() - found == set()


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_touch_nothing(name: str) -> None:
    assert IMPURE_MODULES & set(imports(TREES[name])) == set()
    calls = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.Call)]
    opened = [c.lineno for c in calls if ast.unparse(c.func) == "open"]
    clocks = [
        c.lineno
        for c in calls
        if ast.unparse(c.func).endswith((".now", ".utcnow", ".today"))
    ]
    assert (opened, clocks) == ([], [])


@pytest.mark.parametrize("name", MODULES)
def test_modules_stay_small(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("name", MODULES)
def test_functions_stay_short(name: str) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def shared() -> list[str]:
    return [n for n in MODULES if part_of(n) in {"", "render"}]


@pytest.mark.parametrize("name", shared())
def test_shared_dataclasses_are_frozen(name: str) -> None:
    decorators = [
        ast.unparse(decorator)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    ]
    data = [d for d in decorators if d.startswith("dataclass")]
    assert [d for d in data if "frozen=True" not in d] == []


# the checks themselves must be able to fail


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("client.x", "from sys_pxe.agent import store"),
        ("client.x", "from sys_pxe import render"),
        ("client.x", "import yaml"),
        ("dom0.x", "import qubesadmin"),
        ("dom0.x", "def f():\n    from qubesadmin.exc import QubesException"),
        ("agent.x", "import sys_pxe.dom0.cli"),
        ("dom0.x", "def f():\n    from sys_pxe.client import fetch"),
        ("names", "from sys_pxe import agent"),
        ("names", "import jinja2"),
    ],
)
def test_a_wrong_import_is_seen(name: str, code: str) -> None:
    assert list(import_faults(name, ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "from subprocess import run",
        "import os\nos.system('x')",
        "from os import execvp",
        "import os\nf = os.fork",
        "import pty",
    ],
)
def test_a_started_program_is_seen(code: str) -> None:
    assert list(process_faults("dom0.x", ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "open(p, mode)",
        "open(p, 'r+b')",
        "p.open('wb')",
        "gzip.open(p, 'wb')",
        "p.write_text('x')",
        "p.unlink()",
        "p.rename(q)",
        "p.replace(q)",
        "p.mkdir()",
        "os.open(p, os.O_RDWR)",
        "os.rename(a, b)",
        "import tempfile",
        "from shutil import rmtree",
    ],
)
def test_a_written_file_is_seen(code: str) -> None:
    assert list(write_faults("dom0.x", ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "open(p)",
        "open(p, 'rb')",
        "p.open('rb')",
        "text.replace('a', 'b')",
        "moment.replace(tzinfo=UTC)",
        "files.rename(a, b)",
        "p.read_text()",
    ],
)
def test_reading_is_allowed(code: str) -> None:
    assert not list(write_faults("dom0.x", ast.parse(code)))
