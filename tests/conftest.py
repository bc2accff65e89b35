"""What every test of this folder runs under."""

import contextlib
import signal

# A run in the background of a shell inherits that Ctrl-C is ignored, and would pass that on to the
# programs that tests interrupt.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
