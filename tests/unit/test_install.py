"""``make install``: what lands where, with which mode, and that it starts."""

import ast
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe.agent import rpc
from sys_pxe.dom0 import sitefile
from sys_pxe.site import parse

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = "usr/lib/sys-pxe"
FORMULA = "srv/salt/sys-pxe"
AGENT = f"{FORMULA}/files/agent"
ADMIN = f"{FORMULA}/files/admin"
# the parts of the package that may lie there; "" are the shared modules
PARTS = {
    LIBRARY: {"", "render", "dom0", "client"},
    AGENT: {"", "render", "agent"},
    ADMIN: {"", "render", "dom0"},
}
PROGRAMS = {
    "usr/bin/sys-pxe",
    f"{LIBRARY}/dracut/90sys-pxe/sys-pxe-client",
    f"{LIBRARY}/sys_pxe/client/files/sys-pxe-watch",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("install") / "root"
    # a strict umask of the caller must not reach the files
    subprocess.run(
        ["make", "--no-print-directory", "install", f"DESTDIR={found}"],
        check=True,
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        umask=0o077,
        timeout=60,
    )
    return found


def listed(root: Path) -> dict[str, Path]:
    return {str(p.relative_to(root)): p for p in sorted(root.rglob("*"))}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def expected_mode(name: str, path: Path) -> int:
    special = {"etc/sys-pxe": 0o750, "var/lib/sys-pxe": 0o700}
    if name in special:
        return special[name]
    if name.startswith("srv/"):
        return 0o750 if path.is_dir() else 0o640
    return 0o755 if path.is_dir() or name in PROGRAMS else 0o644


def test_modes(root: Path) -> None:
    wrong = {
        name: oct(mode(path))
        for name, path in listed(root).items()
        if not path.is_symlink()
        and name != "srv"
        and mode(path) != expected_mode(name, path)
    }
    assert wrong == {}


def test_the_places(root: Path) -> None:
    names = listed(root).keys()
    services = set(rpc.SERVICES)
    assert {
        "etc/qubes/policy.d/80-sys-pxe.policy",
        "usr/share/bash-completion/completions/sys-pxe",
        "usr/share/doc/qubes-sys-pxe/README.md",
        "usr/share/licenses/qubes-sys-pxe/LICENSE",
        "usr/share/man/man1/sys-pxe.1.gz",
        f"{LIBRARY}/dracut/90sys-pxe/module-setup.sh",
        *(f"usr/share/man/man7/{name}.7.gz" for name in services),
        *(f"{FORMULA}/files/qubes-rpc/{name}" for name in services),
        *(f"{FORMULA}/files/qubes-rpc/config/{name}" for name in services),
        *PROGRAMS,
    } <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"etc", "srv", "usr", "var"}


@pytest.mark.parametrize("place", PARTS)
def test_modules_are_those_of_the_parts_that_run_there(
    root: Path, place: str
) -> None:
    package = root / place / "sys_pxe"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file()
    }
    here = REPOSITORY / "sys_pxe"
    wanted = {
        str(path.relative_to(here))
        for part in PARTS[place]
        for path in (here / part).glob("*.py")
    }
    data = [*(here / "render/templates").iterdir()]
    if "client" in PARTS[place]:
        data += (here / "client/files").iterdir()
    assert found == wanted | {str(path.relative_to(here)) for path in data}


def test_nothing_of_lab_tests_or_bytecode_is_there(root: Path) -> None:
    words = ("lab", "tests", "__pycache__", "pyc", ".git")
    found = [
        name
        for name in listed(root)
        if any(word in name.replace(".", "/").split("/") for word in words)
    ]
    assert found == []
    formula = [name for name in listed(root) if name.startswith("srv/")]
    # the command goes to admin qubes, never to sys-pxe
    dom0 = [name for name in formula if "/dom0" in name]
    assert dom0
    assert all(name.startswith(f"{ADMIN}/sys_pxe/dom0") for name in dom0)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("place", PARTS)
def test_every_import_is_there(root: Path, place: str) -> None:
    """Also those that happen late, which a start does not show."""
    base = root / place
    parts = {f"sys_pxe.{part}" for part in PARTS[place] if part}
    for path in base.glob("sys_pxe/**/*.py"):
        for name in imported(path):
            words = name.split(".")
            if words[0] != "sys_pxe" or len(words) < 2 or name in parts:
                continue
            module = base.joinpath(*words[:2])
            if f"sys_pxe.{words[1]}" in parts and len(words) > 2:
                inside = module.joinpath(words[2])
                top = module / "__init__.py"
                known = inside.with_suffix(".py").exists()
                assert known or words[2] in top.read_text(), (path, name)
            else:
                assert module.with_suffix(".py").exists(), (path, name)


def start(
    root: Path, place: str, *words: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", *words],
        capture_output=True,
        check=False,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(root / place),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("place", "words", "said"),
    [
        (LIBRARY, ("-m", "sys_pxe.dom0", "--help"), "usage: sys-pxe "),
        (LIBRARY, ("-m", "sys_pxe.dom0.initramfs_build", "--help"), "usage: "),
        (AGENT, ("-m", "sys_pxe.agent", "--help"), "usage: sys-pxe-agent "),
    ],
)
def test_each_entry_starts(
    root: Path, place: str, words: tuple[str, ...], said: str
) -> None:
    done = start(root, place, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(said)


def test_a_service_starts(root: Path, tmp_path: Path) -> None:
    module = ("-m", "sys_pxe.agent.rpc", "--root", str(tmp_path))
    done = start(root, AGENT, *module, "syspxe.Paint")
    assert done.returncode == 2
    assert "'syspxe.Paint' is not a service" in done.stderr


def test_the_client_starts_as_in_the_initramfs(root: Path) -> None:
    code = "from sys_pxe.client.main import main; raise SystemExit(main(['x']))"
    done = start(root, LIBRARY, "-c", code)
    assert done.returncode == 2
    assert done.stderr == "usage: sys-pxe-client hide|boot\n"


def test_one_part_lacks_the_others(root: Path) -> None:
    for place, module in ((AGENT, "sys_pxe.dom0"), (LIBRARY, "sys_pxe.lab")):
        done = start(root, place, "-m", module, "--help")
        assert done.returncode == 1
        assert "No module named" in done.stderr


def test_the_command_starts_and_writes_no_bytecode(
    root: Path, tmp_path: Path
) -> None:
    shim = (root / "usr/bin/sys-pxe").read_text()
    assert len(shim.splitlines()) == 3
    assert shim.count("=/usr/lib/sys-pxe ") == 1
    # where the package will lie, and the Python that has its dependencies
    moved = shim.replace("/usr/lib/sys-pxe", str(root / LIBRARY))
    moved = moved.replace("/usr/bin/python3", sys.executable)
    program = tmp_path / "sys-pxe"
    program.write_text(moved)
    program.chmod(0o755)
    # a module beside the caller must not be taken
    (tmp_path / "sys_pxe.py").write_text("raise SystemExit('taken')")
    done = subprocess.run(
        [program, "key", "show", "--help"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "fingerprint" in done.stdout
    assert list(root.rglob("__pycache__")) == []


def test_the_dracut_module_is_found_beside_the_package(root: Path) -> None:
    code = (
        "from sys_pxe.dom0 import initramfs; print(initramfs.dracut_module())"
    )
    done = start(root, LIBRARY, "-c", code)
    wanted = root / LIBRARY / "dracut/90sys-pxe"
    assert Path(done.stdout.strip()) == wanted


def test_links_in_the_installed_documents_lead_somewhere(root: Path) -> None:
    doc = root / "usr/share/doc/qubes-sys-pxe"
    for page in doc.rglob("*.md"):
        links = re.findall(r"\]\(([^)#]+)", page.read_text())
        local = [link for link in links if "://" not in link]
        gone = [link for link in local if not (page.parent / link).exists()]
        assert gone == [], page


def test_the_example_is_a_site(root: Path) -> None:
    path = root / "usr/share/doc/qubes-sys-pxe/site.example.yaml"
    found = parse(sitefile.parse(path.read_bytes(), path.name), path.name)
    assert set(found.clients) == {"desk-01", "desk-02"}


def test_a_second_install_changes_nothing(root: Path) -> None:
    before = {n: (mode(p), p.lstat().st_size) for n, p in listed(root).items()}
    subprocess.run([REPOSITORY / "tools/install", root], check=True, timeout=60)
    after = {n: (mode(p), p.lstat().st_size) for n, p in listed(root).items()}
    assert before == after
