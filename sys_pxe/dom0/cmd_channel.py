"""``sys-pxe channel``: list, set, rollback."""

from sys_pxe import names
from sys_pxe.dom0 import channels, ramcheck
from sys_pxe.dom0.context import Context, shown
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb
from sys_pxe.errors import InvalidInput


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("channel", "say which release a channel names")
    reader(verbs, "list", "list the site's channels", _list)
    one = verb(verbs, "set", "point a channel at a release", _set)
    one.add_argument("channel", metavar="CHANNEL")
    one.add_argument("release", metavar="RELEASE")
    back = verb(
        verbs,
        "rollback",
        "point a channel at an older release, also below the site's floor",
        _rollback,
    )
    back.add_argument("channel", metavar="CHANNEL")
    back.add_argument(
        "release",
        metavar="RELEASE",
        nargs="?",
        help="default: the older release that the channel named before",
    )


def _list(context: Context, _: Args) -> None:
    site = context.site()
    found = {c: channels.current(context.state, c) for c in site.channels}
    if context.json:
        rows = [
            {
                "channel": channel,
                "release": pointer.release if pointer else None,
                "release_serial": pointer.release_serial if pointer else None,
                "rollback": pointer.rollback if pointer else None,
                "floor": site.floors.get(channel),
            }
            for channel, pointer in found.items()
        ]
        context.show_json({"channels": rows})
        return
    context.show_table(
        ("CHANNEL", "RELEASE", "SERIAL", "ROLLBACK", "SINCE", "FLOOR"),
        [
            (
                channel,
                pointer and pointer.release,
                pointer and pointer.release_serial,
                pointer and pointer.rollback,
                pointer and names.format_time(pointer.created),
                site.floors.get(channel),
            )
            for channel, pointer in found.items()
        ],
    )


def _floor(context: Context, channel: str) -> int:
    """Return the floor of a channel, which the site must have."""
    names.parse_name(channel, "CHANNEL")
    site = context.site()
    if channel not in site.channels:
        raise InvalidInput(
            f"CHANNEL: {channel!r} is not a channel of the site",
            f"one of: {', '.join(site.channels)}",
        )
    return site.floors.get(channel, 1)


def _set(context: Context, args: Args) -> None:
    release = names.parse_name(args.release, "RELEASE")
    _activate(context, args.channel, release, rollback=False)


def _rollback(context: Context, args: Args) -> None:
    channel = args.channel
    _floor(context, channel)
    if args.release is None:
        release = channels.before(context.state, channel)
    else:
        release = names.parse_name(args.release, "RELEASE")
    _activate(context, channel, release, rollback=True)


def _activate(
    context: Context, channel: str, release: str, *, rollback: bool
) -> None:
    """Point a channel at a release; warn of too little RAM for it before."""
    floor = _floor(context, channel)
    active = {channel: context.state.release(release)}
    for text in ramcheck.warnings(context.site(), active):
        context.warn(text)
    done = channels.activate(
        context.state,
        channel,
        release,
        context.transport(),
        context.now(),
        rollback=rollback,
        floor=floor,
    )
    context.show(f"channel {done.channel}: {shown(done.old)} -> {done.new}")
