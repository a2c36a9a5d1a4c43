"""The recipes in ``configs/`` as metafiles and tables: what they train, what their models cost."""
