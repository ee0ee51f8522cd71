"""Waiting for publishes and for sockets at once: a thread turns the futex of a segment into a descriptor.

The thread never runs while its consumer works: it waits only from `arm` until it has told of one publish, so a busy
consumer is not made to hand over the interpreter lock.
"""

from __future__ import annotations

import contextlib
import os
import threading

from process_image import Image, ImageError, attach

_SLICE = 0.25
"""Seconds of one wait; the thread then looks whether it is to end."""


class Waker:
    """Makes `descriptor` readable when something new stands in a segment."""

    def __init__(self, segment: str) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._segment = segment
        self._armed = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"waker-{segment}", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """Have it tell of the next publish, or of one since it was last armed."""
        self._armed.set()

    def clear(self) -> None:
        """Take what it has told."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """End the thread; harmless when done twice."""
        if not self._over:
            self._over = True
            self._armed.set()
            self._thread.join(1.0)
            os.close(self.descriptor)

    def _run(self) -> None:
        image: Image | None = None
        while not self._over:
            self._armed.wait()
            try:
                if image is None:
                    image = attach(self._segment)
                told = image.wait(_SLICE)
            except ImageError:
                if image is not None:
                    image.close()
                image = None
                threading.Event().wait(_SLICE)  # the consumer itself tries to attach, and logs what is wrong
                continue
            if told and not self._over:
                self._armed.clear()
                os.eventfd_write(self.descriptor, 1)
        if image is not None:
            image.close()
