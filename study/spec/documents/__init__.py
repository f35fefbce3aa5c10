"""The files that stages hand on, as declared types: keys and kinds of values, with the version of each format. A module
a file, and ``reading`` for all.

They stay plain JSON values, which every process can take over; ``reading.read`` checks a file when it is read, and mypy
each key that the code asks for. A file of another version is refused: what is in it was made by other code anyway.
TypedDict is that of typing_extensions, as pydantic wants it on Python 3.11.
"""
