"""``sys-pxe key``: create, show."""

from sys_pxe.dom0 import keys
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("key", "the key that signs releases")
    verb(verbs, "create", "make the key pair, once", _create)
    reader(verbs, "show", "print the key's fingerprint", _show)


def _create(context: Context, _: Args) -> None:
    mark = keys.create(context.state)
    context.show(f"key created in {context.state.key_folder}")
    context.show(f"fingerprint SHA-256 {mark}")


def _show(context: Context, _: Args) -> None:
    path = context.state.public_key
    mark = keys.fingerprint(path)
    if context.json:
        context.show_json({"fingerprint": mark, "public_key": str(path)})
    else:
        context.show(f"public key  {path}\nfingerprint SHA-256 {mark}")
