"""The same as `weightformer-mm erf`."""

from command_line import main

if __name__ == '__main__':
    main('erf')
