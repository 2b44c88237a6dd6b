"""TinyFleet: fleets of small devices that learn one initialization together."""

__version__ = "0.1.0"
