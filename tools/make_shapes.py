"""The same as `weightformer-mm make-shapes`."""

from command_line import main

if __name__ == '__main__':
    main('make-shapes')
