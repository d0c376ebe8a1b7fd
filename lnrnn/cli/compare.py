"""Compare models by paired seeds: with and without a norm, or any arms you name.

lnrnn compare                                      rnn, rnn_ln, rnn_lncell over 7 seeds
lnrnn compare 'arms=[lstm,lstm_lncell]' seeds=10 data=mnist1d
lnrnn compare 'arms=["lstm","lstm model.eps=1e-3"]' trainer.max_epochs=5 monitor=true
lnrnn compare 'arms=[rnn,rnn_ln]' 'lr=[1e-3,3e-3,1e-2]'    each at its own best rate
lnrnn compare 'arms=[rnn,rnn_ln]' require_speedup=1.2      exit code 1 if it is not
lnrnn compare seeds=10 worker=true                 one of many, on machines that share the disk
lnrnn compare seeds=10 launcher=submitit launcher.workers=8    as an array of SLURM jobs; or ray
lnrnn compare 'arms=[old/rnn,new/rnn]' train=false         folders that hold seed0, ...

The first arm is the baseline. Finished runs are reused, interrupted ones are resumed, failed ones
are tried again, and one that diverged is kept and counted: it would diverge again. Every override
that is not in the list below goes to the training of all arms. The result is in
runs/<data>/compare/<arm>-vs-<arm>; what was changed for all of them follows the arms.

What can be set, with what holds if nothing is said (conf/compare.yaml):
"""

import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.interruption import Interrupted, was_pressed
from lnrnn.study.settings import read_settings

ERROR = 2  # Python's own exit code for an exception would say that a speed-up is not met


def main() -> None:
    """Train what is missing, then print the comparison and write it."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "compare.yaml").read_text().partition("\n\n")[2])
        return
    for number in (signal.SIGTERM, signal.SIGUSR1):  # between runs; a run listens itself
        signal.signal(number, stop)
    try:
        settings = read_settings(sys.argv[1:])
        # Here: Lightning takes seconds to import, and a mistake needs none of it.
        from lnrnn.cli.comparing import EXPECTED, run

        try:
            sys.exit(run(settings))
        except EXPECTED as error:
            fail(error)
    except (ConfigurationError, OSError) as error:
        fail(error)
    except Exception:  # nobody expected it: shown whole, with the exit code of an error
        if was_pressed():
            raise
        traceback.print_exc()
        sys.exit(ERROR)
    except (KeyboardInterrupt, Interrupted) as interruption:
        print("interrupted; the same command resumes it")
        sys.exit(interruption.code if isinstance(interruption, Interrupted) else 130)


def fail(error: Exception) -> NoReturn:
    """End with what is wrong, for a person."""
    if was_pressed():  # what came of Ctrl-C is no error
        raise KeyboardInterrupt from None
    print(f"error: {error}", file=sys.stderr)
    sys.exit(ERROR)


def stop(number: int, frame: FrameType | None) -> None:
    """Leave, where no run is under way that would have to be saved."""
    raise Interrupted(signal.Signals(number), 0)
