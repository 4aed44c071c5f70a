"""Strict reading of nested tables (YAML or JSON data) with error paths.

Each value is fetched with the type it must have; what was not fetched is an
unknown key. Messages name the place: ``site.yaml: clients.desk-01.mac: …``.
Pure.
"""

from difflib import get_close_matches

from sys_pxe import names
from sys_pxe.errors import InvalidInput


class Table:
    """A mapping from outside, read key by key."""

    def __init__(self, untrusted: object, source: str, path: str = "") -> None:
        self._source = source
        self._path = path
        if not isinstance(untrusted, dict):
            raise InvalidInput(
                f"{self.where()}: expected a table of keys and values"
            )
        for untrusted_key in untrusted:
            if not isinstance(untrusted_key, str):
                raise InvalidInput(
                    f"{self.where()}: the key {untrusted_key!r} is not text"
                )
        self._untrusted: dict[str, object] = untrusted
        self._read: set[str] = set()
        self._asked: set[str] = set()

    def where(self, key: str = "") -> str:
        """Return the place of this table, or of a key in it."""
        path = ".".join(part for part in (self._path, key) if part)
        shown = names.printable(path, 120)
        return f"{self._source}: {shown}" if shown else self._source

    def _get(self, key: str) -> object:
        self._read.add(key)
        return self._untrusted.get(key)

    def data(self) -> object:
        """Return the table as it came, unchecked."""
        return self._untrusted

    def has(self, key: str) -> bool:
        """Whether the key is there (it still has to be read)."""
        self._asked.add(key)
        return key in self._untrusted

    def text(self, key: str) -> str:
        """Return a text that must be there."""
        untrusted = self._get(key)
        if not isinstance(untrusted, str):
            state = "missing" if key not in self._untrusted else "not a text"
            raise InvalidInput(f"{self.where(key)}: {state}")
        return untrusted

    def number(self, key: str, low: int, high: int) -> int:
        """Return a whole number in low..high that must be there."""
        untrusted = self._get(key)
        if isinstance(untrusted, bool) or not isinstance(untrusted, int):
            raise InvalidInput(f"{self.where(key)}: not a whole number")
        if not low <= untrusted <= high:
            raise InvalidInput(f"{self.where(key)}: not in {low} to {high}")
        return untrusted

    def null(self, key: str) -> bool:
        """Whether a key is missing, or there without a value."""
        return self._get(key) is None

    def flag(self, key: str) -> bool:
        """Return a true or false that must be there."""
        untrusted = self._get(key)
        if not isinstance(untrusted, bool):
            raise InvalidInput(f"{self.where(key)}: not true or false")
        return untrusted

    def rows(self, key: str) -> "list[Table]":
        """Return a list of tables; a missing key is an empty list."""
        untrusted = self._get(key) if self.has(key) else []
        if not isinstance(untrusted, list):
            raise InvalidInput(f"{self.where(key)}: not a list")
        return [
            Table(item, self._source, f"{self._below(key)}[{number}]")
            for number, item in enumerate(untrusted)
        ]

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; a missing key is an empty list."""
        untrusted = self._get(key)
        if key not in self._untrusted:
            return ()
        if not isinstance(untrusted, list) or not all(
            isinstance(item, str) for item in untrusted
        ):
            raise InvalidInput(f"{self.where(key)}: not a list of texts")
        return tuple(untrusted)

    def table(self, key: str) -> "Table":
        """Return a table below this one; a missing key is an empty table."""
        untrusted = self._get(key) if self.has(key) else {}
        return Table(untrusted, self._source, self._below(key))

    def tables(self, key: str) -> "dict[str, Table]":
        """Return name -> table for a table of tables; names are checked."""
        outer = self.table(key)
        found: dict[str, Table] = {}
        for untrusted_name in outer._untrusted:
            name = names.parse_name(untrusted_name, outer.where(untrusted_name))
            found[name] = outer.table(name)
        outer.done()
        return found

    def _below(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def listed(self) -> list[str]:
        """Return the (unchecked) keys in their order."""
        return list(self._untrusted)

    def done(self) -> None:
        """Raise InvalidInput for the first key that nobody read."""
        for untrusted_key in self._untrusted:
            if untrusted_key in self._read:
                continue
            known_keys = self._read | self._asked
            near = get_close_matches(untrusted_key, known_keys, 1)
            known = ", ".join(sorted(known_keys))
            raise InvalidInput(
                f"{self.where(untrusted_key)}: unknown key",
                f"did you mean {near[0]!r}?" if near else f"known: {known}",
            )
