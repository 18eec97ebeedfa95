r"""CReST: generations of training, pseudo-labelling and class-rebalanced selection, without a word about the learner.

One generation trains a model from scratch on the labelled set, pseudo-labels the unlabelled pool with it, and adds the
most confident pseudo-labels of every predicted class, the rarer the class the larger the share. The next generation
starts again from the original labelled set: the selection is rebuilt, not accumulated. CReST+ also aligns the
predictions to a class distribution that moves from the labelled one towards balance.

The learner comes in as a function. Nothing here ever sees a true label of the pool.

References:
    C. Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced Semi-Supervised Learning",
    CVPR 2021; the authors' code for what the paper leaves open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from lt_lib._checks import check_distributions, check_integer, check_known, check_real
from lt_lib.training.checkpoint import load_checkpoint, save_checkpoint
from lt_lib.training.loop import leave_after

How = Literal["top", "random"]
Keep = Literal["rebuild", "accumulate"]

# Keeps a product such as 10 * 0.3, which rounding can leave below its whole value, from losing a sample.
_ROUNDING = 1e-9


def exponential_profile(num_classes: int, imbalance_ratio: float) -> np.ndarray:
    r"""Ideal long-tailed profile, not cut to whole samples, with the largest class at 1.

    .. math:: p_c \propto \rho^{-c/(C-1)}

    CReST's code takes it, and not the counts, both for the rates of inclusion and for the target of the alignment.

    Args:
        num_classes: C, >= 2.
        imbalance_ratio: :math:`\rho \ge 1`.

    Returns:
        float64 `(classes,)`, largest first.

    Example:
        >>> exponential_profile(3, 100.0).round(6).tolist()
        [1.0, 0.1, 0.01]
    """
    check_integer(num_classes, "num_classes", minimum=2)
    check_real(imbalance_ratio, "imbalance_ratio", minimum=1.0)
    return imbalance_ratio ** (-np.arange(num_classes) / (num_classes - 1))


def inclusion_rates(profile: ArrayLike, alpha: float) -> np.ndarray:
    r"""Share of the pseudo-labels of each class that joins the labelled set.

    .. math:: \mu_l = \left(\frac{N_{L+1-l}}{N_1}\right)^{\alpha}, \qquad N_1 \ge \dots \ge N_L

    The rarest class keeps all of its pseudo-labels, the largest the smallest share. :math:`\alpha = 0` keeps
    everything, which is plain self-training; :math:`\alpha \to \infty` keeps the rarest class alone.
    The flag of the authors' code is the reciprocal: its 3 is :math:`\alpha = 1/3` here.

    Status: exact, equation of section 3.2. The classes may come in any order; of equally frequent ones the first
    counts as the larger.

    Args:
        profile: class counts or any positive numbers proportional to them `(classes,)`.
        alpha: exponent itself, finite and >= 0.

    Returns:
        float64 `(classes,)` in [0, 1], in the order of `profile`; 1 for the rarest class, and 0 only where the power
            is below what float64 holds, such as :math:`10^{-600}`.

    Raises:
        ValueError: `alpha` < 0, or a class without a labelled sample.

    Example:
        >>> inclusion_rates([100, 10, 1], 0.5).tolist()
        [0.1, 0.31622776601683794, 1.0]
    """
    sizes = _check_profile(profile)
    check_real(alpha, "alpha", minimum=0.0)
    order = np.argsort(-sizes, kind="stable")
    rates = np.empty(len(sizes))
    rates[order] = (sizes[order[::-1]] / sizes.max()) ** alpha
    return rates


def alignment_temperature(generation: int, generations: int, t_min: float) -> float:
    r"""Exponent of the class distribution that generation g of G is aligned to.

    .. math:: t_g = 1 - \frac{g}{G-1}\,(1 - t_{\min}), \qquad g = 0, \dots, G-1

    A single generation, where the formula divides by zero, is the first one: :math:`t_0 = 1`.

    Args:
        generation: 0-based g, below `generations`.
        generations: G, >= 1.
        t_min: value of the last generation, in (0, 1].

    Returns:
        Number in [`t_min`, 1].

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> [round(alignment_temperature(g, 6, 0.5), 10) for g in range(6)]
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    """
    check_integer(generations, "generations", minimum=1)
    check_integer(generation, "generation", minimum=0, maximum=generations - 1)
    if not 0 < check_real(t_min, "t_min") <= 1:
        raise ValueError(f"`t_min` must be in (0, 1], got {t_min}.")
    share = generation / (generations - 1) if generations > 1 else 0.0
    return (1 - share) + share * t_min


def alignment_target(profile: ArrayLike, temperature: float) -> np.ndarray:
    r"""Class distribution that predictions are aligned to, :math:`p_c^{\,t} / \sum_j p_j^{\,t}`.

    Args:
        profile: class counts or any positive numbers proportional to them `(classes,)`.
        temperature: t >= 0; 1 keeps the distribution, 0 would make it uniform.

    Returns:
        float64 `(classes,)` with sum 1.

    Raises:
        ValueError: `temperature` < 0, or a class without a labelled sample.

    Example:
        >>> alignment_target([4, 1], 0.5).round(4).tolist()
        [0.6667, 0.3333]
    """
    sizes = _check_profile(profile)
    check_real(temperature, "temperature", minimum=0.0)
    powers = (sizes / sizes.max()) ** temperature
    return powers / powers.sum()


@dataclass(frozen=True, eq=False)
class Selection:
    """Pseudo-labelled samples chosen from the candidates.

    Attributes:
        indices: positions in the candidates, int64 `(selected,)`, class after class, each at most once.
        labels: pseudo-label of each, int64 `(selected,)`.
        predicted: candidates predicted as each class, int64 `(classes,)`.
        selected: those of them that were chosen, int64 `(classes,)`.
    """

    indices: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    selected: np.ndarray

    @property
    def never_predicted(self) -> tuple[int, ...]:
        """Classes that no candidate was predicted as; nothing can be chosen for them, whatever their rate."""
        return tuple(int(label) for label in np.flatnonzero(self.predicted == 0))

    def describe(self) -> str:
        """The choice in one sentence, with the classes that are missing from it.

        Example:
            >>> select_pseudo_labels([[0.9, 0.1], [0.6, 0.4]], [0.5, 1.0]).describe()
            '1 of 2 candidates selected; no candidate was predicted as class 1'
        """
        text = f"{len(self.indices)} of {int(self.predicted.sum())} candidates selected"
        if self.never_predicted:
            names = ", ".join(map(str, self.never_predicted))
            text += f"; no candidate was predicted as class {names}"
        return text


def select_pseudo_labels(
    probabilities: Any, rates: ArrayLike, *, how: How = "top", rng: np.random.Generator | None = None
) -> Selection:
    r"""Pseudo-label every candidate and keep a share of each predicted class.

    Candidate u gets :math:`\hat y(u) = \arg\max_c p_c(u)` with confidence :math:`\max_c p_c(u)`. Of the
    :math:`n_l` candidates with :math:`\hat y = l`, the :math:`\lfloor \mu_l n_l \rfloor` most confident are kept;
    there is no threshold. Candidates of equal confidence are taken in their order.

    Args:
        probabilities: predicted distributions `(candidates, classes)`, array or tensor; rows summing to 1 (tolerance
            1e-2, half precision passes).
        rates: :math:`\mu`, share to keep of each predicted class `(classes,)`, in [0, 1].
        how: "top" keeps the most confident, as the authors' code does; "random" draws as many without regard to
            confidence.
        rng: source of randomness, only for "random".

    Returns:
        The choice. A class that is never predicted contributes nothing, and the result names it.

    Raises:
        ValueError: no candidate, rows that are no distribution (such as logits), rates outside [0, 1], or "random"
            without `rng`.

    Example:
        >>> chosen = select_pseudo_labels([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0.5, 1.0])
        >>> chosen.indices.tolist(), chosen.labels.tolist()
        ([0, 2], [0, 1])
    """
    check_known(how, "how", get_args(How))
    table = check_distributions(probabilities, "probabilities")
    shares = np.asarray(rates, dtype=np.float64)
    if shares.shape != (table.shape[1],) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"`rates` must be {table.shape[1]} numbers in [0, 1], got {shares.tolist()}.")
    if how == "random" and rng is None:
        raise ValueError('`rng` must be a generator with `how="random"`, got None.')
    labels, confidence = table.argmax(axis=1), table.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    predicted = np.bincount(labels, minlength=len(shares))
    selected = np.floor(shares * predicted + _ROUNDING).astype(np.int64)
    chosen = []
    for label, number in enumerate(selected):
        members = order[labels[order] == label]
        if how == "random" and rng is not None:
            members = rng.permutation(members)
        chosen.append(members[:number])
    return Selection(
        indices=np.concatenate(chosen).astype(np.int64),
        labels=np.repeat(np.arange(len(shares)), selected).astype(np.int64),
        predicted=predicted.astype(np.int64),
        selected=selected,
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run of generations starts from; the split is fixed for all of them.

    Attributes:
        labelled: indices of the labelled samples in the pool.
        labels: their labels.
        candidates: indices of the unlabelled samples that can be pseudo-labelled; their true labels are no part of it.
        rates: share to keep of each predicted class (`inclusion_rates`).
        how: see `select_pseudo_labels`.
        keep: "rebuild" starts every generation from the labelled samples and the newest selection alone, as the
            authors do; "accumulate" keeps earlier selections with their labels and adds what is new.
        seed: fixes random selections, together with the generation.

    Raises:
        ValueError: a class without labelled sample, no candidate, a sample on both sides, unequal lengths.
    """

    labelled: np.ndarray
    labels: np.ndarray
    candidates: np.ndarray
    rates: np.ndarray
    how: How = "top"
    keep: Keep = "rebuild"
    seed: int = 0

    def __post_init__(self) -> None:
        check_known(self.how, "how", get_args(How))
        check_known(self.keep, "keep", get_args(Keep))
        if len(self.labelled) != len(self.labels):
            raise ValueError(
                f"`labels` must be one per labelled sample ({len(self.labelled)}), got {len(self.labels)}."
            )
        present = np.bincount(self.labels, minlength=len(self.rates))
        if len(present) > len(self.rates):
            raise ValueError(f"`labels` must lie in 0 … {len(self.rates) - 1}, got {len(present) - 1}.")
        if (present == 0).any():
            raise ValueError(
                "`labels` must hold at least one labelled sample of every class, "
                f"got none of class {int(np.argmin(present > 0))}."
            )
        if len(self.candidates) == 0:
            raise ValueError("`candidates` must hold at least one unlabelled sample, got an empty pool.")
        both = np.intersect1d(self.labelled, self.candidates)
        if len(both):
            raise ValueError(f"`candidates` must not be labelled samples, got index {both[0]} on both sides.")


@dataclass(frozen=True, eq=False)
class Generation:
    """What the learner of one generation gets.

    Attributes:
        index: 0-based number of the generation.
        labelled: indices of the training samples in the pool: the labelled ones, then the selected ones.
        labels: labels of the former, pseudo-labels of the latter.
        candidates: samples that the learner has to predict.
        state: what the learner returned as `state` one generation earlier; None in the first.
        checkpoint: file where the learner may keep its state, or None.
    """

    index: int
    labelled: np.ndarray
    labels: np.ndarray
    candidates: np.ndarray
    state: Any
    checkpoint: Path | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the learner of one generation gives back.

    Attributes:
        probabilities: predictions for the candidates `(candidates, classes)`, array or tensor.
        report: anything to keep about the generation: numbers, strings, arrays, and containers of them.
        state: tensors for the next generation, for learners that do not start afresh; otherwise None.
    """

    probabilities: Any
    report: dict[str, Any]
    state: Any = None


@dataclass(frozen=True, eq=False)
class GenerationRecord:
    """One finished generation: the size of its training set, what was selected after it, and the learner's report."""

    generation: int
    training_size: int
    selection: Selection
    report: dict[str, Any]


Learner = Callable[[list[Generation]], list[Outcome]]


def run_generations(
    learn: Learner,
    plans: Sequence[Plan],
    *,
    generations: int,
    checkpoint: str | Path | None = None,
    identity: str = "",
    stop_after: int | None = None,
) -> list[list[GenerationRecord]]:
    """Train, pseudo-label, select, and start again.

    Several runs can go side by side, so that a learner may train them as one stacked model. Each generation gets the
    original labelled samples and the latest selection; how the learner initialises its model is up to it.

    Args:
        learn: trains all runs of one generation: a list with one `Generation` per plan in, one `Outcome` each out.
        plans: one per run; a single run is a list of one.
        generations: G >= 1; with 1 the learner is called once, and its selection is recorded and not used.
        checkpoint: folder for the state after every generation; what it holds of this run is continued. The learner
            finds its own file name in `Generation.checkpoint`, which is deleted once the generation is recorded.
        identity: stored in the checkpoint and compared on resume.
        stop_after: leave after this many finished generations in all; None to finish.

    Returns:
        For every plan, one record per finished generation.

    Raises:
        ValueError: no plan, `generations` < 1, or a learner that returns another number of outcomes or predictions.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    check_integer(generations, "generations", minimum=1)
    if not plans:
        raise ValueError("`plans` must hold at least one plan, got none.")
    folder = None if checkpoint is None else Path(checkpoint)
    records: list[list[GenerationRecord]] = [[] for _ in plans]
    states: list[Any] = [None] * len(plans)
    if folder is not None and (folder / _FILE).exists():
        saved = load_checkpoint(folder / _FILE, identity=identity)
        records = [[_unpack_record(item) for item in run] for run in saved["records"]]
        states = saved["states"]
    last = leave_after(generations, stop_after)
    for index in range(len(records[0]), last):
        file = None if folder is None else folder / f"generation{index}.pt"
        tasks = [_task(plan, run, state, index, file) for plan, run, state in zip(plans, records, states, strict=True)]
        outcomes = learn(tasks)
        if len(outcomes) != len(plans):
            raise ValueError(f"`learn` must return one outcome per plan ({len(plans)}), got {len(outcomes)}.")
        for plan, run, task, outcome in zip(plans, records, tasks, outcomes, strict=True):
            if len(outcome.probabilities) != len(plan.candidates):
                raise ValueError(
                    f"`learn` must return one prediction per candidate ({len(plan.candidates)}), "
                    f"got {len(outcome.probabilities)}."
                )
            rng = np.random.default_rng([plan.seed, index])
            selection = select_pseudo_labels(outcome.probabilities, plan.rates, how=plan.how, rng=rng)
            if plan.keep == "accumulate" and run:
                selection = _added(run[-1].selection, selection)
            run.append(GenerationRecord(index, len(task.labelled), selection, outcome.report))
        states = [outcome.state for outcome in outcomes]
        if folder is not None:
            content = [[_pack_record(record) for record in run] for run in records]
            save_checkpoint(folder / _FILE, {"identity": identity, "records": content, "states": states})
            # Only now: a run that is stopped in between finds either the finished generation or its last state.
            (folder / f"generation{index}.pt").unlink(missing_ok=True)
    return records


_FILE = "generations.pt"


def _task(plan: Plan, run: list[GenerationRecord], state: Any, index: int, file: Path | None) -> Generation:
    if not run:
        return Generation(index, plan.labelled, plan.labels, plan.candidates, state, file)
    chosen = run[-1].selection
    return Generation(
        index=index,
        labelled=np.concatenate([plan.labelled, plan.candidates[chosen.indices]]),
        labels=np.concatenate([plan.labels, chosen.labels]),
        candidates=plan.candidates,
        state=state,
        checkpoint=file,
    )


def _added(before: Selection, new: Selection) -> Selection:
    """The earlier selection with its labels, and what is new in the later one."""
    fresh = ~np.isin(new.indices, before.indices)
    labels = np.concatenate([before.labels, new.labels[fresh]])
    return Selection(
        indices=np.concatenate([before.indices, new.indices[fresh]]),
        labels=labels,
        predicted=new.predicted,
        selected=np.bincount(labels, minlength=len(new.predicted)),
    )


def _check_profile(profile: ArrayLike) -> np.ndarray:
    sizes = np.asarray(profile, dtype=np.float64)
    if sizes.ndim != 1 or len(sizes) < 2 or not np.isfinite(sizes).all():
        raise ValueError(f"`profile` must be two or more finite numbers, one per class, got {sizes.tolist()}.")
    if (sizes <= 0).any():
        raise ValueError(
            "`profile` must be positive, a labelled sample or more in every class, "
            f"got {sizes.min():g} for class {int(sizes.argmin())}."
        )
    return sizes


def _pack_record(record: GenerationRecord) -> dict[str, Any]:
    chosen = record.selection
    return {
        "generation": record.generation,
        "training_size": record.training_size,
        "selection": [_pack(part) for part in (chosen.indices, chosen.labels, chosen.predicted, chosen.selected)],
        "report": _pack(record.report),
    }


def _unpack_record(saved: dict[str, Any]) -> GenerationRecord:
    selection = Selection(*(_unpack(part) for part in saved["selection"]))
    return GenerationRecord(saved["generation"], saved["training_size"], selection, _unpack(saved["report"]))


def _pack(value: Any) -> Any:
    """Arrays as tensors: a checkpoint is read without unpickling foreign objects."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _pack(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_pack(item) for item in value)
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {name: _unpack(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unpack(item) for item in value)
    return value
