"""What makes it so: the runtime, sources, reconcilers, dispatch, effects and the wiring that joins them.

``wiring`` is the only place that builds concrete objects. Inside, the direction is ``wiring > reconcilers > {runs,
dispatch, effects, sources} > runtime``. What a decision is belongs in ``decisions``; SQL belongs in ``store``; HTTP
belongs in ``api``.
"""
