"""What a study knows: points asked and told through Optuna, where it is stored, what architectures cost."""
