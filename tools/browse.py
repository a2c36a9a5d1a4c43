"""The same as `weightformer-mm browse`."""

from command_line import main

if __name__ == '__main__':
    main('browse')
