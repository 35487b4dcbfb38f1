"""What a process that a test starts does with signals."""

import signal


def heed_ctrl_c() -> None:
    """As preexec_fn: a shell starts what runs in the background deaf to Ctrl-C, and so is all it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
