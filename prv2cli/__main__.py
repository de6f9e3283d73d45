"""`python -m prv2cli`, the same program as `prv2`."""

from prv2cli.cli.app import main

if __name__ == "__main__":
    main()
