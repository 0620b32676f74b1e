"""Fakes for the processes of a search: the text of a `sitecustomize` that changes modules as they load."""

HEAD = """
import sys
from importlib.machinery import PathFinder

def train_on_the_cpu(module):
    '''Let a module find a CPU whatever device is asked for.'''
    import torch
    class OnCpu:
        device = staticmethod(lambda name: torch.device("cpu"))
        def __getattr__(self, name):
            return getattr(torch, name)
    module.torch = OnCpu()
"""
TAIL = """
class Faking:
    def find_spec(self, name, path=None, target=None):
        if name not in FAKED:
            return None
        found = PathFinder.find_spec(name, path, target)
        load = found.loader.exec_module
        def exec_module(module):
            load(module)
            FAKED[name](module)
        found.loader.exec_module = exec_module
        return found

sys.meta_path.insert(0, Faking())
"""


def sitecustomize(fakes):
    """Return the text; `fakes` ends in FAKED, the name of each module → what changes it."""
    return HEAD + fakes + TAIL
