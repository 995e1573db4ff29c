"""Makes the C library keep freed memory, which a training step takes again a moment later."""

import ctypes
import platform

# Parameters of glibc's mallopt, malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int
_GROW_BY = 64 * 2**20  # bytes


def keep_heap() -> bool:
    """Stops glibc from handing the buffers of each step back to the system.

    XLA:CPU allocates its temporaries anew in every step. By default glibc maps large ones from the
    system and unmaps them at once, and the kernel clears every page again. To be called before
    threads are started; does nothing without glibc.

    Returns:
      Whether the settings were accepted.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        _MMAP_MAX: 0,
        _TRIM_THRESHOLD: _LARGEST,
        _TOP_PAD: _GROW_BY,
        _ARENA_MAX: 1,
    }
    accepted = [mallopt(name, value) for name, value in settings.items()]
    return all(accepted)
