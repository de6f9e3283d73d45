"""A batch on a Ray cluster: Ray places the workers, restarts those that die and tries their photographs again.

    Job ─ Ray ─ a worker: one process, one Refiner ─ LocalEngine ─ Outcome

Only paths and outcomes travel. A worker reads the photograph and writes the output itself, with the same claims and
renames as a batch without Ray: all nodes must see the same files under the same names.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from logging.handlers import QueueHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from prv2cli.errors import DeviceError, EngineError, MissingEngineError, Prv2Error, UsageError
from prv2cli.files.atomic import output_error, remove_leftovers
from prv2cli.files.text import first_line
from prv2cli.jobs.batch import BatchSettings, Job, Outcome, failed
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.admission import MemoryRoom
from prv2cli.jobs.engines.local import LocalEngine
from prv2cli.jobs.engines.ray_layout import Layout, plan_workers
from prv2cli.machine.memory import available_host_memory
from prv2cli.machine.threads import Worker
from prv2cli.refine.request import Models
from prv2cli.version import __version__

if TYPE_CHECKING:
    from prv2cli.refine.load import Check

logger = logging.getLogger("prv2cli")

RETRIES = 2  # of a photograph whose worker died
POLL_SECONDS = 0.2  # between looks at the workers: Ctrl-C is not seen before
CONNECT_SECONDS = 5.0
STOP_SECONDS = 1.0  # for the workers to end what they write
PATIENCE_SECONDS = 30.0  # without any worker before it is said
STORE_BYTES = 80 * 2**20  # of a local Ray's object store, the least it takes: it holds paths
CONTROL = "control"
Loader = Callable[[], Any]


@dataclass(frozen=True)
class Joined:
    """A worker that is ready: where it is, and what it works with."""

    host: str
    identity: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What comes back from a worker: a result (None: another process has the job), and what was logged meanwhile."""

    result: Any
    records: list[logging.LogRecord]


def load_refiner(models: Models, check: Check | None = None) -> Any:
    """Refiner.load, importing torch in the workers alone."""
    from prv2cli.refine.refiner import Refiner

    return Refiner.load(models, check)


def import_ray() -> Any:
    """Ray, with its usage statistics off unless the user has decided on them. Raises MissingEngineError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without it Ray says at each start that it will stop hiding the GPUs from those who ask for none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingEngineError("--engine ray", "ray") from error
    return ray


class RayWorker:
    """What runs in a process of the cluster. Ray makes it again, with the same arguments, when the process dies."""

    def __init__(
        self, load: Loader, settings: BatchSettings, root: Path, folder: Path, cpus: int | None = None
    ) -> None:
        """folder: the driver's current one, so that relative paths mean the same here, and in messages.

        cpus: how many of the machine's are this worker's; of the memory as large a part is. None: all.
        """
        self._load, self._settings, self._root, self._cpus = load, settings, root, cpus
        self._logged: queue.SimpleQueue[Any] = queue.SimpleQueue()
        logger.handlers, logger.propagate = [QueueHandler(self._logged)], False
        logger.setLevel(logging.INFO)
        with suppress(OSError):  # told for each photograph, in do()
            os.chdir(folder)
            remove_leftovers(root)  # of a worker that died here
            Claims(root).remove_dead()

    @cached_property
    def _engine(self) -> LocalEngine:
        refiner, share = self._load(), None
        if self._cpus is not None:
            share = round(available_host_memory() * min(1.0, self._cpus / (os.cpu_count() or 1)))
        return LocalEngine(refiner, self._settings, Claims(self._root), MemoryRoom(share=share))

    def join(self) -> Answer:
        """Load the models."""
        refiner = self._engine.refiner
        identity = {
            "prv2": __version__,
            "model": refiner.name,
            "coarse": refiner.coarse.name if refiner.coarse else "none",
            "precision": str(refiner.dtype),
            "weights": self._engine.digest,
        }
        return self._answer(Joined(socket.gethostname(), identity))

    def do(self, job: Job, seen: bool) -> Answer:
        """One job from its photograph to its output; `seen`: the driver sees the photograph."""
        if not self._root.is_dir() or (seen and not os.path.lexists(job.source)):
            return self._answer(failed(job, _unseen(job.source, socket.gethostname())))
        outcomes = list(self._engine.run([job]))
        return self._answer(outcomes[0] if outcomes else None)

    def stop(self) -> None:
        """End what is being written, and begin nothing more; called while another method runs."""
        if "_engine" in self.__dict__:
            self._engine.close()

    def _answer(self, result: Any) -> Answer:
        records = []
        while not self._logged.empty():
            records.append(self._logged.get())
        return Answer(result, records)


class RayEngine:
    """Workers on the cluster of RAY_ADDRESS, or on a Ray of their own on this machine, which ends with them.

    Args:
        load: makes a worker's Refiner, in the worker. settings, root: as of a batch; root is the output folder.
        workers: how many; None = one for each GPU of the cluster, or by its CPUs and memory where it has none.
        jobs: how many there will be; no more workers are asked for.
        device: what the Refiners run on: with auto and cuda a worker gets a GPU of its own where there are some.

    Raises:
        MissingEngineError: no Ray. EngineError: no cluster there, or workers that cannot start or are not alike.
        DeviceError: a GPU is asked for that the cluster lacks. OutputError: the output folder cannot be made.
        KeyboardInterrupt: Ray, half started, cannot be shut down; only end_at_once() leaves nothing of it.
    """

    def __init__(
        self,
        load: Loader,
        settings: BatchSettings,
        root: Path,
        *,
        workers: int | None,
        jobs: int,
        device: str,
    ) -> None:
        check_device(device)
        self._ray, self._root = import_ray(), root
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}  # Ray's promise of an Answer: who works on what
        self._joining: dict[Any, Any] = {}
        self._joined: list[Joined] = []
        self._told: set[tuple[int, str]] = set()
        self._started, self._patient = time.monotonic(), True
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(root, error) from error
        remove_leftovers(root)
        self._own = False
        # ray.init() would not let Ctrl-C through. Its thread stays to the end: Linux ends Ray's processes with it.
        self._starter = Worker("ray.init")
        try:
            self._connect(workers)
            self._hire(_layout(self._ray, workers, jobs, device), (load, settings, root, Path.cwd()))
        except Exception:  # not Ctrl-C: ray.shutdown() beside a ray.init() waits or crashes
            self.close()
            raise

    def run(self, jobs: list[Job]) -> Generator[Outcome, None, list[Job]]:
        """See Engine. Raises DiskFullError, and what a worker raises that cannot load its models."""
        waiting, elsewhere = deque(jobs), []
        while waiting or self._busy:
            while waiting and self._idle:
                worker, job = self._idle.pop(), waiting.popleft()
                self._busy[worker.do.remote(job, os.path.lexists(job.source))] = worker, job
            for promise in self._ended():
                if promise in self._joining:
                    self._welcome(promise)
                    continue
                worker, job = self._busy.pop(promise)
                self._idle.append(worker)
                outcome = self._outcome(promise, job)
                if outcome is None:
                    elsewhere.append(job)
                else:
                    yield outcome
        return elsewhere

    def close(self) -> None:
        """See Engine. A Ray of our own ends, of another's cluster the workers."""
        ray = self._ray
        if ray.is_initialized():
            workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
            stopping = [worker.stop.options(concurrency_group=CONTROL).remote() for worker in workers]
            if stopping:
                ray.wait(stopping, num_returns=len(stopping), timeout=STOP_SECONDS)
            for worker in (*workers, *self._joining.values()):
                ray.kill(worker)
        if self._own:
            ray.shutdown()
        self._starter.stop()
        remove_leftovers(self._root)  # of workers that were killed
        claims = Claims(self._root)
        claims.remove_dead()
        claims.release_all()

    def _connect(self, workers: int | None) -> None:
        ray = self._ray
        if ray.is_initialized():  # a program of the user's that has done it
            return
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # errors come as exceptions
        address = os.environ.get("RAY_ADDRESS", "local")
        options: dict[str, Any] = {}
        if address == "local":
            cpus = None if workers is None else max(workers, os.cpu_count() or 1)
            options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        else:
            _reach(address)
        self._own = True
        try:
            begin = partial(
                ray.init, address=address, log_to_driver=False, configure_logging=False, **options
            )
            self._starter.submit(begin).result()
        except Exception as error:
            raise EngineError(
                f"--engine ray: no Ray at RAY_ADDRESS={address}: {first_line(error)} "
                "(a cluster that asks for a token needs RAY_AUTH_MODE=token)"
            ) from error

    def _hire(self, layout: Layout, arguments: tuple[Any, ...]) -> None:
        options = {
            "num_cpus": layout.cpus,
            "num_gpus": layout.gpus,
            "max_restarts": -1,  # a photograph that kills its worker must not cost the others theirs
            "max_task_retries": RETRIES,
            "concurrency_groups": {CONTROL: 1},  # a thread of its own, for stop()
        }
        actor = self._ray.remote(**options)(RayWorker)
        for _ in range(layout.workers):
            worker = actor.remote(*arguments, layout.cpus)
            self._joining[worker.join.remote()] = worker

    def _ended(self) -> Sequence[Any]:
        promises = [*self._busy, *self._joining]
        ended, _ = self._ray.wait(promises, timeout=POLL_SECONDS)
        if self._patient and not self._joined and time.monotonic() - self._started > PATIENCE_SECONDS:
            self._patient = False
            logger.warning("no Ray worker has started yet; the cluster may be busy (ray status tells)")
        return ended

    def _welcome(self, promise: Any) -> None:
        """Take a worker in that has loaded its models, if they are those of the others."""
        worker = self._joining.pop(promise)
        self._idle.append(worker)
        try:
            joined: Joined = self._hear(promise)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"--engine ray: a worker cannot start: {first_line(error)} "
                "(prv2cli[ray] of this version must be installed on every node)"
            ) from error
        first = self._joined[0] if self._joined else Joined(socket.gethostname(), {"prv2": __version__})
        for what, value in first.identity.items():
            if joined.identity[what] != value:
                raise EngineError(
                    f"--engine ray: the workers would not make the same files: {what} is {value} on {first.host}, "
                    f"{joined.identity[what]} on {joined.host}; name --model, --coarse and --precision"
                )
        self._joined.append(joined)

    def _outcome(self, promise: Any, job: Job) -> Outcome | None:
        try:
            outcome: Outcome | None = self._hear(promise)
        except self._ray.exceptions.RayError:
            return failed(
                job,
                f"{job.source}: the process working on it died {RETRIES + 1} times (crashed, or out of memory)",
            )
        if outcome is not None and outcome.state != "failed" and not job.target.exists():
            return failed(job, _unseen(job.target, "the driver"))
        return outcome

    def _hear(self, promise: Any) -> Any:
        """The result in an answer, its log repeated here, once for all workers. Raises what the worker raised."""
        try:
            answer: Answer = self._ray.get(promise)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Prv2Error):
                raise error.cause from None
            raise
        for record in answer.records:
            said = (record.levelno, record.getMessage())
            if said not in self._told and logger.isEnabledFor(record.levelno):
                self._told.add(said)
                logger.handle(record)
        return answer.result


def end_at_once(code: int) -> NoReturn:
    """End this process and, before, all that it has started. While Ray starts, a usual exit crashes or hangs.

    Most of Ray's processes would go by themselves when this one does; its agents take a minute to notice. What Ray's
    threads have to say of that goes nowhere.
    """
    import psutil

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    this = psutil.Process()
    for child in this.children():
        with suppress(psutil.Error):  # it has ended
            child.suspend()  # so that it starts no other meanwhile
    for process in [*this.children(recursive=True), *_of_our_session()]:
        with suppress(psutil.Error):
            process.kill()
    os._exit(code)


def _of_our_session() -> Iterator[Any]:
    """Processes of the Ray that this one started, also those whose parent has ended: they are no children any more."""
    import psutil

    # Ray's name for it ends in the number of who began it.
    session = re.compile(rf"/session_[-0-9_]+_{os.getpid()}/")
    for process in psutil.process_iter(["cmdline"]):
        if session.search(" ".join(process.info["cmdline"] or [])):
            yield process


def check_device(device: str) -> None:
    """Raises UsageError for a numbered GPU: which one a worker gets is Ray's to say."""
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: Ray gives each worker a GPU of its own; use --device cuda")


def _reach(address: str) -> None:
    """Find out at once that nobody answers at an address: Ray tries for a quarter of an hour. Raises EngineError."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdecimal():  # auto, and what only Ray understands
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"--engine ray: no Ray at RAY_ADDRESS={address}: {first_line(error)}") from error


def _layout(ray: Any, workers: int | None, jobs: int, device: str) -> Layout:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU") for node in nodes)
    if device == "cuda" and not has_gpus:
        raise DeviceError("--device cuda: the Ray cluster has no GPU; use --device cpu")
    layout = plan_workers(nodes, workers, jobs, gpus=has_gpus and device in ("auto", "cuda"))
    if layout.room < layout.workers:
        logger.warning("the Ray cluster has room for %d of %d workers now", layout.room, layout.workers)
    return layout


def _unseen(path: Path, host: str) -> str:
    return f"{path}: {host} does not see it; a Ray batch needs photographs and outputs on files that all nodes share"
