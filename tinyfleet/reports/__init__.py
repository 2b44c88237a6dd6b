"""What a run looked like: loss history and plots. Only `plots` needs matplotlib."""
