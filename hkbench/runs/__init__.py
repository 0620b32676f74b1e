"""A whole search or training, from its plan to its shipped files, in the order in which things happen."""
