"""A plan and where to execute it: makes the jobs of its trainings and evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from study.config import git_state
from study.config.execution import Execution
from study.data.prepare import prepare
from study.plan.planner import Plan
from study.spec.constants import MAIN
from study.spec.documents.plan import PlanFile
from study.spec.errors import InputError
from study.spec.jobs import Context, EvaluationJob, Subject, TrainingJob
from study.statistics.results import judged_classes
from study.store import stage
from study.store.runs import Store


@dataclass(frozen=True)
class Workload:
    """``manifest`` is the content of the plan's plan.json."""

    planned: Plan
    manifest: PlanFile
    execution: Execution
    store: Store
    commit: str = field(default_factory=git_state.described)

    def context(self, stop: Path | None = None) -> Context:
        """The context that all jobs share; they end early once the file ``stop`` exists."""
        return Context(
            store=self.store.root,
            device=self.execution.device,
            checkpoint_s=self.execution.checkpoint_s,
            samples=self.planned.tier.samples,
            loaders=self.execution.loaders,
            processes=self.execution.processes,
            commit=self.commit,
            stop=stop,
        )

    def subject(self, key: str) -> Subject:
        """A planned training with its data."""
        planned, setting = self.planned, self.planned.data_of[key]
        return Subject(
            key,
            planned.trainings[key],
            planned.facts[setting],
            origin=planned.facts[planned.origin(key)],
            root=planned.tier.settings[setting].root,
        )

    def training(self, key: str, stop: Path, until: int | None = None) -> TrainingJob:
        """The job of a planned training; ``until`` as in TrainingJob."""
        labels, init = self.manifest["trainings"][key], self.planned.init.get(key)
        return TrainingJob(self.subject(key), self.context(stop), labels, init, until=until, classes=self.judged(key))

    def judged(self, key: str) -> tuple[int, ...] | None:
        """The classes of the mean IoU by which a search compares a training; None: all."""
        classes = judged_classes(self.manifest, self.planned.data_of[key])
        return None if classes is None else tuple(classes)

    def evaluation(self, key: str, stop: Path, plain: str | None = None) -> EvaluationJob:
        """The job of a planned evaluation; ``plain`` as in EvaluationJob."""
        asked = self.planned.evaluations[key]
        return EvaluationJob(key, self.subject(asked.training), self.context(stop), asked.inference, plain)

    def read_again(self) -> None:
        """Make sure that the cached data (and features) exist. Raises InputError if they differ from the plan's."""
        from study.training.batches import cache_features  # imports torch: only if something is run

        chosen, store = self.planned.tier, self.store
        for name in dict.fromkeys([*self.planned.data_of.values(), MAIN]):
            setting = chosen.settings[name]
            tick = stage.ticker(f"reading {setting.data.name} ({name})")
            found = prepare(setting.data, setting.root, store.cache, chosen.band_px, tick=tick, stream=setting.stream)
            if found["fingerprint"] != self.manifest["data"][name]["fingerprint"]:
                raise InputError(
                    f"the data set {name} has changed since the plan was made; run `dvc repro --force data`"
                )
            if setting.network.frozen:
                cache_features(setting.network, found, store.cache, setting.recipe.flip, tick)
