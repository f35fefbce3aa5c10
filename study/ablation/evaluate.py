"""Score trained networks with other inference methods (crops, scales, a CRF), and count confusions, on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from study.ablation.progress import Display
from study.ablation.queue import Event
from study.ablation.supervise import OpenEngine, Work, open_engine
from study.ablation.workload import Workload
from study.paper import headline
from study.spec.jobs import ConfusionJob
from study.spec.words import counted
from study.statistics import results
from study.store.keys import key_of_confusion
from study.store.runs import CONFUSION, EVALUATED, Run

Asks = Callable[[Any], Any]  # study.inference.worker.ask


def ask(
    workload: Workload, ask_one: Callable[[], Asks], *, confused: bool = True, open_engine: OpenEngine = open_engine
) -> None:
    """Run the evaluations of the workload's plan that the store does not have and, if ``confused``, count the
    confusions of the headline networks. A failure is a hole in the report, and stops no other. ``ask_one`` returns the
    function that runs a job; it imports torch."""
    planned, manifest = workload.planned, workload.manifest
    execution, store = workload.execution, workload.store
    todo = [key for key in manifest["evaluations"] if not store.run(key, EVALUATED).done()]
    if "sequence" in manifest:  # failures count as drawn, until `make retry` clears them
        todo = [key for key in todo if store.run(key, EVALUATED).failure() is None]
    ready = [key for key in todo if store.run(planned.evaluations[key].training).done()]
    for key in set(todo) - set(ready):
        store.run(key, EVALUATED).fail(
            "NotRun", f"its training has no result ({planned.evaluations[key].training[:12]})"
        )
    confusing = {
        run.key: (address, training)
        for address, training, run in (confusions(workload) if confused else ())
        if store.run(training).done() and not run.done()
    }
    if not ready and not confusing:
        return
    from study.ablation import foretell  # imports torch: only if something is to be done

    workload.read_again()
    with ExitStack() as stack:
        display, beside = None, dict[str, str | None]()
        if ready:
            beside = {key: plain for key in ready if (plain := planned.plain(key)) in ready}
            kinds = foretell.evaluations(workload, set(beside.values()))
            # So no long one runs alone at the end, and those done beside another come after it.
            ready.sort(key=lambda key: kinds[key].left(), reverse=True)
            jobs = {key: job for key, job in manifest["evaluations"].items() if key in ready or key not in todo}
            done = jobs.keys() - set(ready)
            display = stack.enter_context(Display(store, jobs, kinds, done, execution.workers, noun="evaluation"))

        def begun(key: str) -> None:
            if display and key not in confusing:
                display.begin(key)

        tier = planned.tier.name
        work = stack.enter_context(Work(ask_one(), execution, store, tier, begun=begun, open_engine=open_engine))
        for key in ready:
            work.submit(key, workload.evaluation(key, work.stop, beside.get(key)))
        if confusing:
            print(f"counting the confusions of {counted(len(confusing), 'network')}", flush=True)
        for key, (_, training) in confusing.items():
            work.submit(key, ConfusionJob(key, workload.subject(training), workload.context(work.stop)))
        for event in work.ends():
            if event and event.key in confusing:
                _tell(event, confusing[event.key][0])
            elif event and display:
                if event.failed:
                    store.run(event.key, EVALUATED).fail(event.kind, event.reason)
                display.end(event.key, None if event.failed else results.leading(event.result), event.reason)
            if display:
                display.refresh()


def confusions(workload: Workload) -> Iterator[tuple[str, str, Run]]:
    """Address, training and run of the confusions of each headline network."""
    for address, training in headline.segmenting(workload.manifest).items():
        yield address, training, workload.store.run(key_of_confusion(training), CONFUSION)


def _tell(event: Event, address: str) -> None:
    """Print a note if confusions failed, or differ from the counts."""
    if event.failed:
        print(f"note: the confusions of {address} are not in the report: {event.reason}", flush=True)
    elif not event.result:
        print(f"note: the confusions of {address} differ from its counts (another device?)", flush=True)
