"""The package: built twice, linted, installed, upgraded and removed (root).

The root that it goes into is empty: no script of the package may be needed.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "qubes-sys-pxe"
VERSION = (REPOSITORY / "version").read_text().strip()
RELEASE = (REPOSITORY / "rel").read_text().strip()
POLICY = "etc/qubes/policy.d/80-sys-pxe.policy"
PILLAR = "srv/pillar/sys-pxe/init.sls"
# of the clone's only commit
EPOCH = 1_790_000_000

Done = subprocess.CompletedProcess[str]


def call(*argv: str | Path, cwd: Path = REPOSITORY, **environment: str) -> Done:
    env = {
        key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ
    }
    return subprocess.run(
        argv,
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**env, **environment},
        text=True,
        timeout=1800,
    )


def must(*argv: str | Path, cwd: Path, **environment: str) -> str:
    done = call(*argv, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def built(folder: Path, tree: Path, **environment: str) -> Path:
    must(tree / "tools/rpm", folder, "--nocheck", cwd=tree, **environment)
    (found,) = folder.glob("*.rpm")
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what git knows or would add, with one commit."""
    found = tmp_path_factory.mktemp("clone") / "tree"
    kinds = ("--cached", "--others", "--exclude-standard")
    listed = must("git", "ls-files", "-z", *kinds, cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (found / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, found / name)
    must("git", "init", "-q", cwd=found)
    must("git", "add", ".", cwd=found)
    must(
        *("git", "-c", "user.name=t", "-c", "user.email=t@example.org"),
        *("commit", "-q", "-m", "t"),
        cwd=found,
        GIT_COMMITTER_DATE=f"{EPOCH} +0000",
    )
    return found


@pytest.fixture(scope="module")
def package(tree: Path) -> Path:
    """What ``make rpm`` makes, with %check and rpmlint."""
    # the Python that runs this test has what %check needs
    said = must("make", "rpm", f"PY={sys.executable}", "READY=", cwd=tree)
    assert " 0 errors, " in said
    return tree / f"build/rpm/{NAME}-{VERSION}-{RELEASE}.noarch.rpm"


@pytest.fixture(scope="module")
def next_package(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A later version, where the two configuration files differ."""
    folder = tmp_path_factory.mktemp("next")
    shutil.copytree(tree, folder / "tree")
    for name in (
        "qubes-rpc/policy/80-sys-pxe.policy",
        "salt/pillar/sys-pxe/init.sls",
    ):
        with open(folder / "tree" / name, "a") as stream:
            stream.write("# later\n")
    return built(folder / "out", folder / "tree", VERSION="99.0")


def query(package: Path, *argv: str) -> str:
    return must("rpm", "-qp", *argv, package, cwd=REPOSITORY)


def rpm(root: Path, *argv: str | Path) -> Done:
    place = ("--root", root, "--dbpath", "/var/lib/rpm")
    return call("rpm", *place, *argv)


def install(root: Path, package: Path, how: str = "-i") -> Done:
    # an empty root has nothing that could meet a dependency
    return rpm(root, how, "--nodeps", package)


@pytest.fixture
def root(tmp_path: Path, package: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    done = install(found, package)
    assert (done.returncode, done.stdout) == (0, "")
    assert "error" not in done.stderr
    return found


def present(root: Path) -> dict[str, os.stat_result]:
    """Return what lies below the root, but rpm's database."""
    return {
        name: path.lstat()
        for path in sorted(root.rglob("*"))
        if not (name := str(path.relative_to(root))).startswith("var/lib/rpm")
    }


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        name: (info.st_mode, (root / name).read_bytes())
        for name, info in present(root).items()
        if stat.S_ISREG(info.st_mode)
    }


def user_data(root: Path) -> dict[str, bytes]:
    """Make what the administrator and the command make later."""
    made = {
        "etc/sys-pxe/site.yaml": b"channels: [stable]\n",
        "var/lib/sys-pxe/key/private.pem": b"secret\n",
        "var/lib/sys-pxe/releases/r1/manifest": b"release r1\n",
    }
    for name, data in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return made


def enable(root: Path) -> list[Path]:
    """Make the links that the two calls of qubesctl top.enable make."""
    links = [
        root / f"srv/{k}/_tops/base/sys-pxe.top" for k in ("salt", "pillar")
    ]
    for link in links:
        link.parent.mkdir(parents=True)
        link.symlink_to(f"/srv/{link.parents[2].name}/sys-pxe/init.top")
    return links


def test_two_builds_are_the_same_bytes(
    package: Path, tree: Path, tmp_path: Path
) -> None:
    # other folder, other umask, other zone, and without %check
    before = os.umask(0o077)
    try:
        again = built(tmp_path / "out", tree, TZ="Asia/Tokyo")
    finally:
        os.umask(before)
    assert again.name == package.name
    assert again.read_bytes() == package.read_bytes()


def times(package: Path) -> set[int]:
    form = "%{BUILDTIME} [%{FILEMTIMES} ]"
    return set(map(int, query(package, "--qf", form).split()))


def test_the_only_time_in_it_is_that_of_the_commit(
    package: Path, tree: Path, tmp_path: Path
) -> None:
    assert times(package) == {EPOCH}
    later = str(EPOCH + 86_400)
    other = built(tmp_path, tree, SOURCE_DATE_EPOCH=later)
    assert times(other) == {EPOCH + 86_400}
    assert other.read_bytes() != package.read_bytes()


def test_the_package_says_what_it_is(package: Path) -> None:
    form = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST}"
    assert query(package, "--qf", form) == (
        f"{NAME} {VERSION} {RELEASE} noarch GPL-2.0-or-later sys-pxe"
    )
    # nothing runs at installation: no state is applied, nothing is started
    for what in ("--scripts", "--triggers", "--filetriggers"):
        assert query(package, what) == ""


def test_each_dependency_is_argued_for(package: Path) -> None:
    lines = query(package, "--requires").splitlines()
    wanted = {line.split()[0] for line in lines}
    wanted = {w for w in wanted if not re.match(r"rpmlib\(|config\(|/", w)}
    text = (REPOSITORY / "docs/decisions/009-package.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `")]
    argued: set[str] = set()
    for line in table:
        names = re.findall(r"`([a-z0-9-]+)`", line.split("|")[1])
        base = names[0].removesuffix("-dom0")
        argued |= {base + n if n.startswith("-") else n for n in names}
    assert wanted == argued


def test_owners_and_modes(root: Path) -> None:
    found = present(root)
    wrong = {n for n, i in found.items() if (i.st_uid, i.st_gid) != (0, 0)}
    assert wrong == set()
    unsafe = {
        name
        for name, info in found.items()
        if not stat.S_ISLNK(info.st_mode) and info.st_mode & 0o6022
    }
    assert unsafe == set()
    modes = {name: stat.S_IMODE(info.st_mode) for name, info in found.items()}
    assert modes[POLICY] == 0o644
    assert modes["etc/sys-pxe"] == 0o750
    assert modes["var/lib/sys-pxe"] == 0o700
    assert modes["usr/bin/sys-pxe"] == 0o755
    for name, info in found.items():
        if name.startswith(("srv/salt/sys-pxe", "srv/pillar/sys-pxe")):
            wanted = 0o750 if stat.S_ISDIR(info.st_mode) else 0o640
            assert modes[name] == wanted, name


def test_every_folder_of_ours_belongs_to_the_package(root: Path) -> None:
    owned = set(rpm(root, "-ql", NAME).stdout.splitlines())
    ours = {f"/{name}" for name in present(root) if "sys-pxe" in name}
    assert ours - owned == set()
    # folders of other packages are left to them
    for name in ("/srv/salt", "/srv/pillar", "/etc/qubes/policy.d", "/usr/bin"):
        assert name not in owned


def test_what_is_installed_is_what_make_install_installs(
    root: Path, tree: Path, tmp_path: Path
) -> None:
    other = tmp_path / "make"
    must("make", "install", f"DESTDIR={other}", cwd=tree)
    assert content(root) == content(other)


def test_it_verifies_until_a_file_is_touched(root: Path) -> None:
    verify = (*("-V", "--nodeps"), NAME)
    assert rpm(root, *verify).stdout == ""
    (root / "usr/bin/sys-pxe").chmod(0o777)
    assert "/usr/bin/sys-pxe" in rpm(root, *verify).stdout


def test_installed_twice_is_told_and_changes_nothing(
    root: Path, package: Path
) -> None:
    user_data(root)
    before = content(root)
    done = install(root, package)
    assert done.returncode != 0
    assert f"{NAME}-{VERSION}-{RELEASE}" in done.stderr
    assert "is already installed" in done.stderr
    assert content(root) == before


def test_an_older_version_is_refused(
    root: Path, package: Path, next_package: Path
) -> None:
    assert install(root, next_package, "-U").returncode == 0
    before = content(root)
    done = install(root, package, "-U")
    assert done.returncode != 0
    assert f"{NAME}-99.0" in done.stderr
    assert "newer" in done.stderr
    assert content(root) == before


def test_an_upgrade_keeps_the_pillar_and_renews_the_policy(
    root: Path, next_package: Path
) -> None:
    made = user_data(root)
    links = enable(root)
    edited = b"sys-pxe: {address: 192.0.2.9/24}\n"
    (root / PILLAR).write_bytes(edited)
    (root / POLICY).write_bytes(b"# mine\n")
    done = install(root, next_package, "-U")
    assert done.returncode == 0, done.stderr
    assert rpm(root, "-q", NAME).stdout.startswith(f"{NAME}-99.0-")
    assert (root / PILLAR).read_bytes() == edited
    assert (root / f"{PILLAR}.rpmnew").read_bytes().endswith(b"# later\n")
    # the denials of the new policy are in force; the edit is kept beside it
    assert (root / POLICY).read_bytes().endswith(b"# later\n")
    assert (root / f"{POLICY}.rpmsave").read_bytes() == b"# mine\n"
    for name, data in made.items():
        assert (root / name).read_bytes() == data
    # the formula stays enabled
    assert all(link.is_symlink() for link in links)


def test_removal_leaves_only_what_the_user_made(root: Path) -> None:
    made = user_data(root)
    (root / PILLAR).write_bytes(b"sys-pxe: {}\n")
    links = enable(root)
    done = rpm(root, "-e", NAME)
    assert done.returncode == 0, done.stderr
    assert f"saved as /{PILLAR}.rpmsave" in done.stderr
    assert "error" not in done.stderr
    left = {n for n, i in present(root).items() if not stat.S_ISDIR(i.st_mode)}
    assert left == {*made, f"{PILLAR}.rpmsave"}
    assert [link for link in links if link.is_symlink()] == []
    folders = {n for n, i in present(root).items() if stat.S_ISDIR(i.st_mode)}
    ours = {name for name in folders if "sys-pxe" in name}
    assert ours == {
        *("etc/sys-pxe", "srv/pillar/sys-pxe", "var/lib/sys-pxe"),
        *("var/lib/sys-pxe/key", "var/lib/sys-pxe/releases"),
        "var/lib/sys-pxe/releases/r1",
    }


def test_removal_without_user_data_leaves_nothing(root: Path) -> None:
    assert rpm(root, "-e", NAME).returncode == 0
    assert [name for name in present(root) if "sys-pxe" in name] == []


def test_the_builder_finds_spec_version_and_release() -> None:
    text = (REPOSITORY / ".qubesbuilder").read_text()
    (spec,) = re.findall(r"- (rpm_spec/\S+)$", text, re.M)
    template = (REPOSITORY / f"{spec}.in").read_text()
    assert f"Name:           {NAME}\n" in template
    marks = set(re.findall(r"@[A-Z_]+@", template))
    # the builder refuses @REL@ without a file rel
    assert marks == {"@VERSION@", "@REL@", "@CHANGELOG@"}
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)+", VERSION)
    assert re.fullmatch(r"[0-9]+", RELEASE)
