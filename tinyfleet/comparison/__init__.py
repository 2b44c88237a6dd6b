"""Several strategies on one task, each from several seeds: what to run, and what came out.

`experiment` reads what to compare, `jobs` runs one strategy from one seed, `store` keeps what is
done so that a comparison goes on where it was, `table` sums up. `tinyfleet.cli.compare` runs the
jobs in processes; nothing here knows of processes or clocks.
"""
