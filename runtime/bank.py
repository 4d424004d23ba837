"""The memory bank of a camera: one block of device memory for the keys of all slots, one for the values."""

from dataclasses import dataclass

ADDRESS_ALIGNMENT = 256
"""Bytes; TensorRT requires every tensor to start at a multiple of it."""


@dataclass(frozen=True)
class MemoryBank:
    """Location of each slot. Slots are token-major and contiguous, so a graph can write directly into one."""

    keys_address: int
    values_address: int
    slots: int
    key_bytes: int
    """Bytes of one slot's key."""
    value_bytes: int

    def slot(self, slot: int) -> dict[str, int]:
        """Return a slot's device addresses by the names of the memory encoder's outputs. Raises IndexError."""
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} is out of range: the bank has {self.slots}")
        return {
            "memory_key": self.keys_address + slot * self.key_bytes,
            "memory_value": self.values_address + slot * self.value_bytes,
        }
