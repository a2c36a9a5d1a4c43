"""The commands of ``weightformer-mm`` and of ``tools/``: their options, and how they end.

It lies beside the package, since importing the package imports torch and mmengine, which takes seconds: what
needs no library, such as ``--help``, errors in options and shell completion, is answered at once.
"""
