"""An array in a file, by row: written once, read often, not held in memory."""

import errno
import math
import os
import shutil
import tempfile
import weakref

import numpy as np

from tlkeras import errors


class Rows:
    """Rows of one shape and type in an unnamed file of `directory`.

    The file goes when it is closed, or with the process. It is read and
    written by calls and not by a memory map, whose pages count as memory of
    the process: 20,000 images at 224 pixels are 3 GB of them.

    Its room is taken at once, so that a full disk is told before the work.
    Raises `UserError` where there is too little.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, ...],
        dtype: type,
        *,
        directory: str | os.PathLike,
    ):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.size = math.prod(shape) * self.dtype.itemsize
        total = count * self.size
        try:
            os.makedirs(directory, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=os.fspath(directory))
            weakref.finalize(self, self.file.close)
            if hasattr(os, "posix_fallocate") and total:
                os.posix_fallocate(self.file.fileno(), 0, total)
            elif shutil.disk_usage(directory).free < total:  # macOS
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise errors.UserError(
                f"{directory} has no room for {total / 1e9:.2f} GB of decoded "
                f"images ({error.strerror}). Give another --workdir, or "
                "--image_store_gb=0 to decode in each epoch."
            ) from None

    def close(self) -> None:
        """Gives back the file; nothing can be read or written afterwards."""
        self.file.close()

    def write(self, index: int, row: np.ndarray) -> None:
        """Writes the row at `index`; other threads may do so, too."""
        row = np.ascontiguousarray(row, self.dtype).reshape(-1)
        left = memoryview(row.view(np.uint8))
        place = index * self.size
        while left:
            written = os.pwrite(self.file.fileno(), left, place)
            left, place = left[written:], place + written

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows [n, *shape] at `indices` [n]."""
        array = np.empty([len(indices), *self.shape], self.dtype)
        flat = array.reshape(len(indices), math.prod(self.shape)).view(np.uint8)
        for row, index in zip(flat, indices.tolist(), strict=True):
            os.preadv(self.file.fileno(), [row], index * self.size)
        return array
