"""Runs a topology on several workers: the supervisor in the user's process, and one process for each worker.

`start` is what `Topology.start(workers=N)` comes to; the parts in the order in which a run meets them: `origin`,
`placement`, `headquarters`, `supervisor` (with `views`, `merge`, `deaths`, `keeper`), `processes`, `process`, `worker`.
"""
