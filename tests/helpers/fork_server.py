"""Runs command lines in forks of a process that has the slow imports behind it.

Each job is a process of its own, with its own exit code, streams and working directory; only the time that
Python takes to import torch and the libraries, and to take itself down again, is saved. Jobs come as JSON
lines on stdin; the exit code of each goes to stdout.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import sys
import traceback


def run_child(job: dict) -> int:
    for stream, path in ((1, job['stdout']), (2, job['stderr'])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job['cwd'])
    os.environ.update(job['env'])
    sys.argv = job['argv']
    sys.path[0] = os.path.dirname(job['argv'][0])
    try:
        runpy.run_path(job['argv'][0], run_name='__main__')
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    import mmcv.ops  # noqa: F401
    import mmdet.models  # noqa: F401
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    import weightformer_mm.apis.inferencer  # noqa: F401
    import weightformer_mm.apis.test  # noqa: F401

    # yapf would take most of a short run; what it leaves alone is Python as well
    yapf_api.FormatCode = lambda text, **options: (text, True)
    Config({'warm': 'up'}).pretty_text  # noqa: B018
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = run_child(json.loads(line))
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == '__main__':
    main()
