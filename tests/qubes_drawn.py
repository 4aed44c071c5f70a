"""Any number of golden PCs' stores, as Hypothesis draws them."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from sys_pxe.dom0.qubes_store import Device, Domain, Store
from tests.qubes_stores import FILES, LVM, OTHER, card, dom0, domain, store

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]),
    max_size=8,
) | st.sampled_from(["", "1", "a\nb", "a\rb", '<&">', " x "])


def _shape(qid: int, kinds: Mapping[str, list[Domain]]) -> list[str]:
    possible = ["TemplateVM", "StandaloneVM", "RemoteVM"]
    if kinds["TemplateVM"]:
        possible += ["AppVM", "AppVM", "AppVM"]
    if kinds["dvm"]:
        possible.append("DispVM")
    return ["TemplateVM"] if qid == 1 else possible


def _some(draw: st.DrawFn, found: Sequence[Domain]) -> dict[str, str]:
    """Properties that name qubes, of which some are not there yet."""
    # Qubes takes no remote one for any of these
    local = [one.name for one in found if one.klass != "RemoteVM"]
    names = st.sampled_from(["", "dom0", *local])
    dvms = [d.name for d in found if "template_for_dispvms" in d.properties]
    nets = [d.name for d in found if "provides_network" in d.properties]
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "guivm": names,
                "audiovm": names,
                "netvm": st.sampled_from(["", *nets]),
                "default_dispvm": st.sampled_from(["", *dvms]),
                "management_dispvm": st.sampled_from(["", *dvms]),
                "provides_network": st.just("True"),
                "autostart": st.sampled_from(["True", "False"]),
                "virt_mode": st.sampled_from(["hvm", "pvh", "pv"]),
                "memory": st.integers(1, 4000).map(str),
                "maxmem": st.integers(0, 8000).map(str),
                "vcpus": st.integers(1, 8).map(str),
                "kernel": st.sampled_from(["", "6.12.1-1.fc41", "6.6"]),
            },
        )
    )


def _features_of_qubes(
    others: Sequence[str],
) -> st.SearchStrategy[dict[str, str]]:
    """Features whose values are names of qubes, one or several."""
    # with spaces between them (qubes/vm/mix/dvmtemplate.py)
    several = st.lists(st.sampled_from(others), max_size=3).map(" ".join)
    return st.fixed_dictionaries(
        {},
        optional={
            "set-created-guivm": st.sampled_from(["", *others]),
            "preload-dispvm": several,
            "preload-dispvm-completed": several,
            "preload-dispvm-in-progress": several,
        },
    )


@st.composite
def _domain(
    draw: st.DrawFn, qid: int, kinds: Mapping[str, list[Domain]]
) -> Domain:
    earlier = kinds["all"]
    klass = draw(st.sampled_from(_shape(qid, kinds)))
    # no dot: Qubes makes tags of some names, and does not load those with one
    name = draw(st.from_regex(r"[a-zA-Z][a-z_-]{0,8}", fullmatch=True))
    name = f"{name}{qid}"
    others = [one.name for one in earlier] + ["dom0"]
    tags = st.builds(
        "{}-{}".format,
        st.sampled_from(
            [
                *("guivm", "audiovm", "relayvm"),
                *("created-by", "disp-created-by"),
            ]
        ),
        st.sampled_from(others),
    )
    features = st.builds(
        dict.__or__,
        st.dictionaries(st.sampled_from(["os", "gui", "service.x"]), _TEXT),
        _features_of_qubes(others),
    )
    if klass == "RemoteVM":
        local = [one.name for one in earlier if one.klass != "RemoteVM"]
        relay = draw(st.sampled_from(["", *local]))
        return domain(qid, klass, name, properties={"relayvm": relay})
    template = None
    if klass in {"AppVM", "DispVM"}:
        kind = "TemplateVM" if klass == "AppVM" else "dvm"
        template = draw(st.sampled_from(kinds[kind]))
    properties = _some(draw, earlier)
    if klass == "AppVM" and draw(st.booleans()):
        properties["template_for_dispvms"] = "True"
    devices = st.sampled_from(
        [
            card("00_1f.6"),
            Device("mic", {"backend-domain": "dom0", "id": "mic"}, {}),
            *(
                Device("block", {"backend-domain": o, "id": "sda"}, {})
                for o in others
            ),
        ]
    )
    return domain(
        qid,
        klass,
        name,
        draw(st.sampled_from([LVM, FILES, OTHER])),
        template,
        properties,
        draw(features),
        draw(st.lists(tags, max_size=3, unique=True)),
        draw(st.lists(devices, max_size=2, unique_by=lambda d: d.klass)),
    )


@st.composite
def stores(draw: st.DrawFn) -> Store:
    """Stores that Qubes itself would load."""
    kinds: dict[str, list[Domain]] = {"all": [], "TemplateVM": [], "dvm": []}
    for qid in range(1, draw(st.integers(2, 9))):
        one = draw(_domain(qid, kinds))
        kinds["all"].append(one)
        kinds.setdefault(one.klass, []).append(one)
        if "template_for_dispvms" in one.properties:
            kinds["dvm"].append(one)
    dvms = ["", *(one.name for one in kinds["dvm"])]
    nets = [
        "",
        *(d.name for d in kinds["all"] if "provides_network" in d.properties),
    ]
    templates = ["", *(one.name for one in kinds["TemplateVM"])]
    local = ["", *(d.name for d in kinds["all"] if d.klass != "RemoteVM")]
    settings = draw(
        st.fixed_dictionaries(
            {"default_kernel": st.sampled_from(["", "6.12.1-1.fc41"])},
            optional={
                "default_netvm": st.sampled_from(nets),
                "default_template": st.sampled_from(templates),
                "default_dispvm": st.sampled_from(dvms),
                "management_dispvm": st.sampled_from(dvms),
                "updatevm": st.sampled_from(local),
                "clockvm": st.sampled_from(local),
                "default_guivm": st.sampled_from(local),
                "default_audiovm": st.sampled_from(local),
                "default_pool": st.sampled_from(["vm-pool", "big"]),
                "check_updates_vm": st.sampled_from(["True", "False"]),
            },
        )
    )
    return store(dom0(), *kinds["all"], settings=settings)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Store, list[str]]:
    """A store, and qubes of it that are chosen."""
    found = draw(stores())
    others = [name for name in found.domains if name != "dom0"]
    return found, draw(
        st.lists(st.sampled_from(others), max_size=3, unique=True)
    )
