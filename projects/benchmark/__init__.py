"""Time and memory of networks and operations, measured so that ratios hold on a noisy machine.

All contenders at one image size take turns, round after round; `docs/benchmarks/README.md` has the method.
"""
