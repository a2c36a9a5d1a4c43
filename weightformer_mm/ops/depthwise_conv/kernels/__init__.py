"""Triton kernels; nothing else of this operation imports Triton."""
