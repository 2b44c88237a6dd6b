"""What the three services share: settings, the gRPC server, health, errors, shutdown."""
