"""`RunResult`: what one training run measured, as an object, a table row and files."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from lt_lib._paths import write_whole
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.methods import method_name

T = TypeVar("T")


@dataclass(frozen=True)
class RunResult:
    """Outcome of `run(config)`. Accuracies and recalls are fractions in [0, 1] on the balanced test set.

    Attributes:
        config: what was run.
        class_counts: training samples per class after any hold-out.
        accuracy_last: after the last epoch: the number that is judged.
        accuracy_validation: at the evaluated epoch with the best validation accuracy; None without hold-out.
        accuracy_best_on_test: best over the evaluated epochs. Optimistic: it looks at the test set.
        confusion: `confusion[i][j]` test samples of class i predicted as j, after the last epoch.
        train_recall: recall per class on the training samples, not augmented, after the last epoch.
        curves: per-epoch lists of `lt_lib.training.History`.
        seconds: wall time of training and evaluation.
        device: name of the device.
        precision: number format of the products.
        data_hash: digest of data set, subset and hold-out.
        versions: Python, torch, numpy and lt_lib.
        test_logits: logits on the test set after the last epoch; not part of the files.
    """

    config: RunConfig
    class_counts: list[int]
    accuracy_last: float
    accuracy_validation: float | None
    accuracy_best_on_test: float
    confusion: list[list[int]]
    train_recall: list[float]
    curves: dict[str, Any]
    seconds: float
    device: str
    precision: str
    data_hash: str
    versions: dict[str, str]
    test_logits: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def recall(self) -> np.ndarray:
        """Recall per class on the test set, float64 `(classes,)`; NaN for a class without test samples."""
        matrix = np.asarray(self.confusion, dtype=np.float64)
        size = matrix.sum(axis=1)
        return np.divide(np.diag(matrix), size, out=np.full_like(size, np.nan), where=size > 0)

    @property
    def method(self) -> str:
        """Table name of the configuration."""
        return method_name(self.config)

    def to_row(self) -> dict[str, Any]:
        """One tidy row with the columns that all result tables share; accuracies and recalls as fractions.

        "n_max" is what was asked for, "class_counts" what was trained on: a text, in the order of the labels.
        """
        config = self.config
        return {
            "dataset": dataset_label(config.dataset),
            "profile": config.profile,
            "model": config.model,
            "method": self.method,
            "imbalance_type": config.imbalance_type,
            "imbalance_ratio": _ratio(self),
            "n_max": config.n_max,
            "class_counts": " ".join(str(int(count)) for count in self.class_counts),
            "loss": config.loss,
            "beta": config.beta if "effective_number" in (config.weighting, config.sampling) else None,
            "gamma": config.gamma if "focal" in config.loss else None,
            "seed": config.seed,
            "accuracy_last": self.accuracy_last,
            "accuracy_validation": self.accuracy_validation,
            "accuracy_best_on_test": self.accuracy_best_on_test,
            **{f"recall_{label}": float(value) for label, value in enumerate(self.recall)},
            "seconds": self.seconds,
            "device": self.device,
            "config_hash": config.hash(),
            "data_hash": self.data_hash,
            "version": self.versions["lt_lib"],
        }

    def save(
        self,
        folder: str | os.PathLike,
        *,
        own: Mapping[str, Any] = MappingProxyType({}),
        tables: Mapping[str, str] = MappingProxyType({}),
    ) -> Path:
        """Write `result.json` and `curves.csv` into `folder`, each in one step, and return the folder.

        `result.json` says that a run is finished: it is written once, when everything else is there. It has null for
        what is not a number, such as the recall of a class without samples.

        Args:
            folder: made if it is not there.
            own: what a run that is more than this training puts into `result.json`, over fields of the same name.
            tables: name of a further file -> its text.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self) | {"method": self.method, "config_hash": self.config.hash(), "row": self.to_row()}
        content.pop("test_logits")
        whole = plain_values(content | dict(own))
        for name, text in {"curves.csv": self._curves_csv(), **tables}.items():
            write_whole(folder / name, text)
        write_whole(folder / "result.json", json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n")
        return folder

    def _curves_csv(self) -> str:
        names = sorted(self.curves["accuracy"])
        lines = [",".join(["epoch", "learning_rate", "train_loss", *(f"accuracy_{name}" for name in names)])]
        position = {epoch: index for index, epoch in enumerate(self.curves["evaluated"])}
        for epoch, (rate, loss) in enumerate(zip(self.curves["learning_rate"], self.curves["train_loss"], strict=True)):
            scores = [
                f"{self.curves['accuracy'][name][position[epoch]]:.6f}" if epoch in position else "" for name in names
            ]
            lines.append(",".join([str(epoch), f"{rate:.8g}", f"{loss:.6g}", *scores]))
        return "\n".join(lines) + "\n"


def _ratio(result: RunResult) -> float:
    """Largest over smallest class: what was asked for, or for a set that was taken as it is, what there was."""
    if result.config.imbalance_type == "natural":
        return max(result.class_counts) / min(result.class_counts)
    return 1.0 if result.config.imbalance_type == "balanced" else result.config.imbalance_ratio


def numbers(values: Sequence[float | None]) -> list[float]:
    """Numbers as they were before `plain_values`: None is not a number.

    Example:
        >>> numbers([0.5, None])
        [0.5, nan]
    """
    return [float("nan") if value is None else value for value in values]


def result_values(content: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Fields of a `RunResult` from a `result.json`.

    Args:
        content: what the file holds; entries that are no fields do not count.
        config: the configuration in it, in the type of its run.
    """
    names = {entry.name for entry in fields(RunResult)} - {"config", "test_logits"}
    values = {name: content[name] for name in names}
    return values | {"config": config, "train_recall": numbers(values["train_recall"])}


def load_result(folder: str | os.PathLike) -> RunResult:
    """Read what `RunResult.save` wrote.

    Raises:
        ValueError: `result.json` is missing or damaged.
    """

    def make(content: dict[str, Any]) -> RunResult:
        return RunResult(**result_values(content, RunConfig(**content["config"])))

    return read_result(folder, make)


def read_result(folder: str | os.PathLike, make: Callable[[dict[str, Any]], T]) -> T:
    """What `make` builds from the `result.json` in `folder`.

    Raises:
        ValueError: the file is missing or damaged, or lacks what `make` reads.
    """
    path = Path(folder) / "result.json"
    try:
        return make(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`folder` must hold a whole result.json, got {path}: {error}") from error


def selected_accuracy(accuracy: Mapping[str, Sequence[float]]) -> float | None:
    """Test accuracy at the evaluation that is best on the hold-out, the first of equals; None without a hold-out.

    Args:
        accuracy: "test", and with a hold-out "validation", both one number per evaluation.
    """
    return accuracy["test"][int(np.argmax(accuracy["validation"]))] if "validation" in accuracy else None


def plain_values(value: Any) -> Any:
    """Arrays as lists, NaN as None: what JSON can hold."""
    if isinstance(value, np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, dict):
        return {name: plain_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    import torch

    import lt_lib

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lt_lib": lt_lib.__version__,
    }


def dataset_label(name: str) -> str:
    """`folder:data/cifar10-jpeg` -> `cifar10-jpeg`: a table names the data, not a place on one machine."""
    return Path(name.removeprefix("folder:")).name if name.startswith("folder:") else name
