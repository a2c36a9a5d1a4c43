"""Train and compare networks on street scenes and cell nuclei, and write docs/real_pictures.md.

Type it again after an interruption: finished runs are kept, and the others go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import run

REPOSITORY = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--data', nargs='+', choices=('camvid', 'nuclei'), default=['camvid', 'nuclei']
    )
    parser.add_argument(
        '--runs', nargs='+', metavar='NAME', help='such as camvid/published_seed0 (default: all)'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=REPOSITORY / 'work_dirs' / 'real_pictures',
        metavar='DIR',
        help='folder for checkpoints and logs (default: work_dirs/real_pictures)',
    )
    parser.add_argument(
        '--results',
        type=Path,
        metavar='DIR',
        help='folder for the records (default: projects/real_pictures/results)',
    )
    parser.add_argument(
        '--at-once', type=int, default=2, metavar='N', help='trainings at a time (default: 2)'
    )
    parser.add_argument(
        '--report-only', action='store_true', help='train nothing; write what the records say'
    )
    parser.add_argument(
        '--explain',
        action='store_true',
        help='also measure what the compared weights make of context (a quarter of an hour)',
    )
    parser.add_argument(
        '--ship', action='store_true', help='also put the weights of the whole recipes beside these'
    )
    parser.add_argument(
        '--sheets',
        type=Path,
        metavar='DIR',
        help='also draw what the published pair and the static network see in validation images',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.real_pictures.campaign import (
        RESULTS,
        draw_sheets,
        read_records,
        run_campaign,
        ship,
    )
    from projects.real_pictures.explain import explain
    from projects.real_pictures.one_run import commit_of
    from projects.real_pictures.report import PAGE, write_report
    from weightformer_mm.errors import RunFailed

    results = (args.results or RESULTS).resolve()
    failure = None
    if not args.report_only:
        places = REPOSITORY, args.work_dir.resolve(), results
        try:
            run_campaign(*places, args.data, args.runs, args.at_once)
        except RunFailed as error:
            failure = error
    if args.explain:
        explain(args.work_dir.resolve(), results, commit_of(REPOSITORY))
    if results == RESULTS:
        write_report(REPOSITORY, read_records())
        print(f'the tables are in {PAGE}')
    print(f'the records are in {results}')
    if args.sheets:
        draw_sheets(args.work_dir.resolve(), results, args.sheets.resolve())
    for path in ship(REPOSITORY, args.work_dir.resolve(), results) if args.ship else ():
        print(path)
    if failure:
        raise failure


if __name__ == '__main__':
    run(parse_args, main)
