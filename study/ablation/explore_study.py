"""An exploration as an Optuna study: params.yaml gives Optuna's sampler and pruner by name, with arguments (D150).

The study is stored in Optuna's own journal. Each trial gets a new sampler, seeded by the study's seed and the trial's
number. So with one worker, a study that was killed continues exactly like one that was not.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from study.ablation.optuna_study import mend
from study.config.schema import Chosen, Explore
from study.plan import exploration
from study.plan.exploration import HEAD, LR, WIDTH
from study.spec.documents.explored import COMPLETE, REFINE, ExploredTrial, Importance
from study.spec.errors import InputError
from study.spec.heads import PLACES
from study.spec.words import counted, first_line

OVER, REASON, FACTS = "over", "reason", "facts"  # user attributes of a trial
REHEARSED = 14  # trials without a training, to test whether Optuna accepts a combination
RESAMPLED, TREES = 20, 32  # resamplings for the interval of an importance; trees of a forest
DISCARD = "discard them with `make explore ANEW=yes`, or undo the change"
SETTINGS = "space"  # attribute of a study: its space and objective
FORM = 2  # of the parameters: raise it when their names or distributions change


class Exploration:
    """Ask what to try, tell how it went. ``levels`` are those of the heads, ``classes`` those of the mean
    IoU that is the score (None: all).

    Raises InputError if Optuna does not have the sampler or pruner, or does not accept it with the rest, and if the
    journal ``log`` has a study of this name with another space, objective or score."""

    def __init__(
        self,
        explore: Explore,
        levels: tuple[str, ...],
        name: str,
        log: Path | None = None,
        *,
        classes: list[int] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.explore, self.levels = explore, levels
        self.storage: BaseStorage = InMemoryStorage()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            mend(log)
            with _quiet():
                self.storage = JournalStorage(JournalFileBackend(str(log)))
        asked = [
            FORM, [*levels], explore.space.model_dump(mode="json"), explore.objective, explore.against, explore.seed,
            classes,
        ]  # fmt: skip
        for known in optuna.get_all_study_summaries(self.storage):
            theirs = known.user_attrs.get(SETTINGS, asked) if known.study_name == name else asked
            if theirs[0] != FORM:
                raise InputError(
                    f"the study {name!r} must be of this version, got {counted(known.n_trials, 'trial')} of an earlier "
                    "one; discard them with `make explore ANEW=yes`"
                )
            if theirs != asked:
                raise InputError(
                    f"the study {name!r} must have the space, the objective and the score of params.yaml, but "
                    f"{counted(known.n_trials, 'trial')} used others; {DISCARD}"
                )
        directions: dict[str, Any] = {"pareto": ["maximize", "minimize"], "score": ["maximize"], "cost": ["minimize"]}
        with _quiet():
            self.study = optuna.create_study(
                storage=self.storage, study_name=name, directions=directions[explore.objective], load_if_exists=True,
                pruner=_made(optuna.pruners, explore.pruner, {}, "pruner") or optuna.pruners.NopPruner(),
            )  # fmt: skip
        if self.study.user_attrs.get(SETTINGS) != asked:
            self.study.set_user_attr(SETTINGS, asked)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def running(self) -> list[Trial]:
        """Open trials of a driver that has ended; they are resumed."""
        for trial in self.trials:
            if trial.state == TrialState.RUNNING and LR not in trial.params:  # the rate is suggested last
                self._complete(trial)
        return [Trial(self.study, t._trial_id) for t in self.trials if t.state == TrialState.RUNNING]

    def _complete(self, trial: FrozenTrial) -> None:
        """Give a trial the values that its driver did not live to suggest, by asking again in a copy of the study."""
        with _quiet():
            copy = optuna.create_study(directions=self.study.directions, sampler=self._sampler(trial.number))
            copy.add_trials(self.trials[: trial.number])
            again = copy.ask()
            self._suggest(again)
        for name, distribution in again.distributions.items():
            if name not in trial.params:
                value = distribution.to_internal_repr(again.params[name])
                self.storage.set_trial_param(trial._trial_id, name, value, distribution)

    def check_keys(self, keys: dict[int, str]) -> None:
        """Raises InputError for a trial whose training was another than today's (``keys``: trial -> key of the run)."""
        for number, key in keys.items():
            told = _facts(self.trials[number].user_attrs)
            if told.get("key", key) != key:
                raise InputError(
                    f"the trials of {self.study.study_name!r} must be of today's code, data and settings, but trial "
                    f"{number} ({told['label']}) was trained with others; {DISCARD}"
                )

    def ask(self) -> Trial:
        """The next trial, with its values."""
        with _quiet():
            self.study.sampler = self._sampler(len(self.trials))
            trial = self.study.ask()
            self._suggest(trial)
        return trial

    def _suggest(self, trial: Trial) -> None:
        space = self.explore.space
        family = trial.suggest_categorical(HEAD, space.head)
        for level in self.levels:
            self._suggest_kernel(trial, exploration.kernel(level), space.sizes(level))
        if family == "stack":
            trial.suggest_categorical(WIDTH, tuple(map(str, space.width)))
        if space.places is None:
            trial.suggest_categorical(REFINE, space.refine)
        for place, switch in (space.places or {}).items():
            trial.suggest_categorical(exploration.refined(place), switch)
        trial.suggest_float(LR, *space.lr, log=space.lr[0] < space.lr[1])

    def _suggest_kernel(self, trial: Trial, name: str, sizes: tuple[int, ...]) -> None:
        least, *others = sorted(sizes)
        step = others[0] - least if others else 1
        if sorted(sizes) == [*range(least, max(sizes) + 1, step)]:  # samplers know that 5 is between 3 and 7
            trial.suggest_int(name, least, max(sizes), step=step)
        else:
            trial.suggest_categorical(name, sizes)

    def _sampler(self, number: int) -> Any:
        seed = int(hashlib.sha256(f"{self.explore.seed} {number}".encode()).hexdigest()[:8], 16)
        given: dict[str, Any] = {"seed": seed}
        if self.explore.under or self.explore.least is not None:
            given["constraints_func"] = lambda trial: trial.user_attrs.get(OVER) or [0.0]
        return _made(optuna.samplers, self.explore.sampler, given, "sampler")

    def describe(self, trial: Trial, **facts: Any) -> None:
        """Store what is known about a trial's network."""
        trial.set_user_attr(FACTS, facts)

    def report(self, trial: Trial, score: float, step: int) -> bool:
        """Report a trial's score at a rung; return whether the pruner gives the trial up."""
        trial.report(score if self.explore.objective == "score" else -score, step)
        return trial.should_prune()

    def tell(self, trial: Trial, score: float, step: int) -> None:
        """Close a trial that was trained to its end."""
        told = _facts(trial.user_attrs) | {"score": score, "step": step}
        trial.set_user_attr(FACTS, told)
        trial.set_user_attr(OVER, exploration.over(self.explore, told, score) or None)
        cost = float(told[self.explore.against])
        values: dict[str, list[float]] = {"pareto": [score, cost], "score": [score], "cost": [cost]}
        with _quiet():
            self.study.tell(trial, values[self.explore.objective])

    def prune(self, trial: Trial, score: float, step: int) -> None:
        """Close a trial that its pruner gave up."""
        trial.set_user_attr(FACTS, _facts(trial.user_attrs) | {"score": score, "step": step})
        trial.set_user_attr(REASON, f"stopped early after {step} steps")
        self._end(trial, TrialState.PRUNED)

    def refuse(self, trial: Trial, over: list[float]) -> None:
        """Close a trial whose network exceeds a bound, which is known before it is trained."""
        trial.set_user_attr(OVER, over)
        trial.set_user_attr(REASON, "beyond a bound; not trained")
        self._end(trial, TrialState.PRUNED if len(self.study.directions) == 1 else TrialState.FAIL)

    def fail(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._end(trial, TrialState.FAIL)

    def _end(self, trial: Trial, state: TrialState) -> None:
        with _quiet():
            self.study.tell(trial, state=state)

    def spent(self) -> float:
        """Tera multiply-adds of all trainings of the study so far; those given up count up to their last step."""
        found: dict[str, float] = {}  # equal networks are one training
        for trial in self.trials:
            told = _facts(trial.user_attrs)
            if OVER not in trial.user_attrs or told.get("score") is not None:
                share = told.get("step", told["steps"]) / told["steps"] if told.get("steps") else 0.0
                found[told.get("key", "")] = told.get("work", 0.0) * share
        return sum(found.values())

    def rows(self) -> list[ExploredTrial]:
        """All trials that have ended."""
        return [self._row(trial) for trial in self.trials if trial.state.is_finished()]

    def _row(self, trial: FrozenTrial) -> ExploredTrial:
        told, values = _facts(trial.user_attrs), trial.params
        family = str(values.get(HEAD, ""))
        return {
            "number": trial.number, "state": trial.state.name, "label": told.get("label", ""), "head": family,
            "k": {level: int(values.get(exploration.kernel(level), 0)) for level in self.levels},
            "width": told.get("width"), "refine": told.get("refine", []), "lr": float(values.get(LR, 0.0)),
            "values": values, "key": told.get("key", ""), "score": told.get("score"), "step": int(told.get("step", 0)),
            "macs": int(told.get("macs", 0)), "parameters": int(told.get("parameters", 0)),
            "memory": int(told.get("memory", 0)), "work": float(told.get("work", 0.0)),
            "reason": str(trial.user_attrs.get(REASON, "")),
        }  # fmt: skip


def check(explore: Explore, levels: tuple[str, ...]) -> None:
    """Raises InputError if Optuna does not accept the sampler, the pruner, the objective and the space together. Tests
    this with trials that train nothing."""
    try:
        study = Exploration(explore, levels, "rehearsal")
        for number in range(REHEARSED):
            trial = study.ask()
            study.describe(trial, macs=number + 1, parameters=number + 1, memory=number + 1)
            if explore.pruner is not None and study.report(trial, 0.5 + number / 100, 1):
                study.prune(trial, 0.5, 1)
                continue
            study.tell(trial, 0.5 + number / 100, 2)
    except InputError:
        raise
    except Exception as error:  # Optuna raises many kinds of errors for what it does not support
        told = ", ".join(filter(None, (explore.sampler.name, explore.pruner.name if explore.pruner else "")))
        raise InputError(
            f"explore: Optuna does not support {told} with objective {explore.objective} and this space "
            f"({first_line(error)}); take another sampler, pruner or objective"
        ) from None


def importances(rows: list[ExploredTrial], seed: int) -> list[Importance]:
    """Each factor's share in the variance of the scores of trials that were trained to their end, by fANOVA, with 90 %
    intervals over resampled trials. Empty if there are fewer than 8 such trials, or their scores are all equal."""
    ended = [row for row in rows if row["state"] == COMPLETE and row["score"] is not None]
    if len(ended) < 8 or len({row["score"] for row in ended}) < 2:
        return []
    factors = [_factors(row) for row in ended]
    space: dict[str, BaseDistribution] = {
        name: (
            FloatDistribution(*_ends(factors, name), log=True) if name == "learning rate"
            else CategoricalDistribution(sorted({f[name] for f in factors}))
        )
        for name in factors[0]
        if len({f[name] for f in factors}) > 1
    }  # fmt: skip
    draw = np.random.default_rng(seed)
    drawn = [draw.integers(0, len(ended), len(ended)) for _ in range(RESAMPLED)]
    shares = [_shares([ended[i] for i in at], [factors[i] for i in at], space) for at in (range(len(ended)), *drawn)]
    whole, others = shares[0], [found for found in shares[1:] if found]
    if not whole or not others:
        return []
    found: list[Importance] = []
    for name, share in sorted(whole.items(), key=lambda pair: -pair[1]):
        low, high = np.quantile([one.get(name, 0.0) for one in others], [0.05, 0.95])
        found.append({"factor": name, "share": share, "low": min(share, float(low)), "high": max(share, float(high))})
    return found


def _factors(row: ExploredTrial) -> dict[str, Any]:
    found: dict[str, Any] = {"head": row["head"]} | {f"k at {level}": k for level, k in row["k"].items()}
    places = {exploration.refined(place): place in row["refine"] for place in PLACES}
    alike = REFINE in row["values"]
    return found | ({REFINE: bool(row["refine"])} if alike else places) | {"learning rate": row["lr"]}


def _ends(factors: list[dict[str, Any]], name: str) -> tuple[float, float]:
    return min(f[name] for f in factors), max(f[name] for f in factors)


def _shares(
    rows: list[ExploredTrial], factors: list[dict[str, Any]], space: dict[str, BaseDistribution]
) -> dict[str, float]:
    if len({row["score"] for row in rows}) < 2:
        return {}
    with _quiet():
        study = optuna.create_study(direction="maximize")
        for row, values in zip(rows, factors, strict=True):
            params = {name: values[name] for name in space}
            study.add_trial(create_trial(params=params, distributions=space, value=row["score"]))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _facts(attributes: dict[str, Any]) -> dict[str, Any]:
    return dict(attributes.get(FACTS) or {})


def _made(module: Any, chosen: Chosen | None, given: dict[str, Any], what: str) -> Any:
    """Make a sampler or pruner by name, with its arguments and those of ``given`` that it takes. Raises InputError."""
    if chosen is None:
        return None
    base = optuna.samplers.BaseSampler if what == "sampler" else optuna.pruners.BasePruner
    known = sorted(
        n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)
    )
    if chosen.name not in known:
        raise InputError(
            f"explore.{what}.name must be one of Optuna's ({', '.join(known)}), got {chosen.name}; rename it"
        )
    made, arguments = getattr(module, chosen.name), dict(chosen.arguments)
    takes = inspect.signature(made.__init__).parameters
    if "constraints_func" in given and "constraints_func" not in takes:
        raise InputError(
            f"explore.sampler.name must be one that takes constraints, because there are bounds, got {chosen.name}; "
            "take e.g. TPESampler, or remove the bounds"
        )
    arguments |= {name: value for name, value in given.items() if name in takes and name not in arguments}
    try:
        with _quiet():
            return made(**arguments)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise InputError(
            f"explore.{what} must have arguments that Optuna's {chosen.name} takes "
            f"({first_line(error)}); see its documentation"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Optuna's warnings about experimental features and independent sampling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
