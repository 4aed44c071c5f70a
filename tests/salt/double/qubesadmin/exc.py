"""A double of qubesadmin.exc."""


class QubesException(Exception):
    """The root of qubesadmin's errors."""
