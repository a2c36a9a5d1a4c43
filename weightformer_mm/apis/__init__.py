"""What the command lines in ``tools/`` call. All raise UserError for bad input.

Arguments that mean the same in all of them:

- ``config``: path of a config, and ``options``: ``KEY=VALUE`` changes to it.
- ``data_root``: folder that takes the place of the config's ``data_root``.
- ``checkpoint``: path of a checkpoint of exactly that model.
- ``launcher``: one of none, pytorch, slurm, mpi.
- ``score_thr``: detections below it are not drawn.
"""
