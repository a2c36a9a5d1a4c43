"""The residual MLP on a CPU: which form is fastest, and the two forms that are not plain PyTorch."""
