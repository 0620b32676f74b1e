"""What follows from records: frontier, intervals. No torch, no ray; may import store, config and errors."""
