"""Runs command lines in forks of a process that has the slow imports behind it.

Each job is a process of its own, with its own exit code, streams and working directory; only the time that
Python takes to import torch and the libraries is saved. Jobs come as JSON lines on stdin; the exit code of
each goes to stdout.
"""

from __future__ import annotations

import json
import os
import runpy
import sys


def run_child(job: dict) -> None:
    for stream, path in ((1, job['stdout']), (2, job['stderr'])):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job['cwd'])
    os.environ.update(job['env'])
    sys.argv = job['argv']
    sys.path[0] = os.path.dirname(job['argv'][0])
    runpy.run_path(job['argv'][0], run_name='__main__')


def main() -> None:
    import mmcv.ops  # noqa: F401
    import mmdet.models  # noqa: F401
    import mmseg.models  # noqa: F401
    from mmengine.config import Config

    import weightformer_mm.engine.inference  # noqa: F401
    import weightformer_mm.engine.testing  # noqa: F401

    Config({'warm': 'up'}).pretty_text  # noqa: B018  the formatter has slow imports of its own

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_child(json.loads(line))
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == '__main__':
    main()
