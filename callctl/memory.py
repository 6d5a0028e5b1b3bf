"""How often the collector of reference cycles looks at a process that controls calls.

Calls come and go without cycles, and their traffic makes the collector walk over everything that is there for good
(modules, mappings, the catalogue) again and again: an eighth of the processor, and a pause for all calls each time.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = (10_000, 10, 10)
"""Objects that may be new before the collector looks at them, and rounds before it looks at older ones."""


def settle_down() -> None:
    """Leave what there is now to reference counts alone, and look at new objects less often. Once in a process."""
    if gc.get_threshold() != YOUNG:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG)
