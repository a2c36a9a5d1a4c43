"""The same as `weightformer-mm check-dataset`."""

from command_line import main

if __name__ == '__main__':
    main('check-dataset')
