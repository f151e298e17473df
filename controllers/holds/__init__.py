"""Which Holds are in force, from wherever they come: the store, the ESTOP file beside it, a commit that the store could
not take yet. Also how an e-stop is placed and released. What a Hold means for a mission is decided in ``decisions``."""
