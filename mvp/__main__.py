"""`python -m mvp`."""

from mvp.cli import main

if __name__ == "__main__":
    main()
