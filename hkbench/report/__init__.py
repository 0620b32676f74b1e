"""One offline HTML page from a run directory. No torch, no ray; may import analysis and store."""
