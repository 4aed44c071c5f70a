"""``sys-pxe key``: create, show."""

from sys_pxe.dom0 import keys, securekeys
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("key", "the keys that sign releases")
    made = verb(verbs, "create", "make the key pair, once", _create)
    made.add_argument(
        "--secure-boot",
        action="store_true",
        help="make the keys for UEFI Secure Boot, and files to enrol them",
    )
    reader(verbs, "show", "print the keys' fingerprints", _show)


def _create(context: Context, args: Args) -> None:
    if args.secure_boot:
        _create_secure_boot(context)
        return
    mark = keys.create(context.state)
    context.show(f"key created in {context.state.key_folder}")
    context.show(f"fingerprint SHA-256 {mark}")


def _create_secure_boot(context: Context) -> None:
    state = context.state
    mark = securekeys.create(state, context.now())
    context.show(f"Secure Boot keys created in {securekeys.folder(state)}")
    context.show(f"db certificate SHA-256 {mark}")
    context.show(
        f"for the PCs' firmware: {securekeys.exports(state)}/db, KEK, PK "
        "(.cer, .esl or .auth); enrol them in this order\n"
        "next: build and push a release, it will be signed"
    )


def _show(context: Context, _: Args) -> None:
    path = context.state.public_key
    mark = keys.fingerprint(path)
    found = securekeys.present(context.state)
    secure = securekeys.fingerprint(found.certificate) if found else None
    if context.json:
        context.show_json(
            {
                "fingerprint": mark,
                "public_key": str(path),
                "secure_boot_db": secure,
            }
        )
        return
    context.show(f"public key  {path}\nfingerprint SHA-256 {mark}")
    if found is not None:
        context.show(
            f"Secure Boot {found.certificate}\ndb certificate SHA-256 {secure}"
        )
