"""Ties the function's process to the local Lambda's, then becomes it: `python -I -S launcher.py <parent pid>
<argv...>`.

The local Lambda may be killed in a way that leaves it no time to end its children (SIGKILL, the OOM killer). Linux can:
a process may ask for a signal at its parent's death. It has to ask for itself, and the setting outlives exec, so this
file asks and then execs the real command. It is a program and not a `preexec_fn`, which runs Python between fork and
exec and can deadlock.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            # The parent died before prctl: no signal will come.
            sys.exit("the local Lambda has gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
