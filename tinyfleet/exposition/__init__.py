"""What a process tells a Prometheus that asks: its readings, counted calls, the process itself."""
