"""`python -m mrharmony` is the command line."""

from mrharmony.cli.app import main

if __name__ == "__main__":
    main()
