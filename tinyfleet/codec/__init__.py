"""Updates as bytes: how a device's delta travels."""
