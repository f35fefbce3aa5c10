"""One training in several processes on one machine, each with its part of every batch and its own GPU (D100)."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from study.models.build import build, untrained
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Recipe, Training
from study.store.code_digest import ROOT
from study.training.batches import Raw, Source
from study.training.loop import Batch, State, Step, TrainingFailed

WAIT = datetime.timedelta(days=30)  # the longest evaluation by the first process; deaths are noticed in other ways
POLL_S, NOTICED_S = 0.02, 5.0
GRACE_S = 10.0  # after another process died: a collective operation of GPUs would wait for ever
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
MEMBER = "from study.training.distributed import member; member()"
Fit = Callable[..., Iterator[Step]]


class ProcessLost(ConnectionError):
    """Another process of this training was killed. A restarted training resumes from its last checkpoint."""


def check(training: Training, processes: int, device: str) -> None:
    """Raises InputError unless ``processes`` can share a training: they must divide its batch, and on a CPU its network
    must not compute batch statistics, which torch shares between processes only on GPUs."""
    batch = training.recipe.batch
    if batch % processes:
        raise InputError(
            f"recipe.batch must be a multiple of the number of processes of a training, got {batch} images for "
            f"{processes}; set execution.gpus_per_training (on a CPU processes_per_training) to 1 or a divisor of it"
        )
    if processes > 1 and device == "cpu":
        network = dataclasses.replace(training.network, options=untrained(training.network))
        with torch.device("meta"):
            model = build(training.variant, network, 2, 0)
        if _has_statistics(model.train()):
            raise InputError(
                "a network that is trained in several processes on a CPU must not compute batch statistics (torch has "
                f"SyncBatchNorm for GPUs only), got {network.backbone} with trained batch normalisation; set "
                "execution.processes_per_training to 1, or freeze the backbone or its statistics (frozen_norm)"
            )


def _has_statistics(model: nn.Module) -> bool:
    """Whether a model in training mode normalises by the statistics of the batch."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


class _Part(Source):
    """The images of every batch that one process computes. Random draws are those of the whole batch. Streamed images
    of other processes are not read."""

    def __init__(self, whole: Source, rank: int, processes: int) -> None:
        self.__dict__.update(whole.__dict__)
        share = whole.training.recipe.batch // processes
        self.own = slice(rank * share, (rank + 1) * share)

    def _training_images(self, indices: list[int]) -> tuple[Any, Any]:
        if self._open is None:
            return super()._training_images(indices)
        found = []
        for maps in super()._training_images(indices[self.own]):
            assert maps is not None
            found.append(maps[:1].repeat(len(indices), 0))
            found[-1][self.own] = maps
        return found[0], found[1]

    def raw_batch(self, step: int) -> tuple[Raw, torch.Tensor]:
        raw, labels = super().raw_batch(step)
        return {name: maps[self.own].clone() for name, maps in raw.items()}, labels[self.own].clone()


@dataclasses.dataclass
class Team:
    """The processes of a training, as seen by the one of ``rank``. Only rank 0 writes and evaluates."""

    rank: int = 0
    processes: int = 1
    share: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones(()))

    def part(self, source: Source) -> Source:
        """The source of this process's part of every batch."""
        return source if self.processes == 1 else _Part(source, self.rank, self.processes)

    def run(
        self,
        fit: Fit,
        state: State,
        batch: Callable[[int], Batch],
        recipe: Recipe,
        weights: torch.Tensor | None = None,
        capture: bool = False,
    ) -> Iterator[Step]:
        """Run the steps of ``fit`` in all processes at once. Loss and gradients are means over the labelled pixels of
        the whole batch; ``batch`` gives this process's part of it (D11, D100). ``weights`` (K,) are those of the
        classes. A step that several processes share is not recorded, even with ``capture``."""
        if self.processes == 1:
            yield from fit(state, batch, recipe, weights=weights, capture=capture)
            return
        if _has_statistics(state.model.train()):
            from timm.layers import convert_sync_batchnorm  # torch's own would drop the activation of timm's layers

            convert_sync_batchnorm(state.model)
        model = DistributedDataParallel(state.model, forward_sync_buffers=False, static_graph=True)
        model.register_comm_hook(self, _summed)
        inner = State(model, state.optimizer, state.step)

        def teaches(given: Batch) -> bool:
            self.share, everywhere = _share(given.labels, weights)
            return everywhere > 0  # the same in all processes: all take the step or none

        for step, loss in fit(inner, batch, recipe, teaches, weights):
            state.step = step
            if loss is not None:
                loss = (loss * self.share).masked_fill(self.share == 0, 0)  # a part that is all void has no loss
                distributed.all_reduce(loss)
            yield step, loss


def _share(labels: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, float]:
    """This process's share of the labelled pixels of the whole batch (or of its images, D11), and their total. With
    class ``weights``, both count the weights of pixels, since the loss is divided by their sum (D124)."""
    if weights is not None:
        own = weights[(labels[labels != VOID] if labels.ndim > 1 else labels).long()].sum()
    else:
        own = (labels != VOID).sum() if labels.ndim > 1 else torch.tensor(len(labels), device=labels.device)
    every = own.clone()
    distributed.all_reduce(every)
    return own / every, float(every)


def _summed(team, bucket):  # torch refuses annotations that are strings
    """Gradients of the mean over this process's pixels -> of the mean over all of them."""
    gradients = bucket.buffer().mul_(team.share).masked_fill_(team.share == 0, 0)
    work = distributed.all_reduce(gradients, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


@contextmanager
def together(follow: Callable[[Any, Team], None], job: Any, processes: int, device: str) -> Iterator[Team]:
    """A context with the team of a training. Its other processes run ``follow(job, team)``; they end with the block.

    Raises InputError if there are fewer GPUs than processes, ProcessLost if a process was killed, TrainingFailed if one
    ended with an error. Operations of a GPU cannot be interrupted: if they keep this process from noticing, it ends
    too, after GRACE_S.
    """
    if processes == 1:
        yield Team()
        return
    if device == "cuda" and torch.cuda.device_count() < processes:
        raise InputError(
            f"a training of {processes} processes must have as many GPUs on its machine, got "
            f"{torch.cuda.device_count()}; lower execution.gpus_per_training"
        )
    with tempfile.TemporaryDirectory(prefix="training-", ignore_cleanup_errors=True) as folder:
        others = _Others(follow, job, processes, device, Path(folder))
        try:
            yield _join(Path(folder), 0, processes, device, others.stop_if_lost)
        except Exception as error:
            if not isinstance(error, TrainingFailed):
                others.notice()
            others.stop_if_lost(error)
            raise
        finally:
            others.end()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _join(folder: Path, rank: int, processes: int, device: str, waiting: Callable[[], None]) -> Team:
    """Meet the other processes at a file that only the user can access. Calls ``waiting()`` until all have arrived."""
    if sys.platform in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    if device == "cuda":
        torch.cuda.set_device(rank)
    store = distributed.FileStore(str(folder / "meeting"), processes)
    store.set(f"here {rank}", "")
    while not store.check([f"here {other}" for other in range(processes)]):
        waiting()
        time.sleep(POLL_S)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo", store=store, rank=rank, world_size=processes, timeout=WAIT
    )
    return Team(rank, processes)


class _Others:
    """The processes of a training except the first, which starts them."""

    def __init__(self, follow: Callable[..., None], job: Any, processes: int, device: str, folder: Path) -> None:
        self.folder, self.processes = folder, processes
        self.lost: list[tuple[int, int]] = []  # (rank, status) in the order of their ends
        self.over = threading.Event()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(1, processes):
            with self._said(rank).open("wb") as said:
                self.running[rank] = process = subprocess.Popen(
                    [sys.executable, "-c", MEMBER], stdin=subprocess.PIPE, stdout=said, stderr=said,
                    env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
                )  # fmt: skip
            assert process.stdin is not None
            pickle.dump((follow, job, folder, rank, processes, device), process.stdin)
            process.stdin.flush()  # it stays open: when it closes, this process is gone
            threading.Thread(target=self._watch, args=(rank,), daemon=True).start()

    def _said(self, rank: int) -> Path:
        return self.folder / f"said by {rank}"

    def _watch(self, rank: int) -> None:
        status = self.running[rank].wait()
        if self.over.is_set():
            return
        self.lost.append((rank, status))
        if not self.over.wait(GRACE_S):
            print(f"error: process {rank} of a training died; the first cannot continue", file=sys.stderr, flush=True)
            os._exit(1)

    def notice(self) -> None:
        """Wait briefly for the death of a process that a broken connection announces."""
        until = time.monotonic() + NOTICED_S
        while not self.lost and time.monotonic() < until:
            time.sleep(POLL_S)

    def stop_if_lost(self, error: Exception | None = None) -> None:
        """Raises ProcessLost if another process was killed, TrainingFailed if it ended with an error."""
        if not self.lost:
            return
        rank, status = self.lost[0]
        if status < 0:
            raise ProcessLost(
                f"all {self.processes} processes of a training must stay alive, got process {rank} ended by "
                f"{signal.Signals(-status).name}; start the training again: it resumes from its last checkpoint"
            ) from error
        said = self._said(rank).read_text(errors="replace").strip().splitlines() or [f"status {status}"]
        raise TrainingFailed(f"process {rank} of {self.processes} must end without an error, got {said[-1]}") from error

    def end(self) -> None:
        self.over.set()
        for process in self.running.values():
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def member() -> None:
    """The entry point of another process of a training. It reads its task from standard input, and ends when that
    closes."""
    follow, job, folder, rank, processes, device = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_first, args=(folder,), daemon=True).start()
    try:
        follow(job, _join(folder, rank, processes, device, lambda: None))
        threading.Event().wait()  # until the first process has evaluated and ends this one
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _end_with_first(folder: Path) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
