"""When a training ends. A file with the UNIX time of the end may be rewritten while it runs; the schedules follow it."""

import os
import time


class Clock:
    def __init__(self, minutes, file=None):
        self.start = time.time()
        self.end, self.file = self.start + 60 * minutes, file

    def restart(self):
        """Counts from now on: the wait for data is no part of the training."""
        self.start = time.time()

    def progress(self):
        """From 0 to 1 at the end."""
        if self.file and os.path.exists(self.file):
            try:
                self.end = float(open(self.file).read())
            except ValueError:
                pass
        return min(1.0, (time.time() - self.start) / max(1.0, self.end - self.start))

    def minutes(self):
        return (time.time() - self.start) / 60
