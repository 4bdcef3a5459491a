"""The paper's 8 tasks and 29 benchmarks: readers of their real files, protocols, and one run for all of them.

``datasets`` lists the benchmarks, ``runner`` runs them, ``metrics`` holds the protocols as functions of features.
"""
