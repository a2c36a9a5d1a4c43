"""The same as `weightformer-mm infer`."""

from command_line import main

if __name__ == '__main__':
    main('infer')
