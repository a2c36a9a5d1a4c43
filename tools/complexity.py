"""The same as `weightformer-mm complexity`."""

from command_line import main

if __name__ == '__main__':
    main('complexity')
