"""The memory bank of a camera: one piece of device memory for the keys of all slots and one for the values."""

from dataclasses import dataclass

ADDRESS_ALIGNMENT = 256
"""Bytes; TensorRT wants every tensor to begin at a multiple of it."""


@dataclass(frozen=True)
class MemoryBank:
    """Where each slot lies. Slots are token-major and contiguous, so a graph can write its output straight into one."""

    keys_address: int
    values_address: int
    slots: int
    key_bytes: int
    """Bytes of one slot's key."""
    value_bytes: int

    def slot(self, slot: int) -> dict[str, int]:
        """Device addresses of a slot, by the names of the memory encoder's outputs. Raises IndexError."""
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return {
            "memory_key": self.keys_address + slot * self.key_bytes,
            "memory_value": self.values_address + slot * self.value_bytes,
        }
