"""What every subpackage may use: errors in the user's terms, signals, files that appear whole, patches."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """For mmengine's ``get_model``, which calls it in every package: nothing is left to register."""
