"""The same as `weightformer-mm test`."""

from command_line import main

if __name__ == '__main__':
    main('test')
