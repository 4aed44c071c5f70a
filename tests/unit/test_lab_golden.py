import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, mirror

MAIN = "http://mirror.example/debian|trixie|main|Debian|Debian"
UPDATES = "http://b.example/debian|trixie-updates|main|Debian|Debian"
SECURITY = "http://c.example/s|trixie-security|main|Debian|Debian-Security"
FOREIGN = "http://a.example/x|stable|main|Else|Else"

ROOT = "22 1 0:20 / / rw,relatime shared:1 - "
OVERLAY = (
    "overlay sys-pxe rw,lowerdir=/run/sys-pxe/lower,"
    "upperdir=/run/sys-pxe/upper/up,workdir=/run/sys-pxe/upper/work"
)
BELOW = (
    "23 22 0:21 / /run rw - tmpfs tmpfs rw\n"
    "24 23 7:0 / /run/sys-pxe/lower ro - squashfs /dev/loop0 ro\n"
    "25 23 0:22 / /run/sys-pxe/upper rw master:3 - tmpfs tmpfs rw\n"
)


@pytest.fixture
def probe() -> ModuleType:
    path = str(Path(golden.__file__).parent / "files/lab-probe")
    loader = importlib.machinery.SourceFileLoader("lab_probe", path)
    spec = importlib.util.spec_from_loader("lab_probe", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_debian_main_is_found_among_other_sites() -> None:
    assert mirror.debian_site([FOREIGN, SECURITY, UPDATES, MAIN]) == (
        "http://mirror.example/debian"
    )


@pytest.mark.parametrize(
    "targets", [[], [FOREIGN], [SECURITY], ["http://x|trixie|main"], [""]]
)
def test_no_site_is_invented(targets: list[str]) -> None:
    assert mirror.debian_site(targets) is None


def test_the_first_address_of_a_mirror_list_counts() -> None:
    text = "# mirrors\n\nhttp://mirror.example/debian\tpriority:1\nhttp://x/\n"
    assert mirror.first_of_list(text) == "http://mirror.example/debian"
    assert mirror.first_of_list("# none\n") is None


def apt_says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def answer(argv: list[str], **_: object) -> run.Result:
        assert argv[:2] == ["apt-get", "indextargets"]
        return run.Result(tuple(argv), 0, text.encode(), b"")

    monkeypatch.setattr(run, "run", answer)


def test_the_python_index_is_that_of_pips_configuration() -> None:
    listed = (
        ":env:.cert='/etc/ssl/x'\nglobal.index-url='https://pypi.example/simple'\n"
        "global.extra-index-url='https://more.example/a https://b.example'\n"
        "install.trusted-host='pypi.example'\nglobal.find-links='/wheels'\n"
    )
    assert mirror.parse_pip(listed) == {
        "PIP_INDEX_URL": "https://pypi.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://more.example/a https://b.example",
        "PIP_TRUSTED_HOST": "pypi.example",
    }
    assert mirror.parse_pip("") == {}


def test_the_environment_names_the_index_before_the_configuration() -> None:
    given = {"PIP_INDEX_URL": "https://mine.example/simple", "HOME": "/root"}
    found = mirror.python_index(given)
    assert found["PIP_INDEX_URL"] == "https://mine.example/simple"
    assert "HOME" not in found


def test_apt_of_this_machine_names_the_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apt_says(monkeypatch, f"{UPDATES}\n{MAIN}\n")
    assert mirror.debian_mirror({}) == "http://mirror.example/debian"


def test_a_mirror_list_of_apt_is_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirrors = tmp_path / "debian.list"
    mirrors.write_text("http://cloud.example/debian\n")
    apt_says(monkeypatch, f"mirror+file:{mirrors}|trixie|main|Debian|Debian\n")
    assert mirror.debian_mirror({}) == "http://cloud.example/debian"


def test_without_a_mirror_the_hint_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apt_says(monkeypatch, "\n")
    with pytest.raises(SysPxeError, match="no mirror") as caught:
        mirror.debian_mirror({})
    assert "SYS_PXE_MIRROR" in caught.value.hint


def test_the_environment_overrides_mirror_and_suite() -> None:
    chosen = {"SYS_PXE_MIRROR": "http://m.example/", "SYS_PXE_SUITE": "forky"}
    assert mirror.debian_mirror(chosen) == "http://m.example/"
    assert mirror.suite(chosen) == "forky"
    assert mirror.suite({}) == "trixie"


def test_a_proxy_of_the_environment_is_passed_on() -> None:
    chosen = {"http_proxy": "http://p.example:8080", "HOME": "/root"}
    assert mirror.proxies(chosen) == {"http_proxy": "http://p.example:8080"}


def test_each_recipe_has_its_own_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    before = golden.recipe_digest("trixie")
    assert golden.recipe_digest("trixie") == before
    assert golden.recipe_digest("forky") != before
    monkeypatch.setattr(golden, "program", lambda name: b"another")
    assert golden.recipe_digest("trixie") != before


def test_the_probe_prints_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300)
    script = Path(golden.__file__).parent / "files/lab-probe"
    done = run.run([sys.executable, str(script), str(path), "/missing"])
    assert done.stdout.count(b"\n") == 1
    found = json.loads(done.stdout)
    assert found["files"] == {str(path): "x" * 200, "/missing": None}
    assert "lo" in found["interfaces"]
    assert 0 < found["ram_used_mib"] < found["ram_total_mib"]


def test_the_probe_looks_through_an_overlay(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        probe, "text", lambda path: ROOT + OVERLAY + "\n" + BELOW
    )
    assert probe.root() == {
        "fstype": "overlay",
        "lower": "squashfs",
        "upper": "tmpfs",
    }


def test_the_probe_does_not_guess_what_is_out_of_view(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "text", lambda path: ROOT + OVERLAY)
    assert probe.root() == {"fstype": "overlay", "lower": None, "upper": None}


def test_a_broken_boot_record_is_null(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "text", lambda path: "{not json")
    assert probe.boot() is None
    monkeypatch.setattr(probe, "text", lambda path: '{"release": "r1"}')
    assert probe.boot() == {"release": "r1"}
