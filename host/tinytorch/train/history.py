"""What a training keeps of each epoch."""

from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Epoch:
    """How an epoch went. Losses are means over the samples, accuracies as in `Score`.

    lr: at its beginning. metrics: those that the trainer was given, for validation as "val_NAME".
    """

    epoch: int
    lr: float
    loss: float
    accuracy: "float | None"
    val_loss: "float | None" = None
    val_accuracy: "float | None" = None
    metrics: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """All numbers that there are, by name, with the epoch's number first."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "metrics"}
        return {name: x for name, x in (named | self.metrics).items() if x is not None}
