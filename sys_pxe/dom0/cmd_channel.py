"""``sys-pxe channel``: list, set, rollback."""

from sys_pxe import names
from sys_pxe.dom0 import channels, ramcheck
from sys_pxe.dom0.answers import ActivateAnswer
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


def _checked(context: Context, channel: str) -> str:
    names.parse_name(channel, "CHANNEL")
    known = context.site().channels
    if channel not in known:
        raise InvalidInput(
            f"CHANNEL: {channel!r} is not a channel of the site",
            f"one of: {', '.join(known)}",
        )
    return channel


def _set(context: Context, args: Args) -> None:
    channel = _checked(context, args.channel)
    release = names.parse_name(args.release, "RELEASE")
    _warn(context, channel, release)
    _say(
        context,
        channels.activate(
            context.state, channel, release, context.transport(), context.now()
        ),
    )


def _rollback(context: Context, args: Args) -> None:
    channel = _checked(context, args.channel)
    if args.release is None:
        release = channels.before(context.state, channel)
    else:
        release = names.parse_name(args.release, "RELEASE")
    _warn(context, channel, release)
    done = channels.activate(
        context.state,
        channel,
        release,
        context.transport(),
        context.now(),
        rollback=True,
    )
    _say(context, done)


def _warn(context: Context, channel: str, release: str) -> None:
    """Warn of profiles on the channel that give dom0 too little for it."""
    active = {channel: context.state.release(release)}
    for text in ramcheck.warnings(context.site(), active):
        context.warn(text)


def _say(context: Context, done: ActivateAnswer) -> None:
    context.show(f"channel {done.channel}: {shown(done.old)} -> {done.new}")
