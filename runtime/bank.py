"""The memory bank: one piece of device memory for the keys of all slots and one for the values."""

from dataclasses import dataclass

from stm_skeletons.bundle import BundleInfo

ALIGNMENT = 256
"""Bytes; slots begin at multiples of it, as TensorRT wants its tensors."""


@dataclass(frozen=True)
class MemoryBank:
    """Where each slot lies. Slots are token-major and contiguous, so a graph writes its output straight into one."""

    keys_address: int
    values_address: int
    slots: int
    key_bytes: int
    """Bytes of one slot's key."""
    value_bytes: int

    @classmethod
    def at(cls, keys_address: int, values_address: int, info: BundleInfo, item_size: int) -> "MemoryBank":
        """The bank of a bundle at two device addresses; ``item_size`` is bytes a number."""
        encoder = info.graphs["memory_encoder"]
        key_tokens, key_width = encoder.tensor("memory_key").shape
        value_tokens, value_width = encoder.tensor("memory_value").shape
        return cls(
            keys_address,
            values_address,
            info.slots,
            key_tokens * key_width * item_size,
            value_tokens * value_width * item_size,
        )

    def key_address(self, slot: int) -> int:
        """Device address of a slot's key."""
        return self.keys_address + self._checked(slot) * self.key_bytes

    def value_address(self, slot: int) -> int:
        """Device address of a slot's value."""
        return self.values_address + self._checked(slot) * self.value_bytes

    def _checked(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return slot
