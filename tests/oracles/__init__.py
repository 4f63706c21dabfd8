"""Cases of SPEC and of other systems' published tests, run against the core: `python -m tests.oracles FILE...`."""
