"""Manifests: one text for each, and nothing else is one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from sys_pxe import manifest
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Manifest, Role
from tests import documents

BARE = manifest.write(documents.release())
TEXT = manifest.write(
    documents.with_set(documents.release(), ("work", "vault"))
)


@settings(max_examples=60)
@given(documents.manifests())
def test_text_and_value_round_trip(value: Manifest) -> None:
    text = manifest.write(value)
    assert manifest.parse(text) == value
    assert manifest.write(manifest.parse(text)) == text


def test_each_mutation_is_refused_or_another_manifest() -> None:
    known = manifest.parse(TEXT)
    for text in documents.mutations(TEXT):
        try:
            found = manifest.parse(text)
        except InvalidInput:
            continue
        assert found != known
        assert manifest.write(found) == text


def test_each_truncation_is_refused() -> None:
    for end in range(len(TEXT)):
        with pytest.raises(InvalidInput):
            manifest.parse(TEXT[:end])


def test_each_wrong_order_of_lines_is_refused() -> None:
    known = manifest.parse(TEXT)
    for text in documents.reordered(TEXT):
        try:
            found = manifest.parse(text)
        except InvalidInput:
            continue
        # two chunks of one size may change places: that is another artifact
        assert found != known and manifest.write(found) == text


def test_an_extra_line_is_refused_wherever_it_stands() -> None:
    lines = TEXT.splitlines(keepends=True)
    for extra in (b"\n", b"comment x\n", b"serial 4\n", b"end\n"):
        for i in range(len(lines) + 1):
            with pytest.raises(InvalidInput):
                manifest.parse(b"".join([*lines[:i], extra, *lines[i:]]))


ROOT = "artifact dom0-root dom0.squashfs 2500"
SHA = documents.sha("dom0.squashfs")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("serial 3", "serial 0", "line 3: 0 is not in 1 to"),
        ("serial 3", "serial 2147483648", "line 3: 2147483648 is not in"),
        ("2026-12-23", "2026-11-23", "line 5: expires before it was created"),
        ("artifact xen xen", "artifact zen xen", "'zen' is not a role"),
        (ROOT, ROOT.replace("2500", "0"), "0 is not in 1 to"),
        (f"{SHA} 1000", f"{SHA} 2501", "chunks of 2501 bytes do not suit 2500"),
        (f"{SHA} 1000", f"{SHA} 0", "0 is not in 1 to"),
        (f"{SHA} 1000", f"{SHA} 500", "(expected 'chunk' and 1 word)"),
        (f"{SHA} 1000", f"{SHA} 2000", "(expected 'end')"),
        ("vmlinuz", "xen", "two artifacts have the same name"),
        (
            documents.sha("dom0.squashfs 2"),
            documents.sha("dom0.squashfs 1"),
            "has two sizes",
        ),
        ("dom0.squashfs 2500", "../x 2500", "is not a name"),
        ("set office 400", "set ../x 400", "is not a name"),
        ("set office 400", "set other 400", "artifact qubes-o"),
        ("office 400 2000 2", "office 2001 2000 2", "2001 MiB are more than"),
        ("office 400 2000 2", "office 400 2000 0", "0 is not in 1 to"),
        ("office 400 2000 2", "office 400 2000 1", "(expected 'end')"),
        ("office 400 2000 2", "office 400 2000 3", "(expected 'qube' and"),
        ("qube vault", "qube work", "qubes of office are not in order"),
        ("qube work", "qube a", "qubes of office are not in order"),
        ("qube work", "qube 0work", "is not the name of a qube"),
        ("set office 400 2000 2\nqube vault\nqube work\n", "", "no set"),
    ],
)
def test_each_rule_has_its_message(old: str, new: str, message: str) -> None:
    text = TEXT.replace(old.encode(), new.encode())
    assert text != TEXT
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(text)
    assert message in caught.value.message


def test_a_manifest_of_a_million_chunks_is_refused_at_once() -> None:
    old = f"{ROOT} {SHA} 1000".encode()
    text = TEXT.replace(old, old.replace(b"2500", b"1000000000"))
    with pytest.raises(InvalidInput, match="chunks of 1000 bytes do not suit"):
        manifest.parse(text)


def _no_artifacts(value: Manifest) -> Manifest:
    return replace(value, artifacts=())


def _backwards(value: Manifest) -> Manifest:
    return replace(value, artifacts=tuple(reversed(value.artifacts)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_artifacts, "0 artifacts (expected 1 to 64)"),
        (_backwards, "artifacts are not in their fixed order"),
    ],
)
def test_the_set_of_artifacts_is_checked(
    change: Callable[[Manifest], Manifest], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(manifest.write(change(documents.release())))
    assert message in caught.value.message


@given(documents.manifests())
def test_chunks_cover_each_artifact_without_a_gap(value: Manifest) -> None:
    for artifact in value.artifacts:
        end = 0
        for chunk in artifact.chunks:
            assert chunk.offset == end and chunk.size > 0
            end += chunk.size
        assert end == artifact.size


def test_two_sets_are_in_order_and_differ_in_their_qubes() -> None:
    one = documents.with_set(documents.release(), ("work",))
    again = replace(one, sets=(*one.sets, replace(one.sets[0], name="other")))
    more = tuple(
        documents.artifact(role, f"{role}-other", 100, 100)
        for role in manifest.SET_ROLES
    )
    roles = list(Role)
    found = sorted(
        (*again.artifacts, *more), key=lambda a: (roles.index(a.role), a.name)
    )
    again = replace(again, artifacts=tuple(found))
    with pytest.raises(InvalidInput, match="two sets have the same qubes"):
        manifest.parse(manifest.write(again))
    different = replace(again.sets[1], qubes=("vault",))
    fine = replace(again, sets=(again.sets[0], different))
    assert manifest.parse(manifest.write(fine)) == fine
    backwards = replace(fine, sets=tuple(reversed(fine.sets)))
    with pytest.raises(InvalidInput, match="sets, in order, each once"):
        manifest.parse(manifest.write(backwards))


IMAGE = documents.with_image(documents.release(), documents.sha("options"))
LINE = f"options base {documents.sha('options')}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (LINE, "", "unified-base of role unified is missing, or has no line"),
        (LINE, LINE.replace("base", "other"), "the artifact unified-base of"),
        (LINE, LINE.replace("base", "../x"), "is not a name"),
        (LINE, LINE.replace("base ", "base x"), "not a SHA-256 digest"),
        (LINE, LINE + LINE, "lines of options, in order, each once"),
        (LINE, LINE + LINE.replace("base", "c"), "two images have the same"),
        ("unified unified-base", "unified unified", "artifact unified of role"),
    ],
)
def test_an_image_has_its_artifact_and_its_options(
    old: str, new: str, message: str
) -> None:
    text = manifest.write(IMAGE)
    assert manifest.parse(text) == IMAGE
    changed = text.replace(old.encode(), new.encode())
    assert changed != text
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(changed)
    # "unified" comes before "unified-base", so the first wrong one is named
    assert message in caught.value.message


def test_a_set_has_its_artifacts() -> None:
    value = documents.with_set(documents.release(), ("work",))
    found = value.of_set(value.sets[0], Role.VOLUMES)
    assert (found.name, found.size) == ("volumes-office", 3000)
    with pytest.raises(InvalidInput, match="no artifact volumes-x"):
        value.of_set(replace(value.sets[0], name="x"), Role.VOLUMES)


def test_find_wants_exactly_one() -> None:
    value = documents.release()
    assert value.find(Role.KERNEL).name == "vmlinuz"
    with pytest.raises(InvalidInput, match="0 artifacts of role volumes"):
        value.find(Role.VOLUMES)
