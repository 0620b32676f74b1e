"""Errors that the command line shows as one line, without a traceback."""


class Goods69Error(Exception):
    """Something the user can fix; the message says what is wrong and how."""


class RefusedModelError(Goods69Error):
    """A 3D model that gives no usable picture; the message is the reason."""
