"""`python -m mrharmony` is the command line."""

from mrharmony.cli import main

if __name__ == "__main__":
    main()
