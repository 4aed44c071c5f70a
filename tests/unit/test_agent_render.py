"""Renderings, compared whole with golden files and checked by the programs.

``SYS_PXE_GOLDEN=write`` writes them anew; look at the difference then.
"""

import os
import re
import time
from pathlib import Path

import pytest

from sys_pxe import plan, render, run, site
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Artifact, Manifest, Role
from sys_pxe.render import Server, dnsmasq, nginx
from sys_pxe.site import Site
from tests.agent_world import site_data
from tests.documents import with_image

GOLDEN = Path(__file__).parent / "golden"
SERVER = Server(interface="lan")


def release(name: str = "2026-11-a", serial: int = 3) -> Manifest:
    digests = {Role.XEN: "a", Role.KERNEL: "b", Role.INITRAMFS: "c"}
    made = tuple(
        Artifact(role, str(role), 9, digit * 64, 9, (digit * 64,))
        for role, digit in digests.items()
    )
    return Manifest(name, serial, 0, 1, made)


THREE = {
    f"desk-0{n}": {
        "mac": f"52:54:00:00:00:0{n}",
        "profile": "office" if n > 1 else "base",
        "address": f"192.0.2.2{n}",
    }
    for n in (1, 2, 3)
}
OFFICE = {
    "base": {"channel": "stable", "ram": {"dom0": "2GiB"}},
    "office": {
        "inherits": "base",
        "options": {
            "xen": ["com1=115200"],
            "kernel": ["quiet", "console=hvc0"],
        },
    },
}
LOADERS = {
    "loader": {
        "profiles": {
            "base": {"channel": "stable", "loader": {"bios": "ipxe"}},
            "office": {"inherits": "base", "loader": {"uefi": "ipxe"}},
        },
        "clients": {
            **THREE,
            "desk-03": {
                **THREE["desk-03"],
                "loader": {"bios": "undionly", "uefi": "snponly"},
            },
        },
        "unknown_clients": "office",
    }
}
PROXY = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
CASES: dict[str, dict[str, object]] = {
    "minimal": {},
    "three": {"clients": THREE, "profiles": OFFICE},
    "proxy": {"network": PROXY},
    **LOADERS,
    "uefi": {"clients": THREE, "profiles": OFFICE},
    "unknown": {"unknown_clients": "base"},
    "unreleased": {
        "profiles": {"base": {"channel": "testing"}},
        "unknown_clients": "base",
    },
}


def rendered(case: str) -> dict[str, str]:
    made = site.parse(site_data(**CASES[case]))
    found = release()
    if case == "uefi":
        # an image for one of the profiles, none for the other
        options = plan.options_digest(plan.settings(made, "office"))
        found = with_image(found, options)
    return render.everything(made, {"stable": found}, SERVER)


@pytest.mark.parametrize("case", CASES)
def test_a_site_becomes_exactly_these_files(case: str) -> None:
    folder = GOLDEN / case
    texts = rendered(case)
    if os.environ.get("SYS_PXE_GOLDEN") == "write":
        for path, text in texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    golden = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert texts == golden


@pytest.mark.parametrize("case", CASES)
def test_dnsmasq_accepts_its_files(case: str) -> None:
    path = GOLDEN / case
    hosts = (path / "dnsmasq.hosts").read_text().splitlines()
    text = (path / "dnsmasq.conf").read_text()
    text += "".join(f"dhcp-host={line}\n" for line in hosts)
    argv = ["dnsmasq", "--test", "--conf-file=/dev/stdin"]
    assert b"OK" in run.run(argv, stdin=text.encode()).stderr
    wrong = run.run(argv, stdin=text.encode() + b"no-such\n", check=False)
    assert wrong.status != 0


@pytest.mark.parametrize("case", CASES)
def test_nginx_accepts_its_file(case: str, tmp_path: Path) -> None:
    made = site.parse(site_data(**CASES[case]))
    (tmp_path / "run").mkdir()
    server = Server(str(tmp_path), user="root", group="root")
    conf = tmp_path / "nginx.conf"
    text = nginx.configuration(made, server, f"{tmp_path}/run/check")
    conf.write_text(text)
    run.run(["nginx", "-t", "-c", str(conf)])
    conf.write_text(text + "no_such;")
    assert run.run(["nginx", "-t", "-c", str(conf)], check=False).status


def test_a_client_gets_the_files_that_the_site_gives_it() -> None:
    made = site.parse(site_data(**CASES["three"]))
    one = render.client_files(made, "desk-02", {"stable": release()}, SERVER)
    whole = rendered("three")
    path = "ipxe/desk-02.ipxe"
    assert one[path] == whole[path]
    assert one["dnsmasq.hosts"] in whole["dnsmasq.hosts"]


def branch(script: str, platform: str) -> list[str]:
    """Return the lines that iPXE runs on a platform, up to its first end."""
    lines = script.splitlines()
    here = lines.index(":start") + 1
    found = []
    while True:
        line = lines[here]
        here += 1
        if line.startswith("iseq ${platform} "):
            _, _, wanted, _, _, label, _ = line.split()
            if wanted == platform:
                here = lines.index(f":{label}")
            continue
        found.append(line)
        if line.startswith(("boot", "goto ")):
            return found


def test_uefi_gets_the_one_image_of_its_profile_and_no_options() -> None:
    """What is on a command line there is not covered by the signature."""
    script = rendered("uefi")["ipxe/desk-02.ipxe"]
    (url,) = [x for x in branch(script, "efi") if x.startswith("kernel ")]
    words = url.split()
    assert words[2:] == ["||", "goto", "refused"]
    assert words[1].startswith("http://192.0.2.1/chunks/")
    bios = branch(script, "pcbios")
    assert [x.split()[0] for x in bios].count("module") == 2
    assert words[1] not in "".join(bios)


def test_without_an_image_uefi_is_told_and_bios_boots() -> None:
    script = rendered("uefi")["ipxe/desk-01.ipxe"]
    told = branch(script, "efi")
    assert not [x for x in told if x.startswith(("kernel", "module"))]
    assert "echo sys-pxe: release 2026-11-a has no image for UEFI:" in told
    assert "echo none with the options of profile base." in told
    assert told[-1] == "goto giveup"
    bios = branch(script, "pcbios")
    assert bios == branch(rendered("three")["ipxe/desk-01.ipxe"], "pcbios")


@pytest.mark.parametrize("case", CASES)
def test_each_label_of_a_script_is_there_once(case: str) -> None:
    for path, script in rendered(case).items():
        if not path.endswith(".ipxe"):
            continue
        lines = script.splitlines()
        labels = [x for x in lines if x.startswith(":")]
        assert len(labels) == len(set(labels))
        wanted = re.findall(r"goto (\w+)", script)
        assert {f":{x}" for x in wanted} <= set(labels)
        assert all(len(x) < 1024 for x in lines)


def test_a_loader_is_the_clients_else_the_nearest_profiles() -> None:
    lines = rendered("loader")["dnsmasq.hosts"].splitlines()
    assert [line.split(",")[1:-1] for line in lines] == [
        ["set:c-desk-01", "set:bios-ipxe"],
        ["set:c-desk-02", "set:bios-ipxe", "set:uefi-ipxe"],
        ["set:c-desk-03"],
    ]
    conf = rendered("loader")["dnsmasq.conf"]
    assert "tag-if=set:bios-ipxe,tag:!known\n" in conf
    assert "tag-if=" not in rendered("unknown")["dnsmasq.conf"]


def test_a_switch_of_the_loader_restarts_nothing() -> None:
    """dnsmasq reads the hosts file again on SIGHUP, its main file never."""
    kinds = [
        {"base": {"channel": "stable", "loader": chosen}}
        for chosen in ({}, {"bios": "ipxe", "uefi": "ipxe"})
    ]
    before, after = (
        render.everything(site.parse(site_data(profiles=p)), {}, SERVER)
        for p in kinds
    )
    assert before["dnsmasq.conf"] == after["dnsmasq.conf"]
    assert before["dnsmasq.hosts"] != after["dnsmasq.hosts"]


def test_no_url_of_a_loader_makes_a_firmware_stumble() -> None:
    """UEFI's HTTP boot ends at a redirect, which nginx gives for //."""
    text = rendered("minimal")["dnsmasq.conf"]
    urls = [w for w in text.replace(",", " ").split() if "http://" in w]
    assert urls
    assert not [u for u in urls if "//" in u.removeprefix("http://")]


@pytest.mark.parametrize("name", ["ignore", "infinite", "192.0.2.9", "45m"])
def test_a_name_with_a_meaning_to_dnsmasq_stays_a_name(name: str) -> None:
    clients = {name: {"mac": "52:54:00:00:00:01", "profile": "base"}}
    made = site.parse(site_data(clients=clients))
    assert dnsmasq.hosts(made) == f"52:54:00:00:00:01,set:c-{name}\n"


def test_a_client_called_unknown_would_take_the_strangers_script() -> None:
    clients = {"unknown": {"mac": "52:54:00:00:00:01", "profile": "base"}}
    made = site.parse(site_data(clients=clients))
    with pytest.raises(InvalidInput, match=r"clients\.unknown"):
        render.everything(made, {}, SERVER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root", "relative"),
        ("root", "/var/lib/a b"),
        ("root", "/var/lib/x;"),
        ("interface", "eth0\nuser=root"),
        ("interface", "a" * 16),
        ("user", "Root;"),
        ("http_port", 0),
        ("http_port", 65536),
    ],
)
def test_words_that_a_configuration_would_read_otherwise_are_refused(
    field: str, value: object
) -> None:
    with pytest.raises(InvalidInput):
        Server(**{field: value})  # type: ignore[arg-type]


def test_another_port_is_in_every_url() -> None:
    made = site.parse(site_data())
    texts = render.everything(
        made, {"stable": release()}, Server(http_port=8080)
    )
    assert "listen 192.0.2.1:8080 " in texts["nginx.conf"]
    assert texts["ipxe/desk-01.ipxe"].count("http://192.0.2.1:8080") == 6
    assert "http://192.0.2.1/" not in "".join(texts.values())


def test_only_the_lans_own_server_speaks_for_the_whole_lan() -> None:
    texts = [
        rendered("minimal")["dnsmasq.conf"],
        rendered("proxy")["dnsmasq.conf"],
        render.everything(site.parse(site_data()), {}, Server(ipv6=False))[
            "dnsmasq.conf"
        ],
    ]
    assert ["ra-param" in text for text in texts] == [True, False, False]
    assert ["dhcp-authoritative" in text for text in texts] == [
        True, False, True,
    ]  # fmt: skip


def many(count: int) -> Site:
    clients = {
        f"desk-{n:03}": {
            "mac": f"52:54:00:00:{n // 256:02x}:{n % 256:02x}",
            "profile": "base",
        }
        for n in range(count)
    }
    return site.parse(site_data(clients=clients))


def test_two_hundred_clients_are_rendered_in_a_second() -> None:
    made = many(200)
    begin = time.process_time()
    texts = render.everything(made, {"stable": release()}, SERVER)
    assert time.process_time() - begin < 1
    assert len(texts) == 204
