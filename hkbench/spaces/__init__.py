"""The space language: from a YAML file to parameters, limits, seed points and the settings of a trial."""
