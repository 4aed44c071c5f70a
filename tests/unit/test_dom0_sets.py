"""Which sets of qubes a release gets, and what is refused."""

from pathlib import Path

import pytest

from sys_pxe import files, site
from sys_pxe.dom0 import sets
from sys_pxe.dom0.sets import Job, Wanted
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.site import Site
from tests.agent_world import site_data
from tests.dom0_world import QUIET

PROFILES: dict[str, dict[str, object]] = {
    "base": {"channel": "stable", "qubes": ["sys-net"]},
    "office": {"inherits": "base", "qubes": ["work", "vault"]},
    "twin": {"inherits": "base", "qubes": ["vault", "work"]},
    "plain": {"channel": "stable"},
    "unused": {"channel": "stable", "qubes": ["secret"]},
}


def a_site(*used: str, profiles: object = None) -> Site:
    clients = {
        f"pc-{number}": {
            "mac": f"52:54:00:00:00:{number:02}",
            "profile": profile,
        }
        for number, profile in enumerate(used)
    }
    data = site_data(profiles=profiles or PROFILES, clients=clients)
    return site.parse(data)


def test_each_choice_of_a_profile_in_use_is_one_set() -> None:
    assert sets.wanted(a_site("twin", "office", "base", "plain")) == (
        Wanted("base", ("sys-net",)),
        Wanted("office", ("sys-net", "vault", "work")),
    )


def test_what_unknown_clients_get_counts_too() -> None:
    data = site_data(profiles=PROFILES, clients={}, unknown_clients="unused")
    assert sets.wanted(site.parse(data)) == (Wanted("unused", ("secret",)),)


def test_no_qubes_no_sets() -> None:
    assert sets.wanted(a_site("plain")) == ()
    job = Job(Path("/nowhere"), Path("/nowhere"), Path("/nowhere"), 3)
    assert list(sets.build_all((), job, QUIET)) == []


def test_the_name_of_a_set_fits_the_name_of_an_artifact() -> None:
    for length, fits in ((40, True), (41, False)):
        name = "p" * length
        few = {name: {"channel": "stable", "qubes": ["work"]}}
        if fits:
            assert sets.wanted(a_site(name, profiles=few))[0].name == name
        else:
            with pytest.raises(InvalidInput, match="at most 40 characters"):
                sets.wanted(a_site(name, profiles=few))


def test_an_image_without_qubes_cannot_give_any(tmp_path: Path) -> None:
    job = Job(tmp_path, tmp_path, tmp_path, 3)
    wanted = (Wanted("office", ("work",)),)
    with pytest.raises(SysPxeError, match=r"no var/lib/qubes/qubes\.xml"):
        list(sets.build_all(wanted, job, QUIET))


def test_a_broken_store_is_refused_with_its_place(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "var/lib/qubes")
    files.write(tmp_path / sets.STORE, b"<qubes><domains>")
    job = Job(tmp_path, tmp_path, tmp_path, 3)
    with pytest.raises(InvalidInput, match=r"/var/lib/qubes/qubes\.xml"):
        list(sets.build_all((Wanted("office", ("work",)),), job, QUIET))
