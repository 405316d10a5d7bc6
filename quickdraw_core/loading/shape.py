"""How the stream of samples is cut into batches (`loader.py`)."""

from dataclasses import dataclass

from quickdraw_core.errors import ConfigError


@dataclass(frozen=True)
class Shape:
    """How a global batch is cut. Checked once, for all ranks alike."""

    global_batch_size: int
    micro_batch_size: int
    world_size: int

    def __post_init__(self) -> None:
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is no multiple of "
                f"micro_batch_size {self.micro_batch_size}; choose one that is"
            )
        if self.micro_batches % self.world_size:
            raise ConfigError(
                f"{self.micro_batches} micro-batches a step cannot be shared out evenly to "
                f"{self.world_size} ranks; choose a smaller micro_batch_size"
            )

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a global batch."""
        return self.global_batch_size // self.micro_batch_size

    @property
    def micro_batches_a_rank(self) -> int:
        """Micro-batches that each rank computes in a step."""
        return self.micro_batches // self.world_size
