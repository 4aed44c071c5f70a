"""A double of qubesadmin.device_protocol."""

from typing import Any


class DeviceAssignment:
    """What is to be assigned."""

    def __init__(
        self, device: Any, *, options: dict[str, str], mode: str = "manual"
    ) -> None:
        # the real one writes each option's value as text
        if not all(isinstance(value, str) for value in options.values()):
            raise TypeError("options are texts")
        self.device = device
        self.options = options
        self.mode = mode
