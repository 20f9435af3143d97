"""The command line, as `mrharmony` and as `python -m mrharmony`."""

import os

from mrharmony.core.ending import end_in_order, open_standard_streams


def main() -> None:
    """Run the command line; it ends in order from the first moment, while the rest is being imported."""
    open_standard_streams()
    end_in_order()
    _set_aside_settings_of_libraries()
    from mrharmony.cli.app import main as run  # noqa: PLC0415 - takes seconds to import

    run()


def _set_aside_settings_of_libraries() -> None:
    """Let no variable that changes nothing here end a command: libraries read these when imported."""
    os.environ["MPLBACKEND"] = "agg"  # the only canvas that is drawn on
    os.environ.pop("SOURCE_DATE_EPOCH", None)  # numpy.f2py, which scipy imports, takes it for a number


if __name__ == "__main__":
    main()
