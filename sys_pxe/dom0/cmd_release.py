"""``sys-pxe release``: build, push, list, show, prune."""

import re
from dataclasses import asdict

from sys_pxe import names
from sys_pxe.dom0 import (
    answers,
    build,
    mounts,
    push,
    ramcheck,
    sets,
    squash,
    stopping,
    unified,
)
from sys_pxe.dom0.context import Context, mib, shown
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb
from sys_pxe.dom0.progress import duration
from sys_pxe.errors import SysPxeError, UsageError
from sys_pxe.manifest import Manifest


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("release", "build, push and look at releases")
    made = verb(verbs, "build", "build a release from a golden image", _build)
    made.add_argument("name", metavar="NAME")
    made.add_argument(
        "--from",
        dest="golden",
        metavar="GOLDEN",
        default=build.DEFAULT_GOLDEN,
        help="the golden image: the root of this PC, a folder where another is "
        "mounted, or a file with a file system (default: %(default)s)",
    )
    made.add_argument(
        "--valid-days",
        metavar="N",
        type=int,
        default=build.DEFAULT_VALID_DAYS,
        help="clients refuse the release after that (default: %(default)s)",
    )
    made.add_argument(
        "--compression",
        metavar="LEVEL",
        default=str(squash.DEFAULT_LEVEL),
        help="zstd level, 1 to 22; 3 is quick and 5 to 10 percent larger "
        "(default: %(default)s)",
    )
    sent = verb(
        verbs, "push", "send a release; only what the store lacks", _push
    )
    sent.add_argument("name", metavar="NAME")
    listed = reader(verbs, "list", "list the releases in dom0", _list)
    listed.add_argument(
        "--remote", action="store_true", help="list those in the store"
    )
    one = reader(verbs, "show", "show a release in dom0", _show)
    one.add_argument("name", metavar="NAME")
    verb(verbs, "prune", "drop what no channel needs from the store", _prune)


def _level(text: str) -> int:
    match = re.fullmatch(r"(?:zstd[:,])?([0-9]{1,2})", text)
    if match is None:
        raise UsageError(
            f"--compression: {names.printable(text, 20)!r} is not a zstd level",
            "a number from 1 to 22",
        )
    return int(match[1])


def _build(context: Context, args: Args) -> None:
    begun = context.clock()
    # a release can be built before there is a site
    found = context.site() if context.site_file.exists() else None
    order = build.Order(
        release=names.parse_name(args.name, "NAME"),
        golden=args.golden,
        created=context.now(),
        valid_days=args.valid_days,
        level=_level(args.compression),
        wanted=sets.wanted(found) if found else (),
        images=unified.wanted(found) if found else (),
    )
    build.check_root()
    # what is mounted is seen by this process only, and ends with it
    mounts.private()
    with stopping.stoppable():
        made = build.build(context.state, order, context.reporter)
    total = sum(artifact.size for artifact in made.artifacts)
    context.show(
        f"release {made.release} built: serial {made.serial}, {mib(total)}, "
        f"valid until {names.format_time(made.expires)}, took "
        f"{duration(context.clock() - begun)}"
    )
    _warn(context, made)


def _warn(context: Context, made: Manifest) -> None:
    """Warn of profiles that give dom0 too little for a release."""
    try:
        found = context.site()
    except SysPxeError:
        return  # a release can be built before there is a site
    active = dict.fromkeys(found.channels, made)
    for text in ramcheck.warnings(found, active):
        context.warn(text)


def _push(context: Context, args: Args) -> None:
    name = names.parse_name(args.name, "NAME")
    state = context.state
    begun = context.clock()
    done = push.push(
        state.release(name),
        state.signed_manifest(name),
        state.release_folder(name),
        context.transport(),
        context.reporter,
    )
    context.show(
        f"release {name} is in the store: {done.sent_chunks} chunks sent "
        f"({mib(done.sent_bytes)}, {done.sent_bytes} bytes), {done.present} of "
        f"{done.chunks} were there already, took "
        f"{duration(context.clock() - begun)}"
    )


def _list(context: Context, args: Args) -> None:
    if args.remote:
        _list_remote(context)
        return
    found = context.state.releases()
    if context.json:
        rows = [
            {
                "release": m.release,
                "serial": m.serial,
                "created": names.format_time(m.created),
                "expires": names.format_time(m.expires),
                "bytes": sum(a.size for a in m.artifacts),
            }
            for m in found
        ]
        context.show_json({"releases": rows})
        return
    context.show_table(
        ("RELEASE", "SERIAL", "CREATED", "EXPIRES", "SIZE"),
        [
            (
                *(m.release, m.serial, names.format_time(m.created)),
                names.format_time(m.expires),
                mib(sum(a.size for a in m.artifacts)),
            )
            for m in found
        ],
    )


def _list_remote(context: Context) -> None:
    found = answers.releases(context.transport().call("syspxe.Releases"))
    if context.json:
        rows = [
            {
                **asdict(row),
                "created": names.format_time(row.created),
                "expires": names.format_time(row.expires),
            }
            for row in found
        ]
        context.show_json({"releases": rows})
        return
    context.show_table(
        ("RELEASE", "SERIAL", "EXPIRES", "SIZE", "COMPLETE", "CHANNELS"),
        [
            (
                *(row.release, row.serial, names.format_time(row.expires)),
                *(mib(row.bytes), row.complete, row.channels),
            )
            for row in found
        ],
    )


def _show(context: Context, args: Args) -> None:
    m = context.state.release(names.parse_name(args.name, "NAME"))
    if context.json:
        rows = [
            {
                "role": a.role.value,
                "name": a.name,
                "bytes": a.size,
                "sha256": a.sha256,
                "chunk_bytes": a.chunk_size,
                "chunks": list(a.digests),
            }
            for a in m.artifacts
        ]
        context.show_json(
            {
                "release": m.release,
                "serial": m.serial,
                "created": names.format_time(m.created),
                "expires": names.format_time(m.expires),
                "sets": [asdict(one) for one in m.sets],
                "images": [asdict(one) for one in m.images],
                "artifacts": rows,
            }
        )
        return
    context.show(f"release  {m.release}\nserial   {m.serial}")
    context.show(f"created  {names.format_time(m.created)}")
    late = " (expired)" if context.now() >= m.expires else ""
    context.show(f"expires  {names.format_time(m.expires)}{late}")
    for one in m.sets:
        context.show(
            f"set      {one.name}: {', '.join(one.qubes)} ({one.boot_mib} MiB "
            f"of RAM at boot, {one.all_mib} MiB for all)"
        )
    for image in m.images:
        context.show(f"options  {image.artifact}: SHA-256 {image.options}")
    context.show_table(
        ("ARTIFACT", "ROLE", "SIZE", "CHUNKS", "SHA-256"),
        [
            (a.name, a.role, mib(a.size), len(a.digests), a.sha256)
            for a in m.artifacts
        ],
    )


def _prune(context: Context, _: Args) -> None:
    done = answers.prune(context.transport().call("syspxe.Prune"))
    context.show(
        f"releases dropped: {shown(done.releases)}; {done.chunks} chunks, "
        f"{mib(done.bytes)}"
    )
