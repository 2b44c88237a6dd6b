"""What trains: behind one protocol, so that an attached sensor looks like this device itself."""
