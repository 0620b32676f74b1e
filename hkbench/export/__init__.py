"""Network to file, and file to logits. May import models, data and what lies below."""
