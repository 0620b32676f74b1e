"""Searches that are killed at random moments and gone on with: what `benchmarks/kill_resume.py` is made of.

`notes` is what trials say of the epochs that they really train, `moments` when what is killed, `processes`
finds and ends, `search` does it to one search, `verdict` counts what was lost or done twice; `ours` and
`tune` are the two kinds of search. `site` is put on the path of hkbench's processes: there they write notes.
"""
