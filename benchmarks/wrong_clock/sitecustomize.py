"""Python with a wrong clock: each look at the time of the day is off by up to a day."""

import random
import time

_DAY = 86400.0
_right = time.time
time.time = lambda: _right() + random.uniform(-_DAY, _DAY)
