"""Trains one network: losses, optimisers, metrics, epochs, teacher. May import models, data, telemetry, store."""
