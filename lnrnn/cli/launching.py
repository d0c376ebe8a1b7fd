"""What ``lnrnn compare ... launcher=...`` does: send workers elsewhere, wait for them, report."""

import shlex
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from lnrnn.runs.interruption import Interrupted
from lnrnn.study.launched import MARK, LaunchedWorker
from lnrnn.study.launcher_options import LauncherOptions, SubmititOptions
from lnrnn.study.ray_tasks import RayTasks
from lnrnn.study.settings import Settings, without_launcher
from lnrnn.study.submitit_array import SubmititArray


def launch(
    settings: Settings, options: LauncherOptions, folder: Path, console: Console
) -> list[str] | None:
    """Start the workers of a comparison, and wait until all of them have ended.

    Args:
        settings: What was asked of the comparison.
        options: What was asked of the launcher.
        folder: The comparison's.
        console: Where is said what becomes of them.

    Returns:
        What went wrong with workers; None where nobody waits for them.

    Raises:
        ConfigurationError: If they cannot be started.
        KeyboardInterrupt: If Ctrl-C came; what became of the workers is said.
        Interrupted: If another signal came, likewise.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    logs = Path("runs", ".workers", folder.name, name).absolute()
    logs.mkdir(mode=0o700, parents=True)
    mark = uuid.uuid4().hex
    (logs / MARK).write_text(mark)
    words = without_launcher(settings)
    alone = [] if any(word.startswith("jobs=") for word in words) else [f"jobs={settings.jobs}"]
    worker = LaunchedWorker((*words, *alone, "worker=true"), Path.cwd(), logs, mark, options.cpus)
    try:
        started = _start(worker, options, logs)
    except BaseException:
        (logs / MARK).unlink()
        with suppress(OSError):  # what submitit wrote stays
            logs.rmdir()
        raise
    console.print(f"workers: {started}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"output:  {logs}", soft_wrap=True, markup=False, highlight=False)
    later = shlex.join(["lnrnn", "compare", *words, "train=false"])
    if isinstance(options, SubmititOptions) and not options.wait:
        print(f"the result, once they have ended: {later}")
        return None
    problems = []
    try:
        for ending in started.endings():
            if ending.problem is not None:
                problems.append(f"worker {ending.number} on {ending.host}: {ending.problem}")
                print(f"error: {problems[-1]}", file=sys.stderr)
    except (KeyboardInterrupt, Interrupted):
        if started.stops:
            print("interrupted: the workers save their runs")
        print(started.leave())
        print(f"the result so far: {later}")
        raise
    return problems


def _start(
    worker: LaunchedWorker, options: LauncherOptions, logs: Path
) -> SubmititArray | RayTasks:
    if isinstance(options, SubmititOptions):
        return SubmititArray(worker, options, logs)
    return RayTasks(worker, options)
