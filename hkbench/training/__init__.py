"""Trains one network: losses, optimisers, metrics, epochs and teacher. May import models, data, telemetry."""
