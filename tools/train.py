"""The same as `weightformer-mm train`."""

from command_line import main

if __name__ == '__main__':
    main('train')
