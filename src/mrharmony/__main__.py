"""The command line, as `mrharmony` and as `python -m mrharmony`."""

from mrharmony.core.ending import end_in_order, open_standard_streams


def main() -> None:
    """Run the command line; it ends in order from the first moment, while the rest is being imported."""
    open_standard_streams()
    end_in_order()
    from mrharmony.cli.app import main as run  # noqa: PLC0415 - takes seconds to import

    run()


if __name__ == "__main__":
    main()
