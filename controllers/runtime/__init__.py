"""The engine that runs reconcilers: it knows keys, time and failure, and nothing of the store or of any kind.

What belongs here: the clock and ids, the workqueue (`lanes`, `delays`, `workqueue`), what a pass may answer (`result`,
`backoff`), the loop that runs passes (`controller`), the insurance against a lost wake-up (`resync`), and the life of
a process (`manager`, `lifecycle`, `periodic`, `signals`, `blocking`). What does not: facts, decisions, effects. A
module here imports `schemas.errors`, the standard library and its neighbours.

How it survives a crash: the queue is memory and holds nothing that the store does not. A killed engine lists its keys
again (`resync`), urgent ones first, and every reconciler decides from stored facts. So a pass that was cut short runs
again, and a wake-up that was lost comes back, at the latest with the next full resync.

Everything is deterministic when its inputs are: time comes from a `Clock`, chance from a `random.Random`, and no
thread is started unless a `blocking.ThreadBlocking` is handed in. One event loop owns a queue, a controller, a
manager; other threads reach them through `loop.call_soon_threadsafe` only.
"""
