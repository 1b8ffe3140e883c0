"""`python -m nasflow_cli` is the `nasflow` command."""

from nasflow_cli.cli.app import main

if __name__ == "__main__":
    main()
