"""One trial in its worker: what it is given, its training, its checkpoints, how it ends. Knows no driver."""
